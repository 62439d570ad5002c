//! Volumes: create, list, inspect, remove, prune.

mod create;
mod delete;
mod list;
mod prune;
mod turns;

use std::collections::BTreeMap;

pub(crate) use create::{Durable, ensure};
pub(crate) use delete::{finish, remove};
pub use list::VolumeList;
pub(crate) use turns::{Turn, Turns};

/// `POST /volumes/create`.
#[derive(Debug, Clone, Default)]
pub struct VolumeCreate {
    /// Empty: a random name and the anonymous label.
    pub name: String,
    pub driver: String,
    pub options: Option<BTreeMap<String, String>>,
    pub labels: Option<BTreeMap<String, String>>,
}
