//! A containerd in a temporary folder with the image port on it.

use std::{path::PathBuf, sync::Arc};

use futures::StreamExt as _;
use gantry_containerd::{
    client::Client,
    images::{ContainerdImages, Limits},
    process::{Containerd, Layout},
};
use gantry_domain::{
    Result,
    id_maps::IdMaps,
    image::{Descriptor, PlatformImage},
    ports::{ImageStore as _, LoadProgress},
};

use crate::build::body;

pub struct Bench {
    pub dir: tempfile::TempDir,
    layout: Layout,
    containerd: Option<Containerd>,
    client: Client,
    pub images: ContainerdImages,
}

/// Whether this machine can run these tests; says what is missing.
pub fn able() -> bool {
    let able = rustix::process::geteuid().is_root() && std::path::Path::new("/usr/bin/containerd").exists();
    if !able {
        eprintln!("SKIPPED: needs root and /usr/bin/containerd");
    }
    able
}

impl Bench {
    pub async fn new() -> Self {
        Self::with_limits(Limits::default()).await
    }

    pub async fn with_id_maps(maps: IdMaps) -> Self {
        let mut bench = Self::new().await;
        bench.images = bench.images.clone().with_id_maps(Arc::new(maps));
        bench
    }

    pub async fn with_limits(limits: Limits) -> Self {
        let dir = tempfile::Builder::new().prefix("gimg").tempdir().unwrap();
        let layout = Layout::new(dir.path().join("lib"), dir.path().join("run"));
        let containerd = Containerd::own(layout.clone()).await.unwrap();
        let client = containerd.client();
        let images = ContainerdImages::with_limits(client.clone(), "overlayfs", limits);
        Self { dir, layout, containerd: Some(containerd), client, images }
    }

    /// Loads and gives what was told as loaded.
    pub async fn load(&self, archive: Vec<u8>) -> Result<Vec<(Option<String>, Descriptor)>> {
        let mut progress = self.images.load(body(archive), Vec::new()).await?;
        let mut loaded = Vec::new();
        while let Some(item) = progress.next().await {
            if let LoadProgress::Loaded { name, target } = item? {
                loaded.push((name, *target));
            }
        }
        Ok(loaded)
    }

    pub async fn platform(&self, target: &Descriptor) -> PlatformImage {
        let mut all = self.images.platforms(target).await.unwrap();
        assert_eq!(all.len(), 1);
        all.remove(0)
    }

    /// The folders of an unpacked image, topmost first.
    pub async fn folders(&self, target: &Descriptor) -> Vec<PathBuf> {
        let image = self.platform(target).await;
        let chain = self.images.unpack(&image).await.unwrap();
        let view = self.images.view(&chain).await.unwrap();
        let mount = &view.mounts[0];
        let lower = mount.options.iter().find_map(|option| option.strip_prefix("lowerdir="));
        let folders = match lower {
            Some(lower) => lower.split(':').map(PathBuf::from).collect(),
            None => vec![PathBuf::from(&mount.source)],
        };
        self.images.release_view(view).await.unwrap();
        folders
    }

    pub async fn snapshots(&self) -> usize {
        use containerd_client::services::v1::snapshots::ListSnapshotsRequest;
        let request = ListSnapshotsRequest { snapshotter: "overlayfs".into(), filters: Vec::new() };
        let mut answers = self.client.snapshots().list(request).await.unwrap().into_inner();
        let mut count = 0;
        while let Some(answer) = answers.message().await.unwrap() {
            count += answer.info.len();
        }
        count
    }

    pub async fn assert_empty(&self) {
        assert!(self.images.names().await.unwrap().is_empty(), "names");
        assert!(self.images.leases().await.unwrap().is_empty(), "leases");
        assert_eq!(self.snapshots().await, 0, "snapshots");
        assert_eq!(self.images.blobs().await.unwrap(), [], "blobs");
    }

    /// Every test ends so: what is under way comes to its end.
    pub async fn end(self) {
        self.images.finish().await;
    }
}

impl Drop for Bench {
    /// containerd outlives its supervisor by design; here it goes with its folder, also when the test failed.
    fn drop(&mut self) {
        self.containerd = None;
        let Ok(text) = std::fs::read_to_string(self.layout.pid_file()) else { return };
        let pid: i32 = text.trim().parse().unwrap();
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let config = self.layout.config().to_string_lossy().into_owned();
        if String::from_utf8_lossy(&line).contains(&config) {
            let pid = rustix::process::Pid::from_raw(pid).unwrap();
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
}
