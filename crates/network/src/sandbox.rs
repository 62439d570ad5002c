//! A container's namespace: made, wired and pinned by a thread of its own, undone in reverse when a step fails.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    os::fd::{AsFd, BorrowedFd},
    path::{Path, PathBuf},
};

use gantry_domain::{
    ContainerId,
    container::record::Endpoint,
    network::{NetworkRecord, endpoint},
    ports::{InterfaceStatistics, SandboxSetup},
};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    link::InfoKind,
    route::{RouteHeader, RouteMessage, RouteType},
};

use crate::{
    driver::{
        self, Join,
        bridge::{self, gone_is_fine},
    },
    link::{self, Described},
    namespace::{self, Namespaces},
    netlink::{Route, Step},
    settings::NetworkSettings,
    sysctl,
};

/// Endpoints that one container can have.
const ENDPOINTS_MAX: usize = 36;

/// Where a container's namespace comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// It is made here.
    New,
    /// The runtime has made it, for this process, which waits.
    Process(u32),
}

/// Makes it, or wires the one that is there. Runs on a throw-away thread, which ends up inside.
pub fn create(
    setup: &SandboxSetup,
    origin: Origin,
    namespaces: &Namespaces,
    settings: &NetworkSettings,
) -> io::Result<PathBuf> {
    let host = Route::open()?;
    // Of an earlier run: a namespace that was not taken away, or a link that the kernel has not come to yet.
    if namespaces.is_pinned(&setup.id) || host_links(&setup.id, &host).next().is_some() {
        remove(&setup.id, namespaces, &host)?;
    }
    let made = wire(setup, origin, namespaces, settings, &host);
    if let Err(cause) = &made
        && let Err(error) = remove(&setup.id, namespaces, &host)
    {
        tracing::warn!(container = setup.id.short(), %error, %cause, "cannot undo a network namespace");
    }
    made
}

fn wire(
    setup: &SandboxSetup,
    origin: Origin,
    namespaces: &Namespaces,
    settings: &NetworkSettings,
    host: &Route,
) -> io::Result<PathBuf> {
    if setup.endpoints.len() > ENDPOINTS_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many networks"));
    }
    let namespace = match origin {
        Origin::New => namespace::enter_new()?,
        Origin::Process(process) => namespace::enter_of_process(process)?,
    };
    // Interfaces to come are born with it; loopback keeps ::1.
    sysctl::set_where_present("net.ipv6.conf.default.disable_ipv6", "1")?;
    let path = namespaces.pin(&setup.id)?;
    let inside = Route::open()?;
    inside.execute(vec![link::set_up(link::LOOPBACK)])?;
    let wiring = Wiring { setup, settings, host, inside: &inside, namespace: namespace.as_fd() };
    for (network, endpoint) in &setup.endpoints {
        wiring.join(network, endpoint)?;
    }
    wiring.inside.execute(wiring.default_routes(&|_| true))?;
    for (key, value) in setup.sysctls.iter().filter(|(key, _)| key.starts_with("net")) {
        sysctl::set(key, value)
            .map_err(|error| io::Error::new(error.kind(), format!("cannot set sysctl {key}: {error}")))?;
    }
    Ok(path)
}

/// Brings the namespace of a container that runs to what the setup says; what is as wanted is not touched. Runs on a
/// throw-away thread, which ends up inside.
pub fn update(setup: &SandboxSetup, namespaces: &Namespaces, settings: &NetworkSettings) -> io::Result<()> {
    let host = Route::open()?;
    let namespace = fs::File::open(namespaces.path(&setup.id))?;
    namespace::enter(&namespaces.path(&setup.id))?;
    let inside = Route::open()?;
    let wiring = Wiring { setup, settings, host: &host, inside: &inside, namespace: namespace.as_fd() };
    let joined = wiring.joined()?;
    wiring.remove_others(&joined)?;
    let mut new = Vec::new();
    for (network, endpoint) in &setup.endpoints {
        if !joined.contains(&endpoint.endpoint_id) {
            wiring.join(network, endpoint)?;
            new.push(endpoint.endpoint_id.clone());
        }
    }
    // A route that somebody in the container has put in stays, unless its endpoint went or a better one came.
    let present = wiring.families_with_default_route()?;
    inside.execute(wiring.default_routes(&|(v6, endpoint)| !present.contains(&v6) || new.contains(endpoint)))
}

