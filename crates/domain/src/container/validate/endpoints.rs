//! What older clients say of a container as a whole, and newer ones of its place in a network: the MAC address, kernel
//! settings of an interface. They are moved there, as dockerd does.

use super::{
    super::{Config, EndpointSettings, HostConfig, NetworkingConfig},
    ApiVersion,
};
use crate::{Error, Result, network::endpoint::OPTION_SYSCTLS};

/// Refuses, moves or takes away what this version of the API does not know. Returns warnings for the client.
pub fn gate(
    config: &mut Config,
    host: &mut HostConfig,
    networking: &mut NetworkingConfig,
    api: ApiVersion,
) -> Result<Vec<String>> {
    let asked = &mut networking.endpoints_config;
    if api < ApiVersion(1, 44) && asked.len() > 1 {
        let names: Vec<&str> = asked.keys().map(String::as_str).collect();
        return Err(Error::invalid(format!(
            "Container cannot be created with multiple network endpoints: {}",
            names.join(", ")
        )));
    }
    if api < ApiVersion(1, 48) {
        asked.values_mut().flatten().for_each(|settings| settings.gw_priority = 0);
    }
    let moved = [mac_address(config, host, networking, api)?, interface_sysctls(host, networking, api)?];
    Ok(moved.into_iter().flatten().collect())
}

fn mac_address(
    config: &mut Config,
    host: &HostConfig,
    networking: &mut NetworkingConfig,
    api: ApiVersion,
) -> Result<Option<String>> {
    let old = api < ApiVersion(1, 44);
    if old {
        // It would not have been read.
        networking.endpoints_config.values_mut().flatten().for_each(|settings| settings.mac_address.clear());
    }
    if config.mac_address.is_empty() {
        return Ok(None);
    }
    let own_network = has_own_network(host);
    if old && !own_network {
        return Err(Error::invalid("conflicting options: mac-address and the network mode"));
    }
    let wanted = std::mem::take(&mut config.mac_address);
    if own_network {
        let settings = main_endpoint(host, networking, api).map_err(|_| {
            Error::invalid(
                "if a container-wide MAC address is supplied, HostConfig.NetworkMode must match the identity of a \
                 network in NetworkSettings.Networks",
            )
        })?;
        if !settings.mac_address.is_empty() && settings.mac_address != wanted {
            return Err(Error::invalid(
                "the container-wide MAC address must match the endpoint-specific MAC address for the main network, or \
                 be left empty",
            ));
        }
        settings.mac_address = wanted;
    }
    let warning =
        "The container-wide MacAddress field is now deprecated. It should be specified in EndpointsConfig instead.";
    Ok((!old).then(|| warning.to_owned()))
}

/// `net.ipv4.conf.eth0.log_martians` is one of the interface of the main network, whatever its name will be.
fn interface_sysctls(
    host: &mut HostConfig,
    networking: &mut NetworkingConfig,
    api: ApiVersion,
) -> Result<Option<String>> {
    if matches!(host.network_mode.as_str(), "host") || host.network_mode.starts_with("container:") {
        return Ok(None);
    }
    let mut moved = Vec::new();
    for (key, value) in &host.sysctls {
        let parts: Vec<&str> = key.splitn(5, '.').collect();
        let [net @ "net", family, kind, interface, rest] = parts[..] else { continue };
        if !interface.starts_with("eth") {
            continue;
        }
        // Since 1.46 there is an option for it.
        if api > ApiVersion(1, 48) {
            return Err(Error::invalid(format!(
                "interface specific sysctl setting {key:?} must be supplied using driver option '{OPTION_SYSCTLS}'"
            )));
        }
        if interface != "eth0" {
            return Err(Error::invalid(format!(
                "unable to determine network endpoint for sysctl {key}, use driver option '{OPTION_SYSCTLS}' to set \
                 per-interface sysctls"
            )));
        }
        moved.push((key.clone(), format!("{net}.{family}.{kind}.IFNAME.{rest}={value}")));
    }
    let Some((first, _)) = moved.first() else { return Ok(None) };
    let settings = main_endpoint(host, networking, api)
        .map_err(|error| error.context(format!("unable to find a network for sysctl {first}")))?;
    let (keys, mut options): (Vec<String>, Vec<String>) = moved.into_iter().unzip();
    let warning =
        format!("Migrated sysctl {:?} to DriverOpts{{{OPTION_SYSCTLS:?}:{:?}}}.", keys.join(","), options.join(","));
    let place = settings.driver_opts.get_or_insert_default().entry(OPTION_SYSCTLS.to_owned()).or_default();
    // The later one wins: what was asked of the endpoint.
    options.extend(Some(std::mem::take(place)).filter(|text| !text.is_empty()));
    *place = options.join(",");
    host.sysctls.retain(|key, _| !keys.contains(key));
    Ok(Some(warning))
}

