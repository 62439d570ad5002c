//! Networks: list, inspect, prune. Making and joining them is not built yet (see `unbuilt`).

use axum::{extract::State, response::Response};
use schemars::JsonSchema;
use serde::Deserialize;

use super::container::PruneQuery;
use crate::{
    app::App,
    error::Result,
    extract::Name,
    query::{self, Query},
    reply,
    route::Route,
    views::network::{Network, NetworkPruneResponse},
};

pub fn routes() -> Vec<Route> {
    vec![
        Route::get("/networks", "NetworkList", network_list)
            .summary("List networks")
            .query::<ListQuery>()
            .json::<Vec<Network>>(200)
            .errors(&[400, 500]),
        Route::get("/networks/", "NetworkListSlash", network_list).undescribed(),
        Route::get("/networks/{id}", "NetworkInspect", network_inspect)
            .summary("Inspect a network")
            .json::<Network>(200)
            .errors(&[400, 404, 500]),
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

async fn network_list(State(app): State<App>, Query(query): Query<ListQuery>) -> Result<Response> {
    let filters = query::filters(query.filters.as_deref())?;
    let networks = app.engine.network_list(&filters).await?;
    Ok(reply::ok(&networks.into_iter().map(Network::from).collect::<Vec<_>>()))
}

async fn network_inspect(State(app): State<App>, Name(name): Name) -> Result<Response> {
    Ok(reply::ok(&Network::from(app.engine.network_inspect(&name).await?)))
}

async fn network_prune(State(app): State<App>, Query(query): Query<PruneQuery>) -> Result<Response> {
    let filters = query::filters(query.filters.as_deref())?;
    let pruned = app.engine.network_prune(&filters).await?;
    Ok(reply::ok(&NetworkPruneResponse { networks_deleted: (!pruned.is_empty()).then_some(pruned) }))
}
