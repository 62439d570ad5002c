//! Registries: push, search, and what a name leads to there.

use axum::{extract::State, response::Response};
use gantry_domain::{container::validate::ApiVersion, registry::SearchResult};
use gantry_engine::image::ImagePush;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    app::App,
    error::Result,
    extract::{Credentials, Name, Version},
    query::{self, Query},
    reply,
    route::Route,
    server::Client,
    stream,
    views::{
        image::DistributionInspect,
        progress::{self, ProgressMessage},
    },
};

pub fn routes() -> Vec<Route> {
    vec![
        Route::post("/images/{name}/push", "ImagePush", image_push)
            .summary("Send an image to its registry")
            .query::<PushQuery>()
            .json::<ProgressMessage>(200)
            .errors(&[400, 404, 500]),
        Route::get("/images/search", "ImageSearch", image_search)
            .summary("Search an index for repositories")
            .query::<SearchQuery>()
            .json::<Vec<SearchResult>>(200)
            .errors(&[400, 401, 403, 404, 500, 503]),
        Route::get("/distribution/{name}/json", "DistributionInspect", distribution_inspect)
            .summary("What a name leads to in its registry")
            .json::<DistributionInspect>(200)
            .errors(&[400, 401, 403, 404, 500, 503]),
    ]
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
struct PushQuery {
    /// Without, every tag that is here.
    tag: String,
    /// `{"os":"linux","architecture":"arm64"}`, since 1.46: only this of an index.
    platform: Option<String>,
}

async fn image_push(
    State(app): State<App>,
    Version(version): Version,
    Name(name): Name,
    client: Client,
    Credentials(auth): Credentials,
    Query(query): Query<PushQuery>,
) -> Result<Response> {
    let platform = query.platform.filter(|_| version >= ApiVersion(1, 46));
    let platform = query::json_platform(platform.as_deref())?;
    let pushing = app.engine.image_push(ImagePush { name, tag: query.tag, platform, auth }).await?;
    Ok(stream::chunked(Some("application/json"), progress::push_lines(pushing), client.gone))
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
struct SearchQuery {
    /// `word` or `host/word`.
    term: String,
    /// 1 to 100; 25 without.
    limit: Option<String>,
    /// Docker's filters as JSON: `is-official`, `is-automated`, `stars`.
    filters: Option<String>,
}

async fn image_search(
    State(app): State<App>,
    Credentials(auth): Credentials,
    Query(query): Query<SearchQuery>,
) -> Result<Response> {
    let filters = query::filters(query.filters.as_deref())?;
    let limit = query::int(query.limit.as_deref()).map_err(|error| error.context("invalid limit specified"))?;
    Ok(reply::ok(&app.engine.image_search(&query.term, limit, &filters, &auth).await?))
}

async fn distribution_inspect(
    State(app): State<App>,
    Name(name): Name,
    Credentials(auth): Credentials,
) -> Result<Response> {
    Ok(reply::ok(&DistributionInspect::from(app.engine.distribution_inspect(&name, &auth).await?)))
}
