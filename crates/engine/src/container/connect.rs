//! `POST /networks/{id}/connect`: one network more, at once where the container runs, else at its next start.
//!
//! ```text
//! rule ─► place and addresses ─► durable ─► link, routes, ports ─► hosts file, snapshot, event, 200
//! ```
//!
//! A gantryd that dies behind "durable" leaves a record that the next one brings the sandbox to.

use futures::FutureExt as _;
use gantry_domain::{
    Error, NetworkId, Result,
    container::{ContainerRecord, EndpointSettings, Status, record::Endpoint},
    network::{NetworkRecord, endpoint, hosts, lent::Debt},
};

use super::{
    addresses::{self, network_of},
    mounts::shared_with,
    owner::Owner,
};
use crate::{Engine, claims::Claims, parts::detached};

/// Largest hosts file that is read back, bytes.
const MAX_HOSTS: u64 = 4 << 20;

const SHARED: &str =
    "container sharing network namespace with another container or host cannot be connected to any other network";

/// `POST /networks/{id}/connect`.
#[derive(Debug, Clone, Default)]
pub struct NetworkConnect {
    pub container: String,
    pub endpoint: EndpointSettings,
}

/// `POST /networks/{id}/disconnect`.
#[derive(Debug, Clone, Default)]
pub struct NetworkDisconnect {
    pub container: String,
    /// A container that is not there is no error where nothing of it is left in the network.
    pub force: bool,
}

impl Engine {
    /// Puts a container into a network. A client's hang-up does not cut it short.
    pub async fn network_connect(&self, network: &str, request: NetworkConnect) -> Result<()> {
        let handle = self.parts.container(&request.container)?;
        let (network, asked) = (network.to_owned(), request.endpoint);
        detached(
            async move { handle.run(move |owner| async move { owner.connect(&network, asked).await }.boxed()).await },
        )
        .await
    }
}

impl Owner {
    async fn connect(&mut self, typed: &str, asked: EndpointSettings) -> Result<()> {
        self.may_change_networks()?;
        if self.status.has_process() {
            self.connect_now(typed, asked).await
        } else {
            self.connect_later(typed, asked).await
        }
    }

    pub(crate) fn may_change_networks(&self) -> Result<()> {
        if matches!(self.status, Status::Removing | Status::Dead) {
            return Err(Error::system(format!(
                "Container {} is marked for removal and cannot be connected or disconnected to the network",
                self.record.id
            )));
        }
        Ok(())
    }

    async fn connect_later(&mut self, typed: &str, mut asked: EndpointSettings) -> Result<()> {
        let name = {
            let claims = self.parts.claims.lock();
            // dockerd notes any name here and fails the start; a name that is wrong is better told now.
            let network = claims.network(typed)?;
            check(&self.record, network, &asked, &claims)?;
            if self.record.networks.contains_key(&network.name) {
                return Ok(());
            }
            asked.network_id = network.id.to_string();
            network.name.clone()
        };
        let before = self.record.networks.insert(name.clone(), asked);
        if let Err(error) = self.save().await {
            match before {
                Some(before) => self.record.networks.insert(name, before),
                None => self.record.networks.remove(&name),
            };
            return Err(error);
        }
        self.publish();
        Ok(())
    }

    async fn connect_now(&mut self, typed: &str, asked: EndpointSettings) -> Result<()> {
        self.finish_leaving().await?;
        let (network, endpoint) = self.claim_place(typed, asked)?;
        let before = self.record.run.as_ref().map(|run| run.ports.clone()).unwrap_or_default();
        let joined = match self.take_place(&network, endpoint).await {
            Ok(()) => self.join(&network, before.is_empty()).await,
            failed => failed,
        };
        if let Err(error) = joined {
            self.undo_connect(&network, before.is_empty()).await;
            return Err(error);
        }
        self.publish();
        self.network_event(&network, "connect");
        Ok(())
    }

