//! `macvlan` and `ipvlan`: a container's interface hangs on an interface of the host, without a bridge or a firewall of
//! ours in between.

use std::io;

use gantry_domain::{
    Error, Result,
    network::{NetworkRecord, endpoint, options},
};
use netlink_packet_route::link::{
    InfoData, InfoIpVlan, InfoKind, InfoMacVlan, IpVlanFlags, IpVlanMode, LinkInfo, LinkMessage, MacVlanMode,
};

use super::{
    Driver, Join,
    bridge::{self, gone_is_fine},
};
use crate::{link, netlink::Route, rules::BridgeRules, settings::NetworkSettings};

pub struct Parented {
    name: &'static str,
    /// What a parent of our own begins with, as dockerd names it.
    dummy: &'static str,
}

pub const MACVLAN: Parented = Parented { name: "macvlan", dummy: "dm-" };
pub const IPVLAN: Parented = Parented { name: "ipvlan", dummy: "di-" };

impl Driver for Parented {
    fn rules(&self, _: &NetworkRecord, _: &NetworkSettings) -> Result<Option<BridgeRules>> {
        Ok(None)
    }

    fn parent(&self, network: &NetworkRecord) -> Option<String> {
        Some(self.parent_of(network))
    }

    fn create(&self, network: &NetworkRecord, settings: &NetworkSettings) -> Result<()> {
        let host = Route::open()?;
        let parent = self.parent_of(network);
        if bridge::find(&host, &parent)?.is_none() {
            match network.parent() {
                Some(named) => make_vlan(&host, named)?,
                None => make_dummy(&host, &parent)?,
            }
            let index = host.index_of(&parent)?;
            host.execute(vec![link::set_alias(&parent, &bridge::alias(settings, network)), link::set_up(index)])?;
        }
        self.probe(&host, &parent, network)
    }

    fn join(&self, join: &Join<'_>) -> io::Result<()> {
        let parent = join.host.index_of(&self.parent_of(join.network))?;
        let mac = endpoint::mac(&join.endpoint.mac);
        let mtu = join.network.mtu().map_err(io::Error::other)?.unwrap_or(0);
        let info = self.info(join.network);
        join.host.execute(vec![link::create_child(join.interface, parent, mac, mtu, info, Some(join.namespace))])
    }

    /// Its name and hardware address say all; no end of it is on the host.
    fn is_joined(&self, _: &Join<'_>, host_end_at: Option<u32>) -> io::Result<bool> {
        Ok(host_end_at.is_none())
    }
}

impl Parented {
    fn parent_of(&self, network: &NetworkRecord) -> String {
        network.parent().map_or_else(|| format!("{}{}", self.dummy, network.id.short()), str::to_owned)
    }

    fn info(&self, network: &NetworkRecord) -> Vec<LinkInfo> {
        // Checked when the network was made.
        let mode = network.parent_mode().unwrap_or_default();
        if self.name == "ipvlan" {
            let mode = match mode {
                "l3" => IpVlanMode::L3,
                "l3s" => IpVlanMode::L3S,
                _ => IpVlanMode::L2,
            };
            let mut data = vec![InfoIpVlan::Mode(mode)];
            // The parent has them once, for all its networks: who does not ask leaves them as they are.
            if network.options.contains_key(options::IPVLAN_FLAG) {
                data.push(InfoIpVlan::Flags(match network.ipvlan_flag().unwrap_or_default() {
                    "private" => IpVlanFlags::Private,
                    "vepa" => IpVlanFlags::Vepa,
                    _ => IpVlanFlags::empty(),
                }));
            }
            return vec![LinkInfo::Kind(InfoKind::IpVlan), LinkInfo::Data(InfoData::IpVlan(data))];
        }
        let mode = match mode {
            "private" => MacVlanMode::Private,
            "vepa" => MacVlanMode::Vepa,
            "passthru" => MacVlanMode::Passthrough,
            _ => MacVlanMode::Bridge,
        };
        vec![LinkInfo::Kind(InfoKind::MacVlan), LinkInfo::Data(InfoData::MacVlan(vec![InfoMacVlan::Mode(mode)]))]
    }

    /// Says now, and not at a container's start, that the kernel cannot do it.
    fn probe(&self, host: &Route, parent: &str, network: &NetworkRecord) -> Result<()> {
        // What passes everything through takes the parent over even for a moment.
        if network.parent_mode()? == "passthru" {
            return Ok(());
        }
        let name = format!("gp-{}", network.id.short());
        let info = self.info(network);
        let made = host.execute(vec![link::create_child(&name, host.index_of(parent)?, None, 0, info, None)]);
        match made {
            Ok(()) => Ok(gone_is_fine(host.execute(vec![link::delete_index(host.index_of(&name)?)]))?),
            Err(error) if is_unsupported(&error) => Err(Error::system(format!(
                "failed to create the {0} port: operation not supported: the kernel of this host has no {0}",
                self.name
            ))
            .with_source(error)),
            Err(error) => Err(Error::from(error).context(format!("failed to create the {} port", self.name))),
        }
    }
}

fn is_unsupported(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EOPNOTSUPP)
}

/// `eth0.10`: VLAN 10 of `eth0`. Another name must be there already.
fn make_vlan(host: &Route, name: &str) -> Result<()> {
    let Some((base, id)) = name.rsplit_once('.') else {
        return Err(Error::invalid(format!("-o parent interface was not found on the host: {name}")));
    };
    let id = id.parse().ok().filter(|id| (1..4095).contains(id)).ok_or_else(|| {
        Error::invalid(format!("invalid subinterface vlan name {name}, example formatting is eth0.10"))
    })?;
    let found: Option<LinkMessage> = bridge::find(host, base)?;
    let Some(found) = found else {
        return Err(Error::invalid(format!("-o parent interface was not found on the host: {base}")));
    };
    match host.execute(vec![link::create_vlan(name, found.header.index, id)]) {
        Err(error) if is_unsupported(&error) => {
            Err(Error::system(format!("failed to create {name} vlan link: the kernel of this host has no VLANs"))
                .with_source(error))
        }
        other => other.map_err(|error| Error::from(error).context(format!("failed to create {name} vlan link"))),
    }
}

/// On a kernel without dummies one end of a pair whose other end leads nowhere; it goes with the first one.
fn make_dummy(host: &Route, name: &str) -> Result<()> {
    match host.execute(vec![link::create_dummy(name)]) {
        Err(error) if is_unsupported(&error) => {
            let peer = name.replacen('-', "p", 1);
            host.execute(vec![link::create_pair(name, &peer)])?;
            Ok(host.execute(vec![link::set_up(host.index_of(&peer)?)])?)
        }
        other => Ok(other?),
    }
}
