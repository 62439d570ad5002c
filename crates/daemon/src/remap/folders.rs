//! The folders of a remapped engine: root of its containers must come through to its root file systems and volumes.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown},
    path::Path,
};

use crate::lock::make_folder;

/// Makes `<root>/<uid>.<gid>` and lets the containers' root come through to it.
pub fn make(own: &Path, (uid, gid): (u32, u32), what: &str) -> Result<(), String> {
    if let Some(base) = own.parent() {
        make_folder(base)?;
        let opened = fs::metadata(base)
            .and_then(|found| fs::set_permissions(base, fs::Permissions::from_mode(found.mode() & 0o7777 | 0o011)));
        opened.map_err(|error| failed(base, &error))?;
    }
    make_private(own, gid)?;
    match own.ancestors().skip(1).find(|folder| !may_pass(folder, uid, gid)) {
        Some(_) => Err(format!(
            "a subdirectory in your {what} path ({}) restricts access to the remapped root uid/gid; please fix by \
             allowing 'o+x' permissions on existing directories",
            own.display()
        )),
        None => Ok(()),
    }
}

/// A folder of ours that the containers' group may pass through.
pub fn make_private(folder: &Path, gid: u32) -> Result<(), String> {
    make_folder(folder)?;
    let given = chown(folder, Some(0), Some(gid)).and_then(|()| {
        // After the change of its owner, which may take bits away.
        fs::set_permissions(folder, fs::Permissions::from_mode(0o710))
    });
    given.map_err(|error| failed(folder, &error))
}

fn failed(folder: &Path, error: &io::Error) -> String {
    format!("Cannot create daemon root: {}: {error}", folder.display())
}

/// By the bits alone, as dockerd looks.
fn may_pass(folder: &Path, uid: u32, gid: u32) -> bool {
    fs::metadata(folder).is_ok_and(|found| {
        let mode = found.mode();
        mode & 0o001 != 0 || (found.uid() == uid && mode & 0o100 != 0) || (found.gid() == gid && mode & 0o010 != 0)
    })
}
