//! What a remote log driver is told of a container.

use std::{collections::BTreeMap, path::PathBuf};

use super::{ContainerRecord, log_attrs};
use crate::{ContainerId, Result};

/// Drivers whose lines are kept in a local log first and delivered from there.
pub const REMOTE: [&str; 4] = ["syslog", "journald", "gelf", "fluentd"];

/// A log that is to be delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogShipment {
    pub id: ContainerId,
    pub run: u64,
    pub driver: String,
    pub options: BTreeMap<String, String>,
    /// The local log.
    pub log: PathBuf,
    pub name: String,
    pub image_id: String,
    pub image_name: String,
    /// Program and arguments.
    pub command: String,
    /// RFC 3339.
    pub created: String,
    pub tag: String,
    /// Labels and variables that the options choose.
    pub attributes: BTreeMap<String, String>,
}

impl LogShipment {
    /// Of the container's run; `None` where its driver is not a remote one. `InvalidParameter` for a bad tag or pattern.
    pub fn of(record: &ContainerRecord) -> Result<Option<Self>> {
        let config = &record.host_config.log_config;
        if !REMOTE.contains(&config.driver.as_str()) {
            return Ok(None);
        }
        let words: Vec<&str> =
            std::iter::once(record.path.as_str()).chain(record.args.iter().map(String::as_str)).collect();
        Ok(Some(Self {
            id: record.id.clone(),
            run: record.run.as_ref().map_or(record.runs + 1, |run| run.number),
            driver: config.driver.clone(),
            options: config.config.clone().unwrap_or_default(),
            log: PathBuf::from(&record.log_path),
            name: record.name.clone(),
            image_id: record.image.id.as_ref().map(ToString::to_string).unwrap_or_default(),
            image_name: record.config.image.clone(),
            command: words.join(" "),
            created: record.created.to_string(),
            tag: log_attrs::tag(record)?,
            attributes: log_attrs::chosen(record)?,
        }))
    }
}
