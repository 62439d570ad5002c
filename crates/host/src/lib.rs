//! The rest of the host: container files, volumes, root file systems, log files, facts.

mod blocking;
mod containers;
mod containers_root;
mod exec_files;
mod facts;
mod log_reading;
mod network_plugins;
mod plugins;
mod quota;
mod relabel;
mod rootfs;
mod shipping;
mod volumes;

pub use containers::ContainerFolders;
pub use containers_root::ContainersRoot;
pub use exec_files::ExecNotes;
pub use facts::Host;
pub use network_plugins::RemoteNetworks;
pub use plugins::Plugins;
pub use rootfs::RootFileSystems;
pub use volumes::LocalVolumes;
