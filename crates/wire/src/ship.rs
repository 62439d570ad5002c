//! What gantryd leaves for `gantry-logship`: a file for each log that goes to a remote driver.
//!
//! ```text
//!   <data root>/logship/
//!     lock            held by the logship that works; whoever gets it may start the next one
//!     turn            held for a moment by who replaces or removes a job
//!     jobs/<id>       a `Shipment`, put there by gantryd at the start of a run, again with `ended` at its end;
//!                     removed by logship when the log has ended and all of it was delivered
//! ```
//!
//! How far a log was delivered is in `Shipment::cursor`, which logship writes: whichever of the two dies, nothing is
//! forgotten.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

pub const LOCK: &str = "lock";
pub const TURN: &str = "turn";
pub const JOBS: &str = "jobs";

/// One container's log and where it goes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Shipment {
    pub run: u64,
    /// Nothing more is written to the log by this run.
    pub ended: bool,
    pub log: PathBuf,
    pub cursor: PathBuf,
    /// `syslog`, `journald`, `gelf` or `fluentd`, with its options as they were checked at the container's create.
    pub driver: String,
    pub options: BTreeMap<String, String>,
    pub container: Subject,
}

/// What the drivers say of the container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Subject {
    pub id: String,
    /// Without a slash.
    pub name: String,
    pub image_id: String,
    pub image_name: String,
    /// Program and arguments.
    pub command: String,
    /// RFC 3339.
    pub created: String,
    pub tag: String,
    /// Chosen labels and variables.
    pub attributes: BTreeMap<String, String>,
}

/// Held while jobs are replaced or removed. Ends with the value.
pub fn take_turn(folder: &Path) -> io::Result<File> {
    let turn = File::options().create(true).truncate(false).write(true).open(folder.join(TURN))?;
    turn.lock()?;
    Ok(turn)
}

/// Puts a job in place, whole. The caller has the turn.
pub fn put(folder: &Path, id: &str, shipment: &Shipment) -> io::Result<()> {
    // Beside the jobs: what is in their folder is whole.
    let new = folder.join(format!("{id}.new"));
    File::create(&new)?.write_all(&serde_json::to_vec(shipment)?)?;
    fs::rename(new, folder.join(JOBS).join(id))
}

/// `None` where there is no job of that name, or one that cannot be read.
pub fn get(folder: &Path, id: &str) -> Option<Shipment> {
    serde_json::from_slice(&fs::read(folder.join(JOBS).join(id)).ok()?).ok()
}
