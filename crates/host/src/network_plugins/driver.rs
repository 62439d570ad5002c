//! `NetworkDriver`: what libnetwork's remote driver says.

use gantry_domain::{
    Error, Result,
    network::{Families, NetworkRecord},
    ports::{DriverTraits, Place},
};
use serde_json::{Value, json};

use super::{RemoteNetworks, shapes, told};
use crate::plugins::{Failure, Limit};

const KIND: &str = "NetworkDriver";

/// What a driver said of itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known {
    pub traits: DriverTraits,
    /// It is asked whether a network needs a gateway's address (`GwAllocCheck`).
    checks_gateways: bool,
}

impl RemoteNetworks {
    pub(super) async fn known_driver(&self, name: &str) -> Result<Known> {
        self.find(name, KIND, Limit::PATIENT).await?;
        if let Some(known) = self.drivers.lock().get(name) {
            return Ok(*known);
        }
        let answer = self.call(name, KIND, "GetCapabilities", &Value::Null, Limit::PATIENT).await?;
        let known = Known {
            traits: DriverTraits { global: is_global(&answer)? },
            checks_gateways: answer.get("GwAllocChecker").and_then(Value::as_bool).unwrap_or(false),
        };
        self.drivers.lock().insert(name.to_owned(), known);
        Ok(known)
    }

    pub(super) async fn network_call(&self, driver: &str, method: &str, body: &Value, limit: Limit) -> Result<Value> {
        self.call(driver, KIND, method, body, limit).await
    }

    /// A call that needs no more than the place.
    pub(super) async fn at(&self, place: &Place, method: &str, limit: Limit) -> Result<()> {
        self.network_call(&place.driver, method, &shapes::place(place), limit).await.map(drop)
    }

    /// A method that came later: a driver without it has nothing to do.
    pub(super) async fn where_known(&self, place: &Place, method: &str, body: &Value, limit: Limit) -> Result<()> {
        let plugin = self.find(&place.driver, KIND, limit).await?;
        let method = format!("{KIND}.{method}");
        match plugin.ask(&method, body, limit).await {
            Ok(_) => Ok(()),
            Err(failure) if Failure::is_unknown_method(&failure) => Ok(()),
            Err(failure) => Err(told(&method, &failure)),
        }
    }

    pub(super) async fn skipped_gateways(&self, network: &NetworkRecord) -> Result<Families> {
        if !self.known_driver(&network.driver).await?.checks_gateways {
            return Ok(Families::default());
        }
        let body = json!({"Options": shapes::network_options(network)});
        let answer = self.network_call(&network.driver, "GwAllocCheck", &body, Limit::PATIENT).await?;
        let skips = |key: &str| answer.get(key).and_then(Value::as_bool).unwrap_or(false);
        Ok(Families { v4: skips("SkipIPv4"), v6: skips("SkipIPv6") })
    }
}

/// `Scope`; `ConnectivityScope` is a swarm's, and only has to be one.
fn is_global(answer: &Value) -> Result<bool> {
    let scope = |key: &str| answer.get(key).and_then(Value::as_str).unwrap_or_default();
    let bad = |said: &str| Error::system(format!("invalid capability: expecting 'local' or 'global', got {said}"));
    match (scope("Scope"), scope("ConnectivityScope")) {
        (_, said) if !matches!(said, "" | "local" | "global") => Err(bad(said)),
        ("local", _) => Ok(false),
        ("global", _) => Ok(true),
        (said, _) => Err(bad(said)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_scope_is_local_or_global() {
        assert!(!is_global(&json!({"Scope": "local"})).unwrap());
        assert!(is_global(&json!({"Scope": "global", "ConnectivityScope": "local"})).unwrap());
        for bad in [json!({}), json!({"Scope": "swarm"}), json!({"Scope": "local", "ConnectivityScope": "x"})] {
            assert!(is_global(&bad).unwrap_err().message().starts_with("invalid capability: expecting 'local' or"));
        }
    }
}
