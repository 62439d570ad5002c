//! One connection to a host: straight or through a proxy, plain or with TLS.

use std::{io, sync::Arc, time::Duration};

use gantry_domain::{Error, Result, error::go_words};
use http::HeaderValue;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

use crate::{
    address::Host,
    config::RegistryConfig,
    proxy::{Proxies, Proxy},
    tls,
};

/// Go's time limit for a connection.
const TIME: Duration = Duration::from_secs(30);
/// A host's next address is tried when one says nothing for so long.
const NEXT: Duration = Duration::from_secs(3);
/// The head of a proxy's answer.
const MAX_HEAD: usize = 16 << 10;

pub(crate) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A connection that speaks HTTP.
pub(crate) struct Line {
    pub stream: Box<dyn Io>,
    /// Plain HTTP through a proxy: requests name the whole URL and carry what the proxy wants to see.
    pub forwarded: Option<Option<HeaderValue>>,
}

/// Opens a connection within the time limit.
pub(crate) async fn open(host: &Host, tls: Option<&Arc<ClientConfig>>, proxies: &Proxies) -> Result<Line> {
    match timeout(TIME, line(host, tls, proxies)).await {
        Ok(line) => line,
        Err(_) => Err(Error::system(format!("dial tcp: lookup {}: i/o timeout", host.name))),
    }
}

async fn line(host: &Host, tls: Option<&Arc<ClientConfig>>, proxies: &Proxies) -> Result<Line> {
    let port = host.port.unwrap_or(if tls.is_some() { 443 } else { 80 });
    let (stream, forwarded) = match proxies.of(tls.is_some(), &host.name, port)? {
        None => (Box::new(connect(host, port).await?) as Box<dyn Io>, None),
        Some(proxy) if tls.is_some() => (tunnel(&proxy, host, port).await?, None),
        Some(proxy) => (dial(&proxy).await?, Some(proxy.authorization)),
    };
    let Some(tls) = tls else { return Ok(Line { stream, forwarded }) };
    Ok(Line { stream: encrypt(stream, &host.name, tls).await?, forwarded })
}

async fn encrypt(stream: Box<dyn Io>, name: &str, tls: &Arc<ClientConfig>) -> Result<Box<dyn Io>> {
    let name = ServerName::try_from(name.to_owned())
        .map_err(|error| Error::invalid(format!("invalid registry host {name}: {error}")))?;
    let stream = TlsConnector::from(tls.clone()).connect(name, stream).await.map_err(tls_error)?;
    Ok(Box::new(stream))
}

async fn connect(host: &Host, port: u16) -> Result<TcpStream> {
    let mut failed = Error::system(format!("dial tcp: lookup {}: no such host", host.name));
    let sockets: Vec<_> = host.sockets(port).collect();
    for (index, address) in sockets.iter().enumerate() {
        // The last may take what is left of the whole's time.
        let limit = if index + 1 < sockets.len() { NEXT } else { TIME };
        let connected = timeout(limit, TcpStream::connect(address)).await;
        match connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(stream) => {
                // Requests are small and waited for.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Err(error) => {
                failed = Error::system(format!("dial tcp {address}: connect: {}", go_words(error.to_string())))
                    .with_source(error);
            }
        }
    }
    Err(failed)
}

/// A connection to the proxy itself.
async fn dial(proxy: &Proxy) -> Result<Box<dyn Io>> {
    let host = Host::find(&proxy.authority, &RegistryConfig::default()).await?;
    let failed = |error: Error| error.context("proxyconnect tcp");
    let stream = connect(&host, host.port.unwrap_or(80)).await.map_err(failed)?;
    if !proxy.tls {
        return Ok(Box::new(stream));
    }
    let tls = tokio::task::spawn_blocking(|| tls::client(std::path::Path::new("/nonexistent"), true))
        .await
        .map_err(|error| Error::system(format!("reading certificates: {error}")))??;
    encrypt(Box::new(stream), &host.name, &tls).await.map_err(failed)
}

/// `CONNECT`: from then on the bytes are the target's.
async fn tunnel(proxy: &Proxy, host: &Host, port: u16) -> Result<Box<dyn Io>> {
    let mut stream = dial(proxy).await?;
    let target =
        if host.name.contains(':') { format!("[{}]:{port}", host.name) } else { format!("{}:{port}", host.name) };
    let mut request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n").into_bytes();
    if let Some(authorization) = &proxy.authorization {
        request.extend_from_slice(b"Proxy-Authorization: ");
        request.extend_from_slice(authorization.as_bytes());
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"\r\n");
    stream.write_all(&request).await?;
    let mut head = Vec::new();
    // Byte by byte: what follows the head belongs to the target.
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() > MAX_HEAD {
            return Err(Error::system("proxyconnect tcp: malformed HTTP response"));
        }
        head.push(stream.read_u8().await.map_err(|_| Error::system("proxyconnect tcp: EOF"))?);
    }
    let line = String::from_utf8_lossy(&head);
    let status = line.lines().next().unwrap_or_default().split_once(' ').map(|(_, status)| status).unwrap_or_default();
    if status.starts_with('2') { Ok(stream) } else { Err(Error::system(status.trim().to_owned())) }
}

fn tls_error(error: io::Error) -> Error {
    Error::system(io_words(&error, "tls: ")).with_source(error)
}

/// What Go's client says of a connection's error; `other` goes before what is no error of TLS.
pub(crate) fn io_words(error: &io::Error, other: &str) -> String {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidMessage(_)) => "http: server gave HTTP response to HTTPS client".to_owned(),
        Some(rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer)) => {
            "tls: failed to verify certificate: x509: certificate signed by unknown authority".to_owned()
        }
        Some(rustls::Error::InvalidCertificate(reason)) => format!("tls: failed to verify certificate: x509: {reason}"),
        Some(rustls::Error::AlertReceived(alert)) => format!("remote error: tls: {}", alert_words(*alert)),
        _ => format!("{other}{}", go_words(error.to_string())),
    }
}

/// Go's names of the alerts: `bad certificate`.
fn alert_words(alert: rustls::AlertDescription) -> String {
    use rustls::AlertDescription as Alert;
    let special = match alert {
        Alert::UnknownCA => "unknown certificate authority",
        Alert::CertificateUnknown => "unknown certificate",
        Alert::CertificateRevoked => "revoked certificate",
        Alert::CertificateExpired => "expired certificate",
        Alert::ProtocolVersion => "protocol version not supported",
        Alert::InsufficientSecurity => "insufficient security level",
        Alert::BadRecordMac => "bad record MAC",
        Alert::DecodeError => "error decoding message",
        Alert::DecryptError => "error decrypting message",
        Alert::IllegalParameter => "illegal parameter",
        _ => return in_words(&format!("{alert:?}")),
    };
    special.to_owned()
}

fn in_words(name: &str) -> String {
    let mut words = String::with_capacity(name.len() + 4);
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.push(letter.to_ascii_lowercase());
    }
    words
}
