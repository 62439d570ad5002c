//! `POST /containers/create`: check, claim, make the root file system, make durable.

use std::{collections::BTreeMap, panic::AssertUnwindSafe, sync::Arc};

use futures::FutureExt as _;
use gantry_domain::{
    ContainerId, Error, ErrorKind, Result,
    container::{
        ContainerImage, ContainerRecord, EndpointSettings, HostConfig, MountPoint, NetworkingConfig, Status, merge,
        validate::{
            endpoints, mount_points,
            mounts::{follow_the_data_root, read_only_as_of},
            storage_size, validate_and_default,
        },
    },
    image::Descriptor,
    ports::Write,
};
use jiff::Timestamp;

use super::{ContainerCreate, ContainerCreated, mounts, names, owner::Owner};
use crate::{
    Engine,
    image::Resolved,
    parts::{Parts, detached},
};

impl Engine {
    /// Makes a container that does not run yet. A client's hang-up does not cut it short.
    pub async fn container_create(&self, request: ContainerCreate) -> Result<ContainerCreated> {
        let parts = self.parts.clone();
        detached(async move { create(&parts, request).await }).await
    }
}

async fn create(parts: &Arc<Parts>, mut request: ContainerCreate) -> Result<ContainerCreated> {
    let settings = parts.settings.load_full();
    let facts = parts.facts().await;
    let (config, host, networking) = (&mut request.config, &mut request.host_config, &mut request.networking);
    let mut warnings = endpoints::gate(config, host, networking, request.api)?;
    let found = parts.catalog.for_container(&config.image, request.platform.as_ref()).await;
    let image = found.map_err(|missing| {
        // What is wrong with the request comes first: clients pull a missing image and ask again.
        let (mut config, mut host) = (config.clone(), host.clone());
        let checked = validate_and_default(&mut config, &mut host, &settings, &facts, request.api);
        checked.err().unwrap_or(missing)
    })?;
    merge::merge(&mut request.config, &image.image.config.config)?;
    let id = ContainerId::random();
    check_donors(parts, &request.host_config)?;
    resolve_modes(parts, &mut request.host_config);
    warnings.extend(validate_and_default(
        &mut request.config,
        &mut request.host_config,
        &settings,
        &facts,
        request.api,
    )?);
    if let Some(name) = request.name.as_deref().filter(|name| !name.is_empty()) {
        gantry_domain::container::name::check(name)?;
    }
    if request.config.cmd.as_deref().unwrap_or_default().is_empty()
        && request.config.entrypoint.as_deref().unwrap_or_default().is_empty()
    {
        return Err(Error::invalid("no command specified"));
    }
    if request.config.hostname.is_empty() {
        request.config.hostname = hostname(parts, &id, &request.host_config, &facts.hostname);
    }
    super::selinux::share_labels(parts, &mut request.host_config)?;
    super::unbuilt::check(&request.host_config)?;
    warnings.extend(image.warning.clone());
    // `NetworkDisabled`: a namespace with a loopback, and nothing else.
    let disabled = request.config.network_disabled;
    let networks = if disabled { BTreeMap::new() } else { networks(parts, &request.host_config, &request.networking) };
    check_networks(parts, &networks)?;
    let mut own = mount_points(&request.config, &request.host_config)?;
    read_only_as_of(&mut own, request.api);
    follow_the_data_root(&mut own, &settings.data_root)?;
    let points = mounts::with_inherited(parts, &request.host_config, own)?;
    let links = super::links::wanted(parts, &request.host_config)?;
    let mut record = record(&id, request, &image, networks, points);
    record.links = links;
    gantry_domain::container::log_attrs::attributes(&record)?;
    gantry_domain::container::log_shipment::LogShipment::of(&record)?;
    let record = claim_and_make(parts, record).await?;
    let handle = Owner::spawn(parts.clone(), record.clone(), Status::Created, 0);
    parts.containers.write().insert(id.clone(), handle);
    let event = super::owner::container_event(&record, "create".into(), &[], Timestamp::now());
    parts.events.publish(event);
    Ok(ContainerCreated { id, warnings })
}

/// Takes the claims, makes what the record says, and gives all back if a step fails.
async fn claim_and_make(parts: &Parts, mut record: ContainerRecord) -> Result<ContainerRecord> {
    let typed = Some(record.name.clone());
    {
        let mut claims = parts.claims.lock();
        let labels = super::selinux::labels(parts, &claims, &record.host_config)?;
        (record.process_label, record.mount_label) = (labels.process, labels.mount);
        record.name = names::take(&mut claims, typed.as_deref(), &record.id)?;
        claims.use_level(&record.process_label, &record.id);
        if let Some(image) = &record.image.id {
            claims.use_image(image, &record.id);
        }
    }
    // A panic gives back what was claimed, too.
    let made = AssertUnwindSafe(make(parts, &mut record)).catch_unwind().await;
    match made.unwrap_or_else(|_| Err(Error::system("the engine failed at the container: see its log"))) {
        Ok(()) => Ok(record),
        Err(error) => {
            if let Err(undo) = parts.ports.runtime.delete_container(&record.id).await {
                tracing::warn!(container = %record.id, error = %undo, "left for the reconciliation");
            }
            if let Err(undo) = mounts::unmount_volumes(parts, &record).await {
                tracing::warn!(container = %record.id, error = %undo, "a volume stays mounted");
            }
            parts.claims.lock().release(&record.id);
            mounts::give_back(parts, &record.mounts).await;
            Err(error)
        }
    }
}

