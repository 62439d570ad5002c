//! `POST /networks/create`: check, claim, then record and kernel side by side; what plugins give comes before both.

use std::{sync::Arc, time::Duration};

use std::collections::BTreeMap;

use gantry_domain::{
    Error, NetworkId, Result,
    network::{Families, Ipam, NetworkRecord, check, options},
    ports::Write,
};
use ipnet::IpNet;
use jiff::Timestamp;

use super::{NetworkCreate, pools};
use crate::{
    Engine,
    claims::Claims,
    lent,
    parts::{Parts, detached},
};

/// What is waited for plugins that have to take back what they gave to a network that could not be made.
const GIVE_BACK: Duration = Duration::from_secs(8);
/// What dockerd says of everything that needs a swarm.
const NO_SWARM: &str = "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this \
     node to swarm and try again.";
const OPERATOR_FIELDS: &str = "configuration network can only contain network specific fields. Network operator fields like \
     [ ingress | internal | attachable | scope ] are not supported.";

impl Engine {
    /// Makes a network. A client's hang-up does not cut it short.
    pub async fn network_create(&self, request: NetworkCreate) -> Result<NetworkId> {
        let parts = self.parts.clone();
        detached(async move { create(&parts, request).await }).await
    }
}

async fn create(parts: &Arc<Parts>, request: NetworkCreate) -> Result<NetworkId> {
    check_request(&request)?;
    let mut request = request;
    default_options(&mut request, &parts.settings.load().default_network_opts);
    let mut network = record(&request)?;
    if !network.config_from.is_empty() {
        apply_template(&parts.claims.lock(), &mut network)?;
    }
    let mut skip = Families::default();
    if !network.config_only {
        lent::network::find(parts, &mut network).await?;
        skip = lent::network::without_gateway(parts, &network).await?;
    }
    // Also where every subnet is given: the question is cheap, and the answer must be no older than the claim.
    let host = if network.config_only { Vec::new() } else { parts.ports.network.host_routes().await? };
    claim(parts, &mut network, &host, skip)?;
    let made = match network.lent {
        Some(_) => make_lent(parts, &mut network, &host, skip).await,
        None => make(parts, &network).await,
    };
    if let Err(error) = made {
        undo(parts, &network).await;
        return Err(error);
    }
    let id = network.id.clone();
    parts.claims.lock().finish_network(network.clone());
    super::publish(parts, &network, "create", &[]);
    Ok(id)
}

fn check_request(request: &NetworkCreate) -> Result<()> {
    let forbid = |wrong: bool, text: &str| if wrong { Err(Error::forbidden(text)) } else { Ok(()) };
    if check::is_predefined(&request.name) {
        let text = format!("operation is not permitted on predefined {} network ", request.name);
        return Err(Error::forbidden(text));
    }
    if request.name.trim().is_empty() {
        return Err(Error::invalid("invalid name: name is empty"));
    }
    forbid(request.driver == "overlay" || request.scope == "swarm" || request.ingress, NO_SWARM)?;
    if !matches!(request.scope.as_str(), "" | "local") {
        return Err(Error::invalid(format!("invalid scope: {}", request.scope)));
    }
    if matches!(request.driver.as_str(), "host" | "null") {
        return Err(Error::forbidden(format!("only one instance of \"{}\" network is allowed", request.driver)));
    }
    forbid(request.config_only && (request.internal || request.attachable), OPERATOR_FIELDS)?;
    forbid(
        request.config_only && request.config_from.is_some(),
        "a configuration network cannot depend on another configuration network",
    )?;
    if request.config_from.is_some() {
        let ipam = request.ipam.clone().unwrap_or_default();
        let own = ipam.config.is_some_and(|pools| !pools.is_empty()) || request.enable_ipv6 == Some(true);
        forbid(
            own,
            "user specified configurations are not supported if the network depends on a configuration network",
        )?;
        forbid(
            !request.options.is_empty(),
            "network driver options are not supported if the network depends on a configuration network",
        )?;
    }
    Ok(())
}

/// `--default-network-opt`: options of the driver that the request does not name.
fn default_options(request: &mut NetworkCreate, defaults: &BTreeMap<String, BTreeMap<String, String>>) {
    let driver = if request.driver.is_empty() { "bridge" } else { &request.driver };
    // One that is made from a template has that one's.
    if request.config_from.is_some() {
        return;
    }
    for (option, value) in defaults.get(driver).into_iter().flatten() {
        request.options.entry(option.clone()).or_insert_with(|| value.clone());
    }
}

fn record(request: &NetworkCreate) -> Result<NetworkRecord> {
    let (mut request, enable) = (request.clone(), |family: Option<bool>, option: &str, default: bool| match family {
        Some(said) => Ok(said),
        None => match request.options.get(option) {
            None => Ok(default),
            Some(text) => options::bool_of(text)
                .ok_or_else(|| Error::invalid(format!("driver-opt \"{option}\" is not a valid bool"))),
        },
    });
    let enable_ipv4 = enable(request.enable_ipv4, options::ENABLE_V4, true)?;
    let enable_ipv6 = enable(request.enable_ipv6, options::ENABLE_V6, false)?;
    let ipam = request.ipam.take().unwrap_or_default();
    check::ipam(&ipam, enable_ipv6)?;
    if request.enable_ipv4.is_some() {
        request.options.remove(options::ENABLE_V4);
    }
    if request.enable_ipv6.is_some() {
        request.options.remove(options::ENABLE_V6);
    }
    Ok(NetworkRecord {
        generation: 1,
        created: Timestamp::now(),
        driver: if request.driver.is_empty() { "bridge".to_owned() } else { request.driver },
        enable_ipv4,
        enable_ipv6,
        internal: request.internal,
        attachable: request.attachable,
        ipam: Ipam { driver: if ipam.driver.is_empty() { "default".into() } else { ipam.driver }, ..ipam },
        options: request.options,
        labels: request.labels,
        config_only: request.config_only,
        config_from: request.config_from.unwrap_or_default(),
        ..NetworkRecord::named(&request.name)
    })
}

