//! Containers: files in and out (`docker cp`, `diff`, `export`).

use axum::{
    extract::State,
    response::{IntoResponse as _, Response},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use futures::StreamExt as _;
use gantry_domain::{Error, container::copy::PathStat, ports::ByteStream};
use gantry_engine::container::ArchivePut;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{app::App, body::Upload, error::Result, extract::Name, query::UriQuery, reply, route::Route, stream};

const TAR: &str = "application/x-tar";
const STAT: HeaderName = HeaderName::from_static("x-docker-container-path-stat");

pub fn routes() -> Vec<Route> {
    vec![
        Route::get("/containers/{id}/changes", "ContainerChanges", container_changes)
            .summary("List the paths in which a container differs from its image")
            .json::<Option<Vec<FilesystemChange>>>(200)
            .errors(&[400, 404, 500]),
        Route::get("/containers/{id}/export", "ContainerExport", container_export)
            .summary("Put a container's root file system into an archive")
            .content(200, "application/octet-stream")
            .errors(&[400, 404, 409, 500]),
        Route::head("/containers/{id}/archive", "ContainerArchiveInfo", container_archive_info)
            .summary("Tell what is at a path of a container")
            .query::<PathQuery>()
            .empty(200)
            .errors(&[400, 404, 409, 500]),
        Route::get("/containers/{id}/archive", "ContainerArchive", container_archive)
            .summary("Put a path of a container into an archive")
            .query::<PathQuery>()
            .content(200, TAR)
            .errors(&[400, 404, 409, 500]),
        Route::put("/containers/{id}/archive", "PutContainerArchive", put_container_archive)
            .summary("Lay an archive out in a folder of a container")
            .query::<PutQuery>()
            .archive_body()
            .empty(200)
            .errors(&[400, 404, 409, 500]),
    ]
}

/// One path and what happened to it: 0 modified, 1 added, 2 deleted.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
struct FilesystemChange {
    path: String,
    kind: u8,
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
struct PathQuery {
    path: String,
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(default)]
struct PutQuery {
    /// A folder.
    path: String,
    /// A folder is not replaced by a file, nor a file by a folder.
    #[serde(rename = "noOverwriteDirNonDir")]
    no_overwrite_dir_non_dir: bool,
    /// Everything belongs to the container's user, where it has one.
    #[serde(rename = "copyUIDGID")]
    copy_uid_gid: bool,
}

async fn container_changes(State(app): State<App>, Name(name): Name) -> Result<Response> {
    let changes = app.engine.container_changes(&name).await?;
    let changes: Vec<FilesystemChange> =
        changes.into_iter().map(|change| FilesystemChange { path: change.path, kind: change.kind as u8 }).collect();
    // dockerd's null for none.
    Ok(reply::ok(&Some(changes).filter(|changes| !changes.is_empty())))
}

async fn container_export(State(app): State<App>, Name(name): Name) -> Result<Response> {
    let archive = app.engine.container_export(&name).await?;
    Ok(stream::bytes("application/octet-stream", archive))
}

async fn container_archive_info(
    State(app): State<App>,
    Name(name): Name,
    UriQuery(query): UriQuery<PathQuery>,
) -> Result<Response> {
    let stat = app.engine.container_archive_info(&name, &query.path).await?;
    let mut response = reply::empty(StatusCode::OK);
    response.headers_mut().insert(STAT, stat_header(&stat)?);
    Ok(response)
}

async fn container_archive(
    State(app): State<App>,
    Name(name): Name,
    headers: HeaderMap,
    UriQuery(query): UriQuery<PathQuery>,
) -> Result<Response> {
    let (stat, archive) = app.engine.container_archive(&name, &query.path).await?;
    let stat = stat_header(&stat)?;
    let coding = Coding::negotiate(&headers);
    let mut response = stream::bytes(TAR, coding.encode(archive));
    response.headers_mut().insert(STAT, stat);
    if let Some(name) = coding.name() {
        response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static(name));
    }
    Ok(response)
}

async fn put_container_archive(
    State(app): State<App>,
    Name(name): Name,
    UriQuery(query): UriQuery<PutQuery>,
    Upload(archive): Upload,
) -> Result<Response> {
    let put = ArchivePut {
        path: query.path,
        no_overwrite_dir_non_dir: query.no_overwrite_dir_non_dir,
        copy_uid_gid: query.copy_uid_gid,
    };
    app.engine.put_container_archive(&name, put, archive).await?;
    Ok(StatusCode::OK.into_response())
}

fn stat_header(stat: &PathStat) -> Result<HeaderValue> {
    let json = serde_json::to_vec(stat).map_err(|error| Error::system(error.to_string()))?;
    let encoded = HeaderValue::from_str(&BASE64_STANDARD.encode(json));
    Ok(encoded.map_err(|error| Error::system(error.to_string()))?)
}

/// What a client may be sent; the CLI on a local socket asks for nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Coding {
    Identity,
    Gzip,
    Deflate,
}

