//! A container's namespace: made, wired and pinned by a thread of its own, undone in reverse when a step fails.

use std::{
    collections::BTreeMap,
    fs, io,
    os::fd::AsFd,
    path::{Path, PathBuf},
};

use gantry_domain::{
    ContainerId,
    ports::{InterfaceStatistics, SandboxSetup},
};

use crate::{
    driver::{self, Driver as _, Join, bridge},
    link,
    namespace::{self, Namespaces},
    netlink::Route,
    settings::NetworkSettings,
    sysctl,
};

/// Endpoints that one container can have.
const ENDPOINTS_MAX: usize = 36;

/// Makes it. Runs on a throw-away thread, which ends up inside.
pub fn create(setup: &SandboxSetup, namespaces: &Namespaces, settings: &NetworkSettings) -> io::Result<PathBuf> {
    let host = Route::open()?;
    // Of an earlier run: a namespace that was not taken away, or a link that the kernel has not come to yet.
    if namespaces.is_pinned(&setup.id) || host_links(&setup.id, &host).next().is_some() {
        remove(&setup.id, namespaces, &host)?;
    }
    let made = wire(setup, namespaces, settings, &host);
    if let Err(cause) = &made
        && let Err(error) = remove(&setup.id, namespaces, &host)
    {
        tracing::warn!(container = setup.id.short(), %error, %cause, "cannot undo a network namespace");
    }
    made
}

fn wire(
    setup: &SandboxSetup,
    namespaces: &Namespaces,
    settings: &NetworkSettings,
    host: &Route,
) -> io::Result<PathBuf> {
    if setup.endpoints.len() > ENDPOINTS_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many networks"));
    }
    let namespace = namespace::enter_new()?;
    // Interfaces to come are born with it; loopback keeps ::1.
    sysctl::set_where_present("net.ipv6.conf.default.disable_ipv6", "1")?;
    let path = namespaces.pin(&setup.id)?;
    let inside = Route::open()?;
    inside.execute(vec![link::set_up(link::LOOPBACK)])?;
    for (at, (network, endpoint)) in setup.endpoints.iter().enumerate() {
        let default_name = format!("eth{at}");
        let driver = driver::named(&network.driver).map_err(io::Error::other)?;
        driver.join(&Join {
            network,
            endpoint,
            settings,
            host,
            inside: &inside,
            namespace: namespace.as_fd(),
            host_interface: &host_interface(&setup.id, at),
            interface: if endpoint.interface.is_empty() { &default_name } else { &endpoint.interface },
            default_route: at == 0,
        })?;
    }
    for (key, value) in setup.sysctls.iter().filter(|(key, _)| key.starts_with("net")) {
        sysctl::set(key, value)
            .map_err(|error| io::Error::new(error.kind(), format!("cannot set sysctl {key}: {error}")))?;
    }
    Ok(path)
}

/// Takes it away at once, links first.
fn remove(id: &ContainerId, namespaces: &Namespaces, host: &Route) -> io::Result<()> {
    for (at, _) in host_links(id, host) {
        bridge::Bridge.leave(host, &host_interface(id, at))?;
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
    (0..ENDPOINTS_MAX).map_while(move |at| host.index_of(&host_interface(id, at)).ok().map(|index| (at, index)))
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
