//! Which places are asked for a registry's repositories, in which order: `hosts.toml`, mirrors, the registry itself.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use gantry_domain::{Error, Result};
use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use rustls::ClientConfig;
use serde::Deserialize;

use crate::{
    address,
    config::RegistryConfig,
    endpoint::Place,
    tls::{self, ClientFiles},
};

/// Docker Hub's domain in names of images.
const HUB_DOMAIN: &str = "docker.io";
/// Folder of the hosts that have none.
const DEFAULT: &str = "_default";

/// Every place, the preferred one first. Reads files: call it off the runtime's threads.
pub(crate) fn places(domain: &str, config: &RegistryConfig) -> Result<Vec<Place>> {
    let authority = address::authority(domain)?;
    let folder = folder(&authority, &config.certificates);
    let mut places = match fs::read_to_string(folder.join("hosts.toml")) {
        Ok(text) => {
            from_file(&text, &folder, &authority).map_err(|error| error.context(folder.join("hosts.toml").display()))?
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let mirrors = config.mirrors.iter().filter(|_| domain == HUB_DOMAIN).map(|mirror| mirror_place(mirror));
            mirrors.chain([Ok(registry_place(authority.clone()))]).collect::<Result<_>>()?
        }
        Err(error) => return Err(Error::system(format!("{}: {error}", folder.display())).with_source(error)),
    };
    for place in places.iter_mut().filter(|place| place.authority != authority) {
        place.stands_for = Some(domain.to_owned());
    }
    Ok(places)
}

/// Where a host's files are: the first folder that is there, as in containerd, or the one that is not there by its own
/// name. `host_port_` is for file systems that know no colon, `_default` for hosts without a folder.
pub(crate) fn folder(authority: &str, certificates: &Path) -> PathBuf {
    let hub = (authority == address::HUB).then_some(HUB_DOMAIN);
    let plain = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => Some(format!("{host}_{port}_")),
        _ => None,
    };
    // An authority was parsed: it has no slash, and a folder of that name is below ours.
    let own = certificates.join(authority);
    let named = hub.into_iter().chain(plain.as_deref()).map(|name| certificates.join(name));
    let mut all = named.chain([own.clone(), certificates.join(DEFAULT)]);
    all.find(|folder| folder.is_dir()).unwrap_or(own)
}

fn registry_place(authority: String) -> Place {
    Place {
        authority,
        scheme: None,
        prefix: "/v2".into(),
        headers: HeaderMap::new(),
        tls: None,
        pull: true,
        push: true,
        stands_for: None,
    }
}

fn mirror_place(mirror: &str) -> Result<Place> {
    Ok(Place { push: false, ..url_place(mirror, false)? })
}

