//! `--userns-remap`: whose subordinate ids the containers get, and the folders of the engine that serves them.
//!
//! A remapped engine is an engine of its own: `<data root>/<uid>.<gid>` and `<exec root>/<uid>.<gid>` after the host's
//! user and group that are root in its containers, and a namespace of its own in containerd. So its files never mix
//! with those of other owners, and the containers that an engine without remapping left running stay its.

mod accounts;
mod create;
mod folders;
mod siblings;

use std::path::{Path, PathBuf};

use gantry_domain::{
    id_maps::{IdMaps, UserNamespace},
    settings::Settings,
};

pub use siblings::release_sockets;

use self::accounts::{Account, Accounts};
use crate::config::Config;

/// What dockerd calls the user that it makes.
const DEFAULT: &str = "default";
const DEFAULT_USER: &str = "dockremap";

/// The configuration with the user namespace that it asks for, and the folders that go with it, made.
pub fn applied(mut config: Config) -> Result<Config, String> {
    if config.userns_remap.is_empty() {
        return Ok(config);
    }
    check_kernel(Path::new("/proc"))?;
    let namespace = resolve(&config.userns_remap, &Accounts::of(Path::new("/etc")))?;
    let (uid, gid) = namespace.maps.root();
    tracing::info!(owner = namespace.owner, uid, gid, "containers get user namespaces");
    let settings = &mut config.settings;
    for (root, what) in [(&mut settings.data_root, "graphroot"), (&mut settings.exec_root, "exec root")] {
        let own = PathBuf::from(&*root).join(name(&namespace.maps));
        folders::make(&own, (uid, gid), what)?;
        *root = own.to_string_lossy().into_owned();
    }
    folders::make_private(&PathBuf::from(&settings.exec_root).join("containerd"), gid)?;
    settings.user_namespace = Some(namespace);
    Ok(config)
}

/// Else every start would fail, and nobody would be told before.
fn check_kernel(proc: &Path) -> Result<(), String> {
    let limit = std::fs::read_to_string(proc.join("sys/user/max_user_namespaces"));
    if limit.is_ok_and(|limit| limit.trim() != "0") {
        return Ok(());
    }
    Err("User namespaces: the kernel of this host has none, or user.max_user_namespaces is 0".into())
}

/// A reload changes nothing of it, nor of what else was found at the start.
pub fn keep(running: &Settings, settings: &mut Settings) {
    settings.data_root.clone_from(&running.data_root);
    settings.exec_root.clone_from(&running.exec_root);
    settings.user_namespace.clone_from(&running.user_namespace);
    settings.selinux.clone_from(&running.selinux);
}

/// `<uid>.<gid>`.
fn name(maps: &IdMaps) -> String {
    let (uid, gid) = maps.root();
    format!("{uid}.{gid}")
}

/// The engine's namespace in containerd.
pub fn containerd_namespace(settings: &Settings) -> Option<String> {
    settings.user_namespace.as_ref().map(|namespace| format!("gantry-{}", name(&namespace.maps)))
}

/// `default`, `user`, `user:group`, `uid` or `uid:gid`, with the subordinate ranges of that user; in dockerd's words.
fn resolve(spec: &str, accounts: &Accounts) -> Result<UserNamespace, String> {
    let (user, group) = match spec.split(':').collect::<Vec<_>>()[..] {
        [user] => (user, None),
        [user, group] => (user, Some(group)),
        _ => return Err(format!("Invalid user/group specification in --userns-remap: {spec:?}")),
    };
    if user == DEFAULT {
        create::ensure(DEFAULT_USER, accounts)?;
    }
    let found = find_user(user, accounts)?;
    if found.id == 0 || found.name == "root" {
        // dockerd goes on without: here a flag that protects works, or nothing starts.
        return Err("User namespaces: root cannot be remapped with itself".into());
    }
    let group = find_group(user, group, &found, accounts)?;
    let failed = |why: String| format!("Can't create ID mappings: {why}");
    let uids = accounts.ranges("subuid", &found)?;
    // As dockerd: by the user's name. By the group's where only that one has ranges, as its older releases had it.
    let gids = match accounts.ranges("subgid", &found)? {
        none if none.is_empty() => accounts.ranges("subgid", &group)?,
        gids => gids,
    };
    for (ranges, file) in [(&uids, "subuid"), (&gids, "subgid")] {
        if ranges.is_empty() {
            return Err(failed(format!("no {file} ranges found for user {:?}", found.name)));
        }
    }
    let maps = IdMaps::of_subordinate(&uids, &gids).map_err(|error| failed(error.message().to_owned()))?;
    Ok(UserNamespace { owner: format!("{}:{}", found.name, group.name), maps })
}

fn find_user(text: &str, accounts: &Accounts) -> Result<Account, String> {
    if let Ok(id) = text.parse::<u32>() {
        let found = accounts.find("passwd", |user| user.id == id, text)?;
        return found
            .ok_or_else(|| format!("Uid {id} has no entry in /etc/passwd: no matching entries in passwd file"));
    }
    let wanted = if text == DEFAULT { DEFAULT_USER } else { text };
    let found = accounts.find("passwd", |user| user.name == wanted, wanted)?;
    found.ok_or_else(|| format!("Error during uid lookup for {wanted:?}: no matching entries in passwd file"))
}

/// The named group; else that of the user's number, or of the user's name.
fn find_group(user: &str, group: Option<&str>, found: &Account, accounts: &Accounts) -> Result<Account, String> {
    let by_id = |id: u32| accounts.find("group", |group| group.id == id, &id.to_string());
    let by_name = |name: &str| accounts.find("group", |group| group.name == name, name);
    let none = "no matching entries in group file";
    match group {
        Some(text) => match text.parse::<u32>() {
            Ok(id) => by_id(id)?.ok_or_else(|| format!("Gid {id} has no entry in /etc/passwd: {none}")),
            Err(_) => by_name(text)?.ok_or_else(|| format!("Error during groupname lookup for {text:?}: {none}")),
        },
        None if user.parse::<u32>().is_ok() => {
            by_id(found.id)?.ok_or_else(|| format!("Gid {} has no entry in /etc/group: {none}", found.id))
        }
        None => by_name(&found.name)?.ok_or_else(|| format!("Error during gid lookup for {:?}: {none}", found.name)),
    }
}

#[cfg(test)]
mod tests;