/// A namespace and the host's side of it.
struct Wiring<'a> {
    setup: &'a SandboxSetup,
    settings: &'a NetworkSettings,
    host: &'a Route,
    inside: &'a Route,
    namespace: BorrowedFd<'a>,
}

impl Wiring<'_> {
    fn join(&self, network: &NetworkRecord, endpoint: &Endpoint) -> io::Result<()> {
        let driver = driver::named(&network.driver);
        let host_interface = host_interface(&self.setup.id, endpoint.slot.into());
        driver::join(driver, &self.request(network, endpoint, &host_interface))
    }

    fn request<'b>(&'b self, network: &'b NetworkRecord, endpoint: &'b Endpoint, host_interface: &'b str) -> Join<'b> {
        Join {
            network,
            endpoint,
            settings: self.settings,
            host: self.host,
            inside: self.inside,
            namespace: self.namespace,
            host_interface,
            interface: &endpoint.interface,
        }
    }

    /// Endpoints whose interface is there: with its name and hardware address, at its network.
    fn joined(&self) -> io::Result<BTreeSet<String>> {
        let inside = described(self.inside)?;
        let mut joined = BTreeSet::new();
        for (network, endpoint) in &self.setup.endpoints {
            let driver = driver::named(&network.driver);
            let mac = endpoint::mac(&endpoint.mac);
            let there = inside.iter().any(|link| link.name == endpoint.interface && (mac.is_none() || link.mac == mac));
            let name = host_interface(&self.setup.id, endpoint.slot.into());
            let host_end = bridge::find(self.host, &name)?.and_then(|link| link::describe(&link).controller);
            if there && driver.is_joined(&self.request(network, endpoint, &name), host_end)? {
                joined.insert(endpoint.endpoint_id.clone());
            }
        }
        Ok(joined)
    }

    /// Takes away the interfaces of ours that are no endpoint's.
    fn remove_others(&self, joined: &BTreeSet<String>) -> io::Result<()> {
        let stay: Vec<&Endpoint> = self
            .setup
            .endpoints
            .iter()
            .map(|(_, endpoint)| endpoint)
            .filter(|endpoint| joined.contains(&endpoint.endpoint_id))
            .collect();
        for (at, index) in host_links(&self.setup.id, self.host) {
            if !stay.iter().any(|endpoint| usize::from(endpoint.slot) == at) {
                gone_is_fine(self.host.execute(vec![link::delete_index(index)]))?;
            }
        }
        for link in described(self.inside)? {
            // Only what was moved in from the host; tunnels and the like are the container's own.
            let ours = matches!(link.kind, Some(InfoKind::MacVlan | InfoKind::IpVlan));
            if ours && !stay.iter().any(|endpoint| endpoint.interface == link.name) {
                gone_is_fine(self.inside.execute(vec![link::delete_index(link.index)]))?;
            }
        }
        Ok(())
    }

    /// Routes for those families and endpoints that are wanted.
    fn default_routes(&self, wanted: &dyn Fn((bool, &String)) -> bool) -> Vec<Step> {
        let gateway = |v6: bool| {
            let (_, endpoint) = self.setup.gateway(v6)?;
            let v4 = endpoint.ipv4_gateway.map(Into::into);
            let address = if v6 { endpoint.ipv6_gateway.map(Into::into) } else { v4 };
            address.filter(|_| wanted((v6, &endpoint.endpoint_id))).map(link::set_default_route)
        };
        gateway(false).into_iter().chain(gateway(true)).collect()
    }

    fn families_with_default_route(&self) -> io::Result<Vec<bool>> {
        let mut found = Vec::new();
        for (v6, family) in [(false, AddressFamily::Inet), (true, AddressFamily::Inet6)] {
            let routes = self.inside.dump(link::all_routes(family))?;
            if routes.iter().any(|message| matches!(message, RouteNetlinkMessage::NewRoute(route) if is_default(route)))
            {
                found.push(v6);
            }
        }
        Ok(found)
    }
}

