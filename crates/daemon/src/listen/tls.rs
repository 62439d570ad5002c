//! TLS on both sides: our certificate, and a client certificate signed by the one authority that is trusted.

use std::{path::Path, sync::Arc};

use rustls::{RootCertStore, ServerConfig, server::WebPkiClientVerifier};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tokio_rustls::TlsAcceptor;

use crate::config::TlsFiles;

/// Reads the three files.
pub fn acceptor(files: &TlsFiles) -> Result<TlsAcceptor, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&files.ca)? {
        roots.add(certificate).map_err(|error| named(&files.ca, &error))?;
    }
    let clients = WebPkiClientVerifier::builder(Arc::new(roots)).build().map_err(|error| named(&files.ca, &error))?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| named(&files.key, &error))?;
    let config = ServerConfig::builder()
        .with_client_cert_verifier(clients)
        .with_single_cert(certificates(&files.cert)?, key)
        .map_err(|error| format!("could not use {} with {}: {error}", files.cert.display(), files.key.display()))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| named(path, &error))?;
    if chain.is_empty() { Err(format!("{}: no certificate in it", path.display())) } else { Ok(chain) }
}

fn named(path: &Path, error: &dyn std::fmt::Display) -> String {
    format!("{}: {error}", path.display())
}
