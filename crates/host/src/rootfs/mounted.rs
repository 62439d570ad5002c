//! A root file system mounted in the mount namespace of a thread that ends with the work: nobody else sees the mount,
//! and nothing has to be unmounted.

use std::{
    ffi::CString,
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use gantry_domain::{Error, Result, ports::RootMount};
use rustix::{
    fs::{Mode, OFlags, open},
    mount::{MountFlags, MountPropagationFlags, mount, mount_change},
    thread::UnshareFlags,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// May be done beside a running task.
    Read,
    /// Only while no task has the same upper folder mounted.
    Write,
}

/// A folder that every host has and no layer lies in; hidden for this thread only.
const POINT: &str = "/sys";
/// The kernel takes one page of options.
const LONGEST: usize = 4000;

/// Mounts `mounts` and runs `work` on their root. Blocks.
pub fn with<T: Send>(
    mounts: &[RootMount],
    access: Access,
    work: impl FnOnce(&OwnedFd) -> Result<T> + Send,
) -> Result<T> {
    let run = || {
        let root = mount_all(mounts, access)
            .map_err(|error| Error::system(format!("cannot mount the root file system: {error}")).with_source(error))?;
        work(&root)
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("rootfs".into()).spawn_scoped(scope, run)?;
        thread.join().map_err(|_| Error::system("work on a root file system panicked"))?
    })
}

fn mount_all(mounts: &[RootMount], access: Access) -> io::Result<OwnedFd> {
    // SAFETY: unsharing the mount namespace (and with it root and working directory) concerns this thread alone, which
    // was started for this work and ends with it; no file descriptors are unshared.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS)? };
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    for one in mounts {
        let target = Path::new(POINT).join(one.target.trim_start_matches('/'));
        mount_one(one, &target, access)?;
    }
    Ok(open(POINT, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

fn mount_one(one: &RootMount, target: &Path, access: Access) -> io::Result<()> {
    let mut flags = MountFlags::empty();
    let mut data: Vec<String> = Vec::new();
    for option in &one.options {
        match option.as_str() {
            "ro" => flags |= MountFlags::RDONLY,
            "rw" | "defaults" => {}
            "bind" => flags |= MountFlags::BIND,
            "rbind" => flags |= MountFlags::BIND | MountFlags::REC,
            other => data.push(other.to_owned()),
        }
    }
    if one.kind == "bind" && !flags.contains(MountFlags::BIND) {
        flags |= MountFlags::BIND;
    }
    if one.kind == "overlay" && access == Access::Read {
        data = read_only(data);
        flags |= MountFlags::RDONLY;
    }
    let data = within_a_page(data)?;
    let text = CString::new(data)?;
    mount(one.source.as_str(), target, one.kind.as_str(), flags, Some(text.as_c_str()))?;
    Ok(())
}

/// One upper folder must not be mounted twice: for reading it is the topmost of the lower ones.
pub(super) fn read_only(options: Vec<String>) -> Vec<String> {
    let upper = options.iter().find_map(|option| option.strip_prefix("upperdir=")).map(str::to_owned);
    let Some(upper) = upper else { return options };
    options
        .into_iter()
        .filter(|option| !["upperdir=", "workdir="].iter().any(|key| option.starts_with(key)) && option != "volatile")
        .map(|option| match option.strip_prefix("lowerdir=") {
            Some(lower) => format!("lowerdir={upper}:{lower}"),
            None => option,
        })
        .collect()
}

/// Joins the options; where they are too long for the kernel, the layers are named from their common folder, which
/// becomes this thread's working directory.
fn within_a_page(options: Vec<String>) -> io::Result<String> {
    let joined = options.join(",");
    if joined.len() < LONGEST {
        return Ok(joined);
    }
    let layers: Vec<&Path> =
        options.iter().filter_map(|o| o.strip_prefix("lowerdir=")).flat_map(|l| l.split(':')).map(Path::new).collect();
    // The first may be the container's own layer, which lies elsewhere in some layouts.
    let Some(common) = common(layers.get(1..).unwrap_or_default()) else { return Ok(joined) };
    rustix::process::chdir(&common)?;
    let short = |option: &String| match option.strip_prefix("lowerdir=") {
        Some(_) => {
            let names: Vec<String> =
                layers.iter().map(|l| l.strip_prefix(&common).unwrap_or(l).display().to_string()).collect();
            format!("lowerdir={}", names.join(":"))
        }
        None => option.clone(),
    };
    Ok(options.iter().map(short).collect::<Vec<_>>().join(","))
}

fn common(layers: &[&Path]) -> Option<PathBuf> {
    let mut common = layers.first()?.parent()?.to_owned();
    while !layers.iter().all(|layer| layer.starts_with(&common) && **layer != *common) {
        common = common.parent()?.to_owned();
    }
    Some(common)
}
