//! The engine itself: version, info, events, disk usage.

pub mod info;

use std::collections::BTreeMap;

use gantry_domain::{
    event::{Event, EventType},
    registry::Login,
};
use gantry_engine::system::{DiskUsage, SystemVersion};
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    container::{self, ContainerSummary},
    image::{self, ImageSummary},
    volume::{UsageData, Volume},
};
use crate::app::{About, MAX_VERSION, text};

/// 200 of `POST /auth`.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct AuthResponse {
    /// Stands for the credentials from now on; empty where the registry gives none.
    pub identity_token: String,
    pub status: String,
}

impl From<Login> for AuthResponse {
    fn from(login: Login) -> Self {
        Self { identity_token: login.identity_token, status: login.status }
    }
}

/// `GET /version`.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct VersionResponse {
    pub platform: PlatformName,
    pub components: Vec<Component>,
    pub version: String,
    pub api_version: String,
    #[serde(rename = "MinAPIVersion")]
    pub min_api_version: String,
    pub git_commit: String,
    /// There is no Go here; the field stays, for clients print it.
    pub go_version: String,
    pub os: String,
    pub arch: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kernel_version: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub experimental: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub build_time: String,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct PlatformName {
    pub name: String,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct Component {
    pub name: String,
    pub version: String,
    pub details: BTreeMap<String, String>,
}

impl Component {
    fn new<const N: usize>(name: &str, version: &str, details: [(&str, &str); N]) -> Self {
        Self {
            name: name.to_owned(),
            version: version.to_owned(),
            details: details.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        }
    }
}

/// Go's name of the processor.
pub fn arch() -> String {
    gantry_domain::platform::Platform::host().architecture
}

pub fn version(found: &SystemVersion, about: &About) -> VersionResponse {
    let experimental = found.settings.experimental;
    let (arch, max, min) = (arch(), text(MAX_VERSION), text(about.min_version));
    let engine = [
        ("ApiVersion", max.as_str()),
        ("Arch", &arch),
        ("BuildTime", &about.build_time),
        ("Experimental", if experimental { "true" } else { "false" }),
        ("GitCommit", &about.git_commit),
        ("GoVersion", ""),
        ("KernelVersion", &found.facts.kernel_version),
        ("MinAPIVersion", &min),
        ("Os", "linux"),
    ];
    let versions = &found.versions;
    let components = vec![
        Component::new("Engine", &about.version, engine),
        Component::new("containerd", &versions.containerd, [("GitCommit", &versions.containerd_revision)]),
        Component::new("runc", &versions.runc, [("GitCommit", &versions.runc_commit)]),
        Component::new("docker-init", &found.init_version, [("GitCommit", "")]),
    ];
    VersionResponse {
        platform: PlatformName { name: "Gantry".to_owned() },
        components,
        version: about.version.clone(),
        api_version: max,
        min_api_version: min,
        git_commit: about.git_commit.clone(),
        go_version: String::new(),
        os: "linux".to_owned(),
        arch,
        kernel_version: found.facts.kernel_version.clone(),
        experimental,
        build_time: about.build_time.clone(),
    }
}

/// One line of `GET /events`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct EventMessage {
    /// These three are the shape of old clients, for containers and images only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    #[serde(rename = "Type")]
    pub kind: String,
    #[serde(rename = "Action")]
    pub action: String,
    #[serde(rename = "Actor")]
    pub actor: Actor,
    pub scope: String,
    pub time: i64,
    #[serde(rename = "timeNano")]
    pub time_nano: i64,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Actor {
    #[serde(rename = "ID")]
    pub id: String,
    #[serde(rename = "Attributes")]
    pub attributes: BTreeMap<String, String>,
}

impl From<Event> for EventMessage {
    fn from(event: Event) -> Self {
        let old = matches!(event.kind, EventType::Container | EventType::Image);
        let from = match event.kind {
            EventType::Container => event.attributes.get("image").filter(|image| !image.is_empty()).cloned(),
            _ => None,
        };
        Self {
            status: old.then(|| event.action.clone()),
            id: old.then(|| event.actor_id.clone()),
            from,
            kind: event.kind.as_str().to_owned(),
            action: event.action,
            actor: Actor { id: event.actor_id, attributes: event.attributes },
            scope: "local".to_owned(),
            time: event.at.as_second(),
            time_nano: i64::try_from(event.at.as_nanosecond()).unwrap_or_default(),
        }
    }
}

/// `GET /system/df`; a kind that was not asked for is `null`.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "PascalCase")]
pub struct DiskUsageResponse {
    pub layers_size: i64,
    pub images: Option<Vec<ImageSummary>>,
    pub containers: Option<Vec<ContainerSummary>>,
    pub volumes: Option<Vec<Volume>>,
    /// There is no builder: always empty where asked for.
    pub build_cache: Option<Vec<BTreeMap<String, String>>>,
}

pub fn disk_usage(usage: DiskUsage, now: jiff::Timestamp) -> DiskUsageResponse {
    let images = usage.images.map(|images| images.iter().map(|item| image::summary(item, true)).collect());
    let containers = usage.containers.map(|list| list.into_iter().map(|item| container::summary(item, now)).collect());
    let volumes = usage.volumes.map(|list| {
        list.into_iter()
            .map(|item| Volume {
                usage_data: Some(UsageData { ref_count: item.references, size: item.size }),
                ..item.volume.into()
            })
            .collect()
    });
    DiskUsageResponse {
        layers_size: usage.layers_size,
        images,
        containers,
        volumes,
        build_cache: usage.build_cache.then(Vec::new),
    }
}
