//! Where a containerd of our own lives, and the configuration it is given.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// Plugins that nothing here uses. The restart monitor must stay off: it acts on labels of containers (T11). CRI and
/// NRI act on containers that are not theirs; the cgroup monitor reads every container's figures for nobody.
/// (`io.containerd.runtime.v1.linux` stays: without it 1.6 has no task service.)
const DISABLED: &[&str] = &[
    "io.containerd.grpc.v1.cri",
    "io.containerd.cri.v1.images",
    "io.containerd.cri.v1.runtime",
    "io.containerd.internal.v1.restart",
    "io.containerd.internal.v1.opt",
    "io.containerd.internal.v1.tracing",
    "io.containerd.tracing.processor.v1.otlp",
    "io.containerd.nri.v1.nri",
    "io.containerd.monitor.v1.cgroups",
    "io.containerd.monitor.task.v1.cgroups",
    "io.containerd.snapshotter.v1.aufs",
    "io.containerd.snapshotter.v1.devmapper",
    "io.containerd.snapshotter.v1.zfs",
    "io.containerd.podsandbox.controller.v1.podsandbox",
];

/// The folders of a containerd of our own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// The program, a path or a name in `PATH`.
    pub binary: PathBuf,
    /// gantryd's data root; containerd's own root is in it.
    pub data_root: PathBuf,
    /// gantryd's run directory; socket, state, pid file and configuration are in it.
    pub exec_root: PathBuf,
    /// More verbose logging.
    pub debug: bool,
}

impl Layout {
    pub fn new(data_root: impl Into<PathBuf>, exec_root: impl Into<PathBuf>) -> Self {
        Self { binary: "containerd".into(), data_root: data_root.into(), exec_root: exec_root.into(), debug: false }
    }
    fn run(&self) -> PathBuf {
        self.exec_root.join("containerd")
    }
    pub fn root(&self) -> PathBuf {
        self.data_root.join("containerd/daemon")
    }
    pub fn state(&self) -> PathBuf {
        self.run().join("daemon")
    }
    pub fn socket(&self) -> PathBuf {
        self.run().join("containerd.sock")
    }
    pub fn config(&self) -> PathBuf {
        self.run().join("containerd.toml")
    }
    pub fn pid_file(&self) -> PathBuf {
        self.run().join("containerd.pid")
    }
    pub fn log(&self) -> PathBuf {
        self.data_root.join("containerd/containerd.log")
    }

    /// Makes the folders, for root and its group to pass through only, and writes the configuration.
    pub(super) fn write(&self) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o710).create(self.run())?;
        fs::DirBuilder::new().recursive(true).mode(0o710).create(self.data_root.join("containerd"))?;
        let mut file = fs::OpenOptions::new();
        let file = file.write(true).create(true).truncate(true).mode(0o600).open(self.config())?;
        io::Write::write_all(&mut &file, self.toml().as_bytes())
    }

    fn toml(&self) -> String {
        let disabled: Vec<String> = DISABLED.iter().map(|plugin| quoted(plugin)).collect();
        let level = if self.debug { "debug" } else { "warn" };
        format!(
            "version = 2\nroot = {root}\nstate = {state}\noom_score = -500\ndisabled_plugins = [{disabled}]\n\n\
             [grpc]\naddress = {socket}\n\n[debug]\nlevel = \"{level}\"\n\n\
             [plugins.\"io.containerd.gc.v1.scheduler\"]\npause_threshold = 0.5\nschedule_delay = \"0s\"\n",
            root = quoted(&path(&self.root())),
            state = quoted(&path(&self.state())),
            socket = quoted(&path(&self.socket())),
            disabled = disabled.join(", "),
        )
    }
}

fn path(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// A basic string of TOML.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_quoted_for_toml() {
        assert_eq!(quoted("/a \"b\"\\c\n"), r#""/a \"b\"\\c\u000A""#);
    }

    #[test]
    fn the_restart_monitor_never_runs() {
        let toml = Layout::new("/d", "/e").toml();
        assert!(toml.contains("\"io.containerd.internal.v1.restart\""), "{toml}");
        assert!(toml.contains("address = \"/e/containerd/containerd.sock\""), "{toml}");
    }
}
