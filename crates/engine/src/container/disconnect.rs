//! `POST /networks/{id}/disconnect`: out of a network, at once where the container runs.

use futures::FutureExt as _;
use gantry_domain::{
    Error, Result,
    container::ContainerRecord,
    network::{NetworkRecord, lent::Debt},
};

use super::{addresses::network_of, connect::NetworkDisconnect, owner::Owner};
use crate::{Engine, parts::detached};

impl Engine {
    /// Takes a container out of a network. A client's hang-up does not cut it short.
    pub async fn network_disconnect(&self, typed: &str, request: NetworkDisconnect) -> Result<()> {
        let network = self.parts.claims.lock().network(typed).cloned();
        let handle = match self.parts.container(&request.container) {
            Ok(handle) => handle,
            // Nothing of a container that is gone can be left in a network: endpoints are parts of its record.
            Err(error) if error.is_not_found() && request.force => {
                let network = network?;
                return Err(Error::not_found(format!(
                    "endpoint {} not found in network {}",
                    request.container, network.name
                )));
            }
            Err(error) => return Err(error),
        };
        let typed = typed.to_owned();
        detached(async move {
            handle.run(move |owner| async move { owner.disconnect(&typed, network, request.force).await }.boxed()).await
        })
        .await
    }
}

impl Owner {
    async fn disconnect(&mut self, typed: &str, network: Result<NetworkRecord>, force: bool) -> Result<()> {
        self.may_change_networks()?;
        match network {
            Ok(network) => self.disconnect_known(&network).await,
            // A network that went while the container was not in it: only its entry is left.
            Err(error) if error.is_not_found() && (force || !self.status.has_process()) => {
                self.forget_entry(typed).await
            }
            Err(error) => Err(error),
        }
    }

    async fn forget_entry(&mut self, typed: &str) -> Result<()> {
        let mut entries = self.record.networks.iter();
        let entry = entries.find(|(name, asked)| *name == typed || asked.network_id == typed);
        let Some(name) = entry.map(|(name, _)| name.clone()) else { return Err(self.not_connected(typed)) };
        let before = self.record.clone();
        self.record.networks.remove(&name);
        let endpoint = self.record.run.as_mut().and_then(|run| run.endpoints.remove(&name));
        let debt = endpoint.as_ref().and_then(|endpoint| Debt::of_endpoint(&self.record.id, endpoint));
        if let Err(error) = self.save_letting_go(debt.clone()).await {
            self.record.networks = before.networks;
            self.record.run = before.run;
            return Err(error);
        }
        if let Some(debt) = debt {
            self.parts.return_interface(&debt).await;
            self.parts.debts.release(&debt.id);
            self.settle_lent().await;
        }
        if let Some(network) = endpoint.and_then(|endpoint| endpoint.network_id) {
            self.parts.claims.lock().leave_network(&network, &self.record.id);
        }
        self.publish();
        Ok(())
    }

    fn not_connected(&self, network: &str) -> Error {
        let the = if self.status.has_process() { "" } else { "the " };
        Error::system(format!("container {} is not connected to {the}network {network}", self.record.id))
    }

    async fn disconnect_known(&mut self, network: &NetworkRecord) -> Result<()> {
        if network.driver == "host" && self.record.host_config.network_mode == "host" {
            return Err(Error::invalid(
                "container cannot be disconnected from host network or connected to host network",
            ));
        }
        let name = {
            let claims = self.parts.claims.lock();
            let mut entries = self.record.networks.iter();
            let entry = entries.find(|(name, asked)| {
                network_of(&claims, name, asked).is_ok_and(|known| known.id == network.id) || **name == network.name
            });
            entry.map(|(name, _)| name.clone())
        };
        let Some(name) = name else { return Err(self.not_connected(&network.name)) };
        self.finish_leaving().await?;
        let before = self.record.clone();
        self.record.networks.remove(&name);
        let endpoint = self.record.run.as_mut().and_then(|run| run.endpoints.remove(&name));
        let debt = endpoint.as_ref().and_then(|endpoint| Debt::of_endpoint(&self.record.id, endpoint));
        if let Err(error) = self.save_letting_go(debt.clone()).await {
            self.record.networks = before.networks;
            self.record.run = before.run;
            return Err(error);
        }
        if self.status.has_process() {
            let left = match self.leave(debt.as_ref()).await {
                Ok(()) => self.resolve_left(network).await,
                failed => failed,
            };
            if let Err(error) = left {
                self.undo_disconnect(before, network, debt).await;
                return Err(
                    error.context(format!("container {} failed to leave network {}", self.record.id, network.name))
                );
            }
            self.rewrite_hosts(None, endpoint.as_ref()).await;
            debt.iter().for_each(|debt| self.parts.debts.release(&debt.id));
            self.settle_lent().await;
            self.parts.claims.lock().leave_network(&network.id, &self.record.id);
            self.network_event(network, "disconnect");
        } else {
            debt.iter().for_each(|debt| self.parts.debts.release(&debt.id));
        }
        self.publish();
        Ok(())
    }

    /// It is in the network still: record and sandbox say so again.
    async fn undo_disconnect(&mut self, before: ContainerRecord, network: &NetworkRecord, debt: Option<Debt>) {
        let after = (self.record.networks.clone(), self.record.run.clone());
        self.record.networks = before.networks;
        self.record.run = before.run;
        if let Err(error) = self.save_after_all(debt.clone()).await {
            // What is durable holds: it is not in the network, and what it had of plugins is owed.
            (self.record.networks, self.record.run) = after;
            self.in_use.extend(debt.map(|debt| debt.id));
            self.has_left(&network.id, Err(error));
            return self.publish();
        }
        let undone = async {
            if let Some(setup) = self.sandbox_setup()? {
                self.parts.ports.network.update_sandbox(&setup).await?;
            }
            self.resolve().await
        };
        if let Err(error) = undone.await {
            tracing::warn!(container = %self.record.id, %error, "half a disconnection is left for the next start");
        }
        self.publish();
    }

    /// The sandbox follows the record; ports go when no network publishes them any more.
    async fn leave(&mut self, debt: Option<&Debt>) -> Result<()> {
        let Some(setup) = self.sandbox_setup()? else { return Ok(()) };
        if let Some(debt) = debt {
            self.parts.return_interface(debt).await;
        }
        let changes = self.reachability()?;
        self.parts.ports.network.update_sandbox(&setup).await?;
        if let Err(error) = self.tell_reachability(changes).await {
            tracing::warn!(container = %self.record.id, %error, "the endpoint that leads outside now is not published");
        }
        if !setup.ports.is_empty() && setup.target(false).is_none() && setup.target(true).is_none() {
            self.parts.ports.network.release_ports(&self.record.id).await?;
            if let Some(run) = self.record.run.as_mut() {
                run.ports.clear();
            }
            self.save().await?;
        }
        Ok(())
    }
}
