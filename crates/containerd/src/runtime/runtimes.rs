//! The OCI runtimes that are configured, and how containerd is told to use one.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};

use gantry_domain::{
    Error, Result,
    settings::{RuntimeSettings, STOCK_SHIM, Settings, ShimOptions, is_shim_name},
};

use prost_types::Any;

use super::{
    Folders,
    options::{self, RuncOptions},
};

/// What the runtime needs of the engine's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeConfig {
    /// Name → path and arguments, or a shim.
    pub runtimes: BTreeMap<String, RuntimeSettings>,
    pub default_runtime: String,
    /// runc asks systemd for the cgroups.
    pub systemd_cgroup: bool,
    /// Used where a container does not name one.
    pub snapshotter: String,
    /// The host's user and group that own root file systems.
    pub root: (u32, u32),
}

impl Default for RuntimeConfig {
    fn default() -> Self {
        Self::from(&Settings::default())
    }
}

impl From<&Settings> for RuntimeConfig {
    fn from(settings: &Settings) -> Self {
        Self {
            runtimes: settings.runtimes.clone(),
            default_runtime: settings.default_runtime.clone(),
            systemd_cgroup: settings.cgroup_driver == "systemd",
            snapshotter: gantry_domain::settings::SNAPSHOTTER.into(),
            root: settings.id_maps().root(),
        }
    }
}

/// What a runtime's name stands for.
#[derive(Debug)]
enum Meaning<'a> {
    /// A program, under our shim or containerd's own.
    Program(&'a str, &'a RuntimeSettings),
    /// Another shim of containerd's, which knows itself what it runs.
    Shim(&'a str, Option<&'a ShimOptions>),
}

impl RuntimeConfig {
    fn meaning<'a>(&'a self, name: &'a str) -> Result<Meaning<'a>> {
        let name = if name.is_empty() { &self.default_runtime } else { name };
        match self.runtimes.get_key_value(name) {
            Some((_, RuntimeSettings { shim: Some(shim), .. })) => Ok(Meaning::Shim(&shim.kind, shim.options.as_ref())),
            Some((name, settings)) => Ok(Meaning::Program(name, settings)),
            None if is_shim_name(name) => Ok(Meaning::Shim(name, None)),
            None => Err(Error::invalid(format!("unknown or invalid runtime name: {name}"))),
        }
    }

    /// The shim that a runtime's name stands for, in containerd's words, where it is neither runc's nor ours.
    pub(super) fn other_shim<'a>(&'a self, name: &'a str) -> Result<Option<&'a str>> {
        match self.meaning(name)? {
            Meaning::Shim(kind, _) => Ok(Some(kind)),
            Meaning::Program(..) => Ok(None),
        }
    }

    /// Whether a container of this runtime is run by containerd's own shim whatever else there is.
    pub(super) fn wants_stock_shim(&self, name: &str) -> Result<bool> {
        self.meaning(name).map(|meaning| matches!(meaning, Meaning::Program(STOCK_SHIM, _)))
    }

    /// The program that the default runtime's name stands for.
    pub(super) fn default_program(&self) -> Result<&str> {
        Ok(match self.meaning("")? {
            Meaning::Program(name, settings) => program(name, settings),
            Meaning::Shim(..) => "runc",
        })
    }

    /// containerd's options for the runtime of this name; an empty one is the default's. The owner is that of the pipes
    /// of a process.
    pub(super) fn options(&self, name: &str, owner: (u32, u32), folders: &Folders) -> Result<Option<Any>> {
        match self.meaning(name)? {
            Meaning::Program(name, settings) => {
                let options = self.runc_options(name, settings, folders)?;
                Ok(Some(RuncOptions { io_uid: owner.0, io_gid: owner.1, ..options }.to_any()))
            }
            Meaning::Shim(_, options) => Ok(options.map(options::of_shim)),
        }
    }

    fn runc_options(&self, name: &str, settings: &RuntimeSettings, folders: &Folders) -> Result<RuncOptions> {
        let binary = if settings.args.is_empty() {
            program(name, settings).to_owned()
        } else {
            let script = wrapper(&folders.wrappers, name, settings)
                .map_err(|error| Error::from(error).context(format!("preparing runtime {name}")))?;
            script.to_string_lossy().into_owned()
        };
        Ok(RuncOptions {
            binary_name: binary,
            root: folders.runc.to_string_lossy().into_owned(),
            systemd_cgroup: self.systemd_cgroup,
            ..RuncOptions::default()
        })
    }
}

/// Our shim's program, where there is one that this containerd can start.
#[derive(Debug, Default)]
pub struct Shim {
    path: Option<PathBuf>,
    missed: AtomicBool,
}