async fn make(parts: &Parts, record: &mut ContainerRecord) -> Result<()> {
    mounts::resolve(parts, &record.id, &mut record.mounts).await?;
    super::files::create_in_containerd(parts, record).await?;
    let layer = parts.ports.runtime.root_mounts(&record.id).await?;
    if let Some(bytes) = storage_size(&record.host_config)? {
        parts.ports.rootfs.limit(&layer, bytes).await?;
    }
    parts.ports.rootfs.make_marks(&layer).await?;
    super::working_dir::make(parts, record).await?;
    mounts::copy_up(parts, record).await?;
    record.generation = 1;
    let mut writes = mounts::anonymous_volumes(parts, record);
    writes.push(Write::Container(Box::new(record.clone())));
    parts.ports.store.commit(writes).await
}

fn record(
    id: &ContainerId,
    request: ContainerCreate,
    image: &Resolved,
    networks: BTreeMap<String, EndpointSettings>,
    points: Vec<MountPoint>,
) -> ContainerRecord {
    let entrypoint = request.config.entrypoint.clone().unwrap_or_default();
    let cmd = request.config.cmd.clone().unwrap_or_default();
    let mut words = entrypoint.into_iter().chain(cmd);
    let path = words.next().unwrap_or_default();
    ContainerRecord {
        id: id.clone(),
        name: request.name.unwrap_or_default(),
        created: Timestamp::now(),
        path,
        args: words.collect(),
        networks,
        image: ContainerImage {
            id: Some(image.target.digest.clone()),
            manifest: Some(Descriptor { platform: Some(image.image.platform.clone()), ..image.image.manifest.clone() }),
            platform: image.image.platform.clone(),
            chain_id: image.chain_id.clone(),
            config: String::from_utf8_lossy(&image.image.config_bytes).into_owned(),
        },
        mounts: points,
        driver: gantry_domain::settings::SNAPSHOTTER.into(),
        config: request.config,
        host_config: request.host_config,
        ..ContainerRecord::default()
    }
}

/// `container:<name>` becomes the id.
pub(crate) fn resolve_modes(parts: &Parts, host: &mut HostConfig) {
    for mode in [&mut host.network_mode, &mut host.pid_mode, &mut host.ipc_mode] {
        if let Some(other) = mounts::shared_with(mode).and_then(|other| parts.container(other).ok()) {
            *mode = format!("container:{}", other.id);
        }
    }
}

/// Whose processes or memory are shared has to be there: a bad request, for a 404 of create is about the image, which
/// clients then pull. Whose network is shared is looked for at the start, as in dockerd.
fn check_donors(parts: &Parts, host: &HostConfig) -> Result<()> {
    let donors = [&host.pid_mode, &host.ipc_mode].into_iter().filter_map(|mode| mounts::shared_with(mode));
    for other in donors.filter(|name| !name.is_empty()) {
        parts.container(other).map_err(|error| error.with_kind(ErrorKind::InvalidParameter))?;
    }
    Ok(())
}

/// The container's own; that of the host or of the container whose network it shares where it does.
fn hostname(parts: &Parts, id: &ContainerId, host: &HostConfig, of_host: &str) -> String {
    if host.network_mode == "host" || host.uts_mode == "host" {
        of_host.to_owned()
    } else if let Some(other) = mounts::shared_with(&host.network_mode) {
        // One that is not there fails the start.
        parts.container(other).map(|other| other.snapshot().record.config.hostname.clone()).unwrap_or_default()
    } else {
        id.short().to_owned()
    }
}

/// The networks by the name they were asked under: what create names, else the mode's own.
fn networks(parts: &Parts, host: &HostConfig, networking: &NetworkingConfig) -> BTreeMap<String, EndpointSettings> {
    let claims = parts.claims.lock();
    // An id becomes the name; a network that is not there (yet) fails the start.
    let named = |typed: &str| match typed {
        "" | "default" => "bridge".to_owned(),
        typed => claims.network(typed).map_or_else(|_| typed.to_owned(), |network| network.name.clone()),
    };
    let asked = networking.endpoints_config.iter();
    let mut networks: BTreeMap<String, EndpointSettings> =
        asked.map(|(name, settings)| (named(name), asked_only(settings.clone().unwrap_or_default()))).collect();
    if networks.is_empty() && mounts::shared_with(&host.network_mode).is_none() {
        networks.insert(named(&host.network_mode), EndpointSettings::default());
    }
    // On a network of the user's a link is an alias that this container alone sees.
    if super::links::are_aliases(&host.network_mode)
        && let Some(own) = networks.get_mut(&named(&host.network_mode)).filter(|own| own.links.is_none())
    {
        own.links = host.links.clone().filter(|links| !links.is_empty());
    }
    networks
}

/// Clients send back what they have read: results of an earlier run are not wishes.
fn asked_only(settings: EndpointSettings) -> EndpointSettings {
    EndpointSettings {
        ipam_config: settings.ipam_config,
        links: settings.links,
        aliases: settings.aliases,
        mac_address: settings.mac_address,
        driver_opts: settings.driver_opts,
        gw_priority: settings.gw_priority,
        ..EndpointSettings::default()
    }
}

/// A network that is not there fails at the start, as in dockerd; what can never work fails now.
fn check_networks(parts: &Parts, networks: &BTreeMap<String, EndpointSettings>) -> Result<()> {
    let claims = parts.claims.lock();
    for (name, settings) in networks {
        gantry_domain::network::endpoint::check(claims.network(name).ok(), settings)
            .map_err(|error| error.context(format!("invalid config for network {name}")))?;
    }
    Ok(())
}
