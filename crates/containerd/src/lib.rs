//! The runtime and image ports over containerd's gRPC.

pub mod client;
pub mod images;
pub mod process;
pub mod runtime;
pub mod stdio;
