//! `GET /exec/{id}/json`.

use gantry_domain::Result;

use super::{ExecDetails, table::Phase};
use crate::Engine;

impl Engine {
    /// The exit code is there before the exec's stream ends.
    pub async fn exec_inspect(&self, id: &str) -> Result<ExecDetails> {
        let exec = self.parts.execs.get(id)?;
        let (running, exit_code, pid) = match exec.phase() {
            Phase::Created => (false, None, 0),
            Phase::Starting => (true, None, 0),
            Phase::Running { pid } => (true, None, pid),
            Phase::Ended { code } => (false, Some(i64::from(code)), 0),
        };
        let mut words = exec.config.cmd.clone().unwrap_or_default().into_iter();
        Ok(ExecDetails {
            id: exec.id.clone(),
            container: exec.container.clone(),
            entrypoint: words.next().unwrap_or_default(),
            arguments: words.collect(),
            config: exec.config.clone(),
            running,
            exit_code,
            pid,
        })
    }
}
