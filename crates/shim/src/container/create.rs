//! Create: the root file system mounted, the streams opened, and the runtime's `create`.

use std::{collections::BTreeMap, fs, io, path::Path};

use prost::Message as _;
use serde::{Deserialize, de::IgnoredAny};

use super::{
    Container, INIT_PID_FILE, Process, State,
    streams::{Outputs, Streams},
};
use crate::{
    daemon::{Daemon, Reply},
    host::{fifo::Paths, log, memory::Watch, mounts, poll::Source},
    proto::{
        events::{TaskCreate, TaskIo},
        options::Options,
        task::{self, Started},
        ttrpc::Refusal,
    },
    runc::{Call, Failure, Runtime, pid_file},
};

const CONSOLE: &str = "init.console";
/// The log of the runtime's `create`; others have passing ones.
const LOG: &str = "log.json";

/// What of the bundle's spec is needed here.
#[derive(Deserialize)]
struct Spec {
    linux: Option<Linux>,
    hooks: Option<Hooks>,
}

#[derive(Deserialize)]
struct Hooks {
    #[serde(default)]
    poststart: Vec<IgnoredAny>,
}

#[derive(Deserialize)]
struct Linux {
    #[serde(default)]
    namespaces: Vec<Namespace>,
}

#[derive(Deserialize)]
struct Namespace {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    path: String,
}

impl Spec {
    fn read(config: &Path) -> io::Result<Self> {
        Ok(serde_json::from_slice(&fs::read(config)?)?)
    }

    /// One that is joined is not its own.
    fn has_own_pids(&self) -> bool {
        let mut namespaces = self.linux.iter().flat_map(|linux| &linux.namespaces);
        namespaces.any(|namespace| namespace.kind == "pid" && namespace.path.is_empty())
    }

    fn follows_start(&self) -> bool {
        self.hooks.as_ref().is_some_and(|hooks| !hooks.poststart.is_empty())
    }
}

/// All that was made before the runtime runs.
struct Begun {
    runtime: Runtime,
    spec: Spec,
    mounted: bool,
    streams: Streams,
}

impl Daemon {
    pub(crate) fn create(&mut self, reply: Reply, request: task::Create) {
        if self.container.is_some() || self.creating {
            return self.refuse(reply, Refusal::already_exists(&format!("container {}", request.id)));
        }
        if !request.checkpoint.is_empty() {
            return self.refuse(reply, Refusal::unimplemented("checkpoints are not offered by this shim"));
        }
        match self.begin(&request) {
            Ok((begun, call)) => {
                self.creating = true;
                self.children.starting += 1;
                self.run(call, move |daemon, result| daemon.created(reply, request, begun, result.map(drop)));
            }
            Err(text) => self.refuse(reply, Refusal::unknown(text)),
        }
    }

    fn begin(&self, request: &task::Create) -> Result<(Begun, Call), String> {
        let bundle = &self.facts.bundle;
        let options = Options::of(request.options.as_ref())?;
        let context = |what: &'static str| move |error: io::Error| format!("{what}: {error}");
        let spec = Spec::read(&bundle.join("config.json")).map_err(context("failed to read config.json"))?;
        options.write(bundle).map_err(context("failed to keep the runtime's options"))?;
        let mounted = !request.rootfs.is_empty();
        if mounted {
            mounts::mount_root(&request.rootfs, &bundle.join("rootfs"))
                .map_err(context("failed to mount rootfs component"))?;
        }
        let runtime = Runtime::new(&options, &self.facts.namespace, bundle);
        let made = Streams::open(paths(request), CONSOLE, Outputs::Relayed)
            .and_then(|streams| streams.owned_by(options.io_uid, options.io_gid))
            .and_then(|mut streams| Ok((self.create_call(&runtime, &options, &mut streams)?, streams)));
        match made {
            Ok((call, streams)) => Ok((Begun { runtime, spec, mounted, streams }, call)),
            Err(error) => {
                self.unmount_root(mounted);
                Err(format!("failed to create init process I/O: {error}"))
            }
        }
    }

    fn create_call(&self, runtime: &Runtime, options: &Options, streams: &mut Streams) -> io::Result<Call> {
        let bundle = self.facts.bundle.to_string_lossy();
        let pid_file = self.facts.bundle.join(INIT_PID_FILE);
        let pid_file = pid_file.to_string_lossy();
        let mut words = vec!["create", "--bundle", &bundle, "--pid-file", &pid_file];
        let console = streams.console_name();
        words.extend(console.iter().flat_map(|name| ["--console-socket", name.as_str()]));
        words.extend(options.no_pivot_root.then_some("--no-pivot"));
        words.extend(options.no_new_keyring.then_some("--no-new-keyring"));
        words.push(&self.facts.id);
        streams.give(runtime.logged_call(words, LOG))
    }

