//! Repositories on a registry that answers from a function.
#![allow(clippy::unwrap_used)]

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use super::*;
use crate::stub::{Stub, reply, serve};

fn reference(stub: &Stub, tag: &str) -> Reference {
    Reference::parse(&format!("{}/a/b:{tag}", stub.address)).unwrap()
}

async fn repository(stub: &Stub, auth: &RegistryAuth) -> Repository {
    let config = RegistryConfig { pause: Duration::from_millis(1), ..RegistryConfig::default() };
    Registries::new(config).repository(&reference(stub, "t"), auth).await.unwrap()
}

fn ann(server_address: &str) -> RegistryAuth {
    let server_address = server_address.to_owned();
    RegistryAuth { username: "ann".into(), password: "secret".into(), server_address, ..RegistryAuth::default() }
}

const MANIFEST: &str = r#"{"schemaVersion":2,"config":{},"layers":[]}"#;

#[tokio::test]
async fn a_manifest_that_is_not_what_its_digest_says_is_refused() {
    let stub = serve(None, |_, seen| match seen.line.contains("/manifests/") {
        true => reply(200, &[("docker-content-digest", &format!("sha256:{}", "0".repeat(64)))], MANIFEST),
        false => reply(200, &[], "{}"),
    })
    .await;
    let repository = repository(&stub, &RegistryAuth::default()).await;
    let digest = format!("sha256:{}", "1".repeat(64));
    for tag in ["t", digest.as_str()] {
        let error = repository.manifest(tag).await.unwrap_err();
        assert!(error.message().starts_with("manifest verification failed for digest sha256:"), "{error}");
    }
}

#[tokio::test]
async fn a_head_that_calls_a_digest_by_another_one_is_not_believed() {
    let other = Digest::from_sha256(&[7; 32]);
    let told = other.clone();
    let stub = serve(None, move |_, _| {
        let headers = [("docker-content-digest", told.as_str()), ("content-type", ACCEPT[0])];
        reply(200, &headers, MANIFEST)
    })
    .await;
    let repository = repository(&stub, &RegistryAuth::default()).await;
    assert_eq!(repository.head("t").await.map(|(_, digest, _)| digest), Some(other.clone()));
    assert!(repository.head(other.as_str()).await.is_some());
    assert!(repository.head(Digest::from_sha256(&[1; 32]).as_str()).await.is_none());
}

#[tokio::test]
async fn refusals_are_in_dockers_words() {
    for (status, headers, body, text) in [
        (
            404,
            "",
            r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#,
            "manifest for HOST/a/b:t not found: manifest unknown: manifest unknown",
        ),
        (404, "", "<html>", "manifest for HOST/a/b:t not found: manifest unknown: manifest unknown"),
        (
            404,
            "",
            r#"{"errors":[{"code":"NAME_UNKNOWN","message":"repository name not known to registry"}]}"#,
            "repository HOST/a/b not found: name unknown: repository name not known to registry",
        ),
        (
            403,
            "",
            r#"{"errors":[{"code":"DENIED","message":"requested access to the resource is denied"}]}"#,
            "pull access denied for HOST/a/b, repository does not exist or may require 'docker login': denied: requested access to the resource is denied",
        ),
        (
            401,
            "Bearer error=\"insufficient_scope\"",
            r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#,
            "pull access denied for HOST/a/b, repository does not exist or may require 'docker login': denied: requested access to the resource is denied",
        ),
        (429, "", r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"slow down"}]}"#, "toomanyrequests: slow down"),
        (500, "", "", "received unexpected HTTP status: 500 Internal Server Error"),
    ] {
        let stub = serve(None, move |_, seen| match seen.line.contains("/manifests/") {
            true if headers.is_empty() => reply(status, &[], body),
            true => reply(status, &[("www-authenticate", headers)], body),
            false => reply(200, &[], "{}"),
        })
        .await;
        let error = repository(&stub, &RegistryAuth::default()).await.manifest("t").await.unwrap_err();
        assert_eq!(error.message(), text.replace("HOST", &stub.address.to_string()));
    }
}

