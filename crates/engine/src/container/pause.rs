//! `POST /containers/{id}/pause` and `/unpause`: the cgroup freezer.

use futures::FutureExt as _;
use gantry_domain::{Result, container::Status};

use super::owner::Owner;
use crate::Engine;

impl Engine {
    pub async fn container_pause(&self, name: &str) -> Result<()> {
        self.parts.container(name)?.run_unless_hurried(|owner| owner.pause().boxed()).await
    }

    pub async fn container_unpause(&self, name: &str) -> Result<()> {
        self.parts.container(name)?.run_unless_hurried(|owner| owner.unpause().boxed()).await
    }
}

impl Owner {
    async fn pause(&mut self) -> Result<()> {
        self.snapshot().may_pause()?;
        self.parts.ports.runtime.pause(self.id()).await.map_err(|error| error.context("cannot pause container"))?;
        self.set_paused(true).await?;
        self.event("pause", &[]);
        Ok(())
    }

    async fn unpause(&mut self) -> Result<()> {
        self.snapshot().may_unpause()?;
        self.parts.ports.runtime.resume(self.id()).await.map_err(|error| error.context("cannot unpause container"))?;
        self.set_paused(false).await?;
        self.event("unpause", &[]);
        Ok(())
    }

    /// Pauses a container that runs; `false` for one that does not, or is paused already. That it is for a commit is
    /// durable before it is done: a gantryd that comes after a killed one wakes it up.
    pub(crate) async fn pause_for_commit(&mut self) -> Result<bool> {
        if self.status != Status::Running {
            return Ok(false);
        }
        if let Some(run) = self.record.run.as_mut() {
            run.paused_by_commit = true;
        }
        self.save().await?;
        match self.pause().await {
            Ok(()) => Ok(true),
            // As dockerd: a container that cannot be paused is committed as it runs.
            Err(error) => {
                tracing::warn!(container = %self.record.id, %error, "not paused for a commit");
                self.unpause_after_commit().await.map(|()| false)
            }
        }
    }

    pub(crate) async fn unpause_after_commit(&mut self) -> Result<()> {
        let Some(run) = self.record.run.as_mut().filter(|run| run.paused_by_commit) else { return Ok(()) };
        run.paused_by_commit = false;
        // Woken up by somebody else, or ended.
        if self.status != Status::Paused {
            return self.save().await;
        }
        let woken = self.unpause().await;
        if woken.is_err()
            && let Some(run) = self.record.run.as_mut()
        {
            // The next gantryd tries again.
            run.paused_by_commit = true;
        }
        woken
    }

    async fn set_paused(&mut self, paused: bool) -> Result<()> {
        self.status = if paused { Status::Paused } else { Status::Running };
        if paused {
            self.rest_health();
        } else {
            self.watch_health();
        }
        if let Some(run) = self.record.run.as_mut() {
            run.paused = paused;
        }
        self.publish();
        self.save().await
    }
}