fn is_default(route: &RouteMessage) -> bool {
    route.header.destination_prefix_length == 0
        && route.header.table == RouteHeader::RT_TABLE_MAIN
        && route.header.kind == RouteType::Unicast
}

fn described(socket: &Route) -> io::Result<Vec<Described>> {
    let links = socket.dump(link::all_links())?.into_iter();
    Ok(links
        .filter_map(|message| match message {
            RouteNetlinkMessage::NewLink(link) => Some(link::describe(&link)),
            _ => None,
        })
        .collect())
}

/// Takes it away at once, links first.
fn remove(id: &ContainerId, namespaces: &Namespaces, host: &Route) -> io::Result<()> {
    for (_, index) in host_links(id, host) {
        gone_is_fine(host.execute(vec![link::delete_index(index)]))?;
    }
    namespaces.unpin(id)
}

/// Takes it away and leaves its links to the kernel. Returns the indices of those.
pub fn let_go(id: &ContainerId, namespaces: &Namespaces) -> io::Result<Vec<u32>> {
    let links = host_links(id, &Route::open()?).map(|(_, index)| index).collect();
    namespaces.unpin(id)?;
    Ok(links)
}

/// Number and index of each of the host's ends.
fn host_links<'a>(id: &'a ContainerId, host: &'a Route) -> impl Iterator<Item = (usize, u32)> + 'a {
    (0..ENDPOINTS_MAX).filter_map(move |at| host.index_of(&host_interface(id, at)).ok().map(|index| (at, index)))
}

/// `veth`, eight digits of the container's id, and one for the endpoint: found again without a record.
fn host_interface(id: &ContainerId, at: usize) -> String {
    let at = char::from_digit(at as u32, 36).unwrap_or('z');
    format!("veth{}{at}", &id.as_str()[..8])
}

/// Counters of each interface. Runs on a throw-away thread.
pub fn statistics(path: &Path) -> io::Result<BTreeMap<String, InterfaceStatistics>> {
    namespace::enter(path)?;
    let table = fs::read_to_string("/proc/thread-self/net/dev")?;
    Ok(table.lines().skip(2).filter_map(parse_line).filter(|(name, _)| name != "lo").collect())
}

/// `  eth0: bytes packets errs drop fifo frame compressed multicast bytes packets errs drop …`
fn parse_line(line: &str) -> Option<(String, InterfaceStatistics)> {
    let (name, rest) = line.split_once(':')?;
    let counters: Vec<u64> = rest.split_whitespace().map(|word| word.parse().unwrap_or(0)).collect();
    let [rx_bytes, rx_packets, rx_errors, rx_dropped, _, _, _, _, tx_bytes, tx_packets, tx_errors, tx_dropped, ..] =
        counters[..]
    else {
        return None;
    };
    let statistics = InterfaceStatistics {
        rx_bytes,
        rx_packets,
        rx_errors,
        rx_dropped,
        tx_bytes,
        tx_packets,
        tx_errors,
        tx_dropped,
    };
    Some((name.trim().to_owned(), statistics))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn counters_are_read_from_their_columns() {
        let (name, counters) = parse_line("  eth0: 1 2 3 4 0 0 0 0 5 6 7 8 0 0 0 0").unwrap();
        assert_eq!(name, "eth0");
        assert_eq!((counters.rx_bytes, counters.rx_dropped, counters.tx_bytes, counters.tx_dropped), (1, 4, 5, 8));
    }

    #[test]
    fn the_hosts_end_has_a_name_the_kernel_takes() {
        let id = ContainerId::parse(&"a".repeat(64)).unwrap();
        assert_eq!(host_interface(&id, 10), "vethaaaaaaaaa");
    }
}
