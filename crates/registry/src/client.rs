//! HTTP/1.1 exchanges with one host, on connections that are kept. Redirects are not followed here: they would carry
//! credentials elsewhere.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::TryStreamExt as _;
use gantry_domain::{Error, Result, ports::ByteStream};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    body::{Frame, Incoming},
    client::conn::http1,
};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rustls::ClientConfig;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use crate::{address::Host, connect, proxy::Proxies};

/// dockerd's own time limit for a registry's answer to a small question.
pub(crate) const SHORT: Duration = Duration::from_secs(15);
/// A registry that takes a whole layer may check it before it answers.
pub(crate) const LONG: Duration = Duration::from_secs(600);
/// A body from which nothing has come for so long will not go on.
const STALL: Duration = Duration::from_secs(20);
/// Tokens, error texts and manifests are small; whoever sends more means no good.
pub(crate) const MAX_BODY: u64 = 8 << 20;
/// Connections that wait for the next request.
const MAX_IDLE: usize = 8;

type Body = UnsyncBoxBody<Bytes, Error>;

/// A host, how it is spoken to, and the connections that are open.
pub(crate) struct Client {
    pub host: Host,
    /// `None` speaks plain HTTP.
    pub tls: Option<Arc<ClientConfig>>,
    proxies: Proxies,
    idle: Arc<Mutex<Vec<Line>>>,
}

/// A connection that is free; its driver ends with it.
struct Line {
    sender: http1::SendRequest<Body>,
    forwarded: Option<Option<HeaderValue>>,
    _driver: AbortOnDropHandle<()>,
}

/// What is sent.
pub(crate) enum Payload {
    None,
    Bytes(Bytes),
    /// Of a known length in bytes. Locked by nobody: that makes it fit to be shared.
    Stream(Mutex<ByteStream>, u64),
}

/// What is asked. The URL's host is the client's.
pub(crate) struct Question {
    pub method: Method,
    pub url: Uri,
    pub headers: HeaderMap,
    pub payload: Payload,
    /// How long the head of the answer may take.
    pub patience: Duration,
}

impl Payload {
    /// The same once more; a stream can be sent once only.
    pub fn again(&self) -> Option<Self> {
        match self {
            Self::None => Some(Self::None),
            Self::Bytes(bytes) => Some(Self::Bytes(bytes.clone())),
            Self::Stream(..) => None,
        }
    }
}

impl Question {
    pub fn new(method: Method, url: Uri) -> Self {
        Self { method, url, headers: HeaderMap::new(), payload: Payload::None, patience: SHORT }
    }

    pub fn with(mut self, name: header::HeaderName, value: Option<HeaderValue>) -> Self {
        if let Some(value) = value {
            self.headers.insert(name, value);
        }
        self
    }

    /// `Get "https://host/v2/"`, in front of errors as Go puts it.
    fn shown(&self) -> String {
        format!("{} \"{}\"", go_method(&self.method), self.url)
    }
}

/// `Get`
pub(crate) fn go_method(method: &Method) -> String {
    let name = method.as_str();
    format!("{}{}", &name[..1], name[1..].to_lowercase())
}

/// The head of an answer, and its body as it comes.
pub(crate) struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: AnswerBody,
}

