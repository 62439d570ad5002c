//! Forwarding between interfaces, without which nothing leaves a bridge.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::sysctl;

const V4: &str = "net.ipv4.ip_forward";
const V6: &str = "net.ipv6.conf.all.forwarding";

/// Remembers until the next boot of which family forwarding was off before us.
#[derive(Debug, Clone)]
pub struct Forwarding {
    v4: PathBuf,
    v6: PathBuf,
    /// An older gantryd's, which did not tell the families apart.
    either: PathBuf,
}

/// Of which families we made this host a router.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WasOff {
    pub v4: bool,
    pub v6: bool,
}

impl Forwarding {
    pub fn new(folder: &Path) -> Self {
        let file = |name| folder.join(name);
        let (v4, v6) = (file("forwarding-v4-was-off"), file("forwarding-v6-was-off"));
        Self { v4, v6, either: file("forwarding-was-off") }
    }

    pub fn was_off(&self) -> WasOff {
        let either = self.either.exists();
        WasOff { v4: either || self.v4.exists(), v6: either || self.v6.exists() }
    }

    /// Notes what is off now and is going to be switched on: the guard against routing for others comes in between.
    pub fn note(&self, v6: bool) -> io::Result<()> {
        if sysctl::read(V4)? == "0" {
            fs::write(&self.v4, "")?;
        }
        if v6 && sysctl::read(V6)? == "0" {
            fs::write(&self.v6, "")?;
        }
        Ok(())
    }

    /// Switches it on where it is off.
    pub fn switch_on(&self, v6: bool) -> io::Result<()> {
        if sysctl::read(V4)? == "0" {
            sysctl::set(V4, "1")?;
        }
        if v6 && sysctl::read(V6)? == "0" {
            keep_advertisements()?;
            sysctl::set(V6, "1")?;
        }
        Ok(())
    }

    /// Whether IPv4 is not forwarded.
    pub fn is_off() -> bool {
        sysctl::read(V4).is_ok_and(|value| value == "0")
    }
}

/// A router ignores the advertisements that the host's own default route may come from, unless told otherwise.
fn keep_advertisements() -> io::Result<()> {
    for entry in fs::read_dir("/proc/sys/net/ipv6/conf")?.filter_map(Result::ok) {
        let accept = entry.path().join("accept_ra");
        if fs::read_to_string(&accept).is_ok_and(|value| value.trim() == "1") {
            fs::write(&accept, "2")?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_older_gantrys_mark_is_of_both_families() {
        let folder = tempfile::tempdir().unwrap();
        let forwarding = Forwarding::new(folder.path());
        assert_eq!(forwarding.was_off(), WasOff::default());
        fs::write(folder.path().join("forwarding-was-off"), "").unwrap();
        assert_eq!(forwarding.was_off(), WasOff { v4: true, v6: true });
    }
}
