//! The engine: one method of `Engine` for each operation of Docker's API, put together from ports.
//!
//! The file list is the data path: `container/<verb>.rs` holds one verb, `container/owner.rs` the one task that owns a
//! container and runs its verbs one after the other, `recover.rs` what a new gantryd does with what it finds.

mod claims;
pub mod container;
mod events;
pub mod exec;
mod facts;
mod follow;
pub mod image;
mod kept;
mod lent;
pub mod network;
mod parts;
mod recover;
mod sweep;
pub mod system;
pub mod volume;

pub use events::{EventBus, EventQuery};
pub use parts::{Engine, Ports};
pub use recover::{Recovery, Start};
