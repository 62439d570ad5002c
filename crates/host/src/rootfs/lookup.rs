//! Where a path leads inside a root: link by link, so that its true name is known, and every step by the kernel.
//!
//! The true name is opened again with links forbidden: a container that moves things meanwhile makes a failure, never a
//! way out (T01).

use std::{collections::VecDeque, ffi::CString, os::fd::OwnedFd};

use gantry_domain::{Error, ErrorKind};
use rustix::{
    fs::{FileType, Mode, OFlags, ResolveFlags, fstat, openat2, readlinkat},
    io::Errno,
};

/// As many as the kernel follows.
const MAX_LINKS: usize = 40;
/// A path that moves away while it is looked up is looked up again.
const ATTEMPTS: usize = 16;

/// What is done with a link at the end of a path. A slash behind it always follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Last {
    Follow,
    Keep,
}

/// What a path led to.
#[derive(Debug)]
pub struct Found {
    /// `O_PATH`.
    pub fd: OwnedFd,
    /// Absolute and free of links.
    pub path: Vec<u8>,
}

/// Finds what is at `path`.
pub fn find(root: &OwnedFd, path: &[u8], last: Last) -> Result<Found, Errno> {
    for _ in 0..ATTEMPTS {
        let names = walk(root, path, last, Missing::Refuse)?;
        match open(root, &names) {
            Ok(fd) if must_be_folder(path) && !is(&fd, FileType::Directory)? => return Err(Errno::NOTDIR),
            Ok(fd) => return Ok(Found { fd, path: absolute(&names) }),
            // A link where there was none: something moved.
            Err(Errno::LOOP) => {}
            Err(error) => return Err(error),
        }
    }
    Err(Errno::LOOP)
}

/// Where a link leads in the end, as far as it can be told: what is missing is taken as it is written.
pub fn target(root: &OwnedFd, path: &[u8]) -> Result<Vec<u8>, Errno> {
    walk(root, path, Last::Follow, Missing::Accept).map(|names| absolute(&names))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Missing {
    Refuse,
    Accept,
}

/// The true name of a path, as its components.
fn walk(root: &OwnedFd, path: &[u8], last: Last, missing: Missing) -> Result<Vec<Vec<u8>>, Errno> {
    let follow = last == Last::Follow || must_be_folder(path);
    let mut ahead: VecDeque<Vec<u8>> = parts(path);
    let (mut names, mut links) = (Vec::new(), 0);
    while let Some(part) = ahead.pop_front() {
        if part == b".." {
            names.pop();
            continue;
        }
        names.push(part);
        let fd = match open(root, &names) {
            Ok(fd) => fd,
            Err(Errno::NOENT) if missing == Missing::Accept => continue,
            Err(error) => return Err(error),
        };
        if (ahead.is_empty() && !follow) || !is(&fd, FileType::Symlink)? {
            continue;
        }
        links += 1;
        if links > MAX_LINKS {
            return Err(Errno::LOOP);
        }
        let to = readlinkat(&fd, c"", Vec::new())?.into_bytes();
        if to.starts_with(b"/") {
            names.clear();
        } else {
            names.pop();
        }
        for part in parts(&to).into_iter().rev() {
            ahead.push_front(part);
        }
    }
    Ok(names)
}

fn parts(path: &[u8]) -> VecDeque<Vec<u8>> {
    path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".").map(<[u8]>::to_vec).collect()
}

/// `a/` and `a/.` are folders or nothing.
fn must_be_folder(path: &[u8]) -> bool {
    path.ends_with(b"/") || path.ends_with(b"/.") || path == b"."
}

fn absolute(names: &[Vec<u8>]) -> Vec<u8> {
    [&b"/"[..], &names.join(&b'/')].concat()
}

/// A name without links in it; a link at its end is opened itself.
fn open(root: &OwnedFd, names: &[Vec<u8>]) -> Result<OwnedFd, Errno> {
    let path = if names.is_empty() { b".".to_vec() } else { names.join(&b'/') };
    let path = CString::new(path).map_err(|_| Errno::NOENT)?;
    let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS;
    loop {
        match openat2(root, &path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty(), how) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other,
        }
    }
}

fn is(fd: &OwnedFd, kind: FileType) -> Result<bool, Errno> {
    Ok(FileType::from_raw_mode(fstat(fd)?.st_mode) == kind)
}

/// `lstat PATH: not a directory`, as Go words it.
pub fn failed(call: &str, path: &str, error: Errno) -> Error {
    let kind = match error {
        Errno::NOENT => ErrorKind::NotFound,
        Errno::NAMETOOLONG | Errno::LOOP => ErrorKind::InvalidParameter,
        _ => ErrorKind::System,
    };
    Error::new(kind, format!("{call} {path}: {}", std::io::Error::from(error))).with_source(error)
}
