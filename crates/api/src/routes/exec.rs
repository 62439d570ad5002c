//! Execs: create, start, resize, inspect.

use axum::{extract::State, response::Response};
use bytes::Bytes;
use gantry_domain::{
    Error, ErrorKind, container::validate::ApiVersion, exec::ExecConfig, log::Stream, ports::OutputChunk,
};
use gantry_engine::exec::{ExecDetails, ExecStart};
use http::{HeaderMap, StatusCode};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{container::ResizeQuery, container_streams::content_type};
use crate::{
    app::App,
    error::{ApiError, Result},
    extract::{Name, Version},
    hijack::{self, MULTIPLEXED, RAW, Session, keys},
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
    let console_size = body.console_size.filter(|_| version >= ApiVersion(1, 42));
    let request = ExecStart { detach: body.detach, tty: body.tty, console_size };
    let session = match app.engine.exec_start(&id, request).await {
        Ok(None) => return Ok(reply::empty(StatusCode::OK)),
        Ok(Some(attached)) => Session {
            output: attached.output,
            detach: detector(&details, attached.stdin.is_some()),
            stdin: attached.stdin,
            framed: !body.tty,
            on_detach: Box::new(|| {}),
        },
        // dockerd has taken the connection over by then: the client reads the reason as output, and the code by inspect.
        Err(error) if !body.detach && !is_refusal(&error) => complaint(&error, !body.tty),
        Err(error) => return Err(error.into()),
    };
    let head = hijack::head(&headers, content_type(version, body.tty), &app);
    Ok(hijack::upgrade(&client, head, session).await)
}

fn detector(details: &ExecDetails, stdin: bool) -> Option<keys::Detector> {
    let keys = keys::parse(&details.config.detach_keys).ok()?;
    (details.config.tty && stdin).then(|| keys::Detector::new(keys))
}

/// Whether dockerd would notice before it takes the connection over.
fn is_refusal(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Conflict)
}

/// A stream that only tells why the process did not start.
fn complaint(error: &Error, framed: bool) -> Session {
    tracing::debug!(error = ?error, "an exec did not start");
    let text = OutputChunk { stream: Stream::Stdout, data: Bytes::from(format!("{}\r\n", error.message())) };
    Session {
        output: Box::pin(futures::stream::iter([Ok(text)])),
        stdin: None,
        framed,
        detach: None,
        on_detach: Box::new(|| {}),
    }
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
