//! Sending: blobs in an upload that can be gone on with, and manifests.

use bytes::Bytes;
use gantry_domain::{Digest, Error, ErrorKind, Result, ports::ByteStream};
use http::{HeaderMap, Method, StatusCode, Uri, header};
use parking_lot::Mutex;

use super::{Repository, octets};
use crate::{
    again::Again,
    client::{Answer, LONG, Payload},
    endpoint::{self, Ask, Endpoint, Target},
    refusal::Refusal,
};

/// What became of the wish to send a blob.
pub enum Sent {
    /// The registry has it from another of its repositories.
    Mounted {
        from: String,
    },
    Begun(Upload),
}

/// An upload that the registry has opened.
#[derive(Debug, Clone)]
pub struct Upload {
    url: Uri,
}

impl Repository {
    fn writable(&self) -> Result<&Endpoint> {
        self.endpoints.iter().find(|endpoint| endpoint.place().push).ok_or_else(|| self.nowhere("push"))
    }

    fn push_scope(&self) -> String {
        format!("repository:{}:pull,push", self.path)
    }

    fn push_error(&self, refusal: &Refusal) -> Error {
        let text = match refusal.code.as_str() {
            "DENIED" => refusal.text.clone(),
            _ if refusal.is_denied() => refusal.text.clone(),
            _ => return refusal.error(),
        };
        Error::forbidden(text)
    }

    async fn sent(&self, ask: Ask<'_>, statuses: &[StatusCode]) -> Result<(Answer, Uri)> {
        let (answer, url) = self.writable()?.send_located(ask).await?;
        let answer = endpoint::expect(answer, statuses).await.map_err(|refusal| self.push_error(&refusal))?;
        Ok((answer, url))
    }

    /// Whether the registry has a blob in this repository.
    pub async fn has_blob(&self, digest: &Digest) -> Result<bool> {
        let scope = self.push_scope();
        let ask = Ask::new(Method::HEAD, format!("/{}/blobs/{digest}", self.path), &scope).again(Again::Busy);
        Ok(self.sent(ask, &[StatusCode::OK, StatusCode::NOT_FOUND]).await?.0.status == StatusCode::OK)
    }

    /// Whether the registry has this very manifest.
    pub async fn has_manifest(&self, digest: &Digest) -> Result<bool> {
        let scope = self.push_scope();
        let ask = self.manifest_ask(Method::HEAD, digest.as_str(), &scope)?;
        Ok(self.sent(ask, &[StatusCode::OK, StatusCode::NOT_FOUND]).await?.0.status == StatusCode::OK)
    }

    /// Asks for the blob out of another repository of the registry, or opens an upload.
    pub async fn begin(&self, digest: &Digest, from: Option<&str>) -> Result<Sent> {
        if let Some(from) = from {
            match self.open(Some((digest, from))).await {
                Ok(sent) => return Ok(sent),
                // Whoever may not read there sends the blob.
                Err(error) if error.kind() != ErrorKind::System => {
                    tracing::debug!(%digest, from, %error, "not taken from there");
                }
                Err(error) => return Err(error),
            }
        }
        self.open(None).await
    }

    async fn open(&self, mount: Option<(&Digest, &str)>) -> Result<Sent> {
        let mut scope = self.push_scope();
        let mut path = format!("/{}/blobs/uploads/", self.path);
        if let Some((digest, from)) = mount {
            scope = format!("{scope} repository:{from}:pull");
            path = format!("{path}?mount={digest}&from={from}");
        }
        let (answer, url) = self
            .sent(Ask::new(Method::POST, path, &scope).again(Again::Busy), &[StatusCode::CREATED, StatusCode::ACCEPTED])
            .await?;
        match (answer.status, mount) {
            (StatusCode::CREATED, Some((_, from))) => Ok(Sent::Mounted { from: from.to_owned() }),
            _ => Ok(Sent::Begun(located(answer, &url).await?)),
        }
    }

