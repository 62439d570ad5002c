//! Networks.

use std::collections::BTreeMap;

use axum::{extract::State, response::Response};
use gantry_domain::{
    container::{EndpointSettings, validate::ApiVersion},
    network::Ipam,
};
use gantry_engine::{
    container::{NetworkConnect, NetworkDisconnect},
    network::NetworkCreate,
};
use http::StatusCode;
use schemars::JsonSchema;
use serde::Deserialize;

use super::container::PruneQuery;
use crate::{
    app::App,
    error::Result,
    extract::{Name, Version},
    json::Json,
    query::{self, Query},
    reply,
    route::Route,
    views::network::{ConfigFrom, Network, NetworkCreateResponse, NetworkPruneResponse},
};

pub fn routes() -> Vec<Route> {
    vec![
        Route::get("/networks", "NetworkList", network_list)
            .summary("List networks")
            .query::<ListQuery>()
            .json::<Vec<Network>>(200)
            .errors(&[400, 500]),
        Route::get("/networks/", "NetworkListSlash", network_list)
            .summary("List networks, as some clients spell it")
            .query::<ListQuery>()
            .json::<Vec<Network>>(200)
            .errors(&[400, 500]),
        Route::get("/networks/{id}", "NetworkInspect", network_inspect)
            .summary("Inspect a network")
            .query::<InspectQuery>()
            .json::<Network>(200)
            .errors(&[400, 404, 500]),
        Route::post("/networks/create", "NetworkCreate", network_create)
            .summary("Create a network")
            .required_body::<CreateBody>()
            .json::<NetworkCreateResponse>(201)
            .errors(&[400, 403, 404, 408, 409, 413, 500]),
        Route::delete("/networks/{id}", "NetworkDelete", network_delete)
            .summary("Remove a network")
            .empty(204)
            .errors(&[400, 403, 404, 500]),
        Route::post("/networks/{id}/connect", "NetworkConnect", network_connect)
            .summary("Connect a container to a network")
            .required_body::<ConnectBody>()
            .empty(200)
            .errors(&[400, 403, 404, 408, 413, 500]),
        Route::post("/networks/{id}/disconnect", "NetworkDisconnect", network_disconnect)
            .summary("Disconnect a container from a network")
            .required_body::<DisconnectBody>()
            .empty(200)
            .errors(&[400, 403, 404, 408, 413, 500]),
        Route::post("/networks/prune", "NetworkPrune", network_prune)
            .summary("Remove networks that nobody uses")
            .query::<PruneQuery>()
            .json::<NetworkPruneResponse>(200)
            .errors(&[400, 409, 500]),
    ]
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
struct ListQuery {
    /// Docker's filters as JSON.
    filters: Option<String>,
}

/// Before this version the list says of each network who is in it.
const WITHOUT_CONTAINERS: ApiVersion = ApiVersion(1, 28);

async fn network_list(
    State(app): State<App>,
    Version(version): Version,
    Query(query): Query<ListQuery>,
) -> Result<Response> {
    let filters = query::filters(query.filters.as_deref())?;
    let networks = app.engine.network_list(&filters).await?;
    if version < WITHOUT_CONTAINERS {
        let mut detailed = Vec::with_capacity(networks.len());
        for network in networks {
            // One that went meanwhile is left out.
            if let Ok(details) = app.engine.network_inspect(network.id.as_str(), "").await {
                detailed.push(Network::of(details, version));
            }
        }
        return Ok(reply::ok(&detailed));
    }
    Ok(reply::ok(&networks.into_iter().map(Network::from).collect::<Vec<_>>()))
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
struct InspectQuery {
    /// With services, of which there are none without a swarm.
    #[allow(dead_code)]
    verbose: bool,
    /// Only a network of this scope: `local`, `swarm`, `global`.
    scope: String,
}

async fn network_inspect(
    State(app): State<App>,
    Version(version): Version,
    Name(name): Name,
    Query(query): Query<InspectQuery>,
) -> Result<Response> {
    let details = app.engine.network_inspect(&name, &query.scope).await?;
    Ok(reply::ok(&Network::of(details, version)))
}

/// Body of create.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, rename_all = "PascalCase")]
#[schemars(rename = "NetworkCreateRequest")]
struct CreateBody {
    name: String,
    /// Of old clients; names are always unique.
    #[allow(dead_code)]
    check_duplicate: bool,
    driver: String,
    scope: String,
    #[serde(rename = "EnableIPv4")]
    enable_ipv4: Option<bool>,
    #[serde(rename = "EnableIPv6")]
    enable_ipv6: Option<bool>,
    #[serde(rename = "IPAM")]
    ipam: Option<Ipam>,
    internal: bool,
    attachable: bool,
    ingress: bool,
    config_only: bool,
    config_from: Option<ConfigFrom>,
    options: Option<BTreeMap<String, String>>,
    labels: Option<BTreeMap<String, String>>,
}

async fn network_create(State(app): State<App>, Json(body): Json<CreateBody>) -> Result<Response> {
    let request = NetworkCreate {
        name: body.name,
        driver: body.driver,
        scope: body.scope,
        enable_ipv4: body.enable_ipv4,
        enable_ipv6: body.enable_ipv6,
        ipam: body.ipam,
        internal: body.internal,
        attachable: body.attachable,
        ingress: body.ingress,
        config_only: body.config_only,
        config_from: body.config_from.map(|from| from.network).filter(|name| !name.is_empty()),
        options: body.options.unwrap_or_default(),
        labels: body.labels.unwrap_or_default(),
    };
    let id = app.engine.network_create(request).await?.to_string();
    Ok(reply::created(&NetworkCreateResponse { id, warning: String::new() }))
}

async fn network_delete(State(app): State<App>, Name(name): Name) -> Result<Response> {
    app.engine.network_delete(&name).await?;
    Ok(reply::no_content())
}

/// Body of connect.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, rename_all = "PascalCase")]
#[schemars(rename = "NetworkConnectRequest")]
struct ConnectBody {
    container: String,
    endpoint_config: Option<EndpointSettings>,
}

/// From this version on a hardware address may be asked for.
const MAC_ADDRESS: ApiVersion = ApiVersion(1, 44);

async fn network_connect(
    State(app): State<App>,
    Version(version): Version,
    Name(name): Name,
    Json(body): Json<ConnectBody>,
) -> Result<Response> {
    let mut endpoint = body.endpoint_config.unwrap_or_default();
    if version < MAC_ADDRESS {
        endpoint.mac_address.clear();
    }
    app.engine.network_connect(&name, NetworkConnect { container: body.container, endpoint }).await?;
    Ok(reply::empty(StatusCode::OK))
}

/// Body of disconnect.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, rename_all = "PascalCase")]
#[schemars(rename = "NetworkDisconnectRequest")]
struct DisconnectBody {
    container: String,
    force: bool,
}

async fn network_disconnect(
    State(app): State<App>,
    Name(name): Name,
    Json(body): Json<DisconnectBody>,
) -> Result<Response> {
    let request = NetworkDisconnect { container: body.container, force: body.force };
    app.engine.network_disconnect(&name, request).await?;
    Ok(reply::empty(StatusCode::OK))
}

async fn network_prune(State(app): State<App>, Query(query): Query<PruneQuery>) -> Result<Response> {
    let filters = query::filters(query.filters.as_deref())?;
    let pruned = app.engine.network_prune(&filters).await?;
    Ok(reply::ok(&NetworkPruneResponse { networks_deleted: (!pruned.is_empty()).then_some(pruned) }))
}
