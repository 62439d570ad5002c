//! `GET /containers/json`: every filter, newest first, from snapshots alone.

use std::collections::{BTreeSet, HashMap};

use gantry_domain::{
    ContainerId, Digest, Error, Result,
    container::{
        ContainerRecord, Snapshot, Status,
        port::{asked_ports, parse_port},
    },
    filter::{Filters, Patterns},
    image::ImageConfig,
    text::go_int,
};

use super::{ContainerDetails, ContainerList, inspect};
use crate::{Engine, parts::readable};

const KEYS: &[&str] = &[
    "ancestor",
    "before",
    "exited",
    "expose",
    "health",
    "id",
    "is-task",
    "isolation",
    "label",
    "name",
    "network",
    "publish",
    "since",
    "status",
    "volume",
];
const STATUSES: [&str; 7] = ["created", "running", "paused", "restarting", "removing", "exited", "dead"];
const HEALTHS: [&str; 4] = ["none", "starting", "healthy", "unhealthy"];

impl Engine {
    pub async fn container_list(&self, request: ContainerList) -> Result<Vec<ContainerDetails>> {
        let (chosen, mut links) = self.choose(&request).await?;
        let mut list: Vec<ContainerDetails> = chosen
            .into_iter()
            .map(|snapshot| {
                let link_names = links.remove(&snapshot.record.id).unwrap_or_default();
                ContainerDetails { link_names, ..inspect::details(&self.parts, snapshot) }
            })
            .collect();
        if request.size {
            let layers = self.parts.catalog.layers().await?;
            for details in &mut list {
                let sized = inspect::add_sizes(&self.parts, details, &layers).await;
                readable("container", details.snapshot.record.id.as_str(), sized)?;
            }
        }
        Ok(list)
    }

    /// The names that containers have by the links to them: `/web/database`.
    fn link_names(&self) -> LinkNames {
        let mut names = LinkNames::new();
        for handle in self.parts.containers.read().values() {
            let record = handle.snapshot().record;
            for link in &record.links {
                names.entry(link.target.clone()).or_default().push(format!("/{}/{}", record.name, link.alias));
            }
        }
        names.values_mut().for_each(|names| names.sort());
        names
    }

    /// With the names that all containers have by links.
    async fn choose(&self, request: &ContainerList) -> Result<(Vec<Snapshot>, LinkNames)> {
        let criteria = self.criteria(request).await?;
        let mut chosen: Vec<Snapshot> =
            self.snapshots().into_iter().filter(|snapshot| criteria.includes(snapshot)).collect();
        if request.limit > 0 {
            chosen.truncate(usize::try_from(request.limit).unwrap_or(usize::MAX));
        }
        Ok((chosen, criteria.link_names))
    }

    async fn criteria<'a>(&self, request: &'a ContainerList) -> Result<Criteria<'a>> {
        let filters = &request.filters;
        filters.check_keys(KEYS)?;
        check_values(filters, "status", "state", &STATUSES)?;
        check_values(filters, "health", "health", &HEALTHS)?;
        let is_task = filters.contains("is-task") && filters.bool_or("is-task", false)?;
        let mut exited = BTreeSet::new();
        for text in filters.values("exited") {
            let bad = |error: Error| error.context(format!("invalid filter 'exited={text}'"));
            // A code that none has matches none.
            exited.insert(u32::try_from(go_int(text).map_err(bad)?).unwrap_or(u32::MAX));
        }
        let created = |name: &str| Ok::<_, Error>(self.parts.container(name)?.snapshot().record.created);
        let mut before = None;
        for name in filters.values("before").chain(request.before.as_deref().filter(|name| !name.is_empty())) {
            before = Some(created(name)?);
        }
        let mut since = None;
        for name in filters.values("since").chain(request.since.as_deref().filter(|name| !name.is_empty())) {
            since = Some(created(name)?);
        }
        let (mut ancestors, mut layers) = (BTreeSet::new(), Vec::new());
        for name in filters.values("ancestor") {
            ancestors.extend(self.parts.catalog.ids_of(name).await?);
            layers.extend(self.parts.catalog.layers_of(name).await?);
        }
        let mut networks = BTreeSet::new();
        for name in filters.values("network") {
            let claims = self.parts.claims.lock();
            networks.insert(name.to_owned());
            // By name a container that does not run is found, by id one that does.
            if let Ok(network) = claims.network(name) {
                networks.extend([network.id.to_string(), network.name.clone()]);
            }
        }
        let ports = |key: &str| filters.values(key).map(|text| asked_ports(key, text)).collect::<Result<Vec<_>>>();
        let stopped_too = request.all
            || request.limit > 0
            || ["status", "exited", "before", "since"].iter().any(|key| filters.contains(key))
            || before.is_some()
            || since.is_some();
        let wants_ancestor = filters.contains("ancestor");
        let (publish, expose) = (ports("publish")?, ports("expose")?);
        Ok(Criteria {
            filters,
            ids: filters.patterns("id"),
            names: filters.patterns("name"),
            stopped_too,
            is_task,
            exited,
            before,
            since,
            wants_ancestor,
            ancestors,
            layers,
            link_names: self.link_names(),
            networks,
            publish,
            expose,
        })
    }
}