    /// Takes the place among the claims and in the working copy of what was asked.
    fn claim_place(&mut self, typed: &str, mut asked: EndpointSettings) -> Result<(NetworkRecord, Endpoint)> {
        let parts = self.parts.clone();
        let mut claims = parts.claims.lock();
        let network = claims.network(typed)?.clone();
        check(&self.record, &network, &asked, &claims)?;
        let present = self.record.run.as_ref().map(|run| run.endpoints.clone()).unwrap_or_default();
        if present.contains_key(&network.name) {
            return Err(Error::forbidden(format!(
                "endpoint with name {} already exists in network {}",
                self.record.name, network.name
            )));
        }
        asked.network_id = network.id.to_string();
        let name = network.name.clone();
        self.record.networks.insert(name.clone(), asked);
        match addresses::reserve_one(&mut claims, &self.record, &network) {
            Ok(endpoint) => Ok((network, endpoint)),
            Err(error) => {
                self.record.networks.remove(&name);
                Err(error)
            }
        }
    }

    /// With what plugins give for it, the place is one of the run's.
    async fn take_place(&mut self, network: &NetworkRecord, endpoint: Endpoint) -> Result<()> {
        let mut endpoint = self.take_lent_one(network, endpoint).await?;
        let asked = &self.record.networks[&network.name];
        if let Some(run) = self.record.run.as_mut() {
            addresses::place(&mut endpoint, network, asked, &run.endpoints);
            run.endpoints.insert(network.name.clone(), endpoint);
        }
        Ok(())
    }

    /// Ports first where this network is the first one to publish them.
    async fn join(&mut self, network: &NetworkRecord, without_ports: bool) -> Result<()> {
        if without_ports {
            self.reserve_ports().await.map_err(|error| self.networking_failed(error))?;
        }
        self.save().await?;
        if network.driver_plugin().is_some() {
            self.join_lent().await?;
        } else {
            let changes = self.reachability()?;
            if let Some(setup) = self.sandbox_setup()? {
                self.parts.ports.network.update_sandbox(&setup).await?;
            }
            self.tell_reachability(changes).await?;
        }
        self.resolve_joined(network).await?;
        let endpoint = self.record.run.as_ref().and_then(|run| run.endpoints.get(&network.name)).cloned();
        self.rewrite_hosts(endpoint.as_ref(), None).await;
        Ok(())
    }

    async fn undo_connect(&mut self, network: &NetworkRecord, without_ports: bool) {
        self.record.networks.remove(&network.name);
        let _held = std::mem::take(&mut self.takings);
        let mut debts = Vec::new();
        if let Some(run) = self.record.run.as_mut() {
            let left = run.endpoints.remove(&network.name);
            debts.extend(left.and_then(|endpoint| Debt::of_endpoint(&self.record.id, &endpoint)));
            if without_ports {
                run.ports.clear();
            }
        }
        let undone = async {
            for debt in &debts {
                self.parts.return_interface(debt).await;
            }
            self.save_owing_in_use(debts).await?;
            if let Some(setup) = self.sandbox_setup()? {
                self.parts.ports.network.update_sandbox(&setup).await?;
                self.resolve().await?;
            }
            if without_ports { self.parts.ports.network.release_ports(&self.record.id).await } else { Ok(()) }
        };
        let undone = undone.await;
        if undone.is_ok() {
            self.let_go();
        }
        self.has_left(&network.id, undone);
        self.settle_lent().await;
        self.publish();
    }

    /// Its addresses are free when its sandbox has let go of them, and not before.
    pub(super) fn has_left(&self, network: &NetworkId, left: Result<()>) {
        let mut claims = self.parts.claims.lock();
        match left {
            Ok(()) => claims.leave_network(network, &self.record.id),
            Err(error) => {
                tracing::warn!(container = %self.record.id, %error, "still half in a network: gone on with by the sweep");
                claims.leave_half(network, &self.record.id);
            }
        }
    }

