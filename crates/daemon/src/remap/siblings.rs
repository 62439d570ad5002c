//! The engines that other settings of `--userns-remap` make of the same roots. One that ended has left its containers
//! running and its API's sockets with its gantry-netd: the sockets go to the one that starts now.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{assemble::left_with_netd, listen::Address, lock};

/// Takes the files of unix sockets away that an ended sibling left with its netd. The sibling, when it starts again, sees
/// that they are gone and binds new ones.
pub fn release_sockets(base: (&Path, &Path), own_exec_root: &Path, addresses: &[Address]) {
    for (data_root, exec_root) in all(base) {
        if exec_root == own_exec_root || lock::is_held(&data_root) {
            continue;
        }
        let left = left_with_netd(&exec_root);
        for address in addresses.iter().filter(|address| left(address)) {
            if let Address::Unix(path) = address
                && let Err(error) = fs::remove_file(path)
            {
                tracing::warn!(%error, %address, "a socket of an engine with other user namespaces is left");
            }
        }
    }
}

/// Data root and exec root of each: the one without user namespaces, and those with.
fn all((data_root, exec_root): (&Path, &Path)) -> Vec<(PathBuf, PathBuf)> {
    let entries = fs::read_dir(exec_root).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok()).filter(|name| is_remapped(name));
    let remapped = names.map(|name| (data_root.join(&name), exec_root.join(&name)));
    remapped.chain([(data_root.to_owned(), exec_root.to_owned())]).collect()
}

fn is_remapped(name: &str) -> bool {
    let number = |text: &str| text.parse::<u32>().is_ok();
    name.split_once('.').is_some_and(|(uid, gid)| number(uid) && number(gid))
}
