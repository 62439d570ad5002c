//! One repository: its manifests, tags and blobs, wherever the configuration says that they may be found.

mod refused;
mod upload;

use std::sync::Arc;

use bytes::Bytes;
use gantry_domain::{Digest, Error, ErrorKind, Result, reference::Reference, registry::RegistryAuth};
use http::{HeaderValue, Method, StatusCode, header};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

pub use self::upload::{Sent, Upload};

use crate::{
    Registries, address,
    again::{Again, Tries},
    client::AnswerBody,
    config::RegistryConfig,
    endpoint::{self, Ask, Endpoint, Target},
    hosts,
};

/// What we can read, dearest first.
const ACCEPT: [&str; 4] = [
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
];
/// Pages of a list of tags.
const MAX_PAGES: usize = 1000;

/// A manifest or an index, its digest checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    pub media_type: String,
    pub digest: Digest,
    pub bytes: Bytes,
}

/// A repository with credentials, for one operation.
pub struct Repository {
    /// `docker.io`.
    domain: String,
    /// `library/busybox`.
    path: String,
    /// `busybox`, for errors.
    shown: String,
    endpoints: Vec<Endpoint>,
    config: Arc<RegistryConfig>,
}

/// A blob on its way here.
pub struct Blob {
    body: AnswerBody,
    /// Bytes that were sent although they were not asked for.
    skip: u64,
}

impl Blob {
    /// The next piece; `None` is the end of what the registry sends.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        while let Some(mut piece) = self.body.next().await? {
            let skipped = self.skip.min(piece.len() as u64);
            self.skip -= skipped;
            let rest = piece.split_off(skipped as usize);
            if !rest.is_empty() {
                return Ok(Some(rest));
            }
        }
        Ok(None)
    }
}

impl Registries {
    /// Speaks to nobody yet. Credentials are for the registry that they name, or else for the reference's.
    pub async fn repository(&self, reference: &Reference, auth: &RegistryAuth) -> Result<Repository> {
        let config = self.config();
        let domain = reference.domain.clone();
        let places = {
            let (domain, config) = (domain.clone(), config.clone());
            tokio::task::spawn_blocking(move || hosts::places(&domain, &config))
                .await
                .map_err(|error| Error::system(format!("reading hosts.toml: {error}")))??
        };
        let named = if auth.server_address.is_empty() { &domain } else { &auth.server_address };
        // Credentials for an address that is none are for nobody.
        let owner = address::authority(named).ok().filter(|_| !auth.is_empty());
        let last = places.iter().rposition(|place| place.pull);
        let endpoints = places
            .into_iter()
            .enumerate()
            .map(|(at, place)| {
                let known = owner.as_deref() == Some(place.authority.as_str());
                let spare = place.pull && Some(at) < last;
                let endpoint = Endpoint::new(place, known.then(|| auth.clone()), config.clone());
                if spare { endpoint.spare() } else { endpoint }
            })
            .collect();
        Ok(Repository { domain, path: reference.path.clone(), shown: reference.familiar_name(), endpoints, config })
    }
}

impl Repository {
    pub fn config(&self) -> &RegistryConfig {
        &self.config
    }

    /// Registry and path.
    pub fn place(&self) -> (&str, &str) {
        (&self.domain, &self.path)
    }

    /// What a tag or digest points to: type, digest and size, where the registry tells without the document.
    pub async fn head(&self, tag: &str) -> Option<(String, Digest, u64)> {
        let scope = self.pull_scope();
        for endpoint in self.readable() {
            // Without an answer the document itself is asked for.
            let ask = self.manifest_ask(Method::HEAD, tag, &scope).ok()?.again(Again::Never);
            let Ok(answer) = endpoint.send(ask).await else { continue };
            if answer.status != StatusCode::OK {
                continue;
            }
            let digest = Digest::parse(answer.header("docker-content-digest")?).ok()?;
            // A place that calls another digest by this one has not what was asked for.
            if tag.contains(':') && digest.as_str() != tag {
                continue;
            }
            let media_type = media_type(answer.header(header::CONTENT_TYPE)?);
            let size = answer.header(header::CONTENT_LENGTH)?.parse().ok()?;
            return Some((media_type, digest, size));
        }
        None
    }

