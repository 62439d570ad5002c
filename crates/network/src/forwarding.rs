//! Forwarding between interfaces, without which nothing leaves a bridge.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::sysctl;

const V4: &str = "net.ipv4.ip_forward";
const V6: &str = "net.ipv6.conf.all.forwarding";

/// Remembers until the next boot that forwarding was off before us.
#[derive(Debug, Clone)]
pub struct Forwarding {
    mark: PathBuf,
}

impl Forwarding {
    pub fn new(folder: &Path) -> Self {
        Self { mark: folder.join("forwarding-was-off") }
    }

    pub fn was_off(&self) -> bool {
        self.mark.exists()
    }

    /// Switches it on where it is off. The guard against routing for others must be in force, so the mark comes first.
    pub fn switch_on(&self) -> io::Result<()> {
        if sysctl::read(V4)? == "0" {
            self.note()?;
            sysctl::set(V4, "1")?;
        }
        Ok(())
    }

    /// A router ignores the advertisements that the host's own default route may come from, unless told otherwise.
    pub fn switch_on_v6(&self) -> io::Result<()> {
        if sysctl::read(V6)? != "0" {
            return Ok(());
        }
        self.note()?;
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

    fn note(&self) -> io::Result<()> {
        fs::write(&self.mark, "")
    }
}
