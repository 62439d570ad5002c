//! Kernel settings under `/proc/sys`, of the network namespace that the calling thread is in.

use std::{fs, io, path::PathBuf};

/// `net.ipv4.ip_forward` and `net/ipv4/conf/eth0.1/forwarding` alike: with a slash in it, dots are part of names.
fn path(key: &str) -> PathBuf {
    let relative = if key.contains('/') { key.to_owned() } else { key.replace('.', "/") };
    PathBuf::from("/proc/sys").join(relative)
}

pub fn read(key: &str) -> io::Result<String> {
    Ok(fs::read_to_string(path(key))?.trim().to_owned())
}

/// Not written where it is so already, so that a read-only `/proc/sys` is no hindrance.
pub fn set(key: &str, value: &str) -> io::Result<()> {
    if read(key)? == value { Ok(()) } else { fs::write(path(key), value) }
}

/// The same, where a kernel without the feature is as good.
pub fn set_where_present(key: &str, value: &str) -> io::Result<()> {
    match set(key, value) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
