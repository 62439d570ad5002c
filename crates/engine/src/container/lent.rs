//! The part of a container's verbs that concerns plugins of networks and addresses.
//!
//! ```text
//!   start, connect:   addresses, CreateEndpoint ─► record ─► Join ─► record ─► interface moved ─► published outside
//!   end, disconnect:  record without the mark, with the debt ─► interface back ─► Leave, DeleteEndpoint, ReleaseAddress
//! ```

use std::time::Duration;

use gantry_domain::{
    Error, Result,
    container::{EndpointSettings, port, record::Endpoint},
    network::{NetworkRecord, endpoint, lent::Debt},
    ports::{EndpointOptions, Joined, Place, Write},
};

use super::{addresses, owner::Owner};
use crate::lent::{self, Wanted, shown};

/// What a verb waits for plugins that have to take something back.
const GIVE_BACK: Duration = Duration::from_secs(8);
/// All that plugins are asked for one endpoint more; each call has a limit of its own.
const JOIN_LIMIT: Duration = Duration::from_secs(90);

impl Owner {
    /// Takes what the endpoints of these networks need of plugins.
    pub(super) async fn take_lent(
        &mut self,
        made: Vec<(NetworkRecord, Endpoint)>,
    ) -> Result<Vec<(NetworkRecord, Endpoint)>> {
        let mut all = Vec::new();
        for (network, endpoint) in made {
            let endpoint = self.take_lent_one(&network, endpoint).await?;
            all.push((network, endpoint));
        }
        Ok(all)
    }

    /// The same for one; where there is no plugin it stays as it is.
    pub(super) async fn take_lent_one(&mut self, network: &NetworkRecord, endpoint: Endpoint) -> Result<Endpoint> {
        if network.driver_plugin().is_none() && network.ipam_plugin().is_none() {
            return Ok(endpoint);
        }
        let wanted = self.wanted(network, endpoint)?;
        let taken = lent::take(&self.parts, wanted);
        let (mut endpoint, holding) = self.handle.bounded(JOIN_LIMIT, "asking plugins for an endpoint", taken).await?;
        self.takings.push(holding);
        addresses::add_gateways(&mut endpoint, network)?;
        addresses::add_mac(&mut endpoint, network);
        Ok(endpoint)
    }

    fn wanted(&self, network: &NetworkRecord, endpoint: Endpoint) -> Result<Wanted> {
        let asked = &self.record.networks[&network.name];
        let ipam = asked.ipam_config.clone().unwrap_or_default();
        Ok(Wanted {
            container: self.record.id.clone(),
            name: self.record.name.clone(),
            endpoint,
            asked: [ipam.ipv4_address.parse().ok(), ipam.ipv6_address.parse().ok()],
            without_ipv6: addresses::is_without_ipv6(&self.record),
            options: self.endpoint_options(network, asked)?,
            network: network.clone(),
        })
    }

    fn endpoint_options(&self, network: &NetworkRecord, asked: &EndpointSettings) -> Result<EndpointOptions> {
        let exposed = &self.record.config.exposed_ports;
        let ports = port::requests(exposed, &self.record.host_config, None)?;
        let mut numbers = Vec::new();
        for spec in exposed.keys() {
            let (first, last, protocol) = port::parse_port(spec)?;
            numbers.extend((first..=last).map(|port| (port, protocol)));
        }
        for request in &ports {
            let number = (request.container_port, request.protocol);
            if !numbers.contains(&number) {
                numbers.push(number);
            }
        }
        Ok(EndpointOptions {
            exposed: numbers,
            ports,
            driver: asked.driver_opts.clone().unwrap_or_default(),
            mac: endpoint::mac(&addresses::asked_mac(&self.record, network, asked)),
        })
    }

    /// Brings the endpoints of plugins that have not joined yet into the sandbox.
    pub(super) async fn join_lent(&mut self) -> Result<()> {
        let failed = |error: Error| error.context("failed to set up container networking");
        let waiting = self.lent_networks(|endpoint| !is_joined(endpoint));
        if waiting.is_empty() {
            return Ok(());
        }
        for network in &waiting {
            self.join_one(network).await.map_err(|error| failed(shown(error)))?;
        }
        let changes = self.reachability()?;
        self.save().await?;
        if let Some(setup) = self.sandbox_setup()? {
            self.parts.ports.network.update_sandbox(&setup).await.map_err(failed)?;
        }
        self.tell_reachability(changes).await.map_err(|error| self.networking_failed(error))?;
        for network in &waiting {
            self.ask_info(network).await;
        }
        Ok(())
    }

    async fn join_one(&mut self, network: &NetworkRecord) -> Result<()> {
        let Some(place) = self.place_in(network) else { return Ok(()) };
        let options = self.endpoint_options(network, &self.record.networks[&network.name])?;
        let parts = self.parts.clone();
        let namespace = self.sandbox_key();
        let joined = parts.ports.plugins.join(&place, &namespace, &options);
        let joined = self.handle.bounded(JOIN_LIMIT, "joining a plugin's network", joined).await?;
        self.note_join(network, joined);
        Ok(())
    }

