//! The engine itself: ping, version, info, events, disk usage.

use axum::{body::Body, extract::State, response::Response};
use futures::StreamExt as _;
use gantry_domain::{Error, container::validate::ApiVersion, registry::RegistryAuth};
use gantry_engine::{EventQuery, system::DiskUsageKinds};
use http::{HeaderMap, HeaderValue, Method, header};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    app::App,
    error::Result,
    extract::Version,
    json::Json,
    query::{self, Query},
    reply,
    route::Route,
    server::Client,
    stream,
    views::{
        compat,
        system::{self as view, AuthResponse, DiskUsageResponse, EventMessage, VersionResponse, info::InfoResponse},
    },
};

pub fn routes() -> Vec<Route> {
    vec![
        Route::get("/_ping", "SystemPing", system_ping)
            .summary("Whether the engine answers")
            .content(200, "text/plain")
            .errors(&[500]),
        Route::head("/_ping", "SystemPingHead", system_ping).summary("Whether the engine answers").empty(200),
        Route::get("/version", "SystemVersion", system_version)
            .summary("Versions of the engine and its parts")
            .json::<VersionResponse>(200)
            .errors(&[500]),
        Route::get("/info", "SystemInfo", system_info)
            .summary("What the engine is and has")
            .json::<InfoResponse>(200)
            .errors(&[500]),
        Route::get("/events", "SystemEvents", system_events)
            .summary("What happens, one JSON object a line")
            .query::<EventsQuery>()
            .json::<EventMessage>(200)
            .errors(&[400, 500]),
        Route::post("/build/prune", "BuildPrune", build_prune)
            .summary("Remove build cache: there is none")
            .json::<BuildPruneResponse>(200)
            .errors(&[500]),
        Route::get("/system/df", "SystemDataUsage", system_df)
            .summary("What takes space")
            .query::<DiskUsageQuery>()
            .json::<DiskUsageResponse>(200)
            .errors(&[400, 500]),
        Route::post("/auth", "SystemAuth", system_auth)
            .summary("Whether a registry takes these credentials")
            .body::<AuthConfig>()
            .json::<AuthResponse>(200)
            .errors(&[400, 401, 408, 413, 500]),
        Route::options("/{any}", "SystemOptions"),
    ]
}

/// Answers before anything else is ready; clients negotiate by its headers.
async fn system_ping(method: Method) -> Response {
    let body = if method == Method::HEAD { Body::empty() } else { Body::from("OK") };
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    ping_headers(headers);
    if method == Method::HEAD {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
    response
}

fn ping_headers(headers: &mut HeaderMap) {
    // There is no BuildKit behind this engine yet; 1 is the classic builder.
    for (name, value) in [
        ("content-type", "text/plain; charset=utf-8"),
        ("cache-control", "no-cache, no-store, must-revalidate"),
        ("pragma", "no-cache"),
        ("builder-version", "1"),
        ("swarm", "inactive"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

async fn system_version(State(app): State<App>) -> Result<Response> {
    let found = app.engine.system_version().await?;
    Ok(reply::ok(&view::version(&found, &app.about)))
}

async fn system_info(State(app): State<App>, Version(version): Version) -> Result<Response> {
    let found = app.engine.system_info().await?;
    Ok(compat::shaped(&view::info::info(&found, &app.about), version, compat::INFO))
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
struct EventsQuery {
    /// Unix seconds with an optional fraction: what happened since then, first.
    #[schemars(regex(pattern = r"^([0-9]{1,10}(\.[0-9]{1,9})?)?$"))]
    since: String,
    /// Unix seconds with an optional fraction: the stream ends then.
    #[schemars(regex(pattern = r"^([0-9]{1,10}(\.[0-9]{1,9})?)?$"))]
    until: String,
    /// Docker's filters as JSON.
    filters: Option<String>,
}

async fn system_events(State(app): State<App>, client: Client, Query(query): Query<EventsQuery>) -> Result<Response> {
    let (since, until) = (query::moment(&query.since)?, query::moment(&query.until)?);
    let filters = query::filters(query.filters.as_deref())?;
    let events = app.engine.system_events(EventQuery { since, until, filters }).await?;
    let lines = events.map(|event| stream::json_line(&EventMessage::from(event), "\n"));
    Ok(stream::chunked(Some("application/json"), lines, client.gone))
}

/// Docker's `AuthConfig`; `email` and what else clients send is not needed.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
struct AuthConfig {
    username: String,
    password: String,
    /// `host[:port]` or a URL; empty is Docker Hub.
    serveraddress: String,
    /// A token of an earlier login, used instead of the password.
    identitytoken: String,
}

async fn system_auth(State(app): State<App>, Json(body): Json<AuthConfig>) -> Result<Response> {
    let auth = RegistryAuth {
        username: body.username,
        password: body.password,
        server_address: body.serveraddress,
        identity_token: body.identitytoken,
        registry_token: String::new(),
    };
    Ok(reply::ok(&AuthResponse::from(app.engine.system_auth(&auth).await?)))
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
struct DiskUsageQuery {
    /// `container`, `image`, `volume` or `build-cache`, repeated, since 1.42; without, all.
    #[serde(rename = "type")]
    kinds: Vec<String>,
}

async fn system_df(
    State(app): State<App>,
    Version(version): Version,
    Query(query): Query<DiskUsageQuery>,
) -> Result<Response> {
    let asked = if version >= ApiVersion(1, 42) { query.kinds } else { Vec::new() };
    let usage = app.engine.system_df(kinds(&asked)?).await?;
    let view = view::disk_usage(usage, jiff::Timestamp::now());
    Ok(compat::shaped(&view, version, compat::DISK_USAGE))
}

fn kinds(asked: &[String]) -> Result<DiskUsageKinds> {
    let all = asked.is_empty();
    let mut kinds = DiskUsageKinds { containers: all, images: all, volumes: all, build_cache: all };
    for kind in asked {
        match kind.as_str() {
            "container" => kinds.containers = true,
            "image" => kinds.images = true,
            "volume" => kinds.volumes = true,
            "build-cache" => kinds.build_cache = true,
            other => return Err(Error::invalid(format!("unknown object type: {other}")).into()),
        }
    }
    Ok(kinds)
}

/// 200 of build prune.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
struct BuildPruneResponse {
    caches_deleted: Option<Vec<String>>,
    space_reclaimed: u64,
}

/// Without a builder there is no build cache, as `/system/df` says too. A CLI up to 28 ends `docker system prune` at
/// any other answer.
async fn build_prune() -> Response {
    reply::ok(&BuildPruneResponse { caches_deleted: None, space_reclaimed: 0 })
}
