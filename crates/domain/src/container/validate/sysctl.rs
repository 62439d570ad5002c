//! Which kernel settings a container may have: those of its own namespaces, spelled plainly (T28).

use super::super::HostConfig;
use crate::{Error, Result};

const IPC: [&str; 8] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
];

pub(super) fn validate(host: &HostConfig) -> Result<()> {
    for (key, value) in &host.sysctls {
        if !well_formed(key) || value.contains(char::is_control) {
            return Err(Error::invalid(format!("invalid sysctl: {key:?}")));
        }
        let dotted = key.replace('/', ".");
        if dotted.starts_with("net.") {
            if host.network_mode == "host" {
                return Err(Error::invalid(format!("sysctl {key:?} not allowed in host network namespace")));
            }
        } else if IPC.contains(&dotted.as_str()) || dotted.starts_with("fs.mqueue.") {
            if host.ipc_mode == "host" {
                return Err(Error::invalid(format!("sysctl {key:?} is not allowed in the hosts ipc namespace")));
            }
        } else if dotted != "kernel.domainname" || host.uts_mode == "host" {
            return Err(Error::invalid(format!("sysctl {key:?} is not in a separate kernel namespace")));
        }
    }
    Ok(())
}

/// Letters, digits and `_-` between single separators: nothing that could leave `/proc/sys` or join two settings.
fn well_formed(key: &str) -> bool {
    let part = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b));
    key.split(['.', '/']).count() > 1 && key.split(['.', '/']).all(part)
}
