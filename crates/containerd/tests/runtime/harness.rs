//! A containerd in a temporary folder, a busybox as image, containers with hand-written specs, and the cleaning up.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use containerd_client::services::v1::snapshots::{CommitSnapshotRequest, PrepareSnapshotRequest};
use gantry_containerd::{
    process::{Containerd, Layout},
    runtime::{ContainerdRuntime, RuntimeConfig},
};
use gantry_domain::{
    ContainerId,
    container::Exit,
    engine_id::EngineId,
    ports::{Runtime as _, RuntimeContainer, TaskSetup},
};
use serde_json::{Value, json};
use tokio::{io::AsyncReadExt, net::unix::pipe, task::JoinHandle, time::timeout};

/// Nothing here takes longer, save a hang.
pub const SOON: Duration = Duration::from_secs(30);
const BASE: &str = "base";

pub struct Bench {
    pub dir: tempfile::TempDir,
    pub layout: Layout,
    /// `None` after `without_watch`.
    pub containerd: Option<Containerd>,
    pub runtime: Arc<ContainerdRuntime>,
    /// Every container that was set up; their cgroups go at the end.
    ids: Mutex<Vec<ContainerId>>,
}

/// Whether this machine can run these tests; says what is missing.
pub fn able() -> bool {
    let programs = ["/usr/bin/containerd", "/usr/sbin/runc", "/usr/bin/busybox"].map(PathBuf::from);
    let missing: Vec<PathBuf> = programs.into_iter().chain([our_shim()]).filter(|path| !path.exists()).collect();
    let root = rustix::process::geteuid().is_root();
    if !root || !missing.is_empty() {
        eprintln!("SKIPPED: root: {root}, missing: {missing:?}");
    }
    root && missing.is_empty()
}

/// Built with the workspace's binaries.
fn our_shim() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.parent().and_then(Path::parent).unwrap().join("containerd-shim-gantry-v1")
}

impl Bench {
    /// With the shim that the test's crate is for.
    pub async fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("gct").tempdir().unwrap();
        let layout = Layout::new(dir.path().join("lib"), dir.path().join("run"));
        let containerd = Containerd::own(layout.clone()).await.unwrap();
        let runtime = ContainerdRuntime::new(
            &containerd,
            EngineId("11111111-2222-3333-4444-555555555555".into()),
            dir.path().join("run"),
            RuntimeConfig::default(),
        );
        let runtime = if env!("CARGO_CRATE_NAME") == "stock_shim" { runtime } else { runtime.with_shim(our_shim()) };
        let bench =
            Self { dir, layout, containerd: Some(containerd), runtime: Arc::new(runtime), ids: Mutex::default() };
        bench.make_base().await;
        bench
    }

    /// An image's layer: busybox and its links. Without a parent the snapshot is a plain folder.
    async fn make_base(&self) {
        let client = self.containerd.as_ref().unwrap().client();
        let labels = [("containerd.io/gc.root".to_owned(), "2026-01-01T00:00:00Z".to_owned())];
        let request = PrepareSnapshotRequest {
            snapshotter: "overlayfs".into(),
            key: "making".into(),
            labels: labels.clone().into(),
            ..Default::default()
        };
        let mounts = client.snapshots().prepare(request).await.unwrap().into_inner().mounts;
        let root = PathBuf::from(&mounts[0].source);
        for folder in ["bin", "proc", "dev", "sys", "etc", "tmp"] {
            fs::create_dir(root.join(folder)).unwrap();
        }
        fs::copy("/usr/bin/busybox", root.join("bin/busybox")).unwrap();
        fs::set_permissions(root.join("bin/busybox"), fs::Permissions::from_mode(0o755)).unwrap();
        for name in ["sh", "true", "sleep", "cat", "echo", "stty", "yes", "head", "kill"] {
            std::os::unix::fs::symlink("busybox", root.join("bin").join(name)).unwrap();
        }
        let request = CommitSnapshotRequest {
            snapshotter: "overlayfs".into(),
            name: BASE.into(),
            key: "making".into(),
            labels: labels.into(),
        };
        client.snapshots().commit(request).await.unwrap();
    }

    pub fn setup(&self, spec: impl Fn(&mut Value)) -> RuntimeContainer {
        let id = ContainerId::random();
        self.ids.lock().unwrap().push(id.clone());
        let mut document = minimal_spec(&id);
        spec(&mut document);
        RuntimeContainer {
            id,
            chain_id: BASE.into(),
            snapshotter: "overlayfs".into(),
            runtime: "runc".into(),
            spec: Bytes::from(document.to_string()),
            record: Bytes::from_static(b"{\"record\":1}"),
            image: "docker.io/library/busybox:latest".into(),
        }
    }

    /// A container that runs these arguments.
    pub async fn container(&self, args: &[&str]) -> ContainerId {
        let setup = self.setup(|spec| spec["process"]["args"] = json!(args));
        self.runtime.create_container(&setup).await.unwrap();
        setup.id
    }

    /// A container with output to null, started.
    pub async fn running(&self, args: &[&str]) -> ContainerId {
        let id = self.container(args).await;
        self.runtime.create_task(&null_io(&id)).await.unwrap();
        self.runtime.start_task(&id).await.unwrap();
        id
    }

    pub async fn exit(&self, id: &ContainerId) -> Exit {
        timeout(SOON, self.runtime.wait(id, None)).await.expect("it exits").unwrap()
    }

    pub async fn remove(&self, id: &ContainerId) {
        self.runtime.delete_task(id, None).await.unwrap();
        self.runtime.delete_container(id).await.unwrap();
    }

    pub fn containerd_pid(&self) -> i32 {
        fs::read_to_string(self.layout.pid_file()).unwrap().trim().parse().unwrap()
    }

    pub fn kill_containerd(&self) {
        kill(self.containerd_pid());
    }

    /// Shims that serve this containerd.
    pub fn shims(&self) -> Vec<i32> {
        let socket = self.layout.socket().to_string_lossy().into_owned();
        processes(|line| line.contains("containerd-shim") && line.contains(&socket))
    }

    /// cgroup folders of this test's containers.
    pub fn cgroups(&self) -> Vec<PathBuf> {
        let ids = self.ids.lock().unwrap();
        let hierarchies = fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten().map(|entry| entry.path());
        let parents: Vec<PathBuf> =
            hierarchies.chain([PathBuf::from("/sys/fs/cgroup")]).map(|path| path.join("gantry-test")).collect();
        ids.iter()
            .flat_map(|id| parents.iter().map(move |parent| parent.join(id.as_str())))
            .filter(|folder| folder.is_dir())
            .collect()
    }

    /// Mounts under this test's folder.
    pub fn mounts(&self) -> Vec<String> {
        let dir = self.dir.path().to_string_lossy().into_owned();
        let text = fs::read_to_string("/proc/self/mountinfo").unwrap();
        text.lines()
            .filter_map(|line| line.split(' ').nth(4))
            .filter(|point| point.starts_with(&dir))
            .map(str::to_owned)
            .collect()
    }
}