    fn note_join(&mut self, network: &NetworkRecord, joined: Joined) {
        let asked = self.record.networks.get(&network.name).cloned().unwrap_or_default();
        let Some(run) = self.record.run.as_mut() else { return };
        let interface = match joined.source.as_str() {
            "" => String::new(),
            _ => addresses::next_interface(&joined.prefix, &run.endpoints),
        };
        let Some(endpoint) = run.endpoints.get_mut(&network.name) else { return };
        endpoint.sysctls = endpoint::sysctls(&asked, &interface);
        endpoint.interface = interface;
        endpoint.ipv4_gateway = joined.gateway.filter(|_| endpoint.ipv4.is_some());
        endpoint.ipv6_gateway = joined.gateway_v6.filter(|_| endpoint.ipv6.is_some());
        if let Some(lent) = endpoint.lent.as_mut() {
            lent.joined = true;
            lent.source = joined.source;
            lent.routes = joined.routes;
        }
    }

    async fn ask_info(&self, network: &NetworkRecord) {
        let Some(place) = self.place_in(network) else { return };
        if let Err(error) = self.parts.ports.plugins.endpoint_info(&place).await {
            tracing::debug!(container = %self.record.id, %error, "a plugin has nothing to say of an endpoint");
        }
    }

    /// Networks of driver plugins in which this run has such an endpoint.
    fn lent_networks(&self, wanted: impl Fn(&Endpoint) -> bool) -> Vec<NetworkRecord> {
        let endpoints = self.record.run.iter().flat_map(|run| run.endpoints.values());
        let claims = self.parts.claims.lock();
        let networks = endpoints.filter(|endpoint| has_driver(endpoint) && wanted(endpoint));
        networks.filter_map(|endpoint| claims.networks.get(endpoint.network_id.as_ref()?).cloned()).collect()
    }

    fn place_in(&self, network: &NetworkRecord) -> Option<Place> {
        let endpoint = self.record.run.as_ref()?.endpoints.get(&network.name)?;
        let lent = endpoint.lent.as_ref()?;
        let (driver, endpoint) = (lent.driver.clone(), endpoint.endpoint_id.clone());
        Some(Place { driver, network: network.id.clone(), endpoint })
    }

    /// Marks which endpoint leads outside. Returns those for which that has changed, with what is so now.
    pub(super) fn reachability(&mut self) -> Result<Vec<(NetworkRecord, bool)>> {
        let Some(setup) = self.sandbox_setup()? else { return Ok(Vec::new()) };
        let outside =
            [setup.gateway(false), setup.gateway(true)].map(|found| found.map(|(_, at)| at.endpoint_id.clone()));
        let mut changes = Vec::new();
        for network in self.lent_networks(|_| true) {
            let run = self.record.run.as_mut();
            let Some(endpoint) = run.and_then(|run| run.endpoints.get_mut(&network.name)) else { continue };
            let wanted = outside.iter().flatten().any(|id| *id == endpoint.endpoint_id);
            if let Some(lent) = endpoint.lent.as_mut().filter(|lent| lent.published != wanted) {
                lent.published = wanted;
                changes.push((network, wanted));
            }
        }
        Ok(changes)
    }

    /// Tells the plugins.
    pub(super) async fn tell_reachability(&self, changes: Vec<(NetworkRecord, bool)>) -> Result<()> {
        for (network, published) in changes {
            let Some(place) = self.place_in(&network) else { continue };
            let plugins = &self.parts.ports.plugins;
            if published {
                let options = self.endpoint_options(&network, &self.record.networks[&network.name])?;
                let told = plugins.publish_endpoint(&place, &options);
                self.handle.bounded(JOIN_LIMIT, "publishing an endpoint", told).await.map_err(shown)?;
            } else if let Err(error) = plugins.withdraw_endpoint(&place).await {
                tracing::warn!(container = %self.record.id, %error, "a plugin still publishes an endpoint");
            }
        }
        Ok(())
    }

    /// Debts that follow from the marks of the run.
    pub(super) fn marked(&self) -> Vec<Debt> {
        let endpoints = self.record.run.iter().flat_map(|run| run.endpoints.values());
        endpoints.filter_map(|endpoint| Debt::of_endpoint(&self.record.id, endpoint)).collect()
    }

    /// The debts are durable.
    pub(super) fn unmark(&mut self) {
        let endpoints = self.record.run.iter_mut().flat_map(|run| run.endpoints.values_mut());
        endpoints.for_each(|endpoint| endpoint.lent = None);
    }

    /// The run is over: from its marks come debts, in one write.
    pub(super) async fn owe_lent(&mut self) -> Result<()> {
        // Taken for a run that did not come to be. Held until the debts are durable: what is given back before could be
        // another one's by the time it is given back again.
        let _held = std::mem::take(&mut self.takings);
        let debts = self.marked();
        if debts.is_empty() {
            return Ok(());
        }
        let mut record = self.record.clone();
        record.run.iter_mut().flat_map(|run| run.endpoints.values_mut()).for_each(|endpoint| endpoint.lent = None);
        record.generation += 1;
        self.parts.owe(debts, vec![Write::Container(Box::new(record.clone()))]).await?;
        self.record = record;
        Ok(())
    }

