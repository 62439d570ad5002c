//! `POST /containers/{id}/restart`, and the runs that a restart policy begins.

use futures::FutureExt as _;
use gantry_domain::{Error, Result, container::Status, signal};

use super::{
    owner::{Owner, Restarting},
    stop::stop,
};
use crate::{Engine, parts::detached};

impl Engine {
    /// Stops the container if it runs, and starts it; neither the restart policy nor auto-remove sees the exit.
    pub async fn container_restart(&self, name: &str, signal: Option<&str>, timeout: Option<i64>) -> Result<()> {
        let signal = signal.filter(|text| !text.is_empty()).map(signal::parse).transpose()?;
        let handle = self.parts.container(name)?;
        let prefix = format!("Cannot restart container {name}");
        let work = async move {
            handle.run(|owner| owner.begin_restart().boxed()).await?;
            let restarting = Restarting::new(&handle);
            let stopped =
                if handle.snapshot().status.is_running() { stop(&handle, signal, timeout).await } else { Ok(()) };
            handle.run_unless_hurried(move |owner| owner.finish_restart(restarting, stopped).boxed()).await
        };
        detached(async move { work.await.map_err(|error: Error| error.context(prefix)) }).await
    }
}

impl Owner {
    async fn begin_restart(&mut self) -> Result<()> {
        if matches!(self.status, Status::Removing | Status::Dead) {
            return Err(Error::conflict("container is marked for removal and cannot be started"));
        }
        Ok(())
    }

    /// From here on an exit is one of the new run.
    async fn finish_restart(&mut self, restarting: Restarting, stopped: Result<()>) -> Result<()> {
        drop(restarting);
        stopped?;
        self.handle.may_be_started()?;
        self.begin_anew();
        self.start().await?;
        self.event("restart", &[]);
        Ok(())
    }
}
