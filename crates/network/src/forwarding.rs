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
}

/// Of which families we made this host a router.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WasOff {
    pub v4: bool,
    pub v6: bool,
}

impl Forwarding {
    pub fn new(folder: &Path) -> Self {
        Self { v4: folder.join("forwarding-was-off"), v6: folder.join("forwarding-v6-was-off") }
    }

    pub fn was_off(&self) -> WasOff {
        WasOff { v4: self.v4.exists(), v6: self.v6.exists() }
    }

    /// Switches it on where it is off. The guard against routing for others must be in force, so the mark comes first.
    pub fn switch_on(&self) -> io::Result<()> {
        if sysctl::read(V4)? == "0" {
            fs::write(&self.v4, "")?;
            sysctl::set(V4, "1")?;
        }
        Ok(())
    }

    /// A router ignores the advertisements that the host's own default route may come from, unless told otherwise.
    pub fn switch_on_v6(&self) -> io::Result<()> {
        if sysctl::read(V6)? != "0" {
            return Ok(());
        }
        fs::write(&self.v6, "")?;
        for entry in fs::read_dir("/proc/sys/net/ipv6/conf")?.filter_map(Result::ok) {
            let accept = entry.path().join("accept_ra");
            if fs::read_to_string(&accept).is_ok_and(|value| value.trim() == "1") {
                fs::write(&accept, "2")?;
            }
        }
        sysctl::set(V6, "1")
    }

    /// Whether IPv4 is not forwarded.
    pub fn is_off() -> bool {
        sysctl::read(V4).is_ok_and(|value| value == "0")
    }
}
