//! Whether the host itself is going down: then containers are stopped first, while a mere end of gantryd leaves them.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

const PATIENCE: Duration = Duration::from_secs(2);
/// Size of glibc's `struct utmp`, the same on every Linux that we run on.
const UTMP_RECORD: usize = 384;
const RUN_LEVEL: i16 = 1;

/// Where a host's init says what it is about to do.
#[derive(Debug, Clone)]
pub struct Host {
    root: PathBuf,
}

impl Default for Host {
    fn default() -> Self {
        Self { root: "/".into() }
    }
}

impl Host {
    /// Asks the init system of this host. No answer counts as no.
    pub async fn is_ending(&self) -> bool {
        if self.root.join("run/systemd/system").is_dir() {
            return systemd_is_stopping().await;
        }
        self.run_level_is_down() || self.openrc_is_down()
    }

    /// System V's init writes the level it goes to into utmp: 0 is halt and 6 is reboot.
    fn run_level_is_down(&self) -> bool {
        ["run/utmp", "var/run/utmp"].iter().any(|path| {
            std::fs::read(self.root.join(path)).is_ok_and(|utmp| matches!(run_level(&utmp), Some('0' | '6')))
        })
    }

    fn openrc_is_down(&self) -> bool {
        let level = read(&self.root.join("run/openrc/softlevel"));
        matches!(level.trim(), "shutdown" | "reboot")
    }
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// The last run level in a utmp file.
fn run_level(utmp: &[u8]) -> Option<char> {
    let mut levels = utmp.chunks_exact(UTMP_RECORD).filter_map(|record| {
        let kind = i16::from_ne_bytes(record.get(0..2)?.try_into().ok()?);
        let level = record.get(4).copied()?;
        (kind == RUN_LEVEL).then_some(char::from(level))
    });
    levels.next_back()
}

async fn systemd_is_stopping() -> bool {
    let asked = tokio::process::Command::new("systemctl")
        .arg("is-system-running")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .output();
    match tokio::time::timeout(PATIENCE, asked).await {
        Ok(Ok(output)) => output.stdout.trim_ascii() == b"stopping",
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utmp(records: &[(i16, u8)]) -> Vec<u8> {
        records
            .iter()
            .flat_map(|(kind, level)| {
                let mut record = vec![0; UTMP_RECORD];
                record[0..2].copy_from_slice(&kind.to_ne_bytes());
                record[4] = *level;
                record
            })
            .collect()
    }

    #[tokio::test]
    async fn run_levels_of_halt_and_reboot_are_the_end() {
        let root = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(root.path().join("run")).expect("made");
        let host = Host { root: root.path().into() };
        assert!(!host.is_ending().await);
        for (records, ends) in
            [(vec![(2, 0), (1, b'5')], false), (vec![(1, b'5'), (7, b'0'), (1, b'6')], true), (vec![(1, b'0')], true)]
        {
            std::fs::write(root.path().join("run/utmp"), utmp(&records)).expect("written");
            assert_eq!(host.is_ending().await, ends, "{records:?}");
        }
    }

    #[tokio::test]
    async fn openrcs_shutdown_level_is_the_end() {
        let root = tempfile::tempdir().expect("a folder");
        std::fs::create_dir_all(root.path().join("run/openrc")).expect("made");
        let host = Host { root: root.path().into() };
        for (level, ends) in [("default\n", false), ("shutdown\n", true), ("reboot", true)] {
            std::fs::write(root.path().join("run/openrc/softlevel"), level).expect("written");
            assert_eq!(host.is_ending().await, ends, "{level}");
        }
    }
}
