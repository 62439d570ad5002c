//! Working debts off: Leave, DeleteEndpoint and ReleaseAddress of endpoints, DeleteNetwork and ReleasePool of networks.

use std::{collections::BTreeSet, net::IpAddr, sync::atomic::Ordering, time::Duration};

use gantry_domain::{
    Error, ErrorKind, NetworkId, Result,
    network::lent::{Debt, Lent, LentNetwork, Owed},
    ports::{Gift, Place, Write},
};

use crate::{
    Engine,
    parts::{Parts, within},
};

/// How often a plugin may answer that it does not take something. Mostly it has it already.
const REFUSALS: u8 = 3;
/// Between two passes over what plugins that were away have to get back.
const EVERY: Duration = Duration::from_secs(15);
/// To see whether who is at a debt has done with it.
const LOOK: Duration = Duration::from_millis(20);
/// Moving one interface.
const MOVE_LIMIT: Duration = Duration::from_secs(5);

/// What became of one part of a debt.
enum Told {
    Taken,
    Refused,
    Away,
}

impl Told {
    fn of(debt: &str, plugin: &str, result: Result<()>) -> Self {
        let Err(error) = result else { return Self::Taken };
        let away = matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Unavailable);
        tracing::info!(debt, plugin, %error, "a plugin did not take back what it has lent");
        if away { Self::Away } else { Self::Refused }
    }
}

/// What became of a debt.
#[derive(Default)]
struct Outcome {
    away: BTreeSet<String>,
    refused: bool,
}

impl Outcome {
    /// Whether this part is owed no more.
    fn note(&mut self, plugin: &str, told: Told) -> bool {
        match told {
            Told::Taken => true,
            Told::Refused => {
                self.refused = true;
                false
            }
            Told::Away => {
                self.away.insert(plugin.to_owned());
                false
            }
        }
    }
}

/// Lets go of a debt also where the work on it is dropped.
struct Held<'a>(&'a Parts, &'a str);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.debts.release(self.1);
    }
}

impl Engine {
    /// Runs for as long as it is awaited.
    pub(crate) async fn pay_debts(&self) {
        let parts = &self.parts;
        parts.debts.working.store(true, Ordering::Relaxed);
        super::replay::replay(parts).await;
        loop {
            parts.pay_all().await;
            tokio::select! {
                () = parts.debts.dropped.notified() => {}
                () = tokio::time::sleep(EVERY) => {}
            }
        }
    }
}

impl Parts {
    /// Gives these back, and waits no longer than `limit`; what is left is gone on with after it.
    pub(crate) async fn settle(&self, ids: &[String], limit: Duration) {
        if ids.is_empty() || !self.debts.is_working() {
            return;
        }
        let all = futures::future::join_all(ids.iter().map(|id| self.pay_in_turn(id)));
        if tokio::time::timeout(limit, all).await.is_err() {
            tracing::warn!(
                debts = ids.len(),
                "plugins do not take back in time what they have lent: they are told later"
            );
        }
    }

    /// The same where somebody else may be at it.
    async fn pay_in_turn(&self, id: &str) {
        while self.debts.is_owed(id) {
            match self.debts.hold(id) {
                Some(debt) => return drop(self.pay(debt).await),
                None => tokio::time::sleep(LOOK).await,
            }
        }
    }

    /// One pass. A plugin that was away once is not asked again in it.
    async fn pay_all(&self) {
        let mut away = BTreeSet::new();
        for id in self.debts.ids() {
            let Some(debt) = self.debts.hold(&id) else { continue };
            if debt.plugins().iter().any(|plugin| away.contains(*plugin)) {
                self.debts.release(&id);
                continue;
            }
            away.extend(self.pay(debt).await);
        }
    }

    /// Works a debt off that is held by the caller. Returns the plugins that were away.
    async fn pay(&self, mut debt: Debt) -> BTreeSet<String> {
        let id = debt.id.clone();
        let _held = Held(self, &id);
        let mut outcome = Outcome::default();
        let network = debt.network.clone();
        match &mut debt.what {
            Owed::Endpoint { lent, .. } => self.pay_endpoint(&id, &network, lent, &mut outcome).await,
            Owed::Network(lent) => self.pay_network(&id, &network, lent, &mut outcome).await,
        }
        let (rest, refusals) = self.debts.keep_rest(&debt, outcome.refused);
        let gone = outcome.away.is_empty() && (!outcome.refused || refusals >= REFUSALS);
        let write = if gone { Some(Write::DebtGone { id: id.clone() }) } else { rest.map(Write::Debt) };
        // What was given back may be somebody else's soon: the next gantryd must not give it back again.
        match self.ports.store.commit(write.into_iter().collect()).await {
            Ok(()) if gone => self.debts.forget(&id),
            Ok(()) => {}
            Err(error) => tracing::warn!(debt = id, %error, "a debt that is paid could not be struck off"),
        }
        outcome.away
    }

