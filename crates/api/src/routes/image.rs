//! Images: list, inspect, history, tag, remove, prune.

use axum::{extract::State, response::Response};
use gantry_domain::{Error, container::validate::ApiVersion};
use gantry_engine::image::{ImageAttestations, ImageInspect, ImageList, ImageRemoval};
use http::StatusCode;
use schemars::JsonSchema;
use serde::Deserialize;

use super::container::PruneQuery;
use crate::{
    app::App,
    error::Result,
    extract::{Name, Version},
    query::{self, Query},
    reply,
    route::Route,
    views::{
        compat,
        image::{self as view, DeleteItem, HistoryItem, ImagePruneResponse, ImageSummary},
    },
};

/// The snapshotter, as `GraphDriver` names it.
const DRIVER: &str = "overlayfs";

pub fn routes() -> Vec<Route> {
    vec![
        Route::get("/images/json", "ImageList", image_list)
            .summary("List images")
            .query::<ListQuery>()
            .json::<Vec<ImageSummary>>(200)
            .errors(&[400, 404, 500]),
        Route::get("/images/{name}/json", "ImageInspect", image_inspect)
            .summary("Inspect an image")
            .query::<InspectQuery>()
            .json::<view::ImageInspect>(200)
            .errors(&[400, 404, 500]),
        Route::get("/images/{name}/history", "ImageHistory", image_history)
            .summary("The steps that made an image")
            .query::<PlatformQuery>()
            .json::<Vec<HistoryItem>>(200)
            .errors(&[400, 404, 500]),
        Route::get("/images/{name}/attestations", "ImageAttestations", image_attestations)
            .summary("Statements about an image's origin and content")
            .query::<AttestationsQuery>()
            .json::<Vec<view::AttestationStatement>>(200)
            .errors(&[400, 404, 500]),
        Route::post("/images/{name}/tag", "ImageTag", image_tag)
            .summary("Give an image a name")
            .query::<TagQuery>()
            .empty(201)
            .errors(&[400, 404, 409, 500]),
        Route::delete("/images/{name}", "ImageDelete", image_delete)
            .summary("Take a name or an image away")
            .query::<DeleteQuery>()
            .json::<Vec<DeleteItem>>(200)
            .errors(&[400, 404, 409, 500]),
        Route::post("/images/prune", "ImagePrune", image_prune)
            .summary("Remove images that nobody uses")
            .query::<PruneQuery>()
            .json::<ImagePruneResponse>(200)
            .errors(&[400, 409, 500]),
    ]
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
struct ListQuery {
    /// Intermediate images too; here there are none.
    all: bool,
    /// Docker's filters as JSON.
    filters: Option<String>,
    /// A reference, before 1.41.
    filter: Option<String>,
    /// Work out what images share, since 1.42.
    #[serde(rename = "shared-size")]
    shared_size: bool,
    /// With each platform, since 1.47.
    manifests: bool,
    /// Digests are always there.
    digests: bool,
}

async fn image_list(
    State(app): State<App>,
    Version(version): Version,
    Query(query): Query<ListQuery>,
) -> Result<Response> {
    let mut filters = query::filters(query.filters.as_deref())?;
    if let Some(reference) = query.filter.filter(|text| !text.is_empty() && version < ApiVersion(1, 41)) {
        filters.0.entry("reference".to_owned()).or_default().insert(reference);
    }
    let manifests = query.manifests && version >= ApiVersion(1, 47);
    let shared_size = query.shared_size && version >= ApiVersion(1, 42);
    let found = app.engine.image_list(ImageList { all: query.all, filters, shared_size, manifests }).await?;
    let counted = version >= ApiVersion(1, 51);
    let items = found.iter().map(|details| view::summary(details, counted));
    Ok(compat::shaped_list(items, version, compat::IMAGE_SUMMARY))
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
struct InspectQuery {
    /// With each platform, since 1.48.
    manifests: bool,
    /// `{"os":"linux","architecture":"arm64"}`, since 1.49.
    platform: Option<String>,
}

async fn image_inspect(
    State(app): State<App>,
    Version(version): Version,
    Name(name): Name,
    Query(query): Query<InspectQuery>,
) -> Result<Response> {
    let manifests = query.manifests && version >= ApiVersion(1, 48);
    let platform = query.platform.filter(|text| !text.is_empty() && version >= ApiVersion(1, 49));
    if manifests && platform.is_some() {
        return Err(Error::invalid("conflicting options: manifests and platform options cannot both be set").into());
    }
    let platform = query::json_platform(platform.as_deref())?;
    let details = app.engine.image_inspect(&name, ImageInspect { platform, manifests }).await?;
    Ok(compat::shaped(&view::inspect(&details, DRIVER), version, compat::IMAGE_INSPECT))
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
struct PlatformQuery {
    /// `{"os":"linux","architecture":"arm64"}`, since 1.48.
    platform: Option<String>,
}

async fn image_history(
    State(app): State<App>,
    Version(version): Version,
    Name(name): Name,
    Query(query): Query<PlatformQuery>,
) -> Result<Response> {
    let platform = query.platform.filter(|_| version >= ApiVersion(1, 48));
    let lines = app.engine.image_history(&name, query::json_platform(platform.as_deref())?).await?;
    Ok(reply::ok(&lines.into_iter().map(HistoryItem::from).collect::<Vec<_>>()))
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
struct AttestationsQuery {
    /// `{"os":"linux","architecture":"arm64"}`, one at most; without, the host's.
    platform: Vec<String>,
    /// Types of predicates, repeated; without, all.
    #[serde(rename = "type")]
    types: Vec<String>,
    /// With the statements themselves.
    statement: bool,
}

/// Of 1.55, and served to every version: there was nothing in its place before.
async fn image_attestations(
    State(app): State<App>,
    Name(name): Name,
    Query(query): Query<AttestationsQuery>,
) -> Result<Response> {
    let AttestationsQuery { platform, types, statement } = query;
    if platform.len() > 1 {
        return Err(Error::invalid("only one platform value is currently supported").into());
    }
    let platform = query::json_platform(platform.first().map(String::as_str))?;
    let types = types.into_iter().filter(|one| !one.is_empty()).collect();
    let found = app.engine.image_attestations(&name, ImageAttestations { platform, types, statement }).await?;
    Ok(reply::ok(&found.into_iter().map(view::AttestationStatement::from).collect::<Vec<_>>()))
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
struct TagQuery {
    /// The name without a tag.
    repo: String,
    /// `latest` without.
    tag: String,
}

async fn image_tag(State(app): State<App>, Name(name): Name, Query(query): Query<TagQuery>) -> Result<Response> {
    app.engine.image_tag(&name, &query.repo, &query.tag).await?;
    Ok(reply::empty(StatusCode::CREATED))
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
struct DeleteQuery {
    force: bool,
    /// Keep untagged parents.
    noprune: bool,
    /// Only these, each as JSON, since 1.50.
    platforms: Vec<String>,
}

async fn image_delete(
    State(app): State<App>,
    Version(version): Version,
    Name(name): Name,
    Query(query): Query<DeleteQuery>,
) -> Result<Response> {
    let DeleteQuery { force, noprune, platforms } = query;
    let platforms = if version >= ApiVersion(1, 50) { query::json_platforms(&platforms)? } else { Vec::new() };
    let deleted = app.engine.image_delete(&name, ImageRemoval { force, noprune, platforms }).await?;
    Ok(reply::ok(&deleted.into_iter().map(DeleteItem::from).collect::<Vec<_>>()))
}

async fn image_prune(State(app): State<App>, Query(query): Query<PruneQuery>) -> Result<Response> {
    let filters = query::filters(query.filters.as_deref())?;
    let pruned = app.engine.image_prune(&filters).await?;
    Ok(reply::ok(&ImagePruneResponse::from(pruned)))
}