/// The endpoint in the network that `NetworkMode` names.
fn main_endpoint<'a>(
    host: &HostConfig,
    networking: &'a mut NetworkingConfig,
    api: ApiVersion,
) -> Result<&'a mut EndpointSettings> {
    let asked = &mut networking.endpoints_config;
    let mode = match host.network_mode.as_str() {
        "" | "default" if !asked.contains_key("default") => "bridge",
        "" => "default",
        mode => mode,
    };
    let name = match asked.keys().next() {
        None => mode.to_owned(),
        // Of an old client there is one at most, and it is meant whatever it is called.
        Some(only) if api < ApiVersion(1, 44) => only.clone(),
        Some(_) if asked.contains_key(mode) => mode.to_owned(),
        Some(_) => {
            let text = "HostConfig.NetworkMode must match the identity of a network in NetworkSettings.Networks";
            return Err(Error::invalid(text));
        }
    };
    Ok(asked.entry(name).or_default().get_or_insert_default())
}

/// The default bridge, or a network of the user's.
fn has_own_network(host: &HostConfig) -> bool {
    !matches!(host.network_mode.as_str(), "host" | "none") && !host.network_mode.starts_with("container:")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    struct Asked {
        config: Config,
        host: HostConfig,
        networking: NetworkingConfig,
    }

    fn asked(mode: &str, networks: &[&str]) -> Asked {
        let mut networking = NetworkingConfig::default();
        networking.endpoints_config.extend(networks.iter().map(|name| ((*name).to_owned(), None)));
        let host = HostConfig { network_mode: mode.into(), ..HostConfig::default() };
        Asked { config: Config::default(), host, networking }
    }

    impl Asked {
        fn gate(&mut self, minor: u32) -> Result<Vec<String>> {
            gate(&mut self.config, &mut self.host, &mut self.networking, ApiVersion(1, minor))
        }
        fn endpoint(&self, name: &str) -> &EndpointSettings {
            self.networking.endpoints_config[name].as_ref().unwrap()
        }
    }

    #[test]
    fn the_containers_mac_address_becomes_that_of_its_main_network() {
        for (minor, warned) in [(43, 0), (44, 1), (51, 1)] {
            for (mode, networks, place) in
                [("default", &[][..], "bridge"), ("net", &[], "net"), ("net", &["net"], "net")]
            {
                let mut asked = asked(mode, networks);
                asked.config.mac_address = "02:00:00:00:00:01".into();
                assert_eq!(asked.gate(minor).unwrap().len(), warned, "{minor} {mode}");
                assert_eq!(asked.endpoint(place).mac_address, "02:00:00:00:00:01");
                assert_eq!(asked.config.mac_address, "");
            }
        }
    }

    #[test]
    fn mac_addresses_that_contradict_each_other_are_refused_where_both_are_read() {
        let both = || {
            let mut asked = asked("net", &["net"]);
            asked.config.mac_address = "02:00:00:00:00:01".into();
            asked.networking.endpoints_config.get_mut("net").unwrap().get_or_insert_default().mac_address =
                "02:00:00:00:00:02".into();
            asked
        };
        let error = both().gate(44).unwrap_err();
        assert!(error.message().starts_with("the container-wide MAC address must match"), "{error}");
        let mut old = both();
        old.gate(43).unwrap();
        assert_eq!(old.endpoint("net").mac_address, "02:00:00:00:00:01");
        let mut other = asked("net", &["another"]);
        other.config.mac_address = "02:00:00:00:00:01".into();
        let error = other.gate(44).unwrap_err();
        assert!(error.message().starts_with("if a container-wide MAC address is supplied"), "{error}");
    }

    #[test]
    fn a_setting_of_eth0_becomes_one_of_the_main_networks_interface() {
        let mut asked = asked("net", &["net"]);
        asked.host.sysctls = [("net.ipv4.conf.eth0.log_martians", "1"), ("net.ipv4.ip_forward", "1")]
            .map(|(key, value)| (key.into(), value.into()))
            .into();
        let own = [(OPTION_SYSCTLS.to_owned(), "net.ipv4.conf.IFNAME.forwarding=0".to_owned())].into();
        asked.networking.endpoints_config.get_mut("net").unwrap().get_or_insert_default().driver_opts = Some(own);
        assert_eq!(
            asked.gate(48).unwrap(),
            ["Migrated sysctl \"net.ipv4.conf.eth0.log_martians\" to \
              DriverOpts{\"com.docker.network.endpoint.sysctls\":\"net.ipv4.conf.IFNAME.log_martians=1\"}."]
        );
        let options = asked.endpoint("net").driver_opts.as_ref().unwrap();
        assert_eq!(options[OPTION_SYSCTLS], "net.ipv4.conf.IFNAME.log_martians=1,net.ipv4.conf.IFNAME.forwarding=0");
        assert_eq!(asked.host.sysctls.keys().collect::<Vec<_>>(), ["net.ipv4.ip_forward"]);
    }

    #[test]
    fn a_setting_of_another_interface_is_refused_and_of_any_by_newer_clients() {
        let refused = |key: &str, minor| {
            let mut asked = asked("net", &[]);
            asked.host.sysctls.insert(key.into(), "1".into());
            asked.gate(minor).unwrap_err().message().to_owned()
        };
        assert!(refused("net.ipv4.conf.eth1.log_martians", 48).starts_with("unable to determine network endpoint"));
        assert!(
            refused("net.ipv4.conf.eth0.log_martians", 49)
                .ends_with("must be supplied using driver option 'com.docker.network.endpoint.sysctls'")
        );
    }
}