    /// The document that a tag or digest points to. The first place that has it gives it; the last one's refusal is
    /// what the client reads.
    pub async fn manifest(&self, tag: &str) -> Result<Document> {
        let scope = self.pull_scope();
        let mut failed = None;
        for endpoint in self.readable() {
            match self.manifest_of(endpoint, tag, &scope).await {
                Ok(document) => return Ok(document),
                Err(error) => {
                    tracing::debug!(place = endpoint.place().authority, %error, "no manifest there");
                    failed = Some(error);
                }
            }
        }
        Err(failed.unwrap_or_else(|| self.nowhere("pull")))
    }

    async fn manifest_of(&self, endpoint: &Endpoint, tag: &str, scope: &str) -> Result<Document> {
        let again = endpoint.patient(Again::Broken);
        let mut tries = Tries::new(again, &self.config);
        let (told, content_type, bytes) = loop {
            let answer = endpoint.send(self.manifest_ask(Method::GET, tag, scope)?.again(again)).await?;
            let answer =
                endpoint::expect(answer, &[StatusCode::OK]).await.map_err(|refusal| self.no_manifest(&refusal, tag))?;
            let told = answer.header("docker-content-digest").map(str::to_owned);
            let content_type = answer.header(header::CONTENT_TYPE).map(media_type);
            match endpoint::whole(answer).await {
                Ok(bytes) => break (told, content_type, bytes),
                Err(error) if error.kind() == ErrorKind::System && tries.outlasted_failure().await => {
                    tracing::info!(tag, %error, "a document was cut");
                }
                Err(error) => return Err(error),
            }
        };
        let digest = Digest::from_sha256(&Sha256::digest(&bytes));
        let wanted = if tag.contains(':') { Some(tag) } else { told.as_deref() };
        if let Some(wanted) = wanted.filter(|wanted| wanted.starts_with("sha256:") && *wanted != digest.as_str()) {
            return Err(Error::invalid(format!("manifest verification failed for digest {wanted}")));
        }
        let media_type = content_type.filter(|kind| ACCEPT.contains(&kind.as_str())).or_else(|| named_type(&bytes));
        let media_type = media_type.unwrap_or_else(|| ACCEPT[3].to_owned());
        Ok(Document { media_type, digest, bytes })
    }

