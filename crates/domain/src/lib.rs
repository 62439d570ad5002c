//! The nouns of a container engine, the rules on them, the one error and the ports. No I/O happens here.
//!
//! Shapes that clients store and read back (`Config`, `HostConfig`, `EndpointSettings`, …) carry Docker's own field
//! names in serde, in the order of Docker's Go structs, so that a record, an inspect and a request are one type.

pub mod cdi;
pub mod container;
pub mod engine_id;
pub mod error;
pub mod event;
pub mod exec;
pub mod filter;
pub mod glob;
pub mod id;
pub mod id_maps;
pub mod image;
pub mod log;
pub mod network;
pub mod platform;
pub mod ports;
pub mod reference;
pub mod registry;
pub mod selinux;
pub mod settings;
pub mod signal;
pub mod text;
pub mod time;
pub mod volume;

pub use error::{Error, ErrorKind, Result};
pub use id::{ContainerId, Digest, ExecId, NetworkId};
pub use time::GoTime;
