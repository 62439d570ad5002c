//! What a create request may ask for and this engine does not do yet: refused, never passed over.

use gantry_domain::{
    Error, Result,
    container::{HostConfig, log_shipment::REMOTE},
};

/// `NotImplemented` for what would be missed silently.
pub(crate) fn check(host: &HostConfig) -> Result<()> {
    let driver = host.log_config.driver.as_str();
    let built = matches!(driver, "none" | "json-file" | "local") || REMOTE.contains(&driver);
    refuse(!built, &format!("the log driver {driver}"))?;
    Ok(())
}

fn refuse(asked: bool, what: &str) -> Result<()> {
    if asked { Err(Error::not_implemented(format!("{what}: not implemented by gantry yet"))) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use gantry_domain::ErrorKind;

    use super::*;

    fn host(driver: &str) -> HostConfig {
        let mut host = HostConfig::default();
        host.log_config.driver = driver.to_owned();
        host
    }

    #[test]
    fn a_log_driver_that_is_not_built_is_refused() {
        let error = check(&host("splunk")).expect_err("not built");
        assert_eq!(error.kind(), ErrorKind::NotImplemented);
        assert!(check(&host("json-file")).is_ok());
    }
}
