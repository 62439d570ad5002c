//! Containers: what they use of the host.

use axum::{extract::State, response::Response};
use futures::StreamExt as _;
use gantry_domain::{Error, container::validate::ApiVersion};
use gantry_engine::container::StatsMode;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    app::App,
    error::Result,
    extract::{Name, Version},
    query::Query,
    reply,
    route::Route,
    server::Client,
    stream,
    views::stats::StatsResponse,
};

pub fn routes() -> Vec<Route> {
    vec![
        Route::get("/containers/{id}/stats", "ContainerStats", container_stats)
            .summary("Read what a container uses")
            .query::<StatsQuery>()
            .json::<StatsResponse>(200)
            .errors(&[400, 404, 500]),
    ]
}

#[derive(Deserialize, JsonSchema)]
#[serde(default)]
struct StatsQuery {
    /// Go on, a sample a second.
    stream: bool,
    /// One sample at once, without the one before it; not with `stream`. Since 1.41.
    #[serde(rename = "one-shot")]
    one_shot: bool,
}

impl Default for StatsQuery {
    fn default() -> Self {
        Self { stream: true, one_shot: false }
    }
}

async fn container_stats(
    State(app): State<App>,
    Version(api): Version,
    Name(name): Name,
    client: Client,
    Query(query): Query<StatsQuery>,
) -> Result<Response> {
    let mode = match (query.stream, query.one_shot && api >= ApiVersion(1, 41)) {
        (true, true) => return Err(Error::invalid("cannot have stream=true and one-shot=true").into()),
        (true, false) => StatsMode::Stream,
        (false, true) => StatsMode::OneShot,
        (false, false) => StatsMode::Once,
    };
    let mut samples = app.engine.container_stats(&name, mode).await?;
    if mode == StatsMode::Stream {
        let lines = samples.map(|stats| stream::json_line(&StatsResponse::from(&stats), "\n"));
        return Ok(stream::chunked(Some("application/json"), lines, client.gone));
    }
    let stats = samples.next().await.ok_or_else(|| Error::not_found(format!("No such container: {name}")))?;
    Ok(reply::ok(&StatsResponse::from(&stats)))
}
