//! Real sockets: what clients get, and what they cannot do to the loop.

use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
};
use tokio_rustls::TlsConnector;

use super::*;
use crate::{config::TlsFiles, listen::Address};

/// Answers each byte with itself until the client closes.
#[derive(Clone)]
struct Echo;

impl Serve for Echo {
    async fn serve(&self, mut stream: Stream, shutdown: CancellationToken) {
        let mut byte = [0];
        loop {
            tokio::select! {
                read = stream.read(&mut byte) => match read {
                    Ok(1) if stream.write_all(&byte).await.is_ok() && stream.flush().await.is_ok() => {}
                    _ => return,
                },
                () = shutdown.cancelled() => return,
            }
        }
    }
}

fn door(tls: Option<TlsAcceptor>, places: usize) -> Door {
    Door { tls, places, shutdown: CancellationToken::new() }
}

async fn echoes(stream: &mut (impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin)) -> io::Result<bool> {
    stream.write_all(b"x").await?;
    stream.flush().await?;
    let mut byte = [0];
    Ok(stream.read(&mut byte).await? == 1 && byte == *b"x")
}

#[tokio::test]
async fn the_next_client_waits_for_a_place() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("s");
    let listener = Listener {
        address: Address::Unix(path.clone()),
        socket: Socket::Unix(UnixListener::bind(&path).expect("free")),
    };
    let door = door(None, 1);
    let server = tokio::spawn(accept(listener, door.clone(), Echo));
    let mut first = UnixStream::connect(&path).await.expect("connects");
    assert!(echoes(&mut first).await.expect("served"));
    let mut second = UnixStream::connect(&path).await.expect("waits in the kernel");
    second.write_all(b"x").await.expect("the kernel keeps it");
    let mut byte = [0];
    let early = tokio::time::timeout(Duration::from_millis(100), second.read(&mut byte)).await;
    assert!(early.is_err(), "served beyond the places");
    drop(first);
    assert_eq!(second.read(&mut byte).await.expect("now served"), 1);
    door.shutdown.cancel();
    server.await.expect("no panic");
}

/// An authority, and certificates of it for a server and a client.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(vec![]).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Self { issuer: CertifiedIssuer::self_signed(params, key).expect("signed") }
    }

    fn issue(&self, usage: ExtendedKeyUsagePurpose) -> (String, String) {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec!["localhost".into()]).expect("a name");
        params.extended_key_usages = vec![usage];
        let certificate = params.signed_by(&key, &self.issuer).expect("signed");
        (certificate.pem(), key.serialize_pem())
    }

    fn server_files(&self, folder: &Path) -> TlsFiles {
        let (cert, key) = self.issue(ExtendedKeyUsagePurpose::ServerAuth);
        let write = |name: &str, content: &str| {
            let path = folder.join(name);
            std::fs::write(&path, content).expect("written");
            path
        };
        TlsFiles {
            ca: write("ca.pem", &self.issuer.pem()),
            cert: write("cert.pem", &cert),
            key: write("key.pem", &key),
        }
    }

    /// A client that trusts this authority and shows a certificate of `shown`, or none.
    fn connector(&self, shown: Option<&Authority>) -> TlsConnector {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.issuer.pem().as_bytes()).expect("PEM")).expect("a root");
        let config = rustls::ClientConfig::builder().with_root_certificates(roots);
        let config = match shown {
            None => config.with_no_client_auth(),
            Some(authority) => {
                let (cert, key) = authority.issue(ExtendedKeyUsagePurpose::ClientAuth);
                let cert = CertificateDer::from_pem_slice(cert.as_bytes()).expect("PEM");
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("PEM");
                config.with_client_auth_cert(vec![cert], key).expect("they fit")
            }
        };
        TlsConnector::from(Arc::new(config))
    }
}

async fn tls_echoes(address: std::net::SocketAddr, connector: TlsConnector) -> io::Result<bool> {
    let name = rustls_pki_types::ServerName::try_from("localhost").expect("a name");
    let mut stream = connector.connect(name, TcpStream::connect(address).await?).await?;
    echoes(&mut stream).await
}

#[tokio::test]
async fn only_a_client_with_a_certificate_of_the_authority_is_served() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let folder = tempfile::tempdir().expect("a folder");
    let (ours, foreign) = (Authority::new(), Authority::new());
    let tls = crate::listen::acceptor(&ours.server_files(folder.path())).expect("good files");
    let socket = TcpListener::bind("127.0.0.1:0").await.expect("free");
    let address = socket.local_addr().expect("bound");
    let listener = Listener {
        address: Address::Tcp { host: "127.0.0.1".into(), port: address.port() },
        socket: Socket::Tcp(socket),
    };
    let door = door(Some(tls), 16);
    let server = tokio::spawn(accept(listener, door.clone(), Echo));

    // One that never shakes hands does not keep the others waiting.
    let _silent = TcpStream::connect(address).await.expect("connects");
    assert!(tls_echoes(address, ours.connector(Some(&ours))).await.expect("served"));
    assert!(!tls_echoes(address, ours.connector(None)).await.unwrap_or(false), "no certificate");
    assert!(!tls_echoes(address, ours.connector(Some(&foreign))).await.unwrap_or(false), "another's certificate");
    let mut plain = TcpStream::connect(address).await.expect("connects");
    assert!(!echoes(&mut plain).await.unwrap_or(false), "without TLS");
    assert!(tls_echoes(address, ours.connector(Some(&ours))).await.expect("still served"));

    door.shutdown.cancel();
    server.await.expect("no panic");
}

#[tokio::test]
async fn strangers_at_a_tls_socket_take_no_place_of_its_clients() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let folder = tempfile::tempdir().expect("a folder");
    let ours = Authority::new();
    let tls = crate::listen::acceptor(&ours.server_files(folder.path())).expect("good files");
    let socket = TcpListener::bind("127.0.0.1:0").await.expect("free");
    let address = socket.local_addr().expect("bound");
    let listener = Listener {
        address: Address::Tcp { host: "127.0.0.1".into(), port: address.port() },
        socket: Socket::Tcp(socket),
    };
    let path = folder.path().join("s");
    let local = Listener {
        address: Address::Unix(path.clone()),
        socket: Socket::Unix(UnixListener::bind(&path).expect("free")),
    };
    let door = door(Some(tls), 2);
    let servers = [listener, local].map(|listener| tokio::spawn(accept(listener, door.clone(), Echo)));
    let mut silent = Vec::new();
    for _ in 0..8 {
        silent.push(TcpStream::connect(address).await.expect("connects"));
    }
    let mut client = UnixStream::connect(&path).await.expect("connects");
    assert!(echoes(&mut client).await.expect("served"));
    // With strangers still waiting at the door the end is not held up.
    door.shutdown.cancel();
    drop((client, silent));
    for server in servers {
        server.await.expect("no panic");
    }
}
