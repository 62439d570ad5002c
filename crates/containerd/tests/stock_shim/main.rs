//! The runtime port's tests once more, with containerd's own shim instead of ours: both have to do.
#![allow(clippy::unwrap_used)]

#[path = "../runtime/exec.rs"]
mod exec;
#[path = "../runtime/floor.rs"]
mod floor;
#[path = "../runtime/harness.rs"]
mod harness;
#[path = "../runtime/lifecycle.rs"]
mod lifecycle;
#[path = "../runtime/trouble.rs"]
mod trouble;
