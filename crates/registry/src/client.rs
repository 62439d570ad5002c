//! One HTTP exchange on a connection of its own. Redirects are never followed: they would carry credentials elsewhere.

use std::{io, sync::Arc, time::Duration};

use bytes::Bytes;
use gantry_domain::{Error, Result};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

use crate::address::Host;

/// dockerd's own time limit for a registry's first answer.
const TIME: Duration = Duration::from_secs(15);
/// Tokens and error texts are small; whoever sends more means no good.
const MAX_BODY: usize = 1 << 20;

/// What is asked.
pub(crate) struct Question<'a> {
    pub host: &'a Host,
    /// `None` speaks plain HTTP.
    pub tls: Option<Arc<ClientConfig>>,
    pub url: Uri,
    pub authorization: Option<HeaderValue>,
    /// The form of a POST; without one it is a GET.
    pub form: Option<String>,
}

pub(crate) struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    /// `401 Unauthorized`
    pub fn status_text(&self) -> String {
        format!("{} {}", self.status.as_u16(), self.status.canonical_reason().unwrap_or_default())
    }
}

/// Asks within the time limit; errors read as Go's, which people search for.
pub(crate) async fn ask(question: Question<'_>) -> Result<Answer> {
    let prefix = format!("{} \"{}\"", if question.form.is_some() { "Post" } else { "Get" }, question.url);
    let done = timeout(TIME, exchange(question)).await.unwrap_or_else(|_| {
        Err(Error::system("net/http: request canceled (Client.Timeout exceeded while awaiting headers)"))
    });
    done.map_err(|error| error.context(prefix))
}

async fn exchange(question: Question<'_>) -> Result<Answer> {
    let request = request(&question)?;
    let Question { host, tls, .. } = question;
    let Some(tls) = tls else { return speak(connect(host, 80).await?, request).await };
    let stream = connect(host, 443).await?;
    let name = ServerName::try_from(host.name.clone())
        .map_err(|error| Error::invalid(format!("invalid registry host {}: {error}", host.name)))?;
    let stream = TlsConnector::from(tls).connect(name, stream).await.map_err(tls_error)?;
    speak(stream, request).await
}

fn request(question: &Question<'_>) -> Result<Request<Full<Bytes>>> {
    let path = question.url.path_and_query().map_or("/", |path| path.as_str());
    let mut request = Request::builder()
        .uri(path)
        .header(header::HOST, &question.host.authority)
        .header(header::USER_AGENT, concat!("gantry/", env!("CARGO_PKG_VERSION")))
        .header(header::CONNECTION, "close");
    if let Some(authorization) = &question.authorization {
        request = request.header(header::AUTHORIZATION, authorization);
    }
    let request = match &question.form {
        None => request.body(Full::default()),
        Some(form) => request
            .method(Method::POST)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Full::from(form.clone())),
    };
    request.map_err(|error| Error::invalid(error.to_string()))
}

async fn connect(host: &Host, default_port: u16) -> Result<TcpStream> {
    let mut failed = Error::system(format!("dial tcp: lookup {}: no such host", host.name));
    for address in host.sockets(default_port) {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => {
                failed = Error::system(format!("dial tcp {address}: connect: {}", plain(&error))).with_source(error)
            }
        }
    }
    Err(failed)
}

/// `connection refused`, as Go prints it.
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}

fn tls_error(error: io::Error) -> Error {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let text = match inner {
        Some(rustls::Error::InvalidMessage(_)) => "http: server gave HTTP response to HTTPS client".to_owned(),
        Some(rustls::Error::InvalidCertificate(reason)) => format!("tls: failed to verify certificate: x509: {reason}"),
        _ => format!("tls: {}", plain(&error)),
    };
    Error::system(text).with_source(error)
}

/// Sends the request and takes the answer; the connection is driven here and ends here.
async fn speak<S>(stream: S, request: Request<Full<Bytes>>) -> Result<Answer>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(http_error)?;
    let exchange = async {
        let (parts, body) = sender.send_request(request).await.map_err(http_error)?.into_parts();
        let body = Limited::new(body, MAX_BODY).collect().await.map_err(|error| Error::system(error.to_string()))?;
        Ok(Answer { status: parts.status, headers: parts.headers, body: body.to_bytes() })
    };
    tokio::pin!(exchange, connection);
    tokio::select! {
        answer = &mut exchange => answer,
        // An answer that is complete may still wait to be taken when the connection ends.
        ended = &mut connection => match exchange.await {
            Ok(answer) => Ok(answer),
            Err(error) => Err(ended.err().map_or(error, http_error)),
        },
    }
}

fn http_error(error: hyper::Error) -> Error {
    let text = if error.is_parse() {
        "malformed HTTP response".to_owned()
    } else if error.is_incomplete_message() || error.is_closed() || error.is_canceled() {
        "EOF".to_owned()
    } else {
        error.to_string()
    };
    Error::system(text).with_source(error)
}
