//! `POST /exec/{id}/resize`.

use std::time::Duration;

use gantry_domain::{Error, Result};

use super::table::Phase;
use crate::Engine;

/// The CLI resizes as soon as it has sent the start.
const START_LIMIT: Duration = Duration::from_secs(10);

impl Engine {
    /// Waits for the exec to start.
    pub async fn exec_resize(&self, id: &str, height: u32, width: u32) -> Result<()> {
        let exec = self.parts.execs.get(id)?;
        let mut phase = exec.watch();
        let started = phase.wait_for(|phase| matches!(phase, Phase::Running { .. } | Phase::Ended { .. }));
        let phase = match tokio::time::timeout(START_LIMIT, started).await {
            Ok(Ok(phase)) => *phase,
            _ => return Err(Error::system("timeout waiting for exec session ready")),
        };
        match phase {
            Phase::Running { .. } => {
                self.parts.ports.runtime.resize(&exec.container, Some(&exec.id), height, width).await
            }
            _ => Err(Error::conflict(format!("exec {id} is not running"))),
        }
    }
}
