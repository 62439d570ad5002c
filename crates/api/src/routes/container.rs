//! Containers: list, create, inspect, and the verbs that move them.

use axum::{extract::State, response::Response};
use gantry_domain::{
    Error,
    container::{Config, HostConfig, NetworkingConfig, validate::ApiVersion},
};
use gantry_engine::container::{ContainerCreate, ContainerDelete, ContainerList};
use http::HeaderMap;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    app::App,
    body,
    error::{ApiError, Result},
    extract::{Name, Version},
    json::JsonTree,
    query::{self, Query, UriQuery},
    reply,
    route::Route,
    views::{
        compat,
        container::{
            self as view, ContainerCreateResponse, ContainerInspect, ContainerPruneResponse, ContainerSummary,
            ContainerTopResponse,
        },
    },
};

pub fn routes() -> Vec<Route> {
    vec![
        Route::get("/containers/json", "ContainerList", container_list)
            .summary("List containers")
            .query::<ListQuery>()
            .json::<Vec<ContainerSummary>>(200)
            .errors(&[400, 404, 500]),
        Route::post("/containers/create", "ContainerCreate", container_create)
            .summary("Create a container")
            .query::<CreateQuery>()
            .required_body::<CreateBody>()
            .json::<ContainerCreateResponse>(201)
            .errors(&[400, 403, 404, 408, 409, 413, 500, 501]),
        Route::get("/containers/{id}/json", "ContainerInspect", container_inspect)
            .summary("Inspect a container")
            .query::<InspectQuery>()
            .json::<ContainerInspect>(200)
            .errors(&[400, 404, 500]),
        Route::get("/containers/{id}/top", "ContainerTop", container_top)
            .summary("List the processes of a container")
            .query::<TopQuery>()
            .json::<ContainerTopResponse>(200)
            .errors(&[400, 404, 409, 500]),
        Route::post("/containers/{id}/start", "ContainerStart", container_start)
            .summary("Start a container")
            .query::<StartQuery>()
            .empty(204)
            .empty(304)
            .errors(&[400, 403, 404, 409, 500]),
        Route::post("/containers/{id}/stop", "ContainerStop", container_stop)
            .summary("Stop a container")
            .query::<StopQuery>()
            .empty(204)
            .empty(304)
            .errors(&[400, 404, 409, 500]),
        Route::post("/containers/{id}/restart", "ContainerRestart", container_restart)
            .summary("Stop a container where it runs, and start it")
            .query::<StopQuery>()
            .empty(204)
            .errors(&[400, 404, 409, 500]),
        Route::post("/containers/{id}/kill", "ContainerKill", container_kill)
            .summary("Send a signal to a container")
            .query::<KillQuery>()
            .empty(204)
            .errors(&[400, 404, 409, 500]),
        Route::post("/containers/{id}/rename", "ContainerRename", container_rename)
            .summary("Rename a container")
            .query::<RenameQuery>()
            .empty(204)
            .errors(&[400, 404, 409, 500]),
        Route::post("/containers/{id}/pause", "ContainerPause", container_pause)
            .summary("Freeze the processes of a container")
            .empty(204)
            .errors(&[400, 404, 409, 500]),
        Route::post("/containers/{id}/unpause", "ContainerUnpause", container_unpause)
            .summary("Let the processes of a container go on")
            .empty(204)
            .errors(&[400, 404, 409, 500]),
        Route::post("/containers/{id}/resize", "ContainerResize", container_resize)
            .summary("Resize the terminal of a container")
            .query::<ResizeQuery>()
            .empty(200)
            .errors(&[400, 404, 409, 500]),
        Route::delete("/containers/{id}", "ContainerDelete", container_delete)
            .summary("Remove a container")
            .query::<DeleteQuery>()
            .empty(204)
            .errors(&[400, 404, 409, 500, 501]),
        Route::post("/containers/prune", "ContainerPrune", container_prune)
            .summary("Remove containers that do not run")
            .query::<PruneQuery>()
            .json::<ContainerPruneResponse>(200)
            .errors(&[400, 409, 500]),
    ]
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
struct ListQuery {
    /// Containers that do not run, too.
    all: bool,
    /// This many of the newest, running or not; what is not positive is none.
    limit: Option<String>,
    /// With `SizeRw` and `SizeRootFs`.
    size: bool,
    /// Docker's filters as JSON.
    filters: Option<String>,
    /// Containers made after this one.
    since: Option<String>,
    /// Containers made before this one.
    before: Option<String>,
}

async fn container_list(
    State(app): State<App>,
    Version(version): Version,
    Query(query): Query<ListQuery>,
) -> Result<Response> {
    let request = ContainerList {
        all: query.all,
        limit: query::limit(query.limit.as_deref())?,
        size: query.size,
        filters: query::filters(query.filters.as_deref())?,
        since: query.since.filter(|name| !name.is_empty()),
        before: query.before.filter(|name| !name.is_empty()),
    };
    let now = jiff::Timestamp::now();
    let found = app.engine.container_list(request).await?;
    let items = found.into_iter().map(|details| view::summary_for(version, details, now));
    Ok(compat::shaped_list(items, version, compat::CONTAINER_SUMMARY))
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
struct CreateQuery {
    /// `[a-zA-Z0-9][a-zA-Z0-9_.-]+`; without one a name is made up.
    name: Option<String>,
    /// `os/arch[/variant]`.
    platform: Option<String>,
}

/// `Config` with two members more; Go flattens it, and so does the description.
#[derive(Deserialize, JsonSchema)]
#[expect(dead_code, reason = "describes the body; the body is read as its three parts")]
struct CreateBody {
    #[serde(flatten)]
    config: Config,
    #[serde(rename = "HostConfig")]
    host_config: Option<HostConfig>,
    #[serde(rename = "NetworkingConfig")]
    networking_config: Option<NetworkingConfig>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Beside {
    host_config: HostConfig,
    networking_config: NetworkingConfig,
}

async fn container_create(
    State(app): State<App>,
    Version(api): Version,
    UriQuery(query): UriQuery<CreateQuery>,
    JsonTree(body): JsonTree,
) -> Result<Response> {
    if !body.has_field_of::<Config>() {
        return Err(ApiError::bad_request("config cannot be empty in order to create a container"));
    }
    let config: Config = body.read()?;
    let beside: Beside = body.read()?;
    let platform = query.platform.filter(|_| api >= ApiVersion(1, 41));
    let request = ContainerCreate {
        name: query.name.filter(|name| !name.is_empty()),
        platform: query::platform(platform.as_deref())?,
        config,
        host_config: beside.host_config,
        networking: beside.networking_config,
        api,
    };
    let created = app.engine.container_create(request).await?;
    Ok(reply::created(&ContainerCreateResponse::from(created)))
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
struct InspectQuery {
    /// With `SizeRw` and `SizeRootFs`.
    size: bool,
}

async fn container_inspect(
    State(app): State<App>,
    Version(version): Version,
    Name(name): Name,
    Query(query): Query<InspectQuery>,
) -> Result<Response> {
    let details = app.engine.container_inspect(&name, query.size).await?;
    Ok(compat::shaped(&view::inspect(&details), version, compat::CONTAINER_INSPECT))
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
struct TopQuery {
    /// Arguments of `ps`; `-ef` without.
    ps_args: Option<String>,
}

async fn container_top(State(app): State<App>, Name(name): Name, Query(query): Query<TopQuery>) -> Result<Response> {
    let args = query.ps_args.filter(|args| !args.is_empty()).unwrap_or_else(|| "-ef".to_owned());
    let top = app.engine.container_top(&name, &args).await?;
    Ok(reply::ok(&ContainerTopResponse::from(top)))
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
struct StartQuery {
    /// Refused: there are no checkpoints.
    checkpoint: String,
    /// Refused.
    #[serde(rename = "checkpoint-dir")]
    checkpoint_dir: String,
}

async fn container_start(
    State(app): State<App>,
    Name(name): Name,
    UriQuery(query): UriQuery<StartQuery>,
    headers: HeaderMap,
) -> Result<Response> {
    if body::has_more_than(&headers, 7) {
        return Err(ApiError::bad_request(
            "starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24",
        ));
    }
    if !query.checkpoint.is_empty() {
        return Err(ApiError::bad_request("checkpoint is only supported in experimental mode"));
    }
    if !query.checkpoint_dir.is_empty() {
        return Err(Error::forbidden("custom checkpointdir is not supported").into());
    }
    Ok(reply::outcome(app.engine.container_start(&name).await?))
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
struct StopQuery {
    /// Signal in place of the container's own, since 1.42.
    signal: Option<String>,
    /// Seconds until SIGKILL; negative waits for ever.
    #[schemars(regex(pattern = r"^(-?[0-9]{1,9})?$"))]
    t: Option<String>,
}

impl StopQuery {
    fn signal(&self, version: ApiVersion) -> Option<&str> {
        self.signal.as_deref().filter(|signal| !signal.is_empty() && version >= ApiVersion(1, 42))
    }
}

async fn container_stop(
    State(app): State<App>,
    Version(version): Version,
    Name(name): Name,
    Query(query): Query<StopQuery>,
) -> Result<Response> {
    let timeout = query::int(query.t.as_deref())?;
    Ok(reply::outcome(app.engine.container_stop(&name, query.signal(version), timeout).await?))
}

async fn container_restart(
    State(app): State<App>,
    Version(version): Version,
    Name(name): Name,
    Query(query): Query<StopQuery>,
) -> Result<Response> {
    let timeout = query::int(query.t.as_deref())?;
    app.engine.container_restart(&name, query.signal(version), timeout).await?;
    Ok(reply::no_content())
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
struct KillQuery {
    /// Name or number; SIGKILL without.
    signal: Option<String>,
}

async fn container_kill(State(app): State<App>, Name(name): Name, Query(query): Query<KillQuery>) -> Result<Response> {
    let signal = query.signal.as_deref().filter(|signal| !signal.is_empty());
    app.engine.container_kill(&name, signal).await?;
    Ok(reply::no_content())
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
struct RenameQuery {
    /// The new name.
    name: String,
}

async fn container_rename(
    State(app): State<App>,
    Name(name): Name,
    Query(query): Query<RenameQuery>,
) -> Result<Response> {
    app.engine.container_rename(&name, &query.name).await?;
    Ok(reply::no_content())
}

async fn container_pause(State(app): State<App>, Name(name): Name) -> Result<Response> {
    app.engine.container_pause(&name).await?;
    Ok(reply::no_content())
}

async fn container_unpause(State(app): State<App>, Name(name): Name) -> Result<Response> {
    app.engine.container_unpause(&name).await?;
    Ok(reply::no_content())
}

/// Size of a terminal. An absent parameter is refused in the same words as an empty one.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(extend("required" = ["h", "w"]))]
pub struct ResizeQuery {
    /// Rows.
    #[schemars(regex(pattern = r"^[0-9]{1,5}$"))]
    h: String,
    /// Columns.
    #[schemars(regex(pattern = r"^[0-9]{1,5}$"))]
    w: String,
}

impl ResizeQuery {
    /// Height and width.
    pub fn size(&self) -> gantry_domain::Result<(u32, u32)> {
        Ok((dimension("height", &self.h)?, dimension("width", &self.w)?))
    }
}

fn dimension(which: &str, text: &str) -> gantry_domain::Result<u32> {
    text.parse().map_err(|_| {
        let out_of_range = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let why = if out_of_range { "value out of range" } else { "invalid syntax" };
        Error::invalid(format!("invalid resize {which} {text:?}: {why}"))
    })
}

async fn container_resize(
    State(app): State<App>,
    Name(name): Name,
    Query(query): Query<ResizeQuery>,
) -> Result<Response> {
    let (height, width) = query.size()?;
    app.engine.container_resize(&name, height, width).await?;
    Ok(reply::empty(http::StatusCode::OK))
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
struct DeleteQuery {
    /// Anonymous volumes too.
    v: bool,
    /// Kill it first.
    force: bool,
    /// Only a link.
    link: bool,
}

async fn container_delete(
    State(app): State<App>,
    Name(name): Name,
    Query(query): Query<DeleteQuery>,
) -> Result<Response> {
    let request = ContainerDelete { volumes: query.v, force: query.force, link: query.link };
    app.engine.container_delete(&name, request).await?;
    Ok(reply::no_content())
}

/// Filters of a prune.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct PruneQuery {
    /// Docker's filters as JSON.
    pub filters: Option<String>,
}

async fn container_prune(State(app): State<App>, Query(query): Query<PruneQuery>) -> Result<Response> {
    let filters = query::filters(query.filters.as_deref())?;
    let pruned = app.engine.container_prune(&filters).await?;
    Ok(reply::ok(&ContainerPruneResponse::from(pruned)))
}
