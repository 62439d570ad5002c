//! The network port on a real kernel, each test in namespaces of its own; `ip` and `nft` are the judges.
#![allow(clippy::unwrap_used)]

mod bridges;
mod firewall;
mod lab;
mod lent;
mod names;
mod netd;
mod published;
mod speed;
