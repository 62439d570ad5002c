//! A unix socket at a path that may be taken: by an engine that answers, or by what a dead one left.

use std::{
    io,
    os::unix::{fs::PermissionsExt, net::UnixListener},
    path::Path,
    time::Duration,
};

use http_body_util::Empty;
use hyper::body::Bytes;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use hyperlocal::{UnixConnector, Uri};

/// How long an engine at the path may think before it counts as one that answers.
const PATIENCE: Duration = Duration::from_secs(3);

/// What is at a path.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    Nothing,
    /// A socket that nobody listens on.
    Stale,
    /// Somebody listens: an engine by this name, or something that did not say what it is.
    Taken(Option<String>),
}

/// Binds a path: root and the group may connect.
pub async fn bind(path: &Path, group: Option<u32>) -> Result<UnixListener, String> {
    let failed = |what: &str, error: &dyn std::fmt::Display| format!("{what} {}: {error}", path.display());
    match look(path).await.map_err(|error| failed("look at", &error))? {
        Found::Nothing => {}
        Found::Stale => std::fs::remove_file(path).map_err(|error| failed("remove the stale socket", &error))?,
        Found::Taken(who) => return Err(taken(path, who)),
    }
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(|error| failed("mkdir for", &error))?;
    }
    // Until the next two lines nobody but root can connect: the process's mask takes the right to write away.
    let listener = UnixListener::bind(path).map_err(|error| failed("bind", &error))?;
    admit(path, group)?;
    Ok(listener)
}

/// Lets root and the group connect, and nobody else.
pub fn admit(path: &Path, group: Option<u32>) -> Result<(), String> {
    let failed = |what: &str, error: &dyn std::fmt::Display| format!("{what} {}: {error}", path.display());
    std::os::unix::fs::chown(path, None, Some(group.unwrap_or(0))).map_err(|error| failed("chown", &error))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660)).map_err(|error| failed("chmod", &error))
}

/// Whether somebody else answers at the path: asked before anything is started that would have to be ended again.
pub async fn check_free(path: &Path) -> Result<(), String> {
    match look(path).await.map_err(|error| format!("look at {}: {error}", path.display()))? {
        Found::Taken(who) => Err(taken(path, who)),
        Found::Nothing | Found::Stale => Ok(()),
    }
}

fn taken(path: &Path, who: Option<String>) -> String {
    format!(
        "{} answers on unix://{}; stop it, or give gantryd another socket with -H, as in \
         -H unix:///run/gantry/gantry.sock",
        who.map_or_else(|| "another program".to_owned(), |who| format!("another engine ({who})")),
        path.display()
    )
}

async fn look(path: &Path) -> io::Result<Found> {
    use std::os::unix::fs::FileTypeExt;
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(error) => return Err(error),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(io::Error::other("there is something that is not a socket"));
        }
        Ok(_) => {}
    }
    match tokio::net::UnixStream::connect(path).await.map(drop) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(Found::Stale),
        Err(error) => Err(error),
        Ok(()) => Ok(Found::Taken(ping(path).await)),
    }
}

/// The `Server` header of an engine's ping.
async fn ping(path: &Path) -> Option<String> {
    let client: Client<UnixConnector, Empty<Bytes>> = Client::builder(TokioExecutor::new()).build(UnixConnector);
    let answer = tokio::time::timeout(PATIENCE, client.get(Uri::new(path, "/_ping").into())).await.ok()?.ok()?;
    let server = answer.headers().get("server")?.to_str().ok()?;
    Some(server.to_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn a_socket_is_for_root_and_the_group() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("deep/docker.sock");
        let _listener = bind(&path, None).await.expect("free");
        assert_eq!(std::fs::metadata(&path).expect("there").mode() & 0o7777, 0o660);
    }

    #[tokio::test]
    async fn what_a_dead_engine_left_is_replaced() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("docker.sock");
        drop(UnixListener::bind(&path).expect("free"));
        assert!(path.exists());
        bind(&path, None).await.expect("replaced");
    }

    #[tokio::test]
    async fn an_engine_that_answers_is_named_and_left_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("docker.sock");
        let listener = tokio::net::UnixListener::bind(&path).expect("free");
        let engine = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.read(&mut [0; 512]).await;
                let _ = stream
                    .write_all(b"HTTP/1.1 200 OK\r\nServer: Docker/28.5.2 (linux)\r\nContent-Length: 2\r\n\r\nOK")
                    .await;
            }
        });
        let error = bind(&path, None).await.expect_err("taken");
        engine.abort();
        assert!(error.contains("another engine (Docker/28.5.2 (linux))") && error.contains("-H"), "{error}");
        assert!(path.exists());
    }

    #[tokio::test]
    async fn a_file_that_is_no_socket_is_left_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("docker.sock");
        std::fs::write(&path, "precious").expect("written");
        assert!(bind(&path, None).await.is_err());
        assert_eq!(std::fs::read_to_string(&path).ok().as_deref(), Some("precious"));
    }
}