    /// Sends `length` bytes from `offset` on.
    pub async fn append(&self, upload: &mut Upload, offset: u64, length: u64, body: ByteStream) -> Result<()> {
        let scope = self.push_scope();
        let mut headers = HeaderMap::from_iter([octets()]);
        if offset > 0 {
            let range = format!("{offset}-{}", offset + length.saturating_sub(1));
            headers.insert(header::CONTENT_RANGE, header::HeaderValue::try_from(range).map_err(wrong_header)?);
        }
        let ask = Ask {
            method: Method::PATCH,
            target: Target::Url(upload.url.clone()),
            scope: &scope,
            headers,
            payload: Payload::Stream(Mutex::new(body), length),
            patience: LONG,
            again: Again::Busy,
        };
        let (answer, url) = self.sent(ask, &[StatusCode::ACCEPTED, StatusCode::CREATED]).await.map_err(|error| {
            // Its token may have run out on the way, or the registry is busy; the next try comes later with a new one.
            match error.kind() {
                ErrorKind::Forbidden | ErrorKind::Unavailable => error.with_kind(ErrorKind::System),
                _ => error,
            }
        })?;
        *upload = located(answer, &url).await?;
        Ok(())
    }

    /// Bytes that the registry has of an upload; it may be gone on with from there.
    pub async fn received(&self, upload: &mut Upload) -> Result<u64> {
        let scope = self.push_scope();
        let mut ask = Ask::new(Method::GET, String::new(), &scope).again(Again::Busy);
        ask.target = Target::Url(upload.url.clone());
        let (answer, url) = self.sent(ask, &[StatusCode::NO_CONTENT]).await?;
        let range = answer.header(header::RANGE).unwrap_or_default();
        let last = range.trim_start_matches("bytes=").split_once('-').and_then(|(_, last)| last.parse::<u64>().ok());
        // `0-0` stands for nothing as well as for one byte; none asks for the whole again and is right either way.
        let received = last.filter(|last| *last > 0).map_or(0, |last| last + 1);
        *upload = located(answer, &url).await?;
        Ok(received)
    }

    /// The registry checks the digest and keeps the blob.
    pub async fn finish(&self, upload: Upload, digest: &Digest) -> Result<()> {
        let scope = self.push_scope();
        let url = endpoint::with_query(&upload.url, &[("digest", digest.as_str())])?;
        let ask = Ask {
            method: Method::PUT,
            target: Target::Url(url),
            scope: &scope,
            headers: HeaderMap::from_iter([octets()]),
            payload: Payload::None,
            patience: LONG,
            again: Again::Busy,
        };
        let (answer, _) = self.sent(ask, &[StatusCode::CREATED, StatusCode::NO_CONTENT]).await?;
        answer.body.whole(1 << 16).await.map(drop)
    }

    /// Points a tag, or the document's own digest, to it.
    pub async fn put_manifest(&self, tag: &str, media_type: &str, bytes: Bytes) -> Result<()> {
        let scope = self.push_scope();
        let ask = Ask::new(Method::PUT, format!("/{}/manifests/{tag}", self.path), &scope);
        let mut ask = ask.with(header::CONTENT_TYPE, media_type)?;
        (ask.payload, ask.patience) = (Payload::Bytes(bytes), LONG);
        let (answer, _) = self.sent(ask, &[StatusCode::CREATED, StatusCode::OK, StatusCode::ACCEPTED]).await?;
        answer.body.whole(1 << 16).await.map(drop)
    }
}

fn wrong_header(error: header::InvalidHeaderValue) -> Error {
    Error::system(error.to_string())
}

async fn located(answer: Answer, url: &Uri) -> Result<Upload> {
    let location = answer.header(header::LOCATION).unwrap_or_default().to_owned();
    answer.body.whole(1 << 16).await?;
    Ok(Upload { url: endpoint::resolve(url, &location)? })
}
