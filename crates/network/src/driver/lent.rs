//! Networks of plugins: the interface is lent. It is moved from the host into the container's namespace, and back.

use std::{io, os::fd::AsFd as _, path::Path};

use gantry_domain::{
    Result,
    network::{NetworkRecord, endpoint, lent::Lent as Loan},
};

use super::{Driver, Join, bridge::gone_is_fine};
use crate::{
    link, namespace,
    netlink::{Route, Step},
    rules::BridgeRules,
    settings::NetworkSettings,
};

/// Everything outside of the container is the plugin's.
pub struct Lent;

impl Driver for Lent {
    fn rules(&self, _: &NetworkRecord, _: &NetworkSettings) -> Result<Option<BridgeRules>> {
        Ok(None)
    }

    fn create(&self, _: &NetworkRecord, _: &NetworkSettings) -> Result<()> {
        Ok(())
    }

    fn join(&self, join: &Join<'_>) -> io::Result<()> {
        let source = join.endpoint.lent.as_ref().map(|lent| lent.source.as_str()).unwrap_or_default();
        let index = join.host.index_of(source).map_err(|error| {
            io::Error::new(error.kind(), format!("failed to get link by name \"{source}\": {error}"))
        })?;
        // The kernel takes it down on the way.
        join.host.execute(vec![link::move_to(index, join.namespace, join.interface)])?;
        match endpoint::mac(&join.endpoint.mac) {
            Some(mac) => join.inside.execute(vec![link::set_mac(join.inside.index_of(join.interface)?, mac)]),
            None => Ok(()),
        }
    }

    fn is_joined(&self, _: &Join<'_>, _: Option<u32>) -> io::Result<bool> {
        Ok(true)
    }
}

/// The routes that the plugin wants, in an order in which a next hop can be reached before it is used.
pub fn routes(lent: &Loan, index: u32) -> Vec<Step> {
    let (connected, via): (Vec<_>, Vec<_>) = lent.routes.iter().partition(|route| route.next_hop.is_none());
    connected.into_iter().chain(via).map(|route| link::add_route(index, route.destination, route.next_hop)).collect()
}

/// Back to the host, under the name it had there. Absent is `Ok`. Runs on a throw-away thread, which ends up inside.
pub fn give_back(namespace: &Path, interface: &str, source: &str) -> io::Result<()> {
    let host = namespace::current()?;
    namespace::enter(namespace)?;
    let inside = Route::open()?;
    let Ok(index) = inside.index_of(interface) else { return Ok(()) };
    gone_is_fine(inside.execute(vec![link::move_to(index, host.as_fd(), source)]))
}
