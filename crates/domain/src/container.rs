//! A container: what was asked (`Config`, `HostConfig`), what is recorded of it, and the rules on its state.

pub mod access;
pub mod config;
pub mod copy;
pub mod device_request;
pub mod health;
pub mod host_config;
pub mod log_attrs;
pub mod log_shipment;
pub mod merge;
pub mod mount;
pub mod name;
pub mod networking;
pub mod port;
pub mod record;
pub mod restart;
pub mod security;
pub mod state;
pub mod update;
pub mod usage;
pub mod user;
pub mod validate;

pub use config::{Config, HealthConfig};
pub use host_config::HostConfig;
pub use mount::{Mount, MountPoint};
pub use networking::{EndpointSettings, NetworkingConfig};
pub use record::{ContainerImage, ContainerRecord, Exit, Run};
pub use state::{Snapshot, Status};