    /// Makes the record durable, and what it has no more as debts.
    pub(super) async fn save_owing(&mut self, debts: Vec<Debt>) -> Result<()> {
        self.record.generation += 1;
        let record = Write::Container(Box::new(self.record.clone()));
        let owed = self.parts.owe(debts.clone(), vec![record]).await;
        if owed.is_err() {
            // The record that is durable has them still; here nobody else knows of them.
            self.parts.debts.load(&debts);
        }
        owed
    }

    /// The same where the sandbox may have it still: nobody gives it back before [`Self::let_go`].
    pub(super) async fn save_owing_in_use(&mut self, mut debts: Vec<Debt>) -> Result<()> {
        self.record.generation += 1;
        let record = Write::Container(Box::new(self.record.clone()));
        let owed = self.parts.owe_held(debts.clone(), vec![record]).await;
        if owed.is_err() {
            self.parts.debts.load(&debts);
            // Only what is held here is let go of here.
            debts.retain(|debt| self.parts.debts.hold(&debt.id).is_some());
        }
        self.in_use.extend(debts.into_iter().map(|debt| debt.id));
        owed
    }

    /// The sandbox has nothing any more of the networks that it was half in.
    pub(super) fn let_go(&mut self) {
        self.in_use.drain(..).for_each(|id| self.parts.debts.release(&id));
    }

    /// The same where it may yet be undone: nobody gives the debt back before it is released.
    pub(super) async fn save_letting_go(&mut self, debt: Option<Debt>) -> Result<()> {
        self.record.generation += 1;
        let record = Write::Container(Box::new(self.record.clone()));
        self.parts.owe_held(debt.into_iter().collect(), vec![record]).await
    }

    /// The undo of that.
    pub(super) async fn save_after_all(&mut self, debt: Option<Debt>) -> Result<()> {
        self.record.generation += 1;
        let mut writes = vec![Write::Container(Box::new(self.record.clone()))];
        writes.extend(debt.iter().map(|debt| Write::DebtGone { id: debt.id.clone() }));
        self.parts.ports.store.commit(writes).await?;
        debt.iter().for_each(|debt| self.parts.debts.forget(&debt.id));
        Ok(())
    }

    /// Before the namespace goes, and lent interfaces with it. Only of this run: an older debt may name an interface that
    /// is another one now.
    pub(super) async fn return_interfaces(&self) {
        let of_run = |id: &String| {
            let mut endpoints = self.record.run.iter().flat_map(|run| run.endpoints.values());
            endpoints.any(|endpoint| endpoint.endpoint_id == *id)
        };
        for debt in self.parts.debts.of_container(&self.record.id).into_iter().filter(|debt| of_run(&debt.id)) {
            self.parts.return_interface(&debt).await;
        }
    }

    /// A gantryd was killed in the middle of a connect or a disconnect of this container, which runs on: what it had not
    /// joined it is not in, and an interface that is no endpoint's any more goes back.
    pub(super) async fn mend_lent(&mut self) -> Result<()> {
        let mut debts = Vec::new();
        for network in self.lent_networks(|endpoint| !is_joined(endpoint)) {
            self.record.networks.remove(&network.name);
            let endpoint = self.record.run.as_mut().and_then(|run| run.endpoints.remove(&network.name));
            debts.extend(endpoint.and_then(|endpoint| Debt::of_endpoint(&self.record.id, &endpoint)));
            self.parts.claims.lock().leave_network(&network.id, &self.record.id);
        }
        if !debts.is_empty() {
            self.save_owing(debts).await?;
            self.publish();
        }
        for debt in self.parts.debts.of_container(&self.record.id) {
            let mut endpoints = self.record.run.iter().flat_map(|run| run.endpoints.values());
            if endpoints.all(|endpoint| !debt.names_interface(&endpoint.interface)) {
                self.parts.return_interface(&debt).await;
            }
        }
        Ok(())
    }

    /// Gives plugins back what this container owes them. What they do not take in time is gone on with after it.
    pub(super) async fn settle_lent(&self) {
        let ids: Vec<String> = self.parts.debts.of_container(&self.record.id).into_iter().map(|debt| debt.id).collect();
        if ids.is_empty() {
            return;
        }
        let settled = async {
            self.parts.settle(&ids, GIVE_BACK).await;
            Ok(())
        };
        // Somebody in a hurry does not wait for a plugin.
        let _ = self.handle.bounded(GIVE_BACK, "giving back to plugins", settled).await;
    }
}

fn is_joined(endpoint: &Endpoint) -> bool {
    endpoint.lent.as_ref().is_some_and(|lent| lent.joined)
}

fn has_driver(endpoint: &Endpoint) -> bool {
    endpoint.lent.as_ref().is_some_and(|lent| !lent.driver.is_empty())
}