impl Answer {
    /// `401 Unauthorized`
    pub fn status_text(&self) -> String {
        status_text(self.status)
    }
    pub fn header(&self, name: impl http::header::AsHeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

pub(crate) fn status_text(status: StatusCode) -> String {
    format!("{} {}", status.as_u16(), status.canonical_reason().unwrap_or_default())
}

/// A body; read to its end, it gives its connection back.
pub(crate) struct AnswerBody {
    incoming: Incoming,
    line: Option<Line>,
    idle: Arc<Mutex<Vec<Line>>>,
}

impl AnswerBody {
    /// The next piece; `None` is the proper end.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            match timeout(STALL, self.incoming.frame()).await {
                Err(_) => return Err(Error::system(format!("nothing came for {} seconds", STALL.as_secs()))),
                Ok(None) => {
                    self.give_back();
                    return Ok(None);
                }
                Ok(Some(Err(error))) => return Err(http_error(error)),
                Ok(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }

    /// All of it, at most `limit` bytes.
    pub async fn whole(mut self, limit: u64) -> Result<Bytes> {
        let mut all = Vec::new();
        while let Some(piece) = self.next().await? {
            if all.len() as u64 + piece.len() as u64 > limit {
                return Err(Error::invalid(format!("the registry's answer is larger than {limit} bytes")));
            }
            all.extend_from_slice(&piece);
        }
        Ok(all.into())
    }

    fn give_back(&mut self) {
        let Some(line) = self.line.take().filter(|line| !line.sender.is_closed()) else { return };
        let mut idle = self.idle.lock();
        if idle.len() < MAX_IDLE {
            idle.push(line);
        }
    }
}

impl Client {
    pub fn new(host: Host, tls: Option<Arc<ClientConfig>>, proxies: Proxies) -> Self {
        Self { host, tls, proxies, idle: Arc::default() }
    }

    /// Asks once; a connection that was kept and turns out to be dead is replaced. Errors read as Go's, which people
    /// search for.
    pub async fn ask(&self, mut question: Question) -> Result<Answer> {
        let shown = question.shown();
        let payload = std::mem::replace(&mut question.payload, Payload::None);
        self.exchange(&question, payload).await.map_err(|error| error.context(shown))
    }

    async fn exchange(&self, question: &Question, payload: Payload) -> Result<Answer> {
        // A stream can be sent once only, so it gets a connection that is known to be alive.
        let again = match &payload {
            Payload::None => Some(Bytes::new()),
            Payload::Bytes(bytes) => Some(bytes.clone()),
            Payload::Stream(..) => None,
        };
        if let Some(again) = again
            && let Some(line) = self.kept().await
        {
            match self.speak(line, question, Payload::Bytes(again)).await {
                Ok(answer) => return Ok(answer),
                Err(error) => tracing::debug!(%error, "a kept connection to a registry was dead"),
            }
        }
        let line = self.open().await?;
        self.speak(line, question, payload).await
    }

    async fn kept(&self) -> Option<Line> {
        loop {
            let mut line = self.idle.lock().pop()?;
            if line.sender.ready().await.is_ok() {
                return Some(line);
            }
        }
    }

    async fn open(&self) -> Result<Line> {
        let connect::Line { stream, forwarded } = connect::open(&self.host, self.tls.as_ref(), &self.proxies).await?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(http_error)?;
        let driver = tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to a registry broke");
            }
        });
        Ok(Line { sender, forwarded, _driver: AbortOnDropHandle::new(driver) })
    }

    async fn speak(&self, mut line: Line, question: &Question, payload: Payload) -> Result<Answer> {
        let request = self.request(question, payload, line.forwarded.as_ref())?;
        let answer = match timeout(question.patience, line.sender.send_request(request)).await {
            Ok(answer) => answer.map_err(http_error)?,
            Err(_) => {
                let text = "net/http: request canceled (Client.Timeout exceeded while awaiting headers)";
                return Err(Error::system(text));
            }
        };
        let (head, incoming) = answer.into_parts();
        let body = AnswerBody { incoming, line: Some(line), idle: self.idle.clone() };
        Ok(Answer { status: head.status, headers: head.headers, body })
    }

    fn request(
        &self,
        question: &Question,
        payload: Payload,
        forwarded: Option<&Option<HeaderValue>>,
    ) -> Result<Request<Body>> {
        let mut url = match forwarded {
            Some(_) => question.url.to_string(),
            None => question.url.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
        };
        url.truncate(url.find('#').unwrap_or(url.len()));
        let wrong = |error: http::Error| Error::invalid(error.to_string());
        let mut request = Request::builder().method(&question.method).uri(url).body(body(&payload)).map_err(wrong)?;
        let headers = request.headers_mut();
        headers.extend(question.headers.iter().map(|(name, value)| (name.clone(), value.clone())));
        let host = HeaderValue::try_from(&self.host.authority)
            .map_err(|_| Error::invalid(format!("invalid registry host {}", self.host.authority)))?;
        headers.insert(header::HOST, host);
        headers.insert(header::USER_AGENT, HeaderValue::from_static(concat!("gantry/", env!("CARGO_PKG_VERSION"))));
        if let Some(Some(authorization)) = forwarded {
            headers.insert(header::PROXY_AUTHORIZATION, authorization.clone());
        }
        let length = match &payload {
            Payload::None => None,
            Payload::Bytes(bytes) if bytes.is_empty() => None,
            Payload::Bytes(bytes) => Some(bytes.len() as u64),
            Payload::Stream(_, length) => Some(*length),
        };
        if let Some(length) = length {
            headers.insert(header::CONTENT_LENGTH, length.into());
        }
        if let Payload::Stream(stream, _) = payload {
            *request.body_mut() = StreamBody::new(stream.into_inner().map_ok(Frame::data)).boxed_unsync();
        }
        Ok(request)
    }
}

fn body(payload: &Payload) -> Body {
    let bytes = if let Payload::Bytes(bytes) = payload { bytes.clone() } else { Bytes::new() };
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

fn http_error(error: hyper::Error) -> Error {
    let text = if error.is_parse() {
        "malformed HTTP response".to_owned()
    } else if error.is_incomplete_message() || error.is_closed() || error.is_canceled() {
        "EOF".to_owned()
    } else if error.is_body_write_aborted() || error.is_user() {
        "the upload broke off".to_owned()
    } else {
        match std::error::Error::source(&error).and_then(|source| source.downcast_ref::<std::io::Error>()) {
            Some(io) if io.kind() == std::io::ErrorKind::UnexpectedEof => "unexpected EOF".to_owned(),
            Some(io) => connect::io_words(io, ""),
            None => error.to_string(),
        }
    };
    Error::system(text).with_source(error)
}
