//! What a create request may ask for and this engine does not do yet: refused, or said, never passed over.

use gantry_domain::{
    Error, Result,
    container::{Config, HostConfig},
};

/// `NotImplemented` for what would be missed silently; warnings for what a container can live without.
pub(crate) fn check(config: &Config, host: &HostConfig) -> Result<Vec<String>> {
    let some = |list: &Option<Vec<String>>| list.as_ref().is_some_and(|list| !list.is_empty());
    refuse(some(&host.links), "links")?;
    refuse(host.device_requests.as_ref().is_some_and(|requests| !requests.is_empty()), "device requests")?;
    let driver = host.log_config.driver.as_str();
    refuse(!matches!(driver, "none" | "json-file" | "local"), &format!("the log driver {driver}"))?;
    let probe = config.healthcheck.as_ref().and_then(|check| check.test.as_deref()).unwrap_or_default();
    if probe.first().is_some_and(|kind| kind != "NONE") {
        return Ok(vec![
            "Health checks are not run by gantry yet: the container will have no health status.".to_owned(),
        ]);
    }
    Ok(Vec::new())
}

fn refuse(asked: bool, what: &str) -> Result<()> {
    if asked { Err(Error::not_implemented(format!("{what}: not implemented by gantry yet"))) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use gantry_domain::{ErrorKind, container::HealthConfig};

    use super::*;

    fn host(driver: &str) -> HostConfig {
        let mut host = HostConfig::default();
        host.log_config.driver = driver.to_owned();
        host
    }

    #[test]
    fn a_log_driver_that_is_not_built_is_refused() {
        let error = check(&Config::default(), &host("syslog")).expect_err("not built");
        assert_eq!(error.kind(), ErrorKind::NotImplemented);
        assert!(check(&Config::default(), &host("json-file")).is_ok());
    }

    #[test]
    fn a_health_check_that_will_not_run_is_said() {
        let healthcheck =
            Some(HealthConfig { test: Some(vec!["CMD".into(), "true".into()]), ..HealthConfig::default() });
        let config = Config { healthcheck, ..Config::default() };
        assert_eq!(check(&config, &host("none")).expect("it runs without").len(), 1);
    }
}