    fn created(&mut self, reply: Reply, request: task::Create, begun: Begun, result: Result<(), Failure>) {
        self.creating = false;
        let made = match result {
            Ok(()) => self.adopt(begun, &request),
            Err(failure) => {
                self.unmount_root(begun.mounted);
                Err(failure.told("OCI runtime create failed"))
            }
        };
        match made {
            Ok(pid) => {
                self.publish(&TaskCreate {
                    container_id: request.id,
                    bundle: request.bundle,
                    rootfs: request.rootfs,
                    io: Some(TaskIo {
                        stdin: request.stdin,
                        stdout: request.stdout,
                        stderr: request.stderr,
                        terminal: request.terminal,
                    }),
                    pid,
                });
                self.answer(reply, Ok(Started { pid }.encode_to_vec()));
            }
            Err(text) => self.refuse(reply, Refusal::unknown(text)),
        }
        self.start_is_over();
    }

    /// Takes over what the runtime has made.
    fn adopt(&mut self, begun: Begun, request: &task::Create) -> Result<u32, String> {
        let Begun { runtime, spec, mounted, streams } = begun;
        let pid = pid_file(&self.facts.bundle.join(INIT_PID_FILE));
        let adopted = pid
            .map_err(|error| format!("failed to retrieve OCI runtime container pid: {error}"))
            .and_then(|pid| Ok((pid, streams.settle()?)));
        let (pid, (held, carriers)) = match adopted {
            Ok(adopted) => adopted,
            Err(text) => {
                self.discard(&runtime, mounted);
                return Err(text);
            }
        };
        let carriers = self.add_carriers(carriers);
        self.watch_memory(pid);
        let init = Process { pid, paths: paths(request), held, carriers, ..Process::default() };
        self.container = Some(Container {
            runtime,
            state: State::Created,
            init,
            execs: BTreeMap::new(),
            own_pids: spec.has_own_pids(),
            follows_start: spec.follows_start(),
            mounted,
        });
        Ok(pid.unsigned_abs())
    }

    /// What the runtime has made and nobody can use.
    fn discard(&mut self, runtime: &Runtime, mounted: bool) {
        let call = runtime.call(["delete", "--force", &self.facts.id]);
        self.run(call, move |daemon, result| {
            if let Err(failure) = result {
                log::error("an unusable container stays", failure.told("delete"));
            }
            daemon.unmount_root(mounted);
        });
    }

    /// After a failure: nothing has used it yet, so that this does not take long.
    fn unmount_root(&self, mounted: bool) {
        if mounted && let Err(error) = mounts::unmount_all(&self.facts.bundle.join("rootfs")) {
            log::error("the root file system stays mounted", error);
        }
    }

    fn watch_memory(&mut self, pid: i32) {
        let watch = Watch::new(pid)
            .and_then(|watch| watch.map(|watch| self.poll.add(&watch.fd, Source::Memory).map(|()| watch)).transpose());
        match watch {
            Ok(watch) => self.memory = watch,
            Err(error) => log::error("the memory cgroup cannot be watched", error),
        }
    }
}

fn paths(request: &task::Create) -> Paths {
    Paths {
        stdin: request.stdin.clone(),
        stdout: request.stdout.clone(),
        stderr: request.stderr.clone(),
        terminal: request.terminal,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn spec(text: &str) -> Spec {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn a_pid_namespace_that_is_joined_is_not_its_own() {
        assert!(spec(r#"{"linux":{"namespaces":[{"type":"mount"},{"type":"pid"}]}}"#).has_own_pids());
        assert!(!spec(r#"{"linux":{"namespaces":[{"type":"pid","path":"/proc/7/ns/pid"}]}}"#).has_own_pids());
        assert!(!spec("{}").has_own_pids());
    }

    #[test]
    fn hooks_after_the_start_are_left_to_the_runtime() {
        assert!(spec(r#"{"hooks":{"poststart":[{"path":"/bin/x"}]}}"#).follows_start());
        assert!(!spec(r#"{"hooks":{"prestart":[{"path":"/bin/x"}]}}"#).follows_start());
    }
}
