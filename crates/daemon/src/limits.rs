//! What gantryd sets for its own process: open files, mask of new files, the allocator's appetite, the code in memory.

use std::ops::Range;

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

/// Lets go of the program's own code, most of which the start alone has run: what is needed again comes back from the
/// page cache by itself, 64 KiB at a time.
pub fn forget_code() {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let Ok(program) = std::fs::read_link("/proc/self/exe") else { return };
    for range in code(&maps, &program.to_string_lossy()) {
        // SAFETY: the range is a private mapping of a file that is executable and was never writable, so that no page of
        // it differs from the file (a position-independent program has no relocations in its text): each page that is
        // let go is read again as it was.
        unsafe { libc::madvise(range.start as *mut libc::c_void, range.len(), libc::MADV_DONTNEED) };
    }
}

/// The executable mappings of a file, from `/proc/<pid>/maps`.
fn code(maps: &str, program: &str) -> Vec<Range<usize>> {
    let range = |line: &str| {
        let (addresses, rest) = line.split_once(' ')?;
        let path = rest.splitn(5, ' ').nth(4)?.trim_start();
        let (start, end) = addresses.split_once('-')?;
        let number = |text| usize::from_str_radix(text, 16).ok();
        (rest.starts_with("r-xp") && path == program).then_some(number(start)?..number(end)?)
    };
    maps.lines().filter_map(range).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: &str = "\
55d0c0000000-55d0c0100000 r--p 00000000 fe:00 123 /usr/sbin/gantryd
55d0c0100000-55d0c0300000 r-xp 00100000 fe:00 123                        /usr/sbin/gantryd
55d0c0300000-55d0c0400000 rw-p 00300000 fe:00 123 /usr/sbin/gantryd
7f0000000000-7f0000100000 r-xp 00000000 fe:00 9                          /usr/lib/libc.so.6
7f0000200000-7f0000300000 rw-p 00000000 00:00 0
";

    #[test]
    fn only_the_programs_own_code_is_found() {
        assert_eq!(code(MAPS, "/usr/sbin/gantryd"), vec![Range { start: 0x55d0_c010_0000, end: 0x55d0_c030_0000 }]);
        assert!(code(MAPS, "/usr/sbin/other").is_empty());
    }

    #[test]
    fn the_program_runs_on_after_its_code_was_let_go() {
        let resident = || {
            let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
            let field = status.lines().find_map(|line| line.strip_prefix("RssFile:")).unwrap_or_default().to_owned();
            field.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or_default()
        };
        let before = resident();
        forget_code();
        assert!(resident() < before, "{} of {before} KiB", resident());
    }
}
