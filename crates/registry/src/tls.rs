//! Whom to trust: the host's authorities and those of the registry's own folder, or anyone where that is allowed.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use gantry_domain::{Error, Result};
use rustls::{
    ClientConfig, DigitallySignedStruct, InconsistentKeys, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::CryptoProvider,
    sign::{CertifiedKey, SingleCertAndKey},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject};

type ClientKey = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// Files that decide whom to trust and who we are.
pub(crate) struct ClientFiles {
    /// Authorities beyond the host's own.
    pub authorities: Vec<PathBuf>,
    /// Certificate and key.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// The configuration for one host, from its folder. Reads files: call it off the runtime's threads.
pub(crate) fn client(folder: &Path, verify: bool) -> Result<Arc<ClientConfig>> {
    let files = files(folder).map_err(|error| Error::system(format!("{}: {error}", folder.display())))?;
    let authorities = with_extension(&files, "crt").cloned().collect();
    from_files(&ClientFiles { authorities, client: client_pair(&files)? }, verify)
}

/// The same from named files.
pub(crate) fn from_files(files: &ClientFiles, verify: bool) -> Result<Arc<ClientConfig>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::system(format!("tls: {error}")))?;
    let builder = if verify {
        builder.with_root_certificates(roots(&files.authorities)?)
    } else {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(Anyone(provider.clone())))
    };
    let config = match &files.client {
        Some((certificate, key)) => {
            let (chain, secret) = client_key(certificate, key)?;
            let key = provider
                .key_provider
                .load_private_key(secret)
                .map_err(|error| Error::system(format!("{}: {error}", key.display())))?;
            let pair = CertifiedKey::new(chain, key);
            if let Err(error @ rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) = pair.keys_match() {
                return Err(Error::system(format!("client certificate {}: {error}", certificate.display())));
            }
            // It is for the registry to judge: rustls itself takes no certificate of version 1, as openssl makes them.
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(pair)))
        }
        None => builder.with_no_client_auth(),
    };
    Ok(Arc::new(config))
}

fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(folder) {
        Ok(entries) => {
            let mut all = entries.map(|entry| entry.map(|one| one.path())).collect::<io::Result<Vec<_>>>()?;
            all.sort();
            Ok(all)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn with_extension<'a>(files: &'a [PathBuf], extension: &'a str) -> impl Iterator<Item = &'a PathBuf> {
    files.iter().filter(move |path| path.extension().is_some_and(|found| found == extension))
}

fn roots(authorities: &[PathBuf]) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let native = rustls_native_certs::load_native_certs();
    for error in &native.errors {
        tracing::warn!(%error, "an authority of the host could not be read");
    }
    roots.add_parsable_certificates(native.certs);
    for path in authorities {
        roots.add_parsable_certificates(certificates(path)?);
    }
    Ok(roots)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| Error::system(format!("{}: {error}", path.display())))
}

/// The first pair of `x.cert` and `x.key`; one without the other is an error, as in dockerd.
fn client_pair(files: &[PathBuf]) -> Result<Option<(PathBuf, PathBuf)>> {
    let Some(certificate) = with_extension(files, "cert").next() else {
        return match with_extension(files, "key").next() {
            Some(key) => Err(missing(key, "cert")),
            None => Ok(None),
        };
    };
    let key = certificate.with_extension("key");
    if !files.contains(&key) {
        return Err(missing(certificate, "key"));
    }
    Ok(Some((certificate.clone(), key)))
}

fn client_key(certificate: &Path, key: &Path) -> Result<ClientKey> {
    let secret =
        PrivateKeyDer::from_pem_file(key).map_err(|error| Error::system(format!("{}: {error}", key.display())))?;
    Ok((certificates(certificate)?, secret))
}

fn missing(present: &Path, extension: &str) -> Error {
    let absent = present.with_extension(extension);
    Error::system(format!("missing {} for {}", absent.display(), present.display()))
}

/// Verifies nothing about who answers; for registries that the administrator, or loopback, vouches for.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_registrys_folder_gives_authority_and_client_certificate() {
        let folder = tempfile::tempdir().unwrap();
        let pair = rcgen::generate_simple_self_signed(["reg.example".to_owned()]).unwrap();
        fs::write(folder.path().join("ca.crt"), pair.cert.pem()).unwrap();
        fs::write(folder.path().join("me.cert"), pair.cert.pem()).unwrap();
        let error = client(folder.path(), true).unwrap_err();
        assert!(error.message().contains("missing") && error.message().contains("me.key"), "{error}");
        fs::write(folder.path().join("me.key"), pair.signing_key.serialize_pem()).unwrap();
        assert!(client(folder.path(), true).unwrap().client_auth_cert_resolver.has_certs());
    }

    #[test]
    fn a_registry_without_a_folder_is_plainly_verified() {
        let folder = tempfile::tempdir().unwrap();
        let config = client(&folder.path().join("none"), true).unwrap();
        assert!(!config.client_auth_cert_resolver.has_certs());
    }
}
