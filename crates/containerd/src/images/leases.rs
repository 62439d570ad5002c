//! Leases: they keep what is being made until it has a name, and expire by themselves should we die.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use containerd_client::services::v1::{CreateRequest, DeleteRequest, ListRequest};
use gantry_domain::{Result, id::random_hex};
use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};

use crate::client::{self, Client};

const PREFIX: &str = "gantry-";
const LIFETIME: SignedDuration = SignedDuration::from_hours(24);

/// Leases on blobs that a later pull goes on with: neither recovery nor an error ends them, but success, or a day.
const RESUME_PREFIX: &str = "resume.gantry-";

/// A new lease for `purpose` (`load`, `import`, …); its name.
pub async fn create(client: &Client, purpose: &str) -> Result<String> {
    create_named(client, format!("{PREFIX}{purpose}-{}", &random_hex()[..24])).await
}

async fn create_named(client: &Client, id: String) -> Result<String> {
    let expires = Timestamp::now().checked_add(LIFETIME).unwrap_or(Timestamp::MAX);
    let expires = Timestamp::from_second(expires.as_second()).unwrap_or(expires).to_string();
    let labels = HashMap::from([("containerd.io/gc.expire".to_owned(), expires)]);
    let request = CreateRequest { id: id.clone(), labels };
    client.leases().create(request).await.map_err(client::error)?;
    Ok(id)
}

/// Ends a lease. `Collect::Now` waits until what it alone kept is gone. An absent one is fine.
pub async fn delete(client: &Client, id: &str, collect: Collect) -> Result<()> {
    let request = DeleteRequest { id: id.to_owned(), sync: collect == Collect::Now };
    let deleted = client::retry(|| {
        let request = request.clone();
        async move { client.leases().delete(request).await }
    });
    match deleted.await {
        Err(error) if !error.is_not_found() => Err(error),
        _ => Ok(()),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Collect {
    Now,
    Later,
}

/// Ours, by their names.
pub async fn list(client: &Client) -> Result<Vec<String>> {
    starting_with(client, PREFIX).await
}

async fn starting_with(client: &Client, prefix: &str) -> Result<Vec<String>> {
    let answer = client::retry(|| async { client.leases().list(ListRequest::default()).await }).await?;
    Ok(answer.leases.into_iter().map(|lease| lease.id).filter(|id| id.starts_with(prefix)).collect())
}

/// Leases on blobs of pulls that may be gone on with.
#[derive(Clone, Default)]
pub struct Resumables {
    /// Those of pulls that run. A short lock, never held across an await.
    running: Arc<Mutex<HashSet<String>>>,
}

/// One of them.
#[derive(Clone)]
pub struct Resumable {
    pub id: String,
    /// What all pulls of one name have in common.
    prefix: String,
}

impl Resumables {
    pub async fn create(&self, client: &Client, name: &str) -> Result<Resumable> {
        let hash = hex::encode(Sha256::digest(name));
        let prefix = format!("{RESUME_PREFIX}{}-", &hash[..24]);
        let id = format!("{prefix}{}", &random_hex()[..16]);
        self.running.lock().insert(id.clone());
        let created = create_named(client, id.clone()).await;
        if created.is_err() {
            self.running.lock().remove(&id);
        }
        created.map(|id| Resumable { id, prefix })
    }

    /// Leaves it for the next pull.
    pub fn keep(&self, lease: Resumable) {
        self.running.lock().remove(&lease.id);
    }

    /// The image has its name: this lease and those of earlier pulls of it that failed are not needed any more.
    pub async fn end(&self, client: &Client, lease: Resumable) -> Result<()> {
        self.running.lock().remove(&lease.id);
        self.drop_stale(client, &lease.prefix).await
    }

    /// Gives up what no running pull holds.
    pub async fn drop_all(&self, client: &Client) -> Result<()> {
        self.drop_stale(client, RESUME_PREFIX).await
    }

    async fn drop_stale(&self, client: &Client, prefix: &str) -> Result<()> {
        for id in starting_with(client, prefix).await? {
            let running = self.running.lock().contains(&id);
            if !running {
                delete(client, &id, Collect::Later).await?;
            }
        }
        Ok(())
    }
}
