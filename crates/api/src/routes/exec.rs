//! Execs: create, start, resize, inspect.

use axum::{extract::State, response::Response};
use gantry_domain::{Error, container::validate::ApiVersion, exec::ExecConfig};
use gantry_engine::exec::{ExecDetails, ExecStart};
use http::{HeaderMap, StatusCode};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{container::ResizeQuery, container_streams::content_type};
use crate::{
    app::App,
    error::{ApiError, Result},
    extract::{Name, Version},
    hijack::{self, MULTIPLEXED, RAW, Session, Streams, keys},
    json::Json,
    query::Query,
    reply,
    route::Route,
    server::Client,
    views::{IdResponse, exec::ExecInspect},
};

pub fn routes() -> Vec<Route> {
    vec![
        Route::post("/containers/{id}/exec", "ContainerExec", container_exec)
            .summary("Make an exec in a running container")
            .required_body::<ExecConfig>()
            .json::<IdResponse>(201)
            .errors(&[400, 404, 408, 409, 413, 500]),
        Route::post("/exec/{id}/start", "ExecStart", exec_start)
            .summary("Start an exec and join its streams")
            .body::<ExecStartBody>()
            .empty(200)
            .content(200, RAW)
            .content(101, RAW)
            .content(101, MULTIPLEXED)
            .errors(&[400, 404, 408, 409, 413, 500]),
        Route::post("/exec/{id}/resize", "ExecResize", exec_resize)
            .summary("Resize the terminal of an exec")
            .query::<ResizeQuery>()
            .empty(200)
            .errors(&[400, 404, 409, 500]),
        Route::get("/exec/{id}/json", "ExecInspect", exec_inspect)
            .summary("Inspect an exec")
            .json::<ExecInspect>(200)
            .errors(&[400, 404, 500]),
    ]
}

async fn container_exec(
    State(app): State<App>,
    Version(version): Version,
    Name(name): Name,
    Json(mut config): Json<ExecConfig>,
) -> Result<Response> {
    if config.cmd.as_ref().is_none_or(Vec::is_empty) {
        return Err(ApiError::bad_request("No exec command specified"));
    }
    if !config.detach_keys.is_empty() && keys::parse(&config.detach_keys).is_err() {
        return Err(ApiError::bad_request(format!("Invalid escape keys ({}) provided", config.detach_keys)));
    }
    if version < ApiVersion(1, 42) {
        config.console_size = None;
    }
    let id = app.engine.container_exec(&name, config).await?;
    Ok(reply::created(&IdResponse { id: id.to_string() }))
}

/// Body of start.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, rename_all = "PascalCase")]
struct ExecStartBody {
    /// Start it and answer at once.
    detach: bool,
    /// Framing of the answer; whether the process has a terminal was said when it was made.
    tty: bool,
    /// Height, width.
    console_size: Option<[u32; 2]>,
}

async fn exec_start(
    State(app): State<App>,
    Version(version): Version,
    Name(id): Name,
    client: Client,
    headers: HeaderMap,
    Json(body): Json<ExecStartBody>,
) -> Result<Response> {
    let details = app.engine.exec_inspect(&id).await?;
    may_start(&app, &details).await?;
    let console_size = body.console_size.filter(|_| version >= ApiVersion(1, 42));
    let request = ExecStart { detach: body.detach, tty: body.tty, console_size };
    if body.detach {
        app.engine.exec_start(&id, request).await?;
        return Ok(reply::empty(StatusCode::OK));
    }
    let head = hijack::head(&headers, content_type(version, body.tty), &app);
    let session = Session { framed: !body.tty, streams: Box::pin(streams(app, id, request, details)) };
    Ok(hijack::upgrade(&client, head, session).await)
}

/// What dockerd refuses before it takes the connection over.
async fn may_start(app: &App, details: &ExecDetails) -> gantry_domain::Result<()> {
    app.engine
        .container_inspect(details.container.as_str(), false)
        .await?
        .snapshot
        .may_exec(details.container.as_str())?;
    if details.running {
        return Err(Error::conflict(format!("exec command {} is already running", details.id)));
    }
    if details.exit_code.is_some() {
        return Err(Error::conflict(format!("exec command {} has already run", details.id)));
    }
    Ok(())
}

async fn streams(app: App, id: String, request: ExecStart, details: ExecDetails) -> gantry_domain::Result<Streams> {
    let attached = app.engine.exec_start(&id, request).await?;
    let attached = attached.ok_or_else(|| Error::system("the exec was started without its streams"))?;
    Ok(Streams {
        output: attached.output,
        detach: detector(&details, attached.stdin.is_some()),
        stdin: attached.stdin,
        on_detach: Box::new(|| {}),
    })
}

fn detector(details: &ExecDetails, stdin: bool) -> Option<keys::Detector> {
    let keys = keys::parse(&details.config.detach_keys).ok()?;
    (details.config.tty && stdin).then(|| keys::Detector::new(keys))
}

async fn exec_resize(State(app): State<App>, Name(id): Name, Query(query): Query<ResizeQuery>) -> Result<Response> {
    let (height, width) = query.size()?;
    app.engine.exec_resize(&id, height, width).await?;
    Ok(reply::empty(StatusCode::OK))
}

async fn exec_inspect(State(app): State<App>, Name(id): Name) -> Result<Response> {
    let details = app.engine.exec_inspect(&id).await?;
    Ok(reply::ok(&ExecInspect::from(details)))
}
