//! Containers: what goes on for a while. Logs, attach, wait.

use axum::{extract::State, response::Response};
use futures::StreamExt as _;
use gantry_domain::{Error, container::validate::ApiVersion, log::LogQuery};
use gantry_engine::container::{Attached, ContainerAttach, WaitCondition};
use http::HeaderMap;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio_tungstenite::tungstenite::protocol::frame::coding::Data;

use crate::{
    app::App,
    error::Result,
    extract::{Name, Version},
    hijack::{self, MULTIPLEXED, RAW, Session, Streams, keys, websocket},
    query::{self, Query},
    route::Route,
    server::Client,
    stream::{self, LogFormat},
    views::container::ContainerWaitResponse,
};

pub fn routes() -> Vec<Route> {
    vec![
        Route::get("/containers/{id}/logs", "ContainerLogs", container_logs)
            .summary("Read what a container wrote")
            .query::<LogsQuery>()
            .content(200, RAW)
            .content(200, MULTIPLEXED)
            .errors(&[400, 404, 409, 500, 501]),
        Route::post("/containers/{id}/attach", "ContainerAttach", container_attach)
            .summary("Join the streams of a container")
            .query::<AttachQuery>()
            .content(101, RAW)
            .content(101, MULTIPLEXED)
            .content(200, RAW)
            .content(400, RAW)
            .content(404, RAW)
            .content(409, RAW)
            .content(500, RAW)
            .errors(&[400]),
        Route::get("/containers/{id}/attach/ws", "ContainerAttachWebsocket", container_attach_websocket)
            .summary("Join the streams of a container over a WebSocket")
            .query::<AttachQuery>()
            .content(101, RAW)
            .errors(&[400, 404, 409, 500]),
        Route::post("/containers/{id}/wait", "ContainerWait", container_wait)
            .summary("Wait until a container has stopped")
            .query::<WaitQuery>()
            .json::<ContainerWaitResponse>(200)
            .errors(&[400, 404, 500]),
    ]
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
struct LogsQuery {
    /// Go on until the container stops.
    follow: bool,
    stdout: bool,
    stderr: bool,
    /// Unix seconds with an optional fraction.
    #[schemars(regex(pattern = r"^([0-9]{1,10}(\.[0-9]{1,9})?)?$"))]
    since: Option<String>,
    /// Unix seconds with an optional fraction.
    #[schemars(regex(pattern = r"^([0-9]{1,10}(\.[0-9]{1,9})?)?$"))]
    until: Option<String>,
    timestamps: bool,
    /// Lines from the end; what is no number is all.
    tail: Option<String>,
    /// Extra attributes of the log driver.
    details: bool,
}

async fn container_logs(
    State(app): State<App>,
    Version(version): Version,
    Name(name): Name,
    client: Client,
    Query(query): Query<LogsQuery>,
) -> Result<Response> {
    let request = LogQuery {
        stdout: query.stdout,
        stderr: query.stderr,
        follow: query.follow,
        since: query::timestamp(query.since.as_deref().unwrap_or_default())?,
        until: query::timestamp(query.until.as_deref().unwrap_or_default())?,
        tail: query.tail.as_deref().and_then(|tail| tail.parse().ok()),
    };
    let logs = app.engine.container_logs(&name, request).await?;
    let format = LogFormat { framed: !logs.terminal, timestamps: query.timestamps, details: query.details };
    let content_type = content_type(version, logs.terminal);
    Ok(stream::chunked(Some(content_type), stream::logs(logs.batches, format), client.gone))
}

/// Frames have a type of their own since 1.42.
pub fn content_type(version: ApiVersion, terminal: bool) -> &'static str {
    if !terminal && version >= ApiVersion(1, 42) { MULTIPLEXED } else { RAW }
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
struct AttachQuery {
    /// Keys that leave a terminal: `ctrl-p,ctrl-q` without.
    #[serde(rename = "detachKeys")]
    detach_keys: String,
    /// What was written before, first.
    logs: bool,
    /// Then what is written from now on.
    stream: bool,
    stdin: bool,
    stdout: bool,
    stderr: bool,
}

async fn container_attach(
    State(app): State<App>,
    Version(version): Version,
    Name(name): Name,
    client: Client,
    headers: HeaderMap,
    Query(query): Query<AttachQuery>,
) -> Response {
    let request = ContainerAttach {
        stdin: query.stdin,
        stdout: query.stdout,
        stderr: query.stderr,
        logs: query.logs,
        stream: query.stream,
    };
    let keys = match keys::parse(&query.detach_keys) {
        Ok(keys) => keys,
        Err(error) => return hijack::refuse(error),
    };
    let attached = match app.engine.container_attach(&name, request).await {
        Ok(attached) => attached,
        Err(error) => return hijack::refuse(error),
    };
    let framed = !attached.terminal;
    let content_type = content_type(version, attached.terminal);
    let streams = streams(&app, attached, keys);
    let session = Session { framed, streams: Box::pin(async { Ok(streams) }) };
    hijack::upgrade(&client, hijack::head(&headers, content_type, &app), session).await
}

fn streams(app: &App, attached: Attached, keys: Vec<u8>) -> Streams {
    let (engine, id) = (app.engine.clone(), attached.id);
    Streams {
        output: attached.output,
        detach: (attached.terminal && attached.stdin.is_some()).then(|| keys::Detector::new(keys)),
        stdin: attached.stdin,
        on_detach: Box::new(move || engine.container_detached(&id)),
    }
}

async fn container_attach_websocket(
    State(app): State<App>,
    Version(version): Version,
    Name(name): Name,
    client: Client,
    headers: HeaderMap,
    Query(query): Query<AttachQuery>,
) -> Result<Response> {
    // Older clients had no say in which streams they get.
    let chosen = version >= ApiVersion(1, 42);
    let request = ContainerAttach {
        stdin: query.stdin || !chosen,
        stdout: query.stdout || !chosen,
        stderr: query.stderr || !chosen,
        logs: query.logs,
        stream: query.stream,
    };
    let keys = keys::parse(&query.detach_keys)?;
    let head = websocket::head(&headers)?;
    let attached = app.engine.container_attach(&name, request).await?;
    let kind = if version >= ApiVersion(1, 28) { Data::Binary } else { Data::Text };
    Ok(websocket::upgrade(&client, head, streams(&app, attached, keys), kind).await)
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
struct WaitQuery {
    /// `not-running` (also without), `next-exit` or `removed`.
    #[schemars(regex(pattern = r"^(not-running|next-exit|removed)?$"))]
    condition: String,
}

async fn container_wait(
    State(app): State<App>,
    Version(version): Version,
    Name(name): Name,
    client: Client,
    Query(query): Query<WaitQuery>,
) -> Result<Response> {
    let condition = match query.condition.as_str() {
        _ if version < ApiVersion(1, 30) => WaitCondition::NotRunning,
        "" | "not-running" => WaitCondition::NotRunning,
        "next-exit" => WaitCondition::NextExit,
        "removed" => WaitCondition::Removed,
        other => return Err(Error::invalid(format!("invalid condition: {other:?}")).into()),
    };
    let wait = app.engine.container_wait(&name, condition).await?;
    // `docker run` waits for these headers before it starts the container.
    let answer =
        futures::stream::once(wait).map(|result| stream::json_line(&ContainerWaitResponse::from(result), "\n"));
    Ok(stream::chunked(Some("application/json"), answer, client.gone))
}
