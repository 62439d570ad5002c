//! Docker's plugin protocol: programs of others that serve JSON calls at a socket, found by files in known folders.
//!
//! ```text
//!   /run/docker/plugins/NAME.sock, NAME/NAME.sock        a socket
//!   /etc/docker/plugins, /usr/lib/docker/plugins         NAME.spec: an address; NAME.json: {"Addr": an address}
//! ```
//!
//! A plugin is asked once what it implements (`/Plugin.Activate`), and again when it was not there.

mod found;
mod volume;

use std::{
    collections::{BTreeSet, HashMap},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use gantry_domain::{Error, ErrorKind, Result};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{Request, Response, Uri, body::Incoming};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};

const TYPE: &str = "application/vnd.docker.plugins.v1.2+json";
const AGAIN: Duration = Duration::from_millis(100);
/// Of an answer, bytes.
const MAX_ANSWER: usize = 4 << 20;

/// All plugins of the host.
#[derive(Debug, Clone)]
pub struct Plugins {
    sockets: PathBuf,
    specs: Vec<PathBuf>,
    active: Arc<Mutex<HashMap<String, Active>>>,
    /// Those that kept somebody waiting for nothing, and until when nobody asks them who can do without.
    slow: Arc<Mutex<HashMap<String, Instant>>>,
}

/// What is known of one that has answered.
#[derive(Debug, Clone, Default)]
struct Active {
    implements: BTreeSet<String>,
    /// Of its volumes, once it has told.
    scope: Option<String>,
}

/// One that implements what was asked for.
#[derive(Debug, Clone)]
pub struct Plugin {
    name: String,
    address: String,
}

/// How long one call may take.
#[derive(Debug, Clone, Copy)]
pub struct Limit {
    answer: Duration,
    /// A plugin that does not listen may be starting.
    starting: Duration,
}

impl Limit {
    /// A driver may have to wait for the network.
    pub const PATIENT: Self = Self { answer: Duration::from_secs(30), starting: Duration::from_secs(5) };
    /// For who only looks.
    pub const LOOK: Self = Self { answer: Duration::from_secs(10), starting: Duration::ZERO };
    /// For what can be tried again.
    pub const BRIEF: Self = Self { answer: Duration::from_secs(4), starting: Duration::ZERO };
}

/// Why a call has no answer of use.
#[derive(Debug)]
pub enum Failure {
    /// It was not reached, or did not answer in time.
    Away(String),
    /// What it said, with the status where that was not 200.
    Refused(Option<u16>, String),
}

impl Failure {
    /// In dockerd's form: the method in front where the status said it, but for a body that did (`remote`).
    pub fn text(&self, method: &str) -> String {
        match self {
            Self::Refused(None, said) => format!("remote: {said}"),
            Self::Refused(Some(_), said) | Self::Away(said) => format!("{method}: {said}"),
        }
    }

