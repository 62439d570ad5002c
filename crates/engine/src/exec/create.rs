//! `POST /containers/{id}/exec`.

use std::sync::Arc;

use gantry_domain::{Error, ExecId, Result, container::validate::process::check_exec, exec::ExecConfig};

use super::table::{Exec, Phase};
use crate::Engine;

impl Engine {
    /// Notes an exec; nothing runs yet. The user is looked up now, so that a wrong one is said here.
    pub async fn container_exec(&self, name: &str, config: ExecConfig) -> Result<ExecId> {
        let handle = self.parts.container(name)?;
        handle.settled().await;
        let snapshot = handle.snapshot();
        snapshot.may_exec(name)?;
        let Some(command) = config.cmd.as_ref().filter(|words| !words.is_empty()) else {
            return Err(Error::invalid("No exec command specified"));
        };
        check_exec(&config)?;
        let action = super::action("exec_create", command);
        crate::container::exec_user(&self.parts, &snapshot.record, snapshot.pid, &config.user).await?;
        let exec = Exec::new(ExecId::random(), handle.id.clone(), config, Phase::Created);
        let id = exec.id.clone();
        self.parts.execs.insert(Arc::new(exec));
        super::publish(&self.parts, &snapshot.record, action, &id, None);
        Ok(id)
    }
}
