//! Leases: they keep what is being made until it has a name, and expire by themselves should we die.

use std::collections::HashMap;

use containerd_client::services::v1::{CreateRequest, DeleteRequest, ListRequest};
use gantry_domain::{Result, id::random_hex};
use jiff::{SignedDuration, Timestamp};

use crate::client::{self, Client};

const PREFIX: &str = "gantry-";
const LIFETIME: SignedDuration = SignedDuration::from_hours(24);

/// A new lease for `purpose` (`load`, `import`, …); its name.
pub async fn create(client: &Client, purpose: &str) -> Result<String> {
    let id = format!("{PREFIX}{purpose}-{}", &random_hex()[..24]);
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
    let answer = client::retry(|| async { client.leases().list(ListRequest::default()).await }).await?;
    Ok(answer.leases.into_iter().map(|lease| lease.id).filter(|id| id.starts_with(PREFIX)).collect())
}
