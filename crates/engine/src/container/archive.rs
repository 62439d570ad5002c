//! `docker cp`: `HEAD`, `GET` and `PUT /containers/{id}/archive`.

use futures::FutureExt as _;
use gantry_domain::{
    Error, ErrorKind, Result,
    container::{
        Status,
        copy::{PathChange, PathStat},
        validate::mounts::clean,
    },
    ports::{ByteStream, ExtractOptions, RootRef, RootView},
};
use jiff::Timestamp;

use super::{
    lend::{Purpose, stoppable},
    owner::{Handle, container_event},
    users,
};
use crate::Engine;

/// Query of `PUT /containers/{id}/archive`.
#[derive(Debug, Clone, Default)]
pub struct ArchivePut {
    pub path: String,
    /// A folder is not replaced by a file, nor a file by a folder.
    pub no_overwrite_dir_non_dir: bool,
    /// Everything belongs to the container's user, where it has one.
    pub copy_uid_gid: bool,
}

impl Engine {
    /// What is at a path; a link itself and where it leads.
    pub async fn container_archive_info(&self, name: &str, path: &str) -> Result<PathStat> {
        check(path)?;
        let handle = self.parts.container(name)?;
        let lent = handle.run_unless_hurried(|owner| owner.lend(Purpose::Read).boxed()).await?;
        lent.root.stat(path).await.map_err(|error| not_there(error, name, path))
    }

    /// A tar of a path. The container's files are open until the stream is dropped.
    pub async fn container_archive(&self, name: &str, path: &str) -> Result<(PathStat, ByteStream)> {
        check(path)?;
        let handle = self.parts.container(name)?;
        let lent = handle.run_unless_hurried(|owner| owner.lend(Purpose::Read).boxed()).await?;
        let (stat, archive) = lent.root.archive(&absolute(path)).await.map_err(|error| not_there(error, name, path))?;
        self.container_did(&handle, "archive-path");
        Ok((stat, stoppable(archive, lent.stop)))
    }

    /// Lays a tar out in a folder of the container.
    pub async fn put_container_archive(&self, name: &str, put: ArchivePut, archive: ByteStream) -> Result<()> {
        check(&put.path)?;
        let handle = self.parts.container(name)?;
        let owner = if put.copy_uid_gid { self.copied_owner(&handle).await? } else { None };
        let lent = handle.run_unless_hurried(|owner| owner.lend(Purpose::Write).boxed()).await?;
        let how = ExtractOptions { rules: lent.rules, no_overwrite: put.no_overwrite_dir_non_dir, owner };
        let extracted = lent.root.extract(&absolute(&put.path), stoppable(archive, lent.stop), how).await;
        extracted.map_err(|error| not_there(error, name, &put.path))?;
        self.container_did(&handle, "extract-to-dir");
        Ok(())
    }

    /// A tar of the root file system, without what is mounted into it.
    pub async fn container_export(&self, name: &str) -> Result<ByteStream> {
        let handle = self.parts.container(name)?;
        let record = handle.snapshot().record;
        let refused = match handle.snapshot().status {
            Status::Dead => Some("Dead"),
            Status::Removing => Some("being removed"),
            _ => None,
        };
        if let Some(state) = refused {
            return Err(Error::conflict(format!("You cannot export container {} which is {state}", record.id)));
        }
        let failed = |error: Error| error.context(format!("Error exporting container {name}"));
        let mounts = self.parts.ports.runtime.root_mounts(&record.id).await.map_err(failed)?;
        let view = RootView { root: RootRef::Mounts(mounts), write: false, binds: Vec::new(), veiled: Vec::new() };
        let root = self.parts.ports.rootfs.open(view, Box::new(())).await.map_err(failed)?;
        let archive = root.export().await.map_err(failed)?;
        self.container_did(&handle, "export");
        Ok(archive)
    }

    /// Paths that differ from the image.
    pub async fn container_changes(&self, name: &str) -> Result<Vec<PathChange>> {
        let handle = self.parts.container(name)?;
        let mounts = self.parts.ports.runtime.root_mounts(&handle.id).await?;
        self.parts.ports.rootfs.changes(&mounts).await
    }

    fn container_did(&self, handle: &Handle, action: &str) {
        let record = handle.snapshot().record;
        self.parts.events.publish(container_event(&record, action.to_owned(), &[], Timestamp::now()));
    }

    /// The user that the container runs as; `None` where it names none.
    async fn copied_owner(&self, handle: &Handle) -> Result<Option<(u32, u32)>> {
        let snapshot = handle.snapshot();
        let record = &snapshot.record;
        if record.config.user.is_empty() {
            return Ok(None);
        }
        let found = if snapshot.status.has_process() {
            users::of_exec(&self.parts, record, snapshot.pid, "").await
        } else {
            users::of_container(&self.parts, record).await
        };
        let user = found.map_err(|error| match error.kind() {
            ErrorKind::System => error,
            _ => error.with_kind(ErrorKind::InvalidParameter),
        })?;
        Ok(Some((user.uid, user.gid)))
    }
}

/// Docker's words, without a blank, of its own.
fn check(path: &str) -> Result<()> {
    match path {
        "" => Err(Error::invalid("bad parameter: pathcannot be empty")),
        path if path.contains('\0') => Err(Error::invalid("invalid path: it has a NUL in it")),
        _ => Ok(()),
    }
}

fn not_there(error: Error, name: &str, path: &str) -> Error {
    if error.is_not_found() {
        Error::not_found(format!("Could not find the file {path} in container {name}")).with_source(error)
    } else {
        error
    }
}

/// From the root, cleaned by its text, with the end that tells a folder: `a/../b/.` is `/b/.`.
fn absolute(path: &str) -> String {
    let mut cleaned = clean(path);
    if path == "." || path.ends_with("/.") {
        if !cleaned.ends_with('/') {
            cleaned.push('/');
        }
        cleaned.push('.');
    }
    if !cleaned.ends_with('/') && path.ends_with('/') {
        cleaned.push('/');
    }
    cleaned
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_keeps_the_end_that_tells_a_folder() {
        let cases = [
            ("etc", "/etc"),
            ("/etc/", "/etc/"),
            ("/etc/.", "/etc/."),
            ("/", "/"),
            ("/.", "/."),
            (".", "/."),
            ("/a/../b//c", "/b/c"),
            ("../../x", "/x"),
        ];
        for (path, expected) in cases {
            assert_eq!(absolute(path), expected, "{path}");
        }
    }
}
