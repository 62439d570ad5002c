//! The engine on ports in memory: what holds when a port fails, when time passes, and after a restart.

#![allow(clippy::unwrap_used)]

mod copies;
mod failures;
mod health;
mod lab;
mod laws;
mod names;
mod plugins;
mod recovery;
mod stuck;
mod volumes;
