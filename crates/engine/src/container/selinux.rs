//! SELinux labels: given at create, shared by who shares namespaces, and put on what is mounted.

use gantry_domain::{
    Error, Result,
    container::{ContainerRecord, HostConfig, security::SecurityOptions},
    selinux::{self, Labels},
};

use super::mounts::shared_with;
use crate::{claims::Claims, parts::Parts};

/// A container that joins another's IPC or PID namespace gets its label, unless it asks for one; as options, as dockerd
/// writes them down.
pub(crate) fn share_labels(parts: &Parts, host: &mut HostConfig) -> Result<()> {
    let asked = SecurityOptions::parse(host.security_opt.as_deref().unwrap_or_default())?;
    if parts.settings.load().selinux.is_none() || !asked.labels.is_empty() {
        return Ok(());
    }
    let label_of = |mode: &str| {
        let other = parts.container(shared_with(mode)?).ok()?;
        Some(other.snapshot().record.process_label.clone())
    };
    let label = match (label_of(&host.ipc_mode), label_of(&host.pid_mode)) {
        (Some(ipc), Some(pid)) if ipc != pid => {
            return Err(Error::invalid("--ipc and --pid containers SELinux labels aren't the same"));
        }
        (ipc, pid) => ipc.or(pid),
    };
    let options: Vec<String> =
        selinux::options_of(&label.unwrap_or_default()).into_iter().map(|option| format!("label={option}")).collect();
    if !options.is_empty() {
        host.security_opt.get_or_insert_default().extend(options);
    }
    Ok(())
}

/// The labels of a container that is being made; none on an engine without SELinux.
pub(crate) fn labels(parts: &Parts, claims: &Claims, host: &HostConfig) -> Result<Labels> {
    let settings = parts.settings.load();
    let Some(policy) = &settings.selinux else { return Ok(Labels::default()) };
    let options = SecurityOptions::parse(host.security_opt.as_deref().unwrap_or_default())?;
    policy.labels(&options.labels, &|level| claims.has_level(level))
}

/// Labels the engine's files, and the sources of mounts that ask for it by `z` or `Z`.
pub(crate) async fn relabel(parts: &Parts, record: &ContainerRecord) -> Result<()> {
    if record.mount_label.is_empty() {
        return Ok(());
    }
    let host = &parts.ports.host;
    let folder = parts.ports.files.path(&record.id);
    // Where another's network is shared they are the other's.
    let own = shared_with(&record.host_config.network_mode).is_none();
    for name in ["hosts", "hostname", "resolv.conf"].iter().filter(|_| own) {
        host.relabel(&folder.join(name).to_string_lossy(), &record.mount_label).await?;
    }
    for point in record.mounts.iter().filter(|point| matches!(point.kind.as_str(), "bind" | "volume")) {
        if let Some(label) = selinux::relabelled(&point.mode, &record.mount_label) {
            let failed =
                |error: Error| error.context(format!("error setting label on mount source '{}'", point.source));
            host.relabel(&point.source, &label).await.map_err(failed)?;
        }
    }
    Ok(())
}
