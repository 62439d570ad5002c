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