impl Coding {
    /// The one with the highest weight; gzip before deflate before nothing.
    fn negotiate(headers: &HeaderMap) -> Self {
        let accepted: Vec<(String, f32)> = headers
            .get_all(header::ACCEPT_ENCODING)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|text| text.split(','))
            .map(|item| {
                let mut parts = item.split(';').map(str::trim);
                let name = parts.next().unwrap_or_default().to_ascii_lowercase();
                let weight = parts.find_map(|part| part.strip_prefix("q=")?.parse().ok()).unwrap_or(1.0);
                (name, weight)
            })
            .collect();
        let weight = |name: &str| {
            let named = accepted.iter().find(|(known, _)| known == name);
            named.or_else(|| accepted.iter().find(|(known, _)| known == "*")).map_or(0.0, |(_, weight)| *weight)
        };
        match (weight("gzip"), weight("deflate")) {
            (gzip, deflate) if gzip > 0.0 && gzip >= deflate => Self::Gzip,
            (_, deflate) if deflate > 0.0 => Self::Deflate,
            _ => Self::Identity,
        }
    }

    fn name(self) -> Option<&'static str> {
        match self {
            Self::Identity => None,
            Self::Gzip => Some("gzip"),
            Self::Deflate => Some("deflate"),
        }
    }

    /// Piece by piece; nothing is held beyond the compressor's window.
    fn encode(self, archive: ByteStream) -> ByteStream {
        let level = flate2::Compression::fast();
        match self {
            Self::Identity => archive,
            Self::Gzip => encoded(archive, flate2::write::GzEncoder::new(Vec::new(), level)),
            Self::Deflate => encoded(archive, flate2::write::DeflateEncoder::new(Vec::new(), level)),
        }
    }
}

trait Encoder: std::io::Write + Send + 'static {
    fn take(&mut self) -> Vec<u8>;
    fn finish(self) -> std::io::Result<Vec<u8>>;
}

impl Encoder for flate2::write::GzEncoder<Vec<u8>> {
    fn take(&mut self) -> Vec<u8> {
        std::mem::take(self.get_mut())
    }
    fn finish(self) -> std::io::Result<Vec<u8>> {
        self.finish()
    }
}

impl Encoder for flate2::write::DeflateEncoder<Vec<u8>> {
    fn take(&mut self) -> Vec<u8> {
        std::mem::take(self.get_mut())
    }
    fn finish(self) -> std::io::Result<Vec<u8>> {
        self.finish()
    }
}

fn encoded(archive: ByteStream, encoder: impl Encoder + Unpin) -> ByteStream {
    let pieces = futures::stream::unfold((archive, Some(encoder)), |(mut archive, encoder)| async move {
        let mut encoder = encoder?;
        let done = match archive.next().await {
            Some(Ok(piece)) => match encoder.write_all(&piece) {
                Ok(()) => return Some((Ok(Bytes::from(encoder.take())), (archive, Some(encoder)))),
                Err(error) => Err(error.into()),
            },
            Some(Err(error)) => Err(error),
            None => encoder.finish().map(Bytes::from).map_err(Error::from),
        };
        Some((done, (archive, None)))
    });
    // The compressor keeps the small pieces to itself for a while.
    pieces.filter(|piece| std::future::ready(!piece.as_ref().is_ok_and(Bytes::is_empty))).boxed()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::Read as _;

    use futures::TryStreamExt as _;

    use super::*;

    fn asked(text: &'static str) -> Coding {
        Coding::negotiate(&HeaderMap::from_iter([(header::ACCEPT_ENCODING, HeaderValue::from_static(text))]))
    }

    #[test]
    fn the_coding_is_the_clients_choice() {
        assert_eq!(Coding::negotiate(&HeaderMap::new()), Coding::Identity);
        let cases = [
            ("identity", Coding::Identity),
            ("gzip", Coding::Gzip),
            ("deflate", Coding::Deflate),
            ("gzip;q=0.1, deflate;q=0.9", Coding::Deflate),
            ("gzip;q=0", Coding::Identity),
            ("br, *", Coding::Gzip),
        ];
        for (text, coding) in cases {
            assert_eq!(asked(text), coding, "{text}");
        }
    }

    #[tokio::test]
    async fn a_compressed_archive_is_the_archive() {
        let pieces = || futures::stream::iter((0..50u8).map(|n| Ok(Bytes::from(vec![n; 7000])))).boxed();
        let plain: Vec<u8> = (0..50u8).flat_map(|n| vec![n; 7000]).collect();
        let gzip: Vec<Bytes> = Coding::Gzip.encode(pieces()).try_collect().await.unwrap();
        let mut unpacked = Vec::new();
        flate2::read::GzDecoder::new(&gzip.concat()[..]).read_to_end(&mut unpacked).unwrap();
        assert_eq!(unpacked, plain);
        let deflate: Vec<Bytes> = Coding::Deflate.encode(pieces()).try_collect().await.unwrap();
        let mut unpacked = Vec::new();
        flate2::read::DeflateDecoder::new(&deflate.concat()[..]).read_to_end(&mut unpacked).unwrap();
        assert_eq!(unpacked, plain);
    }
}
