//! Durations and sizes in the words that the docker CLI prints.

use jiff::Timestamp;

use crate::container::{ContainerRecord, Status};

/// go-units `HumanDuration`: `5 minutes`, `About an hour`, `Less than a second`.
pub fn human_duration(_seconds: f64) -> String {
    todo!()
}

/// `Up 5 minutes (healthy)`, `Exited (0) 3 days ago`, `Created`, …
pub fn status(_record: &ContainerRecord, _status: Status, _health: Option<&str>, _now: Timestamp) -> String {
    todo!()
}

/// Bytes from `10m`, `1.5GiB`, `512` (go-units `RAMInBytes`, binary units).
pub fn ram_in_bytes(_text: &str) -> crate::Result<i64> {
    todo!()
}
