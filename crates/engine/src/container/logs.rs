//! `GET /containers/{id}/logs`: from the file that the companion writes, whatever the driver but `none`.

use gantry_domain::{Error, Result, container::Status, log::LogQuery, ports::LogEnd, text::parse_bool};

use super::ContainerLogs;
use crate::Engine;

impl Engine {
    pub async fn container_logs(&self, name: &str, query: LogQuery) -> Result<ContainerLogs> {
        if !query.stdout && !query.stderr {
            return Err(Error::invalid("Bad parameters: you must choose at least one stream"));
        }
        let handle = self.parts.container(name)?;
        let mut progress = handle.progress();
        let exits = progress.borrow_and_update().exits;
        let snapshot = handle.snapshot();
        if matches!(snapshot.status, Status::Removing | Status::Dead) {
            return Err(Error::conflict("can not get logs from container which is dead or marked for removal"));
        }
        let record = snapshot.record.clone();
        let log = &record.host_config.log_config;
        let option = |key: &str| log.config.as_ref().and_then(|options| options.get(key)).map(String::as_str);
        if log.driver == "none" || option("cache-disabled").and_then(parse_bool) == Some(true) {
            return Err(Error::not_implemented("configured logging driver does not support reading"));
        }
        let end = if query.follow && snapshot.status.is_running() {
            LogEnd::Until(Box::pin(async move {
                // The run's end or the container's; the handle keeps the sender alive.
                let _ = progress.wait_for(|now| now.exits > exits || !now.running || now.removed).await;
                drop(handle);
            }))
        } else {
            LogEnd::Now
        };
        let batches = self.parts.ports.files.read_log(record.log_path.clone().into(), query, end).await?;
        Ok(ContainerLogs { terminal: record.config.tty, batches })
    }
}