type LinkNames = HashMap<ContainerId, Vec<String>>;
type PortRange = (u16, u16, gantry_domain::network::Protocol);

/// The filters with everything looked up that they name. `isolation` is Windows' and chooses nothing here.
struct Criteria<'a> {
    filters: &'a Filters,
    ids: Patterns,
    names: Patterns,
    stopped_too: bool,
    is_task: bool,
    exited: BTreeSet<u32>,
    before: Option<jiff::Timestamp>,
    since: Option<jiff::Timestamp>,
    wants_ancestor: bool,
    ancestors: BTreeSet<Digest>,
    /// Of the ancestors: what is made on top of them is their child.
    layers: Vec<Vec<Digest>>,
    link_names: LinkNames,
    networks: BTreeSet<String>,
    publish: Vec<PortRange>,
    expose: Vec<PortRange>,
}

impl Criteria<'_> {
    fn includes(&self, snapshot: &Snapshot) -> bool {
        let record = &snapshot.record;
        (self.stopped_too || snapshot.status.is_running())
            && !self.is_task
            && self.state_matches(snapshot)
            && self.ids.match_text(record.id.as_str())
            && self.name_matches(record)
            && record
                .config
                .labels
                .as_ref()
                .map_or_else(|| !self.filters.contains("label"), |labels| self.filters.labels_match("label", labels))
            && self.before.is_none_or(|before| record.created < before)
            && self.since.is_none_or(|since| record.created > since)
            && (!self.wants_ancestor || self.ancestor_matches(record))
            && self.volume_matches(snapshot)
            && self.network_matches(snapshot)
            && self.ports_match(snapshot)
    }

    fn state_matches(&self, snapshot: &Snapshot) -> bool {
        let health = snapshot.health.as_ref().map_or("none", |health| health.status.as_str());
        let exit = snapshot.record.run.as_ref().and_then(|run| run.exit);
        let exited = self.exited.is_empty()
            || (!snapshot.status.is_running()
                && snapshot.status != Status::Created
                && exit.is_some_and(|exit| self.exited.contains(&exit.code)));
        self.filters.exact_match("status", snapshot.status.as_str())
            && self.filters.exact_match("health", health)
            && exited
    }

    /// A pattern is tried on each name with and without its slash.
    fn name_matches(&self, record: &ContainerRecord) -> bool {
        let matches = |name: &str| self.names.match_text(name) || self.names.match_text(&format!("/{name}"));
        let links = self.link_names.get(&record.id);
        matches(&record.name) || links.into_iter().flatten().any(|name| matches(name.trim_start_matches('/')))
    }

    /// The image itself, or one that begins with its layers.
    fn ancestor_matches(&self, record: &ContainerRecord) -> bool {
        if record.image.id.as_ref().is_some_and(|image| self.ancestors.contains(image)) {
            return true;
        }
        if self.layers.is_empty() {
            return false;
        }
        let own = serde_json::from_str::<ImageConfig>(&record.image.config).unwrap_or_default().rootfs.diff_ids;
        self.layers.iter().any(|layers| own.starts_with(layers))
    }

    fn volume_matches(&self, snapshot: &Snapshot) -> bool {
        !self.filters.contains("volume")
            || self.filters.values("volume").any(|wanted| {
                let is = |text: &str| !text.is_empty() && text == wanted;
                snapshot
                    .record
                    .mounts
                    .iter()
                    .any(|point| is(&point.name) || is(&point.destination) || is(&point.source))
            })
    }

    fn network_matches(&self, snapshot: &Snapshot) -> bool {
        if self.networks.is_empty() {
            return true;
        }
        let endpoints = snapshot.record.run.iter().flat_map(|run| run.endpoints.values());
        let mut ids = endpoints.filter_map(|endpoint| endpoint.network_id.as_ref());
        ids.any(|id| self.networks.contains(id.as_str()))
            || snapshot.record.networks.keys().any(|name| self.networks.contains(name))
    }

    /// By what the list shows of ports, which is nothing of a container that does not run: `publish` is the host's port,
    /// `expose` the container's, and one of them is enough.
    fn ports_match(&self, snapshot: &Snapshot) -> bool {
        if self.publish.is_empty() && self.expose.is_empty() {
            return true;
        }
        if !snapshot.status.has_process() {
            return false;
        }
        let within = |ranges: &[PortRange], port: u16, protocol| {
            ranges.iter().any(|(first, last, wanted)| *wanted == protocol && (*first..=*last).contains(&port))
        };
        let mut published = snapshot.record.run.iter().flat_map(|run| &run.ports);
        let mut exposed = snapshot.record.config.exposed_ports.keys().filter_map(|spec| parse_port(spec).ok());
        published.any(|port| {
            within(&self.publish, port.host_port, port.protocol)
                || within(&self.expose, port.container_port, port.protocol)
        }) || exposed.any(|(port, _, protocol)| within(&self.expose, port, protocol))
    }
}

fn check_values(filters: &Filters, key: &str, what: &str, accepted: &[&str]) -> Result<()> {
    match filters.values(key).find(|value| !accepted.contains(value)) {
        Some(value) => Err(Error::invalid(format!(
            "invalid filter '{key}={value}': invalid value for {what} ({value}): must be one of {}",
            accepted.join(", ")
        ))),
        None => Ok(()),
    }
}
