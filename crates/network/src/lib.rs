//! The network port on the kernel: bridges, veth pairs, namespaces, nftables, published ports.
//!
//! `kernel` carries out the port; `driver` knows the kinds of networks, `sandbox` a container's namespace, `rules` the
//! firewall as a value, `ports` the reservation of host ports. What must live on when gantryd dies is gantry-netd's
//! (`netd` is the link to it): it alone writes the firewall's table.
//!
//! Never an `ip` or `iptables` process, and no `nft` while a container starts or stops.

mod driver;
mod forwarding;
mod kernel;
mod leftovers;
mod link;
mod links;
mod namespace;
mod netd;
mod netlink;
mod ports;
mod resolver;
mod routes;
mod rules;
mod sandbox;
mod settings;
mod sysctl;

pub use kernel::KernelNetwork;
pub use settings::NetworkSettings;