    /// Goes on with what `has_left` could not finish. Nothing to do mostly.
    pub(crate) async fn finish_leaving(&mut self) -> Result<()> {
        let half = self.parts.claims.lock().half_left(&self.record.id);
        if half.is_empty() {
            return Ok(());
        }
        self.save().await?;
        if self.status.has_process()
            && let Some(setup) = self.sandbox_setup()?
        {
            self.parts.ports.network.update_sandbox(&setup).await?;
            self.resolve().await?;
            if setup.ports.is_empty() {
                self.parts.ports.network.release_ports(&self.record.id).await?;
            }
        }
        {
            let mut claims = self.parts.claims.lock();
            half.iter().for_each(|network| claims.leave_network(network, &self.record.id));
        }
        self.let_go();
        self.settle_lent().await;
        Ok(())
    }

    /// The container's own lines in its hosts file follow its addresses; whatever else is in it stays.
    pub(crate) async fn rewrite_hosts(&self, joined: Option<&Endpoint>, left: Option<&Endpoint>) {
        let addresses = |endpoint: Option<&Endpoint>| {
            let v4 = endpoint.and_then(|endpoint| endpoint.ipv4).map(|net| net.addr().into());
            let v6 = endpoint.and_then(|endpoint| endpoint.ipv6).map(|net| net.addr().into());
            v4.into_iter().chain(v6).collect::<Vec<_>>()
        };
        let path = self.parts.ports.files.path(&self.record.id).join("hosts");
        let config = &self.record.config;
        let written = async {
            let content = self.parts.ports.host.read_file(&path.to_string_lossy(), MAX_HOSTS).await?;
            let content = hosts::change(
                &String::from_utf8_lossy(&content),
                &config.hostname,
                &config.domainname,
                &addresses(joined),
                &addresses(left),
            );
            self.parts.ports.files.write(&self.record.id, vec![("hosts".to_owned(), content.into())]).await
        };
        if let Err(error) = written.await {
            tracing::warn!(container = %self.record.id, %error, "the hosts file does not have the new addresses");
        }
    }
}

/// The networks that a start is to connect, each beside the mode's own.
pub(crate) fn check_all(record: &ContainerRecord, claims: &Claims) -> Result<()> {
    let mode = record.host_config.network_mode.as_str();
    let own = if matches!(mode, "" | "default") { "bridge" } else { mode };
    for (name, settings) in record.networks.iter().filter(|_| record.networks.len() > 1) {
        let Ok(network) = network_of(claims, name, settings) else { continue };
        if ![network.name.as_str(), network.id.as_str()].contains(&own) {
            check_host(mode, network)?;
            check_together(record, network, claims)?;
        }
    }
    Ok(())
}

fn check_host(mode: &str, network: &NetworkRecord) -> Result<()> {
    if mode != "host" && network.driver == "host" {
        return Err(Error::invalid(
            "cannot connect container to host network - container must be created in host network mode",
        ));
    }
    Ok(())
}

/// What dockerd refuses of a connection, in its order.
fn check(record: &ContainerRecord, network: &NetworkRecord, asked: &EndpointSettings, claims: &Claims) -> Result<()> {
    endpoint::check(Some(network), asked)?;
    let mode = record.host_config.network_mode.as_str();
    if shared_with(mode).is_some() {
        return Err(Error::invalid(SHARED));
    }
    check_host(mode, network)?;
    check_together(record, network, claims)
}

/// Whether a network goes with the container's others.
fn check_together(record: &ContainerRecord, network: &NetworkRecord, claims: &Claims) -> Result<()> {
    for (name, settings) in &record.networks {
        let Ok(other) = network_of(claims, name, settings) else { continue };
        if other.id == network.id {
            continue;
        }
        if other.driver == "host" || network.driver == "host" {
            return Err(Error::invalid(SHARED));
        }
        if other.driver == "null" || network.driver == "null" {
            return Err(Error::invalid(
                "container cannot be connected to multiple networks with one of the networks in private (none) mode",
            ));
        }
    }
    Ok(())
}
