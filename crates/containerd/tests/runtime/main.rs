//! The runtime port against a real containerd and runc, each test with a containerd of its own. Needs root.
#![allow(clippy::unwrap_used)]

mod exec;
mod floor;
mod harness;
mod lifecycle;
mod trouble;