fn url_place(url: &str, exact_path: bool) -> Result<Place> {
    let wrong = || Error::invalid(format!("{url:?} is no URL of a registry"));
    let text = if url.contains("://") { url.to_owned() } else { format!("https://{url}") };
    let parsed: Uri = text.parse().map_err(|_| wrong())?;
    let scheme = match parsed.scheme_str() {
        Some("https") => "https",
        Some("http") => "http",
        _ => return Err(wrong()),
    };
    let path = parsed.path().trim_end_matches('/');
    let prefix = if exact_path || path.ends_with("/v2") { path.to_owned() } else { format!("{path}/v2") };
    Ok(Place { scheme: Some(scheme), prefix, ..registry_place(address::authority(&text)?) })
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct File {
    server: Option<String>,
    #[serde(flatten)]
    default: HostTable,
    host: toml::Table,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct HostTable {
    capabilities: Option<Vec<String>>,
    skip_verify: bool,
    override_path: bool,
    ca: Option<OneOrMore>,
    client: Option<Clients>,
    header: std::collections::BTreeMap<String, OneOrMore>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

/// `"both.pem"`, `["a.pem", …]` or `[["a.cert", "a.key"], …]`.
#[derive(Deserialize)]
#[serde(untagged)]
enum Clients {
    One(String),
    Files(Vec<String>),
    Pairs(Vec<Vec<String>>),
}

impl OneOrMore {
    fn all(&self) -> Vec<&str> {
        match self {
            Self::One(one) => vec![one],
            Self::More(more) => more.iter().map(String::as_str).collect(),
        }
    }
}

fn from_file(text: &str, folder: &Path, authority: &str) -> Result<Vec<Place>> {
    let file: File = toml::from_str(text).map_err(|error| Error::invalid(error.message().to_owned()))?;
    let mut places = Vec::new();
    for (url, table) in file.host {
        let table: HostTable = table
            .try_into()
            .map_err(|error: toml::de::Error| Error::invalid(format!("host {url:?}: {}", error.message())))?;
        places.push(with_table(url_place(&url, table.override_path)?, &table, folder)?);
    }
    let server = match &file.server {
        Some(server) => url_place(server, file.default.override_path)?,
        None => registry_place(authority.to_owned()),
    };
    places.push(with_table(server, &file.default, folder)?);
    Ok(places)
}

fn with_table(mut place: Place, table: &HostTable, folder: &Path) -> Result<Place> {
    if let Some(capabilities) = &table.capabilities {
        let can = |what: &str| capabilities.iter().any(|one| one == what);
        (place.pull, place.push) = (can("pull") || can("resolve"), can("push"));
    }
    for (name, values) in &table.header {
        let wrong = || Error::invalid(format!("invalid header {name:?}"));
        let name: HeaderName = name.parse().map_err(|_| wrong())?;
        for value in values.all() {
            place.headers.append(name.clone(), HeaderValue::try_from(value).map_err(|_| wrong())?);
        }
    }
    place.tls = trust(table, folder)?;
    Ok(place)
}

/// `None` leaves it to the host's folder.
fn trust(table: &HostTable, folder: &Path) -> Result<Option<Arc<ClientConfig>>> {
    if table.ca.is_none() && table.client.is_none() && !table.skip_verify {
        return Ok(None);
    }
    let path = |name: &str| folder.join(name);
    let authorities = table.ca.iter().flat_map(OneOrMore::all).map(path).collect();
    let client = match &table.client {
        None => None,
        Some(Clients::One(both)) => Some((path(both), path(both))),
        Some(Clients::Files(files)) => files.first().map(|both| (path(both), path(both))),
        Some(Clients::Pairs(pairs)) => pairs.first().map(|pair| pair_of(pair, folder)).transpose()?,
    };
    tls::from_files(&ClientFiles { authorities, client }, !table.skip_verify).map(Some)
}

fn pair_of(pair: &[String], folder: &Path) -> Result<(PathBuf, PathBuf)> {
    match pair {
        [both] => Ok((folder.join(both), folder.join(both))),
        [certificate, key] => {
            Ok((folder.join(certificate), folder.join(if key.is_empty() { certificate } else { key })))
        }
        _ => Err(Error::invalid("client must be a certificate and a key")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn shown(places: &[Place]) -> Vec<String> {
        let scheme = |place: &Place| place.scheme.unwrap_or("any");
        let rights = |place: &Place| match (place.pull, place.push) {
            (true, true) => "both",
            (true, false) => "pull",
            (false, true) => "push",
            (false, false) => "none",
        };
        places.iter().map(|one| format!("{} {}{} {}", scheme(one), one.authority, one.prefix, rights(one))).collect()
    }

    #[test]
    fn mirrors_are_asked_for_docker_hubs_images_alone_and_before_it() {
        let folder = tempfile::tempdir().unwrap();
        let mirrors = vec!["https://m.example/hub/".to_owned(), "http://127.0.0.1:5000".to_owned()];
        let config = RegistryConfig { mirrors, certificates: folder.path().into(), ..RegistryConfig::default() };
        let hub = places("docker.io", &config).unwrap();
        assert_eq!(
            shown(&hub),
            ["https m.example/hub/v2 pull", "http 127.0.0.1:5000/v2 pull", "any registry-1.docker.io/v2 both"]
        );
        assert_eq!(shown(&places("reg.example", &config).unwrap()), ["any reg.example/v2 both"]);
    }

    #[test]
    fn hosts_toml_orders_places_and_says_what_each_may_do() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("reg.example:5000")).unwrap();
        let text = r#"
            server = "https://reg.example:5000"
            [host."https://z.example"]
              capabilities = ["pull", "resolve"]
              skip_verify = true
              [host."https://z.example".header]
                x-team = ["a", "b"]
            [host."http://a.example/exact"]
              override_path = true
              capabilities = ["push"]
        "#;
        fs::write(folder.path().join("reg.example:5000/hosts.toml"), text).unwrap();
        let config = RegistryConfig { certificates: folder.path().into(), ..RegistryConfig::default() };
        let found = places("reg.example:5000", &config).unwrap();
        assert_eq!(
            shown(&found),
            ["https z.example/v2 pull", "http a.example/exact push", "https reg.example:5000/v2 both"]
        );
        assert_eq!(found[0].headers.get_all("x-team").iter().count(), 2);
        assert!(found[0].tls.is_some());
        let others: Vec<_> = found.iter().map(|place| place.stands_for.as_deref()).collect();
        assert_eq!(others, [Some("reg.example:5000"), Some("reg.example:5000"), None]);
        fs::write(folder.path().join("reg.example:5000/hosts.toml"), "server = 3").unwrap();
        assert!(places("reg.example:5000", &config).is_err());
    }

    #[test]
    fn a_host_has_the_first_folder_that_is_there_and_a_default_one_else() {
        let certificates = tempfile::tempdir().unwrap();
        let of = |authority: &str| {
            let found = folder(authority, certificates.path());
            found.strip_prefix(certificates.path()).unwrap().to_str().unwrap().to_owned()
        };
        assert_eq!(of("reg.example:5000"), "reg.example:5000");
        for (made, authority) in [
            ("_default", "reg.example:5000"),
            ("reg.example:5000", "reg.example:5000"),
            ("reg.example_5000_", "reg.example:5000"),
            ("registry-1.docker.io", "registry-1.docker.io"),
            ("docker.io", "registry-1.docker.io"),
            ("[::1]_5000_", "[::1]:5000"),
        ] {
            fs::create_dir(certificates.path().join(made)).unwrap();
            assert_eq!(of(authority), made);
        }
        assert_eq!((of("[::1]"), of("other.example")), ("_default".into(), "_default".into()));
        let text = "[host.\"https://mirror.example\"]\ncapabilities = [\"pull\"]\n";
        fs::write(certificates.path().join("_default/hosts.toml"), text).unwrap();
        let config = RegistryConfig { certificates: certificates.path().into(), ..RegistryConfig::default() };
        let found = places("other.example:5000", &config).unwrap();
        assert_eq!(shown(&found), ["https mirror.example/v2 pull", "any other.example:5000/v2 both"]);
        assert_eq!(found[0].stands_for.as_deref(), Some("other.example:5000"));
    }
}
