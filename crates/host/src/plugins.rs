//! Docker's plugin protocol: programs of others that serve JSON calls at a socket, found by files in known folders.
//!
//! ```text
//!   /run/docker/plugins/NAME.sock, NAME/NAME.sock        a socket
//!   /etc/docker/plugins, /usr/lib/docker/plugins         NAME.spec: an address; NAME.json: {"Addr": an address}
//! ```
//!
//! A plugin is asked once what it implements (`/Plugin.Activate`), and again when it was not there.

use std::{
    collections::{BTreeSet, HashMap},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use gantry_domain::{Error, Result};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{Request, Response, Uri, body::Incoming};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};

const TYPE: &str = "application/vnd.docker.plugins.v1.2+json";
/// One call. A volume driver may have to wait for the network.
const PATIENCE: Duration = Duration::from_secs(30);
/// A plugin that does not listen may be starting.
const STARTING: Duration = Duration::from_secs(5);
const AGAIN: Duration = Duration::from_millis(100);
/// Of an answer, bytes.
const MAX_ANSWER: usize = 4 << 20;

/// All plugins of the host.
#[derive(Debug, Clone)]
pub struct Plugins {
    sockets: PathBuf,
    specs: Vec<PathBuf>,
    /// What those that answered implement.
    active: Arc<Mutex<HashMap<String, BTreeSet<String>>>>,
}

/// One that implements what was asked for.
#[derive(Debug, Clone)]
pub struct Plugin {
    name: String,
    address: String,
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
        let specs = ["/etc/docker/plugins", "/usr/lib/docker/plugins"].map(PathBuf::from).into();
        Self { sockets: "/run/docker/plugins".into(), specs, active: Arc::default() }
    }
}

impl Plugins {
    /// The plugin of that name that implements `what` (`VolumeDriver`); `None` where there is none.
    pub async fn find(&self, name: &str, what: &str) -> Result<Option<Plugin>> {
        if name.is_empty() || name.contains('/') || name.starts_with('.') {
            return Ok(None);
        }
        let Some(address) = self.address(name).await? else { return Ok(None) };
        let plugin = Plugin { name: name.to_owned(), address };
        let known = self.active.lock().get(name).cloned();
        let implements = match known {
            Some(known) => known,
            None => {
                let answer = plugin.call("/Plugin.Activate", &Value::Null).await?;
                let activated: Activated = serde_json::from_value(answer).unwrap_or_default();
                let found: BTreeSet<String> = activated.implements.into_iter().collect();
                self.active.lock().insert(name.to_owned(), found.clone());
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
        let named = |why: String| Error::system(format!("{}: {why}", method.trim_start_matches('/')));
        let answer = match timeout(PATIENCE, self.exchange(method, body)).await {
            Ok(answer) => answer.map_err(|why| named(format!("error while calling plugin {}: {why}", self.name)))?,
            Err(_) => return Err(named(format!("plugin {} did not answer in time", self.name))),
        };
        let (ok, bytes) = answer;
        let value: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        let said = value.get("Err").and_then(Value::as_str).unwrap_or_default();
        match (ok, said.is_empty()) {
            (true, true) => Ok(value),
            (true, false) => Err(Error::system(said)),
            (false, false) => Err(named(said.to_owned())),
            (false, true) => Err(named(String::from_utf8_lossy(&bytes).trim().to_owned())),
        }
    }

    async fn exchange(&self, method: &str, body: &Value) -> std::result::Result<(bool, Bytes), String> {
        let bytes = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
        let begun = Instant::now();
        let response = loop {
            match self.send(method, bytes.clone()).await {
                Err((true, _)) if begun.elapsed() < STARTING => sleep(AGAIN).await,
                Err((_, why)) => return Err(why),
                Ok(response) => break response,
            }
        };
        let ok = response.status().is_success();
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
        Ok((ok, body.map_err(|error| error.to_string())?.to_bytes()))
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

/// A volume driver's calls.
impl Plugin {
    /// Makes the volume; one that the plugin has already is taken as it is.
    pub async fn volume_create(&self, name: &str, options: Value) -> Result<()> {
        if self.volume_get(name).await.is_ok() {
            return Ok(());
        }
        self.call("/VolumeDriver.Create", &json!({"Name": name, "Opts": options})).await.map(drop)
    }

    pub async fn volume_get(&self, name: &str) -> Result<Value> {
        let answer = self.call("/VolumeDriver.Get", &json!({"Name": name})).await?;
        match answer.get("Volume") {
            Some(volume) if !volume.is_null() => Ok(volume.clone()),
            _ => Err(Error::not_found(format!("get {name}: no such volume"))),
        }
    }

    pub async fn volume_remove(&self, name: &str) -> Result<()> {
        self.call("/VolumeDriver.Remove", &json!({"Name": name})).await.map(drop)
    }

    /// Where it is, for this user.
    pub async fn volume_mount(&self, name: &str, user: &str) -> Result<PathBuf> {
        let answer = self.call("/VolumeDriver.Mount", &json!({"Name": name, "ID": user})).await?;
        let at = answer.get("Mountpoint").and_then(Value::as_str).unwrap_or_default();
        if !Path::new(at).is_absolute() {
            return Err(Error::system(format!("plugin {} mounted the volume at {at:?}", self.name)));
        }
        Ok(at.into())
    }

    pub async fn volume_unmount(&self, name: &str, user: &str) -> Result<()> {
        self.call("/VolumeDriver.Unmount", &json!({"Name": name, "ID": user})).await.map(drop)
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
