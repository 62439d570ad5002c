//! `IpamDriver`: what libnetwork's remote IPAM driver says.

use gantry_domain::{
    Error, Result,
    ports::{AddressRequest, GivenPool, IpamTraits, PoolRequest},
};
use ipnet::IpNet;
use serde_json::{Value, json};

use super::{RemoteNetworks, shapes, told};
use crate::plugins::{Failure, Limit};

const KIND: &str = "IpamDriver";

impl RemoteNetworks {
    /// What it needs (which it need not say), and its address spaces.
    pub(super) async fn known_ipam(&self, name: &str) -> Result<IpamTraits> {
        let plugin = self.find(name, KIND, Limit::PATIENT).await?;
        if let Some(known) = self.ipams.lock().get(name) {
            return Ok(known.clone());
        }
        let needs = match plugin.ask("IpamDriver.GetCapabilities", &Value::Null, Limit::PATIENT).await {
            Ok(answer) => answer,
            Err(failure @ Failure::Away(_)) => return Err(told("IpamDriver.GetCapabilities", &failure)),
            Err(Failure::Refused(..)) => Value::Null,
        };
        let spaces = self.ipam_call(name, "GetDefaultAddressSpaces", &Value::Null, Limit::PATIENT).await?;
        let flag = |key: &str| needs.get(key).and_then(Value::as_bool).unwrap_or(false);
        let known = IpamTraits {
            needs_mac: flag("RequiresMACAddress"),
            needs_replay: flag("RequiresRequestReplay"),
            local_space: shapes::text(&spaces, "LocalDefaultAddressSpace").to_owned(),
            global_space: shapes::text(&spaces, "GlobalDefaultAddressSpace").to_owned(),
        };
        self.ipams.lock().insert(name.to_owned(), known.clone());
        Ok(known)
    }

    pub(super) async fn ipam_call(&self, name: &str, method: &str, body: &Value, limit: Limit) -> Result<Value> {
        self.call(name, KIND, method, body, limit).await
    }

    pub(super) async fn ask_for_pool(&self, ipam: &str, wanted: &PoolRequest) -> Result<GivenPool> {
        let body = json!({
            "AddressSpace": wanted.space, "Pool": wanted.pool, "SubPool": wanted.range,
            "Options": wanted.options, "V6": wanted.v6,
        });
        let answer = self.ipam_call(ipam, "RequestPool", &body, Limit::PATIENT).await?;
        let gateway = answer.get("Data").map_or("", |data| shapes::text(data, shapes::GATEWAY));
        let bad =
            |why| Error::system(format!("failed to parse gateway address ({gateway}) returned by ipam driver: {why}"));
        Ok(GivenPool {
            id: shapes::text(&answer, "PoolID").to_owned(),
            net: shapes::cidr(shapes::text(&answer, "Pool"))?,
            gateway: if gateway.is_empty() { None } else { Some(shapes::cidr(gateway).map_err(bad)?) },
        })
    }

    pub(super) async fn ask_for_address(&self, ipam: &str, wanted: &AddressRequest) -> Result<IpNet> {
        let address = wanted.address.map(|address| address.to_string()).unwrap_or_default();
        let body = json!({"PoolID": wanted.pool, "Address": address, "Options": wanted.options});
        let answer = self.ipam_call(ipam, "RequestAddress", &body, Limit::PATIENT).await?;
        match shapes::text(&answer, "Address") {
            "" => Err(Error::system("no address returned")),
            given => shapes::cidr(given),
        }
    }
}