/// Bridge and pools, then the claim, in one breath.
fn claim(parts: &Parts, network: &mut NetworkRecord, host: &[IpNet], skip: Families) -> Result<()> {
    let mut claims = parts.claims.lock();
    if network.config_only {
        // A template has no driver of its own and takes no pools.
        network.driver = "null".to_owned();
        return claims.begin_template(network);
    }
    if network.driver == "bridge" {
        network.bridge = match network.options.get(options::BRIDGE_NAME).filter(|name| !name.is_empty()) {
            Some(name) => name.clone(),
            None => format!("br-{}", network.id.short()),
        };
    }
    check_options(network)?;
    if network.ipam_plugin().is_none() {
        pools::fill(parts, &claims, network, host, skip)?;
    }
    claims.begin_network(network)
}

fn apply_template(claims: &Claims, network: &mut NetworkRecord) -> Result<()> {
    let name = network.config_from.clone();
    let template = claims.networks.values().find(|other| other.name == name);
    let Some(template) = template.filter(|template| template.config_only) else {
        return Err(Error::not_found(format!("configuration network \"{name}\" does not exist")));
    };
    network.ipam = template.ipam.clone();
    network.enable_ipv4 = template.enable_ipv4;
    network.enable_ipv6 = template.enable_ipv6;
    network.options = template.options.clone();
    let labels = std::mem::take(&mut network.labels);
    network.labels = template.labels.clone();
    network.labels.extend(labels);
    Ok(())
}

/// Options that can be judged without the host.
fn check_options(network: &NetworkRecord) -> Result<()> {
    network.mtu()?;
    if matches!(network.driver.as_str(), "macvlan" | "ipvlan") {
        network.ipvlan_flag()?;
        return network.parent_mode().map(drop);
    }
    if network.driver != "bridge" {
        return Ok(());
    }
    for v6 in [false, true] {
        network.gateway_mode(v6)?;
        network.host_address(v6)?;
    }
    for option in [options::ICC, options::MASQUERADE, options::INHIBIT_V4] {
        network.flag(option, true)?;
    }
    network.host_binding()?;
    network.trusted_interfaces().map(drop)
}

/// Whichever is first: a record without links is mended by the next gantryd, links without a record are removed by it.
async fn make(parts: &Parts, network: &NetworkRecord) -> Result<()> {
    let durable = parts.ports.store.commit(vec![Write::Network(network.clone())]);
    let made = async { if network.config_only { Ok(()) } else { parts.ports.network.ensure_network(network).await } };
    let (durable, made) = tokio::join!(durable, made);
    made.and(durable)
}

/// What plugins give is owed to them until the record has it.
async fn make_lent(parts: &Arc<Parts>, network: &mut NetworkRecord, host: &[IpNet], skip: Families) -> Result<()> {
    let holding = lent::network::take(parts, network, host, skip).await?;
    parts.ports.network.ensure_network(network).await?;
    parts.ports.store.commit(vec![Write::Network(network.clone()), holding.gone()]).await?;
    holding.settled();
    Ok(())
}

async fn undo(parts: &Parts, network: &NetworkRecord) {
    let id = &network.id;
    if network.lent.is_some() {
        parts.settle(&[id.to_string()], GIVE_BACK).await;
    }
    let undone = async {
        parts.ports.store.commit(vec![Write::NetworkTombstone { id: id.clone() }]).await?;
        parts.ports.network.remove_network(id).await?;
        parts.ports.store.commit(vec![Write::NetworkGone { id: id.clone() }]).await
    };
    match undone.await {
        Ok(()) => parts.claims.lock().forget_network(id),
        Err(error) => {
            tracing::warn!(network = %id, %error, "half a network is left for the sweep");
            parts.claims.lock().going_networks.insert(id.clone(), None);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn defaults(driver: &str, option: &str, value: &str) -> BTreeMap<String, BTreeMap<String, String>> {
        [(driver.to_owned(), [(option.to_owned(), value.to_owned())].into())].into()
    }

    #[test]
    fn default_options_are_read_like_those_of_the_request() {
        let mut request = NetworkCreate { name: "one".into(), ..NetworkCreate::default() };
        default_options(&mut request, &defaults("bridge", options::ENABLE_V6, "true"));
        assert!(record(&request).unwrap().enable_ipv6);
        request.enable_ipv6 = Some(false);
        let made = record(&request).unwrap();
        assert!(!made.enable_ipv6 && made.options.is_empty(), "the request's own word counts");
        let mut other = NetworkCreate { driver: "macvlan".into(), ..NetworkCreate::default() };
        default_options(&mut other, &defaults("bridge", options::MTU, "1400"));
        assert!(other.options.is_empty());
        let mut named = NetworkCreate { options: [(options::MTU.into(), "1300".into())].into(), ..Default::default() };
        default_options(&mut named, &defaults("bridge", options::MTU, "1400"));
        assert_eq!(named.options[options::MTU], "1300");
    }
}
