//! The image port on a real containerd: archives in and out, layers on disk, hostile input.
#![allow(clippy::unwrap_used)]

mod build;
mod harness;
mod hostile;
mod layers;
mod load;
mod speed;