#[tokio::test]
async fn credentials_for_another_host_stay_here_and_a_redirect_carries_none() {
    let other = serve(None, |_, _| reply(200, &[], "blob")).await;
    let (port, digest) = (other.address.port(), Digest::from_sha256(&[1; 32]));
    let stub = serve(None, move |_, seen| match seen.authorization.as_deref() {
        None => reply(401, &[("www-authenticate", "Basic realm=\"r\"")], "{}"),
        // Another name for the same machine is another host.
        Some(_) => reply(307, &[("location", &format!("http://localhost:{port}/x"))], ""),
    })
    .await;
    let mine = repository(&stub, &ann(&stub.address.to_string())).await;
    let mut blob = mine.blob(&digest, 0).await.unwrap();
    assert_eq!(blob.next().await.unwrap().unwrap(), "blob");
    assert_eq!(other.seen.lock().await[0].authorization, None);
    assert!(stub.seen.lock().await.iter().any(|seen| seen.authorization.is_some()));
    stub.seen.lock().await.clear();
    let error = repository(&stub, &ann("elsewhere.example")).await.manifest("t").await.unwrap_err();
    assert!(error.message().ends_with("no basic auth credentials"), "{error}");
    assert!(stub.seen.lock().await.iter().all(|seen| seen.authorization.is_none()));
}

#[tokio::test]
async fn a_blob_goes_on_from_its_offset_whether_the_registry_knows_ranges_or_not() {
    for ranges in [true, false] {
        let stub = serve(None, move |_, seen| match seen.line.contains("/blobs/") {
            true if ranges => reply(206, &[("content-range", "bytes 4-9/10")], "456789"),
            true => reply(200, &[], "0123456789"),
            false => reply(200, &[], "{}"),
        })
        .await;
        let repository = repository(&stub, &RegistryAuth::default()).await;
        let mut blob = repository.blob(&Digest::from_sha256(&[1; 32]), 4).await.unwrap();
        let mut all = Vec::new();
        while let Some(piece) = blob.next().await.unwrap() {
            all.extend_from_slice(&piece);
        }
        assert_eq!(all, b"456789", "ranges {ranges}");
    }
}

