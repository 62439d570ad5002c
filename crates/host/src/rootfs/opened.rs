//! A container's files, held open for copies: by the root of its process, or mounted in a namespace that only our
//! descriptor holds. With the last stream of it, or with gantryd, it is gone.

use std::{os::fd::OwnedFd, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::StreamExt as _;
use gantry_archive::{
    chunks,
    limits::Limits,
    merge::{self, MergeOptions},
    threads,
};
use gantry_domain::{
    Error, GoTime, Result,
    container::copy::{PathStat, go_mode},
    id_maps::IdMaps,
    ports::{ByteStream, ExtractOptions, Keep, OpenRoot, RootRef, RootView},
};
use jiff::Timestamp;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{FileType, Mode, OFlags, Stat, StatxAttributes, StatxFlags, fstat, fstatfs, open as open_path, openat, statx},
    io::Errno,
    process::{Pid, PidfdFlags, pidfd_open},
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use super::{
    lookup::{self, Found, Last, failed},
    mounted::{self, Access, Held},
    pack::{self, Names},
};
use crate::blocking::blocking;

/// Pieces that wait for a slow reader.
const DEPTH: usize = 4;

/// Cheap to clone; the files are closed with the last clone.
#[derive(Clone)]
pub struct Opened(Arc<Inner>);

pub struct Inner {
    pub root: OwnedFd,
    /// Keeps the mounts below the root where they are.
    _namespace: OwnedFd,
    pub veiled: Vec<Vec<u8>>,
    pub maps: Arc<IdMaps>,
    /// Last: dropped when the descriptors are closed.
    _keep: Keep,
}

/// Blocks.
pub fn open(view: &RootView, keep: Keep, maps: Arc<IdMaps>) -> Result<Opened> {
    let held = match &view.root {
        RootRef::Process(pid) => of_process(*pid)?,
        RootRef::Mounts(mounts) => {
            mounted::hold(mounts, if view.write { Access::Write } else { Access::Read }, &view.binds)?
        }
    };
    let veiled = view.veiled.iter().map(|path| path.as_bytes().to_vec()).collect();
    Ok(Opened(Arc::new(Inner { root: held.root, _namespace: held.namespace, veiled, maps, _keep: keep })))
}

/// The root and the mounts of a process: of one and the same, for its number cannot have been given away while a
/// descriptor of it says that it lives.
fn of_process(pid: u32) -> Result<Held> {
    let failed =
        |error: Errno| Error::system(format!("the root of process {pid} cannot be opened: {error}")).with_source(error);
    let number = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or_else(|| failed(Errno::SRCH))?;
    let process = pidfd_open(number, PidfdFlags::empty()).map_err(failed)?;
    let folder = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = open_path(format!("/proc/{pid}/root"), folder, Mode::empty()).map_err(failed)?;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let namespace = open_path(format!("/proc/{pid}/ns/mnt"), flags, Mode::empty()).map_err(failed)?;
    let mut ended = [PollFd::new(&process, PollFlags::IN)];
    let now = Timespec::try_from(Duration::ZERO).map_err(|_| failed(Errno::INVAL))?;
    if poll(&mut ended, Some(&now)).map_err(failed)? > 0 {
        return Err(failed(Errno::SRCH));
    }
    Ok(Held { root, namespace })
}

impl Inner {
    /// What is at a path, itself; what the kernel invents (`/proc/1/status`) is no part of a container's files.
    fn find(&self, path: &str, last: Last) -> Result<(Found, Stat)> {
        let found = lookup::find(&self.root, path.as_bytes(), last).map_err(|error| failed("lstat", path, error))?;
        let stat = fstat(&found.fd).map_err(|error| failed("lstat", path, error))?;
        if is_kernels(&found.fd) && !is_mount_point(&found.fd) {
            return Err(failed("lstat", path, Errno::NOENT));
        }
        Ok((found, stat))
    }

    fn stat(&self, path: &str) -> Result<(Found, Stat, PathStat)> {
        let (found, stat) = self.find(path, Last::Keep)?;
        let link = FileType::from_raw_mode(stat.st_mode) == FileType::Symlink;
        let link_target = if link {
            let target = lookup::target(&self.root, &found.path).map_err(|error| failed("lstat", path, error))?;
            String::from_utf8_lossy(&target).into_owned()
        } else {
            String::new()
        };
        let mtime = Timestamp::new(stat.st_mtime, i32::try_from(stat.st_mtime_nsec).unwrap_or_default()).ok();
        let told = PathStat {
            name: base_name(path).to_owned(),
            size: stat.st_size,
            mode: go_mode(stat.st_mode),
            mtime: GoTime(mtime),
            link_target,
        };
        Ok((found, stat, told))
    }
}

/// Go's `filepath.Base`.
fn base_name(path: &str) -> &str {
    let trimmed = path.trim_end_matches('/');
    match trimmed.rsplit('/').next() {
        _ if path.is_empty() => ".",
        Some("") | None => "/",
        Some(name) => name,
    }
}

/// Whether a descriptor lies in a file system without files of anybody's.
pub fn is_kernels(fd: &OwnedFd) -> bool {
    const KERNELS: [u32; 15] = [
        0x0000_9fa0, // proc
        0x6265_6572, // sysfs
        0x0027_e0eb, // cgroup
        0x6367_7270, // cgroup2
        0x0000_1cd1, // devpts
        0x1980_0202, // mqueue
        0x6462_6720, // debugfs
        0x7472_6163, // tracefs
        0x7363_6673, // securityfs
        0xcafe_4a11, // bpf
        0x6165_676c, // pstore
        0xde5e_81e4, // efivarfs
        0x6265_6570, // configfs
        0x6573_5543, // fusectl
        0x6e73_6673, // nsfs
    ];
    fstatfs(fd).is_ok_and(|system| KERNELS.contains(&(system.f_type as u32)))
}

fn is_mount_point(fd: &OwnedFd) -> bool {
    statx(fd, c"", rustix::fs::AtFlags::EMPTY_PATH, StatxFlags::empty())
        .is_ok_and(|stat| stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

impl Opened {
    /// Packs on a thread of its own, which ends with its reader.
    fn packed(&self, start: OwnedFd, stat: Stat, path: Vec<u8>, names: Names) -> ByteStream {
        let (sender, receiver) = mpsc::channel(DEPTH);
        let inner = self.0.clone();
        let packing = threads::run("gantry-pack", move || {
            let packed = pack::pack(&inner, start, &stat, path, names, &sender);
            // A reader that went away needs to be told nothing.
            let _ = packed.map_err(|error| sender.blocking_send(Err(error)));
            Ok(())
        });
        // The thread's end closes the channel; its result is in the stream.
        let end = futures::stream::once(packing).filter_map(|ended| async { ended.err().map(Err) });
        ReceiverStream::new(receiver).chain(end).boxed()
    }
}

#[async_trait]
impl OpenRoot for Opened {
    async fn stat(&self, path: &str) -> Result<PathStat> {
        let (inner, path) = (self.0.clone(), path.to_owned());
        blocking(move || inner.stat(&path).map(|(.., told)| told)).await
    }

    async fn archive(&self, path: &str) -> Result<(PathStat, ByteStream)> {
        let (inner, typed) = (self.0.clone(), path.to_owned());
        let (found, stat, told) = blocking(move || inner.stat(&typed)).await?;
        let names = Names::of(&told.name, FileType::from_raw_mode(stat.st_mode) == FileType::Directory);
        Ok((told, self.packed(found.fd, stat, found.path, names)))
    }

    async fn export(&self) -> Result<ByteStream> {
        let inner = self.0.clone();
        let (found, stat) = blocking(move || inner.find("/", Last::Follow)).await?;
        Ok(self.packed(found.fd, stat, found.path, Names::Bare))
    }

    async fn extract(&self, path: &str, archive: ByteStream, how: ExtractOptions) -> Result<()> {
        let (inner, path) = (self.0.clone(), path.to_owned());
        let (sender, source) = chunks::pipe();
        let extracting = threads::run("gantry-copy", move || {
            let (found, stat) = inner.find(&path, Last::Follow)?;
            if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
                return Err(Error::invalid("extraction point is not a directory"));
            }
            if is_kernels(&found.fd) {
                return Err(failed("lstat", &path, Errno::NOENT));
            }
            how.rules.check(&String::from_utf8_lossy(&found.path))?;
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let root = openat(&inner.root, c".", flags, Mode::empty()).map_err(|error| failed("open", "/", error))?;
            let options = MergeOptions { no_overwrite: how.no_overwrite, owner: how.owner, maps: inner.maps.clone() };
            merge::merge(source, root, &found.path, options, Limits::default())
        });
        let (extracted, ()) = tokio::join!(extracting, chunks::feed(archive, sender, CancellationToken::new()));
        extracted
    }
}
