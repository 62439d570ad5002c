//! `GET /containers/{id}/json`: from the snapshot; containerd is asked only for sizes.

use std::collections::{BTreeMap, HashMap};

use gantry_domain::{
    ContainerId, Result,
    container::{ContainerRecord, EndpointSettings, Snapshot, record::Endpoint},
    ports::LayerUsage,
};

use super::{ContainerDetails, addresses::network_of, mounts::shared_with};
use crate::{Engine, image::chain, parts::Parts};

impl Engine {
    pub async fn container_inspect(&self, name: &str, size: bool) -> Result<ContainerDetails> {
        let handle = self.parts.container(name)?;
        let mut snapshot = handle.snapshot();
        snapshot.execs = self.parts.execs.running(&snapshot.record.id).into();
        let mut details = details(&self.parts, snapshot);
        if size {
            let layers = self.parts.catalog.layers().await?;
            add_sizes(&self.parts, &mut details, &layers).await?;
        }
        Ok(details)
    }
}

/// What list and inspect show, without sizes. Never waits.
pub(crate) fn details(parts: &Parts, snapshot: Snapshot) -> ContainerDetails {
    let snapshot = super::links::shown(parts, snapshot);
    let record = &snapshot.record;
    let files = parts.ports.files.path(&files_owner(record));
    // Nothing is there before the first start.
    let path = |name: &str| match record.run {
        Some(_) => files.join(name).to_string_lossy().into_owned(),
        None => String::new(),
    };
    let has_process = snapshot.status.has_process();
    let own_sandbox =
        record.host_config.network_mode != "host" && shared_with(&record.host_config.network_mode).is_none();
    let exec_root = parts.settings.load().exec_root.clone();
    ContainerDetails {
        link_names: Vec::new(),
        image_shown: parts.catalog.shown_as(&record.config.image, record.image.id.as_ref()),
        image_manifest: record.image.manifest.clone(),
        size_rw: None,
        size_root: None,
        hosts_path: path("hosts"),
        hostname_path: path("hostname"),
        resolv_conf_path: path("resolv.conf"),
        sandbox_id: if has_process && own_sandbox { record.id.to_string() } else { String::new() },
        sandbox_key: if has_process && own_sandbox {
            format!("{exec_root}/netns/{}", record.id)
        } else {
            String::new()
        },
        networks: networks(parts, record, has_process),
        apparmor_profile: parts.apparmor_profile(&record.host_config),
        snapshot,
    }
}

/// Whose `hosts`, `hostname` and `resolv.conf` a container uses: its own, or those of the one whose network it shares.
pub(crate) fn files_owner(record: &ContainerRecord) -> ContainerId {
    // Create has put the full id in place of what was typed.
    let other = shared_with(&record.host_config.network_mode).and_then(|id| ContainerId::parse(id).ok());
    other.unwrap_or_else(|| record.id.clone())
}

fn networks(parts: &Parts, record: &ContainerRecord, running: bool) -> BTreeMap<String, EndpointSettings> {
    let claims = parts.claims.lock();
    let endpoints = record.run.as_ref().map(|run| &run.endpoints);
    record
        .networks
        .iter()
        .map(|(name, asked)| {
            let endpoint = endpoints.filter(|_| running).and_then(|endpoints| endpoints.get(name));
            let id = network_of(&claims, name, asked).map(|network| network.id.to_string());
            let mut shown = with_endpoint(asked, endpoint, id.unwrap_or_default());
            // Known from the first run on, as under dockerd.
            if let Some(last) = endpoints.and_then(|endpoints| endpoints.get(name))
                && !last.dns_names.is_empty()
            {
                shown.dns_names = Some(last.dns_names.clone());
            }
            (name.clone(), shown)
        })
        .collect()
}

fn with_endpoint(asked: &EndpointSettings, endpoint: Option<&Endpoint>, network_id: String) -> EndpointSettings {
    let mut shown = asked.clone();
    shown.network_id = network_id;
    if let Some(endpoint) = endpoint {
        shown.endpoint_id.clone_from(&endpoint.endpoint_id);
        shown.mac_address.clone_from(&endpoint.mac);
        let text = |address: Option<String>| address.unwrap_or_default();
        shown.gateway = text(endpoint.ipv4_gateway.map(|address| address.to_string()));
        shown.ip_address = text(endpoint.ipv4.map(|net| net.addr().to_string()));
        shown.ip_prefix_len = endpoint.ipv4.map_or(0, |net| net.prefix_len());
        shown.ipv6_gateway = text(endpoint.ipv6_gateway.map(|address| address.to_string()));
        shown.global_ipv6_address = text(endpoint.ipv6.map(|net| net.addr().to_string()));
        shown.global_ipv6_prefix_len = endpoint.ipv6.map_or(0, |net| net.prefix_len());
    }
    shown
}

/// `SizeRw` and `SizeRootFs`.
pub(crate) async fn add_sizes(
    parts: &Parts,
    details: &mut ContainerDetails,
    layers: &HashMap<String, LayerUsage>,
) -> Result<()> {
    let record = details.snapshot.record.clone();
    let own = parts.ports.runtime.root_usage(&record.id).await? as i64;
    let image: i64 = chain(layers, &record.image.chain_id).iter().map(|layer| layer.size as i64).sum();
    details.size_rw = Some(own);
    details.size_root = Some(own + image);
    Ok(())
}