impl Shim {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path: Some(path), missed: AtomicBool::new(false) }
    }

    /// As containerd is told it; empty for its own.
    pub(super) fn path(&self) -> String {
        let usable = self.path.as_ref().filter(|_| !self.missed.load(Relaxed));
        usable.map(|path| path.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// Whether a start failed because containerd does not find the program, as one with other mounts does not. From then
    /// on its own shim is used.
    pub(super) fn was_missed(&self, path: &str, error: &Error) -> bool {
        let (text, reasons) = (error.message(), ["no such file or directory", "permission denied", "not found"]);
        let missed = !path.is_empty() && text.contains(path) && reasons.iter().any(|reason| text.contains(reason));
        if missed && !self.missed.swap(true, Relaxed) {
            tracing::warn!(path, %error, "containerd cannot start our shim and is left to its own");
        }
        missed
    }
}

fn program<'a>(name: &'a str, settings: &'a RuntimeSettings) -> &'a str {
    if settings.path.is_empty() { name } else { &settings.path }
}

/// containerd takes a program without arguments, so a script carries them, as dockerd does it.
fn wrapper(folder: &Path, name: &str, settings: &RuntimeSettings) -> io::Result<PathBuf> {
    let args: Vec<String> = settings.args.iter().map(|arg| shell_word(arg)).collect();
    let text = format!("#!/bin/sh\nexec {} {} \"$@\"\n", shell_word(program(name, settings)), args.join(" "));
    let path = folder.join(hex::encode(name));
    if fs::read_to_string(&path).is_ok_and(|present| present == text) {
        return Ok(path);
    }
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    // Written aside and renamed: a script that is being executed cannot be written.
    let new = folder.join(format!("{}.{}", hex::encode(name), std::process::id()));
    let file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o700).open(&new)?;
    io::Write::write_all(&mut &file, text.as_bytes())?;
    drop(file);
    fs::rename(new, &path)?;
    Ok(path)
}

fn shell_word(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use gantry_domain::settings::{OtherShimOptions, ShimSettings};

    use super::*;

    fn folders(dir: &Path) -> Folders {
        let [state, root, exec, runc, wrappers] = ["s", "r", "e", "runc", "w"].map(|name| dir.join(name));
        Folders { state, root, exec, runc, wrappers }
    }

    #[test]
    fn an_unknown_runtime_is_the_callers_fault() {
        let dir = tempfile::tempdir().unwrap();
        let error = RuntimeConfig::default().options("nosuch", (0, 0), &folders(dir.path())).unwrap_err();
        assert_eq!(error.message(), "unknown or invalid runtime name: nosuch");
    }

    #[test]
    fn containerds_own_shim_is_used_where_it_is_asked_for_or_ours_cannot_be_found() {
        let config = RuntimeConfig::default();
        assert!(config.wants_stock_shim(STOCK_SHIM).unwrap() && !config.wants_stock_shim("").unwrap());
        let shim = Shim::new("/x/shim".into());
        assert!(!shim.was_missed(&shim.path(), &Error::system("runc create failed")));
        assert_eq!(shim.path(), "/x/shim");
        assert!(shim.was_missed(&shim.path(), &Error::system("stat /x/shim: no such file or directory")));
        assert_eq!(shim.path(), "");
    }

    #[test]
    fn a_shim_by_its_type_gets_its_own_options_and_no_others() {
        let dir = tempfile::tempdir().unwrap();
        let options = ShimOptions::Other(OtherShimOptions { config_path: "/etc/x".into(), ..Default::default() });
        let shim = Some(ShimSettings { kind: "/opt/shim".into(), options: Some(options) });
        let named = RuntimeSettings { shim, ..RuntimeSettings::default() };
        let config = RuntimeConfig { runtimes: BTreeMap::from([("x".into(), named)]), ..RuntimeConfig::default() };
        assert_eq!(config.other_shim("x").unwrap(), Some("/opt/shim"));
        let any = config.options("x", (1, 1), &folders(dir.path())).unwrap().unwrap();
        assert_eq!((any.type_url.as_str(), &any.value[..]), ("runtimeoptions.v1.Options", &b"\x12\x06/etc/x"[..]));
        assert_eq!(config.other_shim("io.containerd.kata.v2").unwrap(), Some("io.containerd.kata.v2"));
        assert_eq!(config.options("io.containerd.kata.v2", (1, 1), &folders(dir.path())).unwrap(), None);
    }

    #[test]
    fn arguments_of_a_runtime_reach_it_unchanged() {
        let dir = tempfile::tempdir().unwrap();
        let settings =
            RuntimeSettings { path: "/bin/echo".into(), args: vec!["it's".into(), "$HOME *".into()], shim: None };
        let options = RuntimeConfig::default().runc_options("x", &settings, &folders(dir.path())).unwrap();
        let output = std::process::Command::new(options.binary_name).args(["a b", "c"]).output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), "it's $HOME * a b c\n");
    }
}
