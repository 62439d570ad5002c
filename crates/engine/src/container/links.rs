//! Links on the default bridge: `--link db:database` names another container in `/etc/hosts` and in variables.
//!
//! The target is kept by its id. It must run when the linking container starts; when it starts anew, the lines of those
//! that link to it get its new address.

use std::{net::IpAddr, sync::Arc};

use bytes::Bytes;
use futures::FutureExt as _;
use gantry_domain::{
    ContainerId, Error, Result,
    container::{
        ContainerRecord, HostConfig, Snapshot,
        record::{Endpoint, LinkRecord},
        validate::modes::parse_link,
    },
    network::{hosts, links::Link},
};

use super::{mounts::shared_with, owner::Owner};
use crate::{Engine, parts::Parts};

/// Largest hosts file that is changed.
const MAX_HOSTS: u64 = 4 << 20;
const BRIDGE: &str = "bridge";

/// Whether links in this network mode are aliases of a network of the user's.
pub(crate) fn are_aliases(mode: &str) -> bool {
    !matches!(mode, "" | "default" | BRIDGE | "host" | "none") && shared_with(mode).is_none()
}

/// The links of a container to be made, checked in dockerd's words.
pub(crate) fn wanted(parts: &Parts, host: &HostConfig) -> Result<Vec<LinkRecord>> {
    if are_aliases(&host.network_mode) {
        return Ok(Vec::new());
    }
    host.links.iter().flatten().map(|text| wanted_one(parts, text)).collect()
}

fn wanted_one(parts: &Parts, text: &str) -> Result<LinkRecord> {
    let (name, alias) = parse_link(text)?;
    // A 404 of create would say that the image is missing.
    let missing = |error: Error| Error::invalid(format!("could not get container for {name}: {}", error.message()));
    let mut target = parts.container(name).map_err(missing)?.snapshot();
    while let Some(other) = shared_with(&target.record.host_config.network_mode) {
        target = parts.container(other).map_err(missing)?.snapshot();
    }
    if target.record.host_config.network_mode == "host" {
        return Err(Error::invalid(
            "conflicting options: host type networking can't be used with links. This would result in undefined behavior",
        ));
    }
    Ok(LinkRecord { target: target.record.id.clone(), name: target.record.name.clone(), alias: alias.to_owned() })
}

/// The links of a container that is to run, each to a container that does.
pub(crate) fn of(parts: &Parts, record: &ContainerRecord) -> Result<Vec<Link>> {
    if record.links.is_empty() || endpoint_on_bridge(record).is_none() {
        return Ok(Vec::new());
    }
    record.links.iter().map(|link| linked(parts, record, link)).collect()
}

fn linked(parts: &Parts, record: &ContainerRecord, link: &LinkRecord) -> Result<Link> {
    let target = parts.container(link.target.as_str()).map(|handle| handle.snapshot()).ok();
    let Some(target) = target.filter(|target| target.status.is_running()) else {
        let name = name_of(parts, link);
        return Err(Error::system(format!(
            "Cannot link to a non running container: /{name} AS /{}/{}",
            record.name, link.alias
        )));
    };
    let target = &target.record;
    let endpoint = endpoint_on_bridge(target)
        .ok_or_else(|| Error::system(format!("container {} not attached to default bridge network", target.id)))?;
    Ok(Link {
        parent: record.name.clone(),
        alias: link.alias.clone(),
        target: target.name.clone(),
        hostname: target.config.hostname.clone(),
        addresses: addresses_of(endpoint).collect(),
        ports: target.config.exposed_ports.keys().cloned().collect(),
        env: target.config.env.clone().unwrap_or_default(),
    })
}

/// The target's name, or the one it had.
fn name_of(parts: &Parts, link: &LinkRecord) -> String {
    let target = parts.containers.read().get(link.target.as_str()).cloned();
    target.map_or_else(|| link.name.clone(), |handle| handle.snapshot().record.name.clone())
}

fn endpoint_on_bridge(record: &ContainerRecord) -> Option<&Endpoint> {
    record.run.as_ref()?.endpoints.get(BRIDGE).filter(|endpoint| endpoint.ipv4.is_some() || endpoint.ipv6.is_some())
}