impl Drop for Bench {
    /// Ends what the test left, also when it failed.
    fn drop(&mut self) {
        self.containerd = None;
        for pid in self.shims() {
            let children = processes_of(pid);
            kill(pid);
            children.into_iter().for_each(kill);
        }
        if let Ok(text) = fs::read_to_string(self.layout.pid_file()) {
            let pid = text.trim().parse().unwrap();
            let config = self.layout.config().to_string_lossy().into_owned();
            if processes(|line| line.contains(&config)).contains(&pid) {
                kill(pid);
            }
        }
        for point in self.mounts().into_iter().rev() {
            let _ = rustix::mount::unmount(point, rustix::mount::UnmountFlags::DETACH);
        }
        // A killed process leaves its cgroup a moment later.
        for _ in 0..100 {
            if self.cgroups().iter().filter(|folder| fs::remove_dir(folder).is_err()).count() == 0 {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

pub fn kill(pid: i32) {
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
}

fn processes(matches: impl Fn(&str) -> bool) -> Vec<i32> {
    let numbers = fs::read_dir("/proc").unwrap().flatten().filter_map(|e| e.file_name().to_str()?.parse().ok());
    numbers
        .filter(|pid: &i32| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            matches(&String::from_utf8_lossy(&line).replace('\0', " "))
        })
        .collect()
}

/// Children of a process.
fn processes_of(parent: i32) -> Vec<i32> {
    let text = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

pub fn null_io(id: &ContainerId) -> TaskSetup {
    TaskSetup {
        stdio_owner: (0, 0),
        mount_label: String::new(),
        id: id.clone(),
        terminal: false,
        stdin: String::new(),
        stdout: String::new(),
        stderr: String::new(),
        runtime: "runc".into(),
        console_size: None,
    }
}

/// A FIFO and what was read from it until its end.
pub struct Output {
    pub path: String,
    reading: JoinHandle<Vec<u8>>,
    begin: Option<tokio::sync::oneshot::Sender<()>>,
}

impl Output {
    /// Opened for reading at once; read once `text` is awaited after the task was made.
    pub fn new(dir: &Path, name: &str) -> Self {
        let path = dir.join(name);
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        let mut receiver = pipe::OpenOptions::new().open_receiver(&path).unwrap();
        let (begin, begun) = tokio::sync::oneshot::channel();
        let reading = tokio::spawn(async move {
            let mut all = Vec::new();
            let _ = begun.await;
            receiver.read_to_end(&mut all).await.unwrap();
            all
        });
        Self { path: path.to_string_lossy().into_owned(), reading, begin: Some(begin) }
    }

    pub fn begin(&mut self) {
        let _ = self.begin.take().unwrap().send(());
    }

    pub async fn text(self) -> String {
        let all = timeout(SOON, self.reading).await.expect("the output ends").unwrap();
        String::from_utf8(all).unwrap()
    }
}

/// The least that runc takes, with namespaces of its own and no network.
fn minimal_spec(id: &ContainerId) -> Value {
    let namespaces = ["pid", "ipc", "uts", "mount", "network"].map(|kind| json!({ "type": kind }));
    json!({
        "ociVersion": "1.0.2",
        "process": process(&["true"]),
        "root": { "path": "rootfs" },
        "hostname": "gct",
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc" },
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"] },
            { "destination": "/dev/pts", "type": "devpts", "source": "devpts",
              "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"] }
        ],
        "linux": {
            "cgroupsPath": format!("/gantry-test/{id}"),
            "namespaces": namespaces
        }
    })
}

pub fn process(args: &[&str]) -> Value {
    json!({
        "terminal": false,
        "user": { "uid": 0, "gid": 0 },
        "args": args,
        "env": ["PATH=/bin"],
        "cwd": "/"
    })
}