    fn manifest_ask<'a>(&self, method: Method, tag: &str, scope: &'a str) -> Result<Ask<'a>> {
        let path = format!("/{}/manifests/{tag}", self.path);
        ACCEPT.iter().try_fold(Ask::new(method, path, scope), |ask, accepted| ask.with(header::ACCEPT, accepted))
    }

    /// Every tag, in the registry's order.
    pub async fn tags(&self) -> Result<Vec<String>> {
        let mut failed = None;
        for endpoint in self.readable() {
            match self.tags_of(endpoint).await {
                Ok(tags) => return Ok(tags),
                Err(error) => failed = Some(error),
            }
        }
        Err(failed.unwrap_or_else(|| self.nowhere("pull")))
    }

    async fn tags_of(&self, endpoint: &Endpoint) -> Result<Vec<String>> {
        #[derive(Deserialize)]
        struct Page {
            tags: Option<Vec<String>>,
        }
        let scope = self.pull_scope();
        let mut target = Target::Path(format!("/{}/tags/list", self.path));
        let mut tags = Vec::new();
        for _ in 0..MAX_PAGES {
            let mut ask = Ask::new(Method::GET, String::new(), &scope).again(endpoint.patient(Again::Broken));
            ask.target = target;
            let (answer, url) = endpoint.send_located(ask).await?;
            let answer =
                endpoint::expect(answer, &[StatusCode::OK]).await.map_err(|refusal| self.no_manifest(&refusal, ""))?;
            let next = answer.header(header::LINK).and_then(next_page).map(|next| endpoint::resolve(&url, next));
            let page: Page = serde_json::from_slice(&endpoint::whole(answer).await?)
                .map_err(|error| Error::system(format!("the registry's list of tags: {error}")))?;
            tags.extend(page.tags.into_iter().flatten());
            let Some(next) = next else { return Ok(tags) };
            target = Target::Url(next?);
        }
        Err(Error::system("the registry's list of tags does not end"))
    }

    /// A blob from `offset` on. The bytes are not checked here.
    pub async fn blob(&self, digest: &Digest, offset: u64) -> Result<Blob> {
        let scope = self.pull_scope();
        let mut failed = None;
        for endpoint in self.readable() {
            match self.blob_of(endpoint, digest, offset, &scope).await {
                Ok(blob) => return Ok(blob),
                Err(error) => {
                    tracing::debug!(place = endpoint.place().authority, %digest, %error, "no blob there");
                    failed = Some(error);
                }
            }
        }
        Err(failed.unwrap_or_else(|| self.nowhere("pull")))
    }

    async fn blob_of(&self, endpoint: &Endpoint, digest: &Digest, offset: u64, scope: &str) -> Result<Blob> {
        let ask = Ask::new(Method::GET, format!("/{}/blobs/{digest}", self.path), scope);
        let mut ask = ask.again(endpoint.patient(Again::Busy));
        if offset > 0 {
            ask = ask.with(header::RANGE, &format!("bytes={offset}-"))?;
        }
        let answer = endpoint.send(ask).await?;
        let answer = endpoint::expect(answer, &[StatusCode::OK, StatusCode::PARTIAL_CONTENT])
            .await
            .map_err(|refusal| refusal.error())?;
        let begin = match answer.status {
            StatusCode::PARTIAL_CONTENT => range_begin(answer.header(header::CONTENT_RANGE).unwrap_or_default()),
            _ => Some(0),
        };
        // A registry that does not know ranges sends all of it again.
        match begin.filter(|begin| *begin <= offset) {
            Some(begin) => Ok(Blob { skip: offset - begin, body: answer.body }),
            None => Err(Error::system("the registry sent another range than the one asked for")),
        }
    }

    /// A blob of so many bytes at most, whole. They are not checked here.
    pub async fn small_blob(&self, digest: &Digest, most: u64) -> Result<Bytes> {
        let mut tries = Tries::new(Again::Broken, &self.config);
        loop {
            match self.blob_within(digest, most).await {
                Err(error) if error.kind() == ErrorKind::System && tries.outlasted_failure().await => {
                    tracing::info!(%digest, %error, "a small blob did not come");
                }
                done => return done,
            }
        }
    }

    /// From the first place that sends all of it.
    async fn blob_within(&self, digest: &Digest, most: u64) -> Result<Bytes> {
        let scope = self.pull_scope();
        let mut failed = None;
        for endpoint in self.readable() {
            let got = match self.blob_of(endpoint, digest, 0, &scope).await {
                Ok(blob) => whole(blob, digest, most).await,
                Err(error) => Err(error),
            };
            match got {
                Err(error) if error.kind() != ErrorKind::InvalidParameter => {
                    tracing::debug!(place = endpoint.place().authority, %digest, %error, "no blob there");
                    failed = Some(error);
                }
                done => return done,
            }
        }
        Err(failed.unwrap_or_else(|| self.nowhere("pull")))
    }

    fn readable(&self) -> impl Iterator<Item = &Endpoint> {
        self.endpoints.iter().filter(|endpoint| endpoint.place().pull && endpoint.is_there())
    }

    fn pull_scope(&self) -> String {
        format!("repository:{}:pull", self.path)
    }

    fn nowhere(&self, what: &str) -> Error {
        Error::invalid(format!("hosts.toml names no host to {what} {} with", self.shown))
    }
}

/// Without parameters.
fn media_type(header: &str) -> String {
    header.split(';').next().unwrap_or_default().trim().to_owned()
}

fn named_type(bytes: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Named {
        media_type: String,
    }
    serde_json::from_slice::<Named>(bytes).ok().map(|named| named.media_type)
}

/// `</v2/x/tags/list?last=b&n=2>; rel="next"`
fn next_page(link: &str) -> Option<&str> {
    let (url, rest) = link.trim().strip_prefix('<')?.split_once('>')?;
    rest.contains("next").then_some(url)
}

/// `bytes 5-9/10`
fn range_begin(header: &str) -> Option<u64> {
    header.trim().strip_prefix("bytes")?.trim().split_once('-')?.0.parse().ok()
}

fn octets() -> (header::HeaderName, HeaderValue) {
    (header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"))
}

async fn whole(mut blob: Blob, digest: &Digest, most: u64) -> Result<Bytes> {
    let mut bytes = Vec::new();
    while let Some(piece) = blob.next().await? {
        if (bytes.len() + piece.len()) as u64 > most {
            return Err(Error::invalid(format!("{digest} is larger than {most} bytes")));
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes.into())
}

#[cfg(test)]
mod tests;
