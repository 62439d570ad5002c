//! Device nodes of the host, one or all below a folder.

use std::{
    os::unix::fs::{FileTypeExt as _, MetadataExt as _},
    path::Path,
};

use gantry_domain::{Error, Result, ports::DeviceNode};

/// Folders below `/dev` that a container has of its own (runc's rule).
const SKIPPED: [&str; 7] = ["pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev"];

/// A node, or every node below a folder. `InvalidParameter` for what is neither, in dockerd's words.
pub(super) fn nodes(path: &Path) -> Result<Vec<DeviceNode>> {
    let gathering = |error: std::io::Error| {
        Error::system(format!(
            "error gathering device information while adding custom device \"{}\": {error}",
            path.display()
        ))
    };
    // A link such as `/dev/cdrom` stands for its node.
    let found = std::fs::metadata(path).map_err(gathering)?;
    if let Some(node) = node(path, &found) {
        return Ok(vec![node]);
    }
    if !found.is_dir() {
        return Err(Error::system(format!(
            "error gathering device information while adding custom device \"{}\": not a device node",
            path.display()
        )));
    }
    let mut nodes = Vec::new();
    walk(path, &mut nodes);
    Ok(nodes)
}

fn walk(folder: &Path, nodes: &mut Vec<DeviceNode>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.filter_map(Result::ok) {
        let path = entry.path();
        // Links are left: what they point to is found by itself.
        let Ok(found) = entry.metadata() else { continue };
        if found.is_dir() {
            if !SKIPPED.iter().any(|skipped| entry.file_name() == *skipped) {
                walk(&path, nodes);
            }
        } else if path != Path::new("/dev/console") {
            nodes.extend(node(&path, &found));
        }
    }
}

fn node(path: &Path, found: &std::fs::Metadata) -> Option<DeviceNode> {
    let kind = found.file_type();
    let kind = if kind.is_block_device() {
        'b'
    } else if kind.is_char_device() {
        'c'
    } else {
        return None;
    };
    Some(DeviceNode {
        path: path.to_string_lossy().into_owned(),
        kind,
        major: rustix::fs::major(found.rdev()),
        minor: rustix::fs::minor(found.rdev()),
        mode: found.mode() & 0o7777,
        uid: found.uid(),
        gid: found.gid(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_tells_its_numbers() {
        let null = nodes(Path::new("/dev/null")).expect("every host has it");
        assert_eq!((null[0].kind, null[0].major, null[0].minor), ('c', 1, 3));
    }

    #[test]
    fn a_plain_file_is_no_device() {
        assert!(nodes(Path::new("/etc/passwd")).expect_err("a file").message().ends_with("not a device node"));
    }
}
