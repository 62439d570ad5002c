//! Logins against a registry on loopback.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::stub::{Seen, Stub, reply, serve};

const ANN: &str = "Basic YW5uOnNlY3JldA==";

fn auth(stub: &Stub, password: &str) -> RegistryAuth {
    let server_address = stub.address.to_string();
    RegistryAuth { username: "ann".into(), password: password.into(), server_address, ..RegistryAuth::default() }
}

async fn login(auth: &RegistryAuth) -> Result<Login> {
    Registries::default().login(auth).await
}

async fn basic_registry() -> Stub {
    serve(None, |_, seen| match seen.authorization.as_deref() {
        Some(ANN) => reply(200, &[], "{}"),
        _ => reply(401, &[("www-authenticate", "Basic realm=\"r\"")], "{}"),
    })
    .await
}

/// A registry and its realm in one; `token` is what the realm answers.
async fn token_registry(
    realm_path: &'static str,
    token: impl Fn(&Seen) -> (u16, String) + Send + Sync + 'static,
) -> Stub {
    serve(None, move |address, seen| {
        if seen.line.contains("/token") {
            let (status, body) = token(seen);
            return reply(status, &[], &body);
        }
        if seen.authorization.as_deref() == Some("Bearer t0k3n") {
            return reply(200, &[], "{}");
        }
        let challenge = format!("Bearer realm=\"http://{address}{realm_path}\",service=\"a registry\"");
        reply(401, &[("www-authenticate", &challenge)], "{}")
    })
    .await
}

#[tokio::test]
async fn a_basic_registry_takes_the_right_password_and_refuses_the_wrong_one() {
    let stub = basic_registry().await;
    let done = login(&auth(&stub, "secret")).await.unwrap();
    assert_eq!((done.status.as_str(), done.identity_token.as_str()), ("Login Succeeded", ""));
    let error = login(&auth(&stub, "wrong")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized);
    let url = format!("http://{}/v2/", stub.address);
    assert_eq!(error.message(), format!("login attempt to {url} failed with status: 401 Unauthorized"));
    let error = login(&auth(&stub, "")).await.unwrap_err();
    assert_eq!(error.message(), format!("Get \"{url}\": no basic auth credentials"));
}

#[tokio::test]
async fn credentials_are_sent_only_after_a_challenge() {
    let stub = serve(None, |_, _| reply(200, &[], "{}")).await;
    login(&auth(&stub, "secret")).await.unwrap();
    let seen = stub.seen.lock().await.clone();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].authorization, None);
}