#[tokio::test]
async fn a_token_is_got_once_and_again_when_it_has_run_out() {
    static GIVEN: AtomicUsize = AtomicUsize::new(0);
    let stub = serve(None, |address, seen| {
        if seen.line.contains("/token") {
            let number = GIVEN.fetch_add(1, Ordering::SeqCst);
            assert!(seen.line.contains("scope=repository%3Aa%2Fb%3Apull"), "{}", seen.line);
            return reply(200, &[], &format!("{{\"token\":\"t{number}\"}}"));
        }
        let challenge = format!("Bearer realm=\"http://{address}/token\",service=\"s\"");
        match seen.authorization.as_deref() {
            Some("Bearer t0") if seen.line.contains("/first") => reply(200, &[], MANIFEST),
            Some("Bearer t1") => reply(200, &[], MANIFEST),
            _ => reply(401, &[("www-authenticate", &challenge)], "{}"),
        }
    })
    .await;
    let repository = repository(&stub, &ann(&stub.address.to_string())).await;
    for tag in ["first", "first", "second", "second"] {
        repository.manifest(tag).await.unwrap();
    }
    assert_eq!(GIVEN.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn tags_come_page_by_page() {
    let stub = serve(None, |_, seen| {
        if seen.line.contains("last=b") {
            return reply(200, &[], r#"{"name":"a/b","tags":["c"]}"#);
        }
        match seen.line.contains("/tags/list") {
            true => reply(200, &[("link", "</v2/a/b/tags/list?last=b&n=2>; rel=\"next\"")], r#"{"tags":["a","b"]}"#),
            false => reply(200, &[], "{}"),
        }
    })
    .await;
    assert_eq!(repository(&stub, &RegistryAuth::default()).await.tags().await.unwrap(), ["a", "b", "c"]);
}

/// Answers `refusals` first, whatever is asked, and then properly.
async fn reluctant(refusals: &'static [(u16, &'static str)]) -> Stub {
    let asked = AtomicUsize::new(0);
    serve(None, move |_, seen| match refusals.get(asked.fetch_add(1, Ordering::SeqCst)) {
        Some((status, "")) => reply(*status, &[], "{}"),
        Some((status, after)) => reply(*status, &[("retry-after", after)], "{}"),
        None if seen.line.contains("/blobs/") => reply(200, &[], "blob"),
        None => reply(200, &[], MANIFEST),
    })
    .await
}

#[tokio::test]
async fn a_registry_that_is_busy_or_broken_for_a_while_is_asked_again() {
    // The registry's place, the document, a small blob.
    let stub = reluctant(&[(503, ""), (502, ""), (200, ""), (500, ""), (429, ""), (408, "")]).await;
    let repository = repository(&stub, &RegistryAuth::default()).await;
    assert_eq!(repository.manifest("t").await.unwrap().bytes, MANIFEST);
    assert_eq!(stub.seen.lock().await.len(), 7);
    let stub = reluctant(&[(200, ""), (500, ""), (504, "")]).await;
    let digest = Digest::from_sha256(&[1; 32]);
    let repository = self::repository(&stub, &RegistryAuth::default()).await;
    assert_eq!(repository.small_blob(&digest, 4).await.unwrap(), "blob");
    assert!(repository.small_blob(&digest, 3).await.is_err_and(|error| error.message().contains("larger than 3")));
}

#[tokio::test]
async fn retry_after_is_waited_for_and_not_for_ever() {
    let stub = reluctant(&[(200, ""), (429, "1")]).await;
    let (began, nobody) = (Instant::now(), RegistryAuth::default());
    repository(&stub, &nobody).await.manifest("t").await.unwrap();
    assert!(began.elapsed() >= Duration::from_secs(1));
    let stub = reluctant(&[(200, ""), (429, "3600")]).await;
    let began = Instant::now();
    let error = repository(&stub, &nobody).await.manifest("t").await.unwrap_err();
    assert_eq!((error.kind(), error.message()), (ErrorKind::Unavailable, "toomanyrequests: too many requests"));
    assert!(began.elapsed() < Duration::from_secs(30));
    let stub = reluctant(&[(200, ""), (500, ""), (500, ""), (500, ""), (500, ""), (500, "")]).await;
    assert!(repository(&stub, &nobody).await.manifest("t").await.is_err());
    assert_eq!(stub.seen.lock().await.len(), 5, "four tries of the document");
}

#[tokio::test]
async fn a_token_server_that_is_busy_is_asked_again() {
    let asked = AtomicUsize::new(0);
    let stub = serve(None, move |address, seen| {
        if seen.line.contains("/token") {
            return match asked.fetch_add(1, Ordering::SeqCst) {
                0 => reply(503, &[], ""),
                1 => reply(429, &[("retry-after", "0")], ""),
                _ => reply(200, &[], r#"{"token":"t"}"#),
            };
        }
        let challenge = format!("Bearer realm=\"http://{address}/token\",service=\"s\"");
        match seen.authorization.as_deref() {
            Some("Bearer t") => reply(200, &[], MANIFEST),
            _ => reply(401, &[("www-authenticate", &challenge)], "{}"),
        }
    })
    .await;
    repository(&stub, &ann(&stub.address.to_string())).await.manifest("t").await.unwrap();
}

#[tokio::test]
async fn nobody_waits_for_a_mirror_and_a_dead_one_is_dialled_once() {
    let (folder, mirror) =
        (tempfile::tempdir().unwrap(), serve(None, |_, _| reply(503, &[("retry-after", "20")], "")).await);
    let stub =
        serve(None, |_, seen| reply(200, &[], if seen.line.contains("/blobs/") { "blob" } else { MANIFEST })).await;
    let own = folder.path().join(stub.address.to_string());
    std::fs::create_dir(&own).unwrap();
    let text = format!("[host.\"http://127.0.0.1:1\"]\n[host.\"http://{}\"]\n", mirror.address);
    std::fs::write(own.join("hosts.toml"), text).unwrap();
    let config = RegistryConfig { certificates: folder.path().into(), ..RegistryConfig::default() };
    let registries = Registries::new(config);
    let began = Instant::now();
    let repository = registries.repository(&reference(&stub, "t"), &RegistryAuth::default()).await.unwrap();
    repository.manifest("t").await.unwrap();
    repository.small_blob(&Digest::from_sha256(&[1; 32]), 9).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(10));
    assert_eq!(mirror.seen.lock().await.len(), 1, "its first answer was enough");
    let asked = stub.seen.lock().await;
    assert!(asked.iter().all(|seen| !seen.line.contains("ns=")), "{asked:?}");
}
