//! Images that come and go: pull and import, load, save.

use axum::{extract::State, response::Response};
use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use gantry_domain::{Error, container::validate::ApiVersion, platform::Platform};
use gantry_engine::image::{ImageImport, ImagePull, ImportStep, LoadMessage};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    app::App,
    body::Upload,
    error::Result,
    extract::{Credentials, Name, Version},
    query::{self, UriQuery},
    route::Route,
    server::Client,
    stream,
    views::progress::{self, ProgressDetail, ProgressMessage},
};

const TAR: &str = "application/x-tar";

pub fn routes() -> Vec<Route> {
    vec![
        Route::post("/images/create", "ImageCreate", image_create)
            .summary("Pull an image, or make one of an archive")
            .query::<CreateQuery>()
            .archive_body()
            .json::<ProgressMessage>(200)
            .errors(&[400, 403, 404, 500, 501, 503]),
        Route::post("/images/load", "ImageLoad", image_load)
            .summary("Take images out of an archive")
            .query::<LoadQuery>()
            .archive_body()
            .json::<ProgressMessage>(200)
            .errors(&[400, 500]),
        Route::get("/images/get", "ImageGetAll", image_get)
            .summary("Put images into an archive")
            .query::<GetQuery>()
            .content(200, TAR)
            .errors(&[400, 404, 500]),
        Route::get("/images/{name}/get", "ImageGet", image_get_one)
            .summary("Put an image into an archive")
            .query::<PlatformQuery>()
            .content(200, TAR)
            .errors(&[400, 404, 500]),
    ]
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
struct CreateQuery {
    /// Name to pull; with `tag` empty and none in the name, all tags.
    #[serde(rename = "fromImage")]
    from_image: String,
    /// `-`: the archive is the body; else the URL it is read from.
    #[serde(rename = "fromSrc")]
    from_src: String,
    /// Name of the new image.
    repo: String,
    tag: String,
    /// `Imported from -` without.
    message: String,
    /// Dockerfile instructions.
    changes: Vec<String>,
    /// `os/arch[/variant]`.
    platform: Option<String>,
}

async fn image_create(
    State(app): State<App>,
    UriQuery(query): UriQuery<CreateQuery>,
    client: Client,
    Credentials(auth): Credentials,
    Upload(archive): Upload,
) -> Result<Response> {
    if !query.from_image.is_empty() {
        let platform = query::platform(query.platform.as_deref())?;
        let pull = ImagePull { image: query.from_image, tag: query.tag, platform, auth };
        let pulling = app.engine.image_pull(pull).await?;
        return Ok(stream::chunked(Some("application/json"), progress::pull_lines(pulling), client.gone));
    }
    let source = query.from_src;
    let message = if query.message.is_empty() { format!("Imported from {source}") } else { query.message };
    let platform = query::platform(query.platform.as_deref())?;
    let request = ImageImport { repo: query.repo, tag: query.tag, message, changes: query.changes, platform };
    if source != "-" {
        let steps = app.engine.image_import_url(&source, request).await?;
        return Ok(stream::chunked(Some("application/json"), import_lines(&source, steps), client.gone));
    }
    let id = app.engine.image_import(archive, request).await?;
    let lines = futures::stream::iter([ProgressMessage::status(id.to_string()).line()]);
    Ok(stream::chunked(Some("application/json"), lines, client.gone))
}

fn import_lines<S>(source: &str, steps: S) -> impl Stream<Item = Bytes> + Send + use<S>
where
    S: Stream<Item = gantry_domain::Result<ImportStep>> + Send,
{
    let begin = ProgressMessage::status(format!("Downloading from {source}")).line();
    let lines = steps.map(|step| {
        let message = match step {
            Ok(ImportStep::Read { current, total }) => ProgressMessage {
                progress_detail: Some(ProgressDetail::of(current, total)),
                ..ProgressMessage::status("Importing")
            },
            Ok(ImportStep::Imported(id)) => ProgressMessage::status(id.to_string()),
            Err(error) => ProgressMessage::error(&error),
        };
        message.line()
    });
    futures::stream::iter([begin]).chain(lines)
}

#[derive(Deserialize, JsonSchema)]
#[serde(default)]
struct LoadQuery {
    /// No progress; without this it is quiet.
    quiet: bool,
    /// Only this platform, as JSON, since 1.48.
    platform: Vec<String>,
}

impl Default for LoadQuery {
    fn default() -> Self {
        Self { quiet: true, platform: Vec::new() }
    }
}

async fn image_load(
    State(app): State<App>,
    Version(version): Version,
    UriQuery(query): UriQuery<LoadQuery>,
    client: Client,
    Upload(archive): Upload,
) -> Result<Response> {
    let platforms = platforms(&query.platform, version)?;
    let loading = app.engine.image_load(archive, platforms).await?;
    Ok(stream::chunked(Some("application/json"), load_lines(loading, query.quiet), client.gone))
}

fn load_lines(
    loading: gantry_domain::ports::BoxStream<gantry_domain::Result<LoadMessage>>,
    quiet: bool,
) -> impl Stream<Item = Bytes> + Send {
    loading.filter_map(move |message| async move {
        let message = match message {
            Ok(LoadMessage::Layer { .. }) if quiet => return None,
            Ok(LoadMessage::Layer { id, current, total }) => ProgressMessage {
                id: Some(id),
                progress_detail: Some(ProgressDetail::of(current, total)),
                ..ProgressMessage::status("Loading layer")
            },
            Ok(LoadMessage::LoadedName(name)) => ProgressMessage::stream(format!("Loaded image: {name}\n")),
            Ok(LoadMessage::LoadedId(id)) => ProgressMessage::stream(format!("Loaded image ID: {id}\n")),
            Err(error) => {
                tracing::info!(error = ?error, "an archive could not be loaded");
                ProgressMessage::error(&error)
            }
        };
        Some(message.line())
    })
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
struct GetQuery {
    /// Names or ids, repeated; a name without a tag is all its tags.
    names: Vec<String>,
    /// Only this platform, as JSON, since 1.48.
    platform: Vec<String>,
}

async fn image_get(
    State(app): State<App>,
    Version(version): Version,
    UriQuery(query): UriQuery<GetQuery>,
) -> Result<Response> {
    let archive = app.engine.image_get(query.names, platforms(&query.platform, version)?).await?;
    Ok(stream::bytes(TAR, archive))
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
struct PlatformQuery {
    /// Only this platform, as JSON, since 1.48.
    platform: Vec<String>,
}

async fn image_get_one(
    State(app): State<App>,
    Version(version): Version,
    Name(name): Name,
    UriQuery(query): UriQuery<PlatformQuery>,
) -> Result<Response> {
    let archive = app.engine.image_get(vec![name], platforms(&query.platform, version)?).await?;
    Ok(stream::bytes(TAR, archive))
}

/// Several platforms are taken from 1.52 on.
fn platforms(given: &[String], version: ApiVersion) -> Result<Vec<Platform>> {
    if version < ApiVersion(1, 48) {
        return Ok(Vec::new());
    }
    if given.len() > 1 && version < ApiVersion(1, 52) {
        return Err(Error::invalid("multiple platform parameters not supported").into());
    }
    Ok(query::json_platforms(given)?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    async fn lines(messages: Vec<gantry_domain::Result<LoadMessage>>, quiet: bool) -> String {
        let lines: Vec<_> = load_lines(Box::pin(futures::stream::iter(messages)), quiet).collect().await;
        String::from_utf8(lines.concat()).unwrap()
    }

    #[tokio::test]
    async fn load_tells_what_docker_py_looks_for() {
        let layer = || Ok(LoadMessage::Layer { id: "abc".into(), current: 1, total: 2 });
        let loaded = || Ok(LoadMessage::LoadedName("busybox:latest".into()));
        assert_eq!(lines(vec![layer(), loaded()], true).await, "{\"stream\":\"Loaded image: busybox:latest\\n\"}\r\n");
        let loud = lines(vec![layer(), loaded()], false).await;
        assert!(loud.starts_with(
            "{\"status\":\"Loading layer\",\"progressDetail\":{\"current\":1,\"total\":2},\"id\":\"abc\"}\r\n"
        ));
    }

    #[tokio::test]
    async fn an_error_of_load_is_in_the_stream() {
        assert_eq!(
            lines(vec![Err(Error::invalid("bad tar"))], true).await,
            "{\"errorDetail\":{\"message\":\"bad tar\"},\"error\":\"bad tar\"}\r\n"
        );
    }
}
