//! How a container finds names: its `/etc/resolv.conf`, and what its resolver knows.

use gantry_domain::{
    ErrorKind, Result,
    network::{
        NetworkRecord,
        names::{self, ResolverSetup},
        resolv::{self, Audience, Rendered, Wishes},
    },
    ports::SandboxSetup,
};

use super::{addresses, owner::Owner};
use crate::parts::Parts;

/// Largest `resolv.conf` that is read back, bytes.
const MAX_RESOLV_CONF: u64 = 1 << 20;

/// Makes the sandbox, with its resolver where its networks have names; in the namespace of a process where there is one.
pub(crate) async fn open_sandbox(
    parts: &Parts,
    sandbox: &SandboxSetup,
    names: Option<&ResolverSetup>,
    process: Option<u32>,
) -> Result<()> {
    let made = async {
        match process {
            None => parts.ports.network.create_sandbox(sandbox).await?,
            Some(process) => parts.ports.network.wire_sandbox(sandbox, process).await?,
        };
        match names {
            Some(names) => parts.ports.network.resolve(&sandbox.id, names).await,
            None => Ok(()),
        }
    };
    made.await.map_err(|error| error.with_kind(ErrorKind::System).context("failed to set up container networking"))
}

impl Owner {
    /// Tells the container's resolver where it stands, after a change of its name or its networks, or of its half.
    /// One that no network needs any more is told so, for the container's file may still name it.
    pub(crate) async fn resolve(&self) -> Result<()> {
        self.parts.ports.network.resolve(&self.record.id, &self.known_names().await?).await
    }

    /// A gantryd that was killed may have told the resolver half of a change, or not yet have named it in the file.
    pub(crate) async fn resolve_rejoined(&self) -> Result<()> {
        self.resolve().await?;
        if self.audience()? == Audience::Resolver { self.name_resolver().await } else { Ok(()) }
    }

    /// A network came: the resolver is made where it is the first one with names, and `resolv.conf` names it unless
    /// somebody changed the file.
    pub(crate) async fn resolve_joined(&self, network: &NetworkRecord) -> Result<()> {
        if !names::has_names(network) || self.audience()? != Audience::Resolver {
            return Ok(());
        }
        self.resolve().await?;
        self.name_resolver().await
    }

    /// Puts the resolver into a `resolv.conf` that is as gantryd wrote it without one.
    async fn name_resolver(&self) -> Result<()> {
        let ports = &self.parts.ports;
        let path = ports.files.path(&self.record.id).join("resolv.conf");
        let present = ports.host.read_file(&path.to_string_lossy(), MAX_RESOLV_CONF).await?;
        for ipv6 in [false, true] {
            if self.resolv_conf_for(Audience::Direct { ipv6 }).await?.content.as_bytes() == present {
                let content = self.resolv_conf().await?.content;
                return ports.files.write(&self.record.id, vec![("resolv.conf".to_owned(), content.into())]).await;
            }
        }
        Ok(())
    }

    /// A network went: the resolver stays, as the container's file names it, and knows less.
    pub(crate) async fn resolve_left(&self, network: &NetworkRecord) -> Result<()> {
        if names::has_names(network) { self.resolve().await } else { Ok(()) }
    }

    /// What the resolver is to know; `None` where no network of the container has names.
    pub(crate) async fn resolver_setup(&self) -> Result<Option<ResolverSetup>> {
        if self.audience()? == Audience::Resolver { self.known_names().await.map(Some) } else { Ok(None) }
    }

    async fn known_names(&self) -> Result<ResolverSetup> {
        let Rendered { servers, ndots_set, .. } = self.resolv_conf_for(Audience::Resolver).await?;
        let claims = self.parts.claims.lock();
        let networks = addresses::networks_of(&self.record, &claims)?;
        let places = networks.iter().filter_map(|(name, network)| names::place(&self.record, name, network));
        let open = |name: &String| {
            let endpoint = self.record.run.as_ref().and_then(|run| run.endpoints.get(name));
            endpoint.is_some_and(|endpoint| endpoint.ipv4.is_some() || endpoint.ipv6.is_some())
        };
        Ok(ResolverSetup {
            networks: places.collect(),
            servers,
            // What only internal networks connect reaches nothing outside, name servers included (T43).
            forward: networks.iter().any(|(name, network)| !network.internal && open(name)),
            dotless_stay: ndots_set,
        })
    }

    /// `resolv.conf`, and the servers behind the resolver.
    pub(crate) async fn resolv_conf(&self) -> Result<Rendered> {
        self.resolv_conf_for(self.audience()?).await
    }

    async fn resolv_conf_for(&self, audience: Audience) -> Result<Rendered> {
        let files = &self.parts.ports.files;
        let host = match audience {
            // It asks the servers itself: a stub on the host's loopback is out of its reach.
            Audience::Direct { .. } => files.resolv_conf().await?,
            Audience::Host | Audience::Resolver => files.host_resolv_conf().await?,
        };
        Ok(resolv::render(&host.path, &host.content, &self.wishes(), audience))
    }

    fn audience(&self) -> Result<Audience> {
        if self.record.host_config.network_mode == "host" {
            return Ok(Audience::Host);
        }
        let claims = self.parts.claims.lock();
        let networks = addresses::networks_of(&self.record, &claims)?;
        if networks.iter().any(|(name, network)| names::place(&self.record, name, network).is_some()) {
            return Ok(Audience::Resolver);
        }
        let mut endpoints = self.record.run.iter().flat_map(|run| run.endpoints.values());
        Ok(Audience::Direct { ipv6: endpoints.any(|endpoint| endpoint.ipv6.is_some()) })
    }

    /// The container's, each list in place of the engine's.
    fn wishes(&self) -> Wishes {
        let settings = self.parts.settings.load_full();
        let config = &self.record.host_config;
        let or = |own: &Option<Vec<String>>, default: &Vec<String>| {
            own.clone().filter(|list| !list.is_empty()).unwrap_or_else(|| default.clone())
        };
        let dns = match config.dns.as_deref().unwrap_or_default() {
            [] => settings.dns.clone(),
            typed => typed.iter().filter_map(|text| text.parse().ok()).collect(),
        };
        Wishes {
            dns,
            search: or(&config.dns_search, &settings.dns_search),
            options: or(&config.dns_options, &settings.dns_options),
        }
    }
}
