//! What the kernel adapter must know of this engine's configuration.

use std::path::PathBuf;

use gantry_domain::{engine_id::EngineId, settings::Settings};

#[derive(Debug, Clone)]
pub struct NetworkSettings {
    pub engine: EngineId,
    /// `/run/gantry`: namespaces and netd's socket are below it.
    pub exec_root: PathBuf,
    /// The program `gantry-netd`.
    pub netd: PathBuf,
    /// Whether there are firewall rules at all.
    pub iptables: bool,
    pub ip_masq: bool,
    pub ip_forward: bool,
    /// Where we switched forwarding on, everybody's packets are forwarded.
    pub ip_forward_no_drop: bool,
    /// Containers on the default bridge reach each other.
    pub icc: bool,
    /// MTU of the default bridge; 0 lets the kernel choose.
    pub mtu: u32,
}

impl NetworkSettings {
    /// Takes what concerns networks from the engine's settings.
    pub fn new(engine: EngineId, netd: PathBuf, settings: &Settings) -> Self {
        Self {
            engine,
            exec_root: PathBuf::from(&settings.exec_root),
            netd,
            iptables: settings.iptables,
            ip_masq: settings.ip_masq,
            ip_forward: settings.ip_forward,
            ip_forward_no_drop: settings.ip_forward_no_drop,
            icc: settings.icc,
            mtu: settings.mtu,
        }
    }
}