    /// The plugin does not know the method.
    pub fn is_unknown_method(&self) -> bool {
        matches!(self, Self::Refused(Some(404), _))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Spec {
    addr: String,
    #[serde(rename = "TLSConfig")]
    tls: Option<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[derive(Default)]
struct Activated {
    implements: Vec<String>,
}

impl Default for Plugins {
    fn default() -> Self {
        Self::below(Path::new("/"))
    }
}

impl Plugins {
    /// In Docker's folders below another root: an engine that is not to find those of the host.
    pub fn below(root: &Path) -> Self {
        let specs = ["etc/docker/plugins", "usr/lib/docker/plugins"].map(|folder| root.join(folder)).into();
        Self { sockets: root.join("run/docker/plugins"), specs, active: Arc::default(), slow: Arc::default() }
    }

    /// The plugin of that name that implements `what` (`VolumeDriver`); `None` where there is none.
    pub async fn find(&self, name: &str, what: &str) -> Result<Option<Plugin>> {
        let found = self.find_within(name, what, Limit::PATIENT).await;
        found.map_err(|error| match error.kind() {
            ErrorKind::Unavailable => error.with_kind(ErrorKind::System),
            _ => error,
        })
    }

    /// The same in little or much time. `Unavailable` for one that is there and is not reached.
    pub async fn find_within(&self, name: &str, what: &str, limit: Limit) -> Result<Option<Plugin>> {
        if name.is_empty() || name.contains('/') || name.starts_with('.') {
            return Ok(None);
        }
        let Some(address) = self.address(name).await? else { return Ok(None) };
        let plugin = Plugin { name: name.to_owned(), address };
        let known = self.active.lock().get(name).map(|known| known.implements.clone());
        let implements = match known {
            Some(known) => known,
            None => {
                let answer = plugin.ask("Plugin.Activate", &Value::Null, limit).await;
                let answer = answer.map_err(|failure| away("Plugin.Activate", &failure))?;
                let activated: Activated = serde_json::from_value(answer).unwrap_or_default();
                let found: BTreeSet<String> = activated.implements.into_iter().collect();
                self.active.lock().entry(name.to_owned()).or_default().implements = found.clone();
                found
            }
        };
        Ok(implements.contains(what).then_some(plugin))
    }

    async fn address(&self, name: &str) -> Result<Option<String>> {
        for socket in [self.sockets.join(format!("{name}.sock")), self.sockets.join(name).join(format!("{name}.sock"))]
        {
            if is_there(&socket).await {
                return Ok(Some(format!("unix://{}", socket.display())));
            }
        }
        for folder in &self.specs {
            for place in [folder.clone(), folder.join(name)] {
                if let Ok(text) = tokio::fs::read_to_string(place.join(format!("{name}.spec"))).await {
                    return Ok(Some(text.trim().to_owned()));
                }
                if let Ok(text) = tokio::fs::read(place.join(format!("{name}.json"))).await {
                    let spec: Spec = serde_json::from_slice(&text)
                        .map_err(|error| Error::system(format!("the spec of plugin {name}: {error}")))?;
                    if spec.tls.is_some_and(|tls| !tls.is_null()) {
                        let text = format!("plugin {name}: TLS to plugins is not implemented by gantry yet");
                        return Err(Error::not_implemented(text));
                    }
                    return Ok(Some(spec.addr));
                }
            }
        }
        // What it was is no more than a memory.
        self.active.lock().remove(name);
        Ok(None)
    }
}

impl Plugin {
    /// `POST` of this method, as `/VolumeDriver.Mount`. `System` with the plugin's own words where it reports an error,
    /// where it cannot be reached or does not answer in time.
    pub async fn call(&self, method: &str, body: &Value) -> Result<Value> {
        self.call_within(method, body, Limit::PATIENT).await
    }

    /// The same in little or much time.
    pub async fn call_within(&self, method: &str, body: &Value, limit: Limit) -> Result<Value> {
        match self.ask(method, body, limit).await {
            Ok(value) => Ok(value),
            Err(Failure::Refused(None, said)) => Err(Error::system(said)),
            Err(failure) => Err(Error::system(failure.text(method))),
        }
    }

    /// `POST` of this method, as `NetworkDriver.Join`.
    pub async fn ask(&self, method: &str, body: &Value, limit: Limit) -> std::result::Result<Value, Failure> {
        let answer = match timeout(limit.answer, self.exchange(&format!("/{method}"), body, limit.starting)).await {
            Ok(answer) => {
                answer.map_err(|why| Failure::Away(format!("error while calling plugin {}: {why}", self.name)))?
            }
            Err(_) => return Err(Failure::Away(format!("plugin {} did not answer in time", self.name))),
        };
        let (status, bytes) = answer;
        let value: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        // Drivers of addresses call it Error.
        let said = ["Err", "Error"].iter().filter_map(|key| value.get(key)?.as_str()).find(|said| !said.is_empty());
        match (status, said) {
            (None, None) => Ok(value),
            (status, Some(said)) => Err(Failure::Refused(status, said.to_owned())),
            (status, None) => Err(Failure::Refused(status, String::from_utf8_lossy(&bytes).trim().to_owned())),
        }
    }

    /// The status where it is not one of success, and the body.
    async fn exchange(
        &self,
        method: &str,
        body: &Value,
        starting: Duration,
    ) -> std::result::Result<(Option<u16>, Bytes), String> {
        let bytes = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
        let begun = Instant::now();
        let response = loop {
            match self.send(method, bytes.clone()).await {
                Err((true, _)) if begun.elapsed() < starting => sleep(AGAIN).await,
                Err((_, why)) => return Err(why),
                Ok(response) => break response,
            }
        };
        let status = Some(response.status()).filter(|status| !status.is_success()).map(|status| status.as_u16());
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
        Ok((status, body.map_err(|error| error.to_string())?.to_bytes()))
    }

    /// An error says whether nobody was reached, so that the plugin cannot have heard it.
    async fn send(&self, method: &str, body: Bytes) -> std::result::Result<Response<Incoming>, (bool, String)> {
        let local = |path: &str| Uri::from(hyperlocal::Uri::new(path, method));
        let uri = match self.address.split_once("://") {
            Some(("unix", path)) => local(path),
            Some(("tcp", host)) => {
                format!("http://{host}{method}").parse().map_err(|error| (false, format!("{error}")))?
            }
            Some(("http", host)) => {
                format!("http://{host}{method}").parse().map_err(|error| (false, format!("{error}")))?
            }
            None if Path::new(&self.address).is_absolute() => local(&self.address),
            _ => return Err((false, format!("unknown address {}", self.address))),
        };
        let request = Request::post(uri).header("Accept", TYPE).header("Content-Type", TYPE);
        let request = request.body(Full::new(body)).map_err(|error| (false, error.to_string()))?;
        let over_unix = request.uri().scheme_str() == Some("unix");
        let builder = Client::builder(TokioExecutor::new());
        let answered = if over_unix {
            builder.build(hyperlocal::UnixConnector).request(request).await
        } else {
            builder.build_http().request(request).await
        };
        answered.map_err(|error| (error.is_connect(), reason(&error)))
    }
}

fn away(method: &str, failure: &Failure) -> Error {
    match failure {
        Failure::Away(_) => Error::unavailable(failure.text(method)),
        Failure::Refused(..) => Error::system(failure.text(method)),
    }
}

async fn is_there(path: &Path) -> bool {
    tokio::fs::try_exists(path).await.unwrap_or(false)
}

/// The innermost one: hyper's own words are of no use to who runs a plugin.
fn reason(error: &dyn std::error::Error) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}
