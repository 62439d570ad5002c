//! The engine on ports in memory: what holds when a port fails, when time passes, and after a restart.

#![allow(clippy::unwrap_used)]

mod answers;
mod copies;
mod debts;
mod failures;
mod health;
mod lab;
mod laws;
mod names;
mod plugins;
mod recovery;
mod starts;
mod stuck;
mod user_namespaces;
mod volumes;
