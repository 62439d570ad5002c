//! The place for what cannot be read: `quarantine-<time>` beside the log. Nothing in it is ever touched again.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use jiff::Timestamp;

/// Makes a new folder for damaged files.
pub fn folder(root: &Path) -> io::Result<PathBuf> {
    let stamp = Timestamp::now().strftime("%Y%m%dT%H%M%S").to_string();
    for n in 0.. {
        let name = if n == 0 { format!("quarantine-{stamp}") } else { format!("quarantine-{stamp}-{n}") };
        match fs::create_dir(root.join(&name)) {
            Ok(()) => return Ok(root.join(name)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::other("no free name for a quarantine folder"))
}

/// Keeps `bytes` durably under `name` in a new folder.
pub fn keep(root: &Path, name: &str, bytes: &[u8]) -> io::Result<PathBuf> {
    use std::io::Write as _;
    let folder = folder(root)?;
    let written = fs::File::create(folder.join(name))
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| sync_dir(&folder))
        .and_then(|()| sync_dir(root));
    match written {
        Ok(()) => Ok(folder),
        Err(error) => {
            // Half a copy would pass for the whole; the original still stands.
            let _ = fs::remove_dir_all(&folder);
            Err(error)
        }
    }
}

/// Moves a folder into a new quarantine folder.
pub fn move_in(root: &Path, what: &Path) -> io::Result<PathBuf> {
    let folder = folder(root)?;
    let name = what.file_name().ok_or_else(|| io::Error::other("nothing to move"))?;
    fs::rename(what, folder.join(name))?;
    sync_dir(&folder)?;
    sync_dir(root)?;
    Ok(folder)
}

pub fn sync_dir(path: &Path) -> io::Result<()> {
    fs::File::open(path)?.sync_all()
}
