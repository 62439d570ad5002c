//! The engine's id: made once, kept in its data root.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::Path,
};

use gantry_domain::engine_id::EngineId;

/// The id in the root, or a new one that is on the disk when this returns.
pub fn read_or_make(data_root: &Path) -> io::Result<EngineId> {
    let path = data_root.join("engine-id");
    match fs::read_to_string(&path) {
        Ok(text) if is_uuid(text.trim()) => return Ok(EngineId(text.trim().to_owned())),
        // A file that was cut by a power loss before its first use: nothing bears another id.
        Ok(text) if text.trim().is_empty() => {}
        Ok(text) => return Err(io::Error::other(format!("{}: {:?} is no id", path.display(), text.trim()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let id = fs::read_to_string("/proc/sys/kernel/random/uuid")?.trim().to_owned();
    let new = data_root.join("engine-id.new");
    let mut file = File::create(&new)?;
    file.write_all(id.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, &path)?;
    File::open(data_root)?.sync_all()?;
    Ok(EngineId(id))
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36 && text.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_keeps_its_id() {
        let root = tempfile::tempdir().expect("a folder");
        let id = read_or_make(root.path()).expect("made");
        assert_eq!(read_or_make(root.path()).expect("read"), id);
    }

    #[test]
    fn a_damaged_id_is_not_replaced() {
        let root = tempfile::tempdir().expect("a folder");
        fs::write(root.path().join("engine-id"), "half-an-i").expect("written");
        assert!(read_or_make(root.path()).is_err());
        fs::write(root.path().join("engine-id"), "").expect("written");
        assert!(read_or_make(root.path()).is_ok());
    }
}