#[tokio::test]
async fn a_token_registry_gets_the_token_and_the_realm_the_credentials() {
    let stub =
        token_registry("/token?x=1", |_| (200, r#"{"access_token":"t0k3n","refresh_token":"again"}"#.into())).await;
    let done = login(&auth(&stub, "secret")).await.unwrap();
    assert_eq!(done.identity_token, "again");
    let seen = stub.seen.lock().await.clone();
    let sent: Vec<(&str, Option<&str>)> =
        seen.iter().map(|one| (one.line.as_str(), one.authorization.as_deref())).collect();
    let realm = "GET /token?x=1&client_id=docker&offline_token=true&service=a+registry&account=ann";
    assert_eq!(sent, [("GET /v2/", None), (realm, Some(ANN)), ("GET /v2/", Some("Bearer t0k3n"))]);
}

#[tokio::test]
async fn an_identity_token_is_used_in_place_of_the_password() {
    let stub = token_registry("/token", |_| (200, r#"{"token":"t0k3n"}"#.into())).await;
    let mut auth = auth(&stub, "");
    auth.identity_token = "of before".into();
    assert_eq!(login(&auth).await.unwrap().identity_token, "of before");
    let seen = stub.seen.lock().await.clone();
    assert_eq!(seen[1].line, "POST /token");
    assert!(seen[1].body.contains("grant_type=refresh_token") && seen[1].body.contains("refresh_token=of+before"));
}

#[tokio::test]
async fn a_realms_refusal_is_told_in_its_own_words() {
    for (status, body, text) in [
        (401, r#"{"details":"incorrect username or password"}"#, "unauthorized: incorrect username or password"),
        (401, r#"{"errors":[{"code":"UNAUTHORIZED","message":"no"}]}"#, "unauthorized: no"),
        (401, "<html>", "unauthorized: authentication required"),
        (403, "{}", "denied: authentication required"),
    ] {
        let stub = token_registry("/token", move |_| (status, body.into())).await;
        let error = login(&auth(&stub, "wrong")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unauthorized);
        assert_eq!(error.message(), format!("Get \"http://{}/v2/\": {text}", stub.address));
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let other = basic_registry().await;
    let target = format!("http://{}/v2/", other.address);
    let stub = serve(None, move |_, _| reply(307, &[("location", &target)], "")).await;
    let error = login(&auth(&stub, "secret")).await.unwrap_err();
    assert!(error.message().ends_with("failed with status: 307 Temporary Redirect"), "{error}");
    assert!(other.seen.lock().await.is_empty());
}

#[tokio::test]
async fn a_realm_that_is_no_address_of_a_host_gets_nothing() {
    for realm in ["/token", "ftp://127.0.0.1/token", "http://u:p@127.0.0.1/token", "", "http://"] {
        let challenge = format!("Bearer realm=\"{realm}\"");
        let stub = serve(None, move |_, _| reply(401, &[("www-authenticate", &challenge)], "")).await;
        let error = login(&auth(&stub, "secret")).await.unwrap_err();
        assert!(error.message().contains("invalid token auth challenge realm"), "{realm}: {error}");
    }
}

/// What a verified registry says of its realm, without having to be one.
async fn realm_of_a_verified_registry(realm: &str) -> Result<()> {
    let config = RegistryConfig::default();
    let registry = Host { insecure: false, ..Host::find("127.0.0.1:1", &config).await? };
    let wanted = token::Wanted {
        realm,
        service: "",
        scope: "",
        registry: &registry,
        config: &config,
        offline: true,
        again: crate::again::Again::Broken,
    };
    let auth = RegistryAuth { username: "ann".into(), password: "secret".into(), ..RegistryAuth::default() };
    wanted.fetch(&auth).await.map(|_| ())
}

#[tokio::test]
async fn a_verified_registry_cannot_send_credentials_to_an_unverified_realm() {
    let plain = basic_registry().await;
    let error = realm_of_a_verified_registry(&format!("http://{}/token", plain.address)).await.unwrap_err();
    assert!(error.message().contains("is not https"), "{error}");
    assert!(plain.seen.lock().await.is_empty());
    let (acceptor, _) = certificate();
    let unverified = serve(Some(acceptor), |_, _| reply(200, &[], r#"{"token":"t"}"#)).await;
    let error = realm_of_a_verified_registry(&format!("https://{}/token", unverified.address)).await.unwrap_err();
    assert!(error.message().contains("tls: failed to verify certificate"), "{error}");
    assert!(unverified.seen.lock().await.is_empty());
}

fn certificate() -> (tokio_rustls::TlsAcceptor, String) {
    let pair = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let key = rustls_pki_types::PrivateKeyDer::try_from(pair.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![pair.cert.der().clone()], key)
        .unwrap();
    (Arc::new(config).into(), pair.cert.pem())
}

#[tokio::test]
async fn an_insecure_registry_is_spoken_to_by_tls_where_it_can() {
    let (acceptor, _) = certificate();
    let stub = serve(Some(acceptor), |_, seen| match seen.authorization.as_deref() {
        Some(ANN) => reply(200, &[], "{}"),
        _ => reply(401, &[("www-authenticate", "Basic realm=\"r\"")], "{}"),
    })
    .await;
    login(&auth(&stub, "secret")).await.unwrap();
    let error = login(&auth(&stub, "wrong")).await.unwrap_err();
    assert!(error.message().contains("https://"), "a refusal by TLS is not tried again in the clear: {error}");
}

#[tokio::test]
async fn a_registry_that_is_not_there_is_said_at_once() {
    let stub = basic_registry().await;
    let auth = auth(&stub, "secret");
    let address = stub.address;
    drop(stub);
    tokio::task::yield_now().await;
    let error = login(&auth).await.unwrap_err();
    let expected = format!("Get \"http://{address}/v2/\": dial tcp {address}: connect: connection refused");
    assert_eq!(error.message(), expected);
}
