//! What gantryd sets for its own process: open files, mask of new files, the allocator's appetite.

use rustix::process::{Resource, getrlimit, setrlimit};

/// Call before any thread is started: the mask and the allocator are the process's.
pub fn set() {
    raise_open_files();
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    thrifty_allocator();
}

/// Sockets, FIFOs and namespaces of thousands of containers: as many as the host gives.
fn raise_open_files() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Where that is refused the soft limit stays, and the accept loops live with it.
    let _ = setrlimit(Resource::Nofile, limit);
}

/// How many connections may be open at once: a quarter of the descriptors, the rest is for containers.
pub fn connections() -> usize {
    let files = getrlimit(Resource::Nofile).current.unwrap_or(1 << 20);
    usize::try_from(files / 4).unwrap_or(usize::MAX).clamp(64, 16_384)
}

/// glibc keeps an arena for each of many threads and gives little back: with two arenas and an early trim an idle
/// gantryd stays small.
fn thrifty_allocator() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt only sets parameters of the allocator, and no other thread runs yet.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 2);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 256 << 10);
        libc::mallopt(libc::M_MMAP_THRESHOLD, 256 << 10);
    }
}
