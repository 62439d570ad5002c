//! What goes over the wire: ttrpc's frames, the messages of containerd's task service, and its events.
//!
//! Written by hand for the few fields that exist: the generated crates bring a second protobuf library and threads of
//! their own, and are most of what other shims keep resident.

pub(crate) mod events;
pub(crate) mod options;
pub(crate) mod task;
pub(crate) mod ttrpc;