pub(crate) fn addresses_of(endpoint: &Endpoint) -> impl Iterator<Item = IpAddr> + use<> {
    let v4 = endpoint.ipv4.map(|net| IpAddr::V4(net.addr()));
    v4.into_iter().chain(endpoint.ipv6.map(|net| IpAddr::V6(net.addr())))
}

/// `HostConfig.Links` as inspect shows them: `/db:/web/database`.
pub(crate) fn shown(parts: &Parts, mut snapshot: Snapshot) -> Snapshot {
    if snapshot.record.host_config.links.is_none() {
        return snapshot;
    }
    let record = Arc::make_mut(&mut snapshot.record);
    let own = &record.name;
    let mut links: Vec<String> =
        record.links.iter().map(|link| format!("/{}:/{own}/{}", name_of(parts, link), link.alias)).collect();
    links.sort();
    record.host_config.links = Some(links).filter(|links| !links.is_empty());
    snapshot
}

/// The target of `web/database`.
pub(crate) fn target<'a>(snapshots: &'a [Snapshot], typed: &str) -> Option<&'a ContainerId> {
    let (parent, alias) = typed.trim_start_matches('/').rsplit_once('/')?;
    let parent = snapshots.iter().find(|snapshot| snapshot.record.name == parent)?;
    let link = parent.record.links.iter().find(|link| link.alias == alias)?;
    // One that went is not there.
    snapshots.iter().map(|snapshot| &snapshot.record.id).find(|id| **id == link.target)
}

impl Engine {
    /// `DELETE /containers/web/database?link=1`: takes the link away, not its target.
    pub(crate) async fn link_delete(&self, typed: &str) -> Result<()> {
        self.parts.container(typed)?;
        let Some((parent, alias)) = typed.trim_start_matches('/').rsplit_once('/') else {
            return Err(Error::conflict("Conflict, cannot remove the default link name of the container"));
        };
        let parent = self
            .parts
            .container(parent)
            .map_err(|_| Error::not_found(format!("Cannot get parent /{parent} for link name /{parent}/{alias}")))?;
        let alias = alias.to_owned();
        parent.run(move |owner| async move { owner.unlink(&alias).await }.boxed()).await
    }
}

impl Owner {
    pub(crate) fn links(&self) -> Result<Vec<Link>> {
        of(&self.parts, &self.record)
    }

    pub(crate) fn link_variables(&self) -> Result<Vec<String>> {
        Ok(self.links()?.iter().flat_map(Link::variables).collect())
    }

    async fn unlink(&mut self, alias: &str) -> Result<()> {
        let before = self.record.links.clone();
        self.record.links.retain(|link| link.alias != alias);
        if let Err(error) = self.save().await {
            self.record.links = before;
            return Err(error);
        }
        self.publish();
        if self.status.has_process() {
            self.change_hosts(&self.record.id, |content| hosts::without(content, alias)).await;
        }
        Ok(())
    }

    /// Gives the containers that link to this one its address. They run on; a file that cannot be changed is logged.
    pub(crate) async fn tell_linking_containers(&self) {
        let Some(endpoint) = endpoint_on_bridge(&self.record) else { return };
        let addresses: Vec<IpAddr> = addresses_of(endpoint).collect();
        let handles: Vec<_> = self.parts.containers.read().values().cloned().collect();
        for parent in handles.iter().map(|handle| handle.snapshot()).filter(|parent| parent.status.has_process()) {
            for link in parent.record.links.iter().filter(|link| link.target == self.record.id) {
                let readdressed = |content: &str| hosts::readdress(content, &link.alias, &addresses);
                self.change_hosts(&parent.record.id, readdressed).await;
            }
        }
    }

    async fn change_hosts(&self, id: &ContainerId, change: impl Fn(&str) -> String) {
        let ports = &self.parts.ports;
        let path = ports.files.path(id).join("hosts");
        let changed = async {
            let before = ports.host.read_file(&path.to_string_lossy(), MAX_HOSTS).await?;
            let after = change(&String::from_utf8_lossy(&before));
            ports.files.write(id, vec![("hosts".to_owned(), Bytes::from(after))]).await
        };
        if let Err(error) = changed.await {
            tracing::warn!(container = %id, %error, "its hosts file names an old address");
        }
    }
}
