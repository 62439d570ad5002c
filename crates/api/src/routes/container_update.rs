//! Containers: what can be changed of one that is there.

use axum::{extract::State, response::Response};
use gantry_domain::container::{HostConfig, validate::ApiVersion};
use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    app::App,
    error::Result,
    extract::{Name, Version},
    json::Json,
    reply,
    route::Route,
};

pub fn routes() -> Vec<Route> {
    vec![
        Route::post("/containers/{id}/update", "ContainerUpdate", container_update)
            .summary("Change the limits and the restart policy of a container")
            .required_body::<HostConfig>()
            .json::<ContainerUpdateResponse>(200)
            .errors(&[400, 404, 409, 500]),
    ]
}

/// 200 of update.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
struct ContainerUpdateResponse {
    warnings: Vec<String>,
}

/// The body is a host config of which only limits and restart policy are read, as in dockerd.
async fn container_update(
    State(app): State<App>,
    Version(api): Version,
    Name(name): Name,
    Json(mut wanted): Json<HostConfig>,
) -> Result<Response> {
    if api < ApiVersion(1, 40) {
        wanted.pids_limit = None;
    }
    let warnings = app.engine.container_update(&name, wanted).await?;
    Ok(reply::ok(&ContainerUpdateResponse { warnings }))
}
