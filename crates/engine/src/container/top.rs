//! `GET /containers/{id}/top`: the host's `ps` of the container's processes.

use std::time::Duration;

use gantry_domain::{Error, Result};

use super::ContainerTop;
use crate::{Engine, parts::within};

/// A shim that hangs does not hold the client.
const LIMIT: Duration = Duration::from_secs(10);

impl Engine {
    pub async fn container_top(&self, name: &str, ps_args: &str) -> Result<ContainerTop> {
        let handle = self.parts.container(name)?;
        handle.settled().await;
        handle.snapshot().may_top()?;
        let args = if ps_args.trim().is_empty() { "-ef" } else { ps_args };
        let pids = within(LIMIT, "asking for the processes", self.parts.ports.runtime.pids(&handle.id)).await?;
        let pids: Vec<u32> = pids.into_iter().map(|process| process.pid).collect();
        if pids.is_empty() {
            return Err(Error::conflict(format!("container {} is not running", handle.id)));
        }
        let (titles, processes) = self.parts.ports.host.ps(&pids, args).await?;
        let record = handle.snapshot().record;
        self.parts.events.publish(super::owner::container_event(&record, "top".into(), &[], jiff::Timestamp::now()));
        Ok(ContainerTop { titles, processes })
    }
}
