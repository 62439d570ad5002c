//! Drivers: how the networks of one kind are made, and how a container's end gets into one.

use std::{io, os::fd::BorrowedFd};

use gantry_domain::{Error, Result, container::record::Endpoint, network::NetworkRecord};

use crate::{netlink::Route, rules::BridgeRules, settings::NetworkSettings};

pub mod bridge;

/// One kind of network.
pub trait Driver: Send + Sync {
    /// What the firewall must know of it, checked before anything is made.
    fn rules(&self, network: &NetworkRecord, settings: &NetworkSettings) -> Result<Option<BridgeRules>>;
    /// Makes or repairs the network's own links.
    fn create(&self, network: &NetworkRecord, settings: &NetworkSettings) -> Result<()>;
    /// Absent is `Ok`.
    fn remove(&self, network: &NetworkRecord, settings: &NetworkSettings) -> Result<()>;
    /// Puts a container into it.
    fn join(&self, join: &Join<'_>) -> io::Result<()>;
    /// Takes what `join` left on the host away. Absent is `Ok`.
    fn leave(&self, host: &Route, host_interface: &str) -> io::Result<()>;
}

/// One endpoint to be made. The calling thread is in the container's namespace.
pub struct Join<'a> {
    pub network: &'a NetworkRecord,
    pub endpoint: &'a Endpoint,
    pub settings: &'a NetworkSettings,
    /// On the host.
    pub host: &'a Route,
    /// In the container.
    pub inside: &'a Route,
    pub namespace: BorrowedFd<'a>,
    /// Name of the end that stays on the host.
    pub host_interface: &'a str,
    /// Name of the end in the container.
    pub interface: &'a str,
    /// Whether this endpoint gives the default routes.
    pub default_route: bool,
}

/// The driver of that name.
pub fn named(name: &str) -> Result<&'static dyn Driver> {
    match name {
        "bridge" => Ok(&bridge::Bridge),
        "host" | "null" | "none" => Ok(&Nothing),
        // libnetwork's words for a plugin that is not there.
        _ => Err(Error::not_found(format!("could not find plugin {name}: plugin not found"))),
    }
}

/// `host` and `null`: the host's namespace as it is, or a namespace with nothing but loopback.
struct Nothing;

impl Driver for Nothing {
    fn rules(&self, _: &NetworkRecord, _: &NetworkSettings) -> Result<Option<BridgeRules>> {
        Ok(None)
    }
    fn create(&self, _: &NetworkRecord, _: &NetworkSettings) -> Result<()> {
        Ok(())
    }
    fn remove(&self, _: &NetworkRecord, _: &NetworkSettings) -> Result<()> {
        Ok(())
    }
    fn join(&self, _: &Join<'_>) -> io::Result<()> {
        Ok(())
    }
    fn leave(&self, _: &Route, _: &str) -> io::Result<()> {
        Ok(())
    }
}
