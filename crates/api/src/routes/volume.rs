//! Volumes.

use std::collections::BTreeMap;

use axum::{extract::State, response::Response};
use gantry_engine::volume::VolumeCreate;
use http::StatusCode;
use schemars::JsonSchema;
use serde::Deserialize;

use super::container::PruneQuery;
use crate::{
    app::App,
    error::{ApiError, Result},
    extract::{Name, Version},
    json::Json,
    query::{self, Query},
    reply,
    route::Route,
    views::volume::{Volume, VolumeList, VolumePruneResponse},
};

pub fn routes() -> Vec<Route> {
    vec![
        Route::get("/volumes", "VolumeList", volume_list)
            .summary("List volumes")
            .query::<ListQuery>()
            .json::<VolumeList>(200)
            .errors(&[400, 500]),
        Route::post("/volumes/create", "VolumeCreate", volume_create)
            .summary("Create a volume, or find the one of that name")
            .body::<CreateBody>()
            .json::<Volume>(201)
            .errors(&[400, 404, 408, 409, 413, 500]),
        Route::get("/volumes/{name}", "VolumeInspect", volume_inspect)
            .summary("Inspect a volume")
            .json::<Volume>(200)
            .errors(&[400, 404, 500]),
        Route::put("/volumes/{name}", "VolumeUpdate", volume_update).undescribed(),
        Route::delete("/volumes/{name}", "VolumeDelete", volume_delete)
            .summary("Remove a volume")
            .query::<DeleteQuery>()
            .empty(204)
            .errors(&[400, 404, 409, 500]),
        Route::post("/volumes/prune", "VolumePrune", volume_prune)
            .summary("Remove volumes that nobody uses")
            .query::<PruneQuery>()
            .json::<VolumePruneResponse>(200)
            .errors(&[400, 409, 500]),
    ]
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
struct ListQuery {
    /// Docker's filters as JSON.
    filters: Option<String>,
}

async fn volume_list(State(app): State<App>, Query(query): Query<ListQuery>) -> Result<Response> {
    let filters = query::filters(query.filters.as_deref())?;
    Ok(reply::ok(&VolumeList::from(app.engine.volume_list(&filters).await?)))
}

/// Body of create.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, rename_all = "PascalCase")]
#[schemars(rename = "VolumeCreate")]
struct CreateBody {
    /// Empty: a random name, and the volume counts as anonymous.
    name: String,
    driver: String,
    driver_opts: Option<BTreeMap<String, String>>,
    labels: Option<BTreeMap<String, String>>,
}

async fn volume_create(State(app): State<App>, Json(body): Json<CreateBody>) -> Result<Response> {
    let request = VolumeCreate { name: body.name, driver: body.driver, options: body.driver_opts, labels: body.labels };
    Ok(reply::created(&Volume::from(app.engine.volume_create(request).await?)))
}

async fn volume_inspect(State(app): State<App>, Name(name): Name) -> Result<Response> {
    Ok(reply::ok(&Volume::from(app.engine.volume_inspect(&name).await?)))
}

/// Only cluster volumes can be updated.
async fn volume_update() -> ApiError {
    ApiError::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "volume update only valid for cluster volumes, but swarm is unavailable",
    )
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
struct DeleteQuery {
    /// A volume that is not there is no error.
    force: bool,
}

async fn volume_delete(State(app): State<App>, Name(name): Name, Query(query): Query<DeleteQuery>) -> Result<Response> {
    app.engine.volume_delete(&name, query.force).await?;
    Ok(reply::no_content())
}

async fn volume_prune(
    State(app): State<App>,
    Version(version): Version,
    Query(query): Query<PruneQuery>,
) -> Result<Response> {
    let filters = query::filters(query.filters.as_deref())?;
    let pruned = app.engine.volume_prune(&filters, version).await?;
    Ok(reply::ok(&VolumePruneResponse::from(pruned)))
}