    /// Before the plugin is told: it finds its interface where it has put it. For who knows that no later run is there.
    pub(crate) async fn return_interface(&self, debt: &Debt) {
        let Owed::Endpoint { container, interface, lent } = &debt.what else { return };
        if lent.source.is_empty() || interface.is_empty() {
            return;
        }
        let moved = self.ports.network.return_interface(container, interface, &lent.source);
        if let Err(error) = within(MOVE_LIMIT, "moving an interface back", moved).await {
            tracing::warn!(container = %container, interface, %error, "a lent interface is left where it is");
        }
    }

    async fn pay_endpoint(&self, id: &str, network: &NetworkId, lent: &mut Lent, outcome: &mut Outcome) {
        let plugins = &self.ports.plugins;
        if !lent.driver.is_empty() {
            let place = Place { driver: lent.driver.clone(), network: network.clone(), endpoint: id.to_owned() };
            let told = |result| Told::of(id, &place.driver, result);
            // Whether it was joined, and made reachable, the end of the endpoint ends.
            let mut first = Told::Taken;
            if lent.published {
                first = told(plugins.withdraw_endpoint(&place).await);
            }
            if !matches!(first, Told::Away) {
                first = told(plugins.leave(&place).await);
            }
            let last = match first {
                Told::Away => Told::Away,
                _ => told(plugins.delete_endpoint(&place).await),
            };
            if outcome.note(&place.driver, last) {
                lent.driver.clear();
            }
        }
        let mut left = Vec::new();
        for given in std::mem::take(&mut lent.addresses) {
            let taken = !outcome.away.contains(&lent.ipam) && {
                let released = plugins.release_address(&lent.ipam, &given.pool, given.address).await;
                outcome.note(&lent.ipam, Told::of(id, &lent.ipam, released))
            };
            match taken {
                true => self.note(&lent.ipam, &given.pool, Some(given.address)).await,
                false => left.push(given),
            }
        }
        lent.addresses = left;
    }

    async fn pay_network(&self, id: &str, network: &NetworkId, lent: &mut LentNetwork, outcome: &mut Outcome) {
        let plugins = &self.ports.plugins;
        if !lent.driver.is_empty() {
            let deleted = plugins.delete_network(&lent.driver, network).await;
            if outcome.note(&lent.driver, Told::of(id, &lent.driver, deleted)) {
                lent.driver.clear();
            }
        }
        let mut left = Vec::new();
        for mut pool in std::mem::take(&mut lent.pools) {
            for address in std::mem::take(&mut pool.addresses) {
                if outcome.away.contains(&lent.ipam) {
                    pool.addresses.push(address);
                    continue;
                }
                let released = plugins.release_address(&lent.ipam, &pool.id, address).await;
                match Told::of(id, &lent.ipam, released) {
                    Told::Away => {
                        outcome.away.insert(lent.ipam.clone());
                        pool.addresses.push(address);
                    }
                    Told::Taken | Told::Refused => self.note(&lent.ipam, &pool.id, Some(address)).await,
                }
            }
            // The pool ends its addresses.
            let taken = !outcome.away.contains(&lent.ipam) && {
                let released = plugins.release_pool(&lent.ipam, &pool.id).await;
                outcome.note(&lent.ipam, Told::of(id, &lent.ipam, released))
            };
            match taken {
                true => self.note(&lent.ipam, &pool.id, None).await,
                false => left.push(pool),
            }
        }
        lent.pools = left;
    }

    /// Nobody has to look for its owner any more.
    async fn note(&self, ipam: &str, pool: &str, address: Option<IpAddr>) {
        self.ports.plugins.noted(&Gift { ipam: ipam.to_owned(), pool: pool.to_owned(), address }).await;
    }

    /// What a killed gantryd was given and had not noted becomes a debt, before anything is taken anew.
    pub(crate) async fn take_up_gifts(&self) {
        for gift in self.ports.plugins.gifts().await.unwrap_or_default() {
            if !self.debts.has(&gift) && !self.is_on_record(&gift) {
                tracing::warn!(ipam = gift.ipam, pool = gift.pool, "what a plugin gave is nobody's: it gets it back");
                if let Err(error) = self.owe(vec![Debt::of_gift(&gift)], Vec::new()).await {
                    tracing::warn!(%error, "a gift of a plugin is left for the next start");
                    continue;
                }
            }
            self.ports.plugins.noted(&gift).await;
        }
    }

    fn is_on_record(&self, gift: &Gift) -> bool {
        let of_network = self.claims.lock().networks.values().any(|it| it.lent.iter().any(|lent| lent.has(gift)));
        of_network
            || self.snapshots().iter().any(|snapshot| {
                let mut endpoints = snapshot.record.run.iter().flat_map(|run| run.endpoints.values());
                endpoints.any(|endpoint| endpoint.lent.iter().any(|lent| lent.has(gift)))
            })
    }

    /// Whether the plugin can be told of the end of a network: in dockerd's words where it is not there.
    pub(crate) async fn find_driver(&self, driver: &str) -> Result<()> {
        let found = self.ports.plugins.driver(driver).await.map(drop);
        found.map_err(|error: Error| super::shown(error).context("failed deleting network"))
    }
}
