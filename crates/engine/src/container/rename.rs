//! `POST /containers/{id}/rename`: the old name is free the moment the new one is durable.

use futures::FutureExt as _;
use gantry_domain::{Error, Result, container::name, network::endpoint::dns_names};

use super::owner::Owner;
use crate::Engine;

impl Engine {
    pub async fn container_rename(&self, typed: &str, new_name: &str) -> Result<()> {
        if typed.is_empty() || new_name.is_empty() {
            return Err(Error::invalid("Neither old nor new names may be empty"));
        }
        let handle = self.parts.container(typed)?;
        let new_name = new_name.to_owned();
        handle.run(move |owner| async move { owner.rename(&new_name).await }.boxed()).await
    }
}

impl Owner {
    async fn rename(&mut self, typed: &str) -> Result<()> {
        let allocation = |error: Error| error.context("Error when allocating new name");
        // With its slash, as dockerd keeps names, also in what it says of them.
        let name = name::check(&format!("/{}", typed.strip_prefix('/').unwrap_or(typed))).map_err(allocation)?;
        let old = self.record.name.clone();
        if name == old {
            return Err(Error::invalid("Renaming a container with the same name as its current name"));
        }
        self.parts.claims.lock().take_name(&name, &self.record.id).map_err(allocation)?;
        self.record.name = name.clone();
        self.rename_endpoints();
        if let Err(error) = self.save_and_resolve().await {
            self.record.name = old;
            self.rename_endpoints();
            if let Err(error) = self.save_and_resolve().await {
                tracing::warn!(container = %self.record.id, %error, "half a rename is left for the next start");
            }
            self.parts.claims.lock().free_name(&name, &self.record.id);
            return Err(error);
        }
        self.parts.claims.lock().free_name(&old, &self.record.id);
        self.publish();
        self.keep_copy().await;
        self.event("rename", &[("oldName", format!("/{old}"))]);
        Ok(())
    }

    async fn save_and_resolve(&mut self) -> Result<()> {
        self.save().await?;
        if self.status.has_process() { self.resolve().await } else { Ok(()) }
    }

    /// The names that its networks know it by follow.
    fn rename_endpoints(&mut self) {
        let Some(mut run) = self.record.run.take() else { return };
        for (network, endpoint) in run.endpoints.iter_mut().filter(|(_, endpoint)| !endpoint.dns_names.is_empty()) {
            let asked = self.record.networks.get(network);
            let aliases = asked.and_then(|asked| asked.aliases.as_deref());
            endpoint.dns_names = dns_names(&self.record, aliases);
        }
        self.record.run = Some(run);
    }
}
