//! containerd's container objects and the snapshots that are their root file systems.

use std::collections::HashMap;

use bytes::Bytes;
use containerd_client::{
    services::v1::{
        Container, CreateContainerRequest, DeleteContainerRequest, GetContainerRequest, ListContainersRequest,
        PluginsRequest, UpdateContainerRequest,
        container::Runtime,
        snapshots::{
            Kind, ListSnapshotsRequest, MountsRequest, PrepareSnapshotRequest, RemoveSnapshotRequest, UsageRequest,
        },
    },
    types,
};
use gantry_domain::{
    ContainerId, Error, ErrorKind, Result, engine_id,
    ports::{RootMount, RuntimeContainer, RuntimeContainerInfo},
};
use prost_types::FieldMask;

use super::{ContainerdRuntime, options};
use crate::client::{error, retry};

/// Keeps containerd's garbage collection away from a snapshot that no container object refers to yet.
const GC_ROOT: &str = "containerd.io/gc.root";

impl ContainerdRuntime {
    /// Snapshot and object do not refer to each other's existence, so both are made at once; each write of
    /// containerd's database waits for the disk.
    pub(super) async fn make_container(&self, setup: &RuntimeContainer) -> Result<()> {
        let first = self.make_both(setup).await;
        match first {
            // Undone whole by then, so it may be tried once more.
            Err(error) if error.kind() == ErrorKind::Unavailable => self.make_both(setup).await,
            done => done,
        }
    }

    async fn make_both(&self, setup: &RuntimeContainer) -> Result<()> {
        let (snapshot, object) = tokio::join!(self.prepare_snapshot(setup), self.create_object(setup));
        if snapshot.is_ok() && object.is_ok() {
            return Ok(());
        }
        // What was there before is not ours to take away.
        if !object.as_ref().is_err_and(Error::is_conflict) {
            self.undo("container object", self.delete_object(&setup.id).await);
        }
        if !snapshot.as_ref().is_err_and(Error::is_conflict) {
            self.undo("snapshot", self.remove_snapshot(&setup.snapshotter, setup.id.as_str()).await);
        }
        snapshot.and(object)
    }

    fn undo(&self, what: &str, result: Result<()>) {
        if let Err(error) = result {
            tracing::warn!(%error, what, "could not undo a failed creation, the reconciliation will");
        }
    }

    async fn prepare_snapshot(&self, setup: &RuntimeContainer) -> Result<()> {
        let mut labels = self.labels();
        labels.insert(GC_ROOT.to_owned(), jiff::Timestamp::now().to_string());
        let request = PrepareSnapshotRequest {
            snapshotter: self.snapshotter(&setup.snapshotter),
            key: setup.id.to_string(),
            parent: setup.chain_id.clone(),
            labels,
        };
        let answer = self.client.snapshots().prepare(request).await.map_err(error)?;
        // Any other root is its parent's.
        let root = self.config().root;
        if setup.chain_id.is_empty() && root != (0, 0) {
            for mount in answer.into_inner().mounts {
                std::os::unix::fs::lchown(&mount.source, Some(root.0), Some(root.1))?;
            }
        }
        Ok(())
    }

    async fn create_object(&self, setup: &RuntimeContainer) -> Result<()> {
        let config = self.config();
        let container = Container {
            id: setup.id.to_string(),
            // Only our own prefix: nothing of an image or a user may steer containerd (T11).
            labels: self.labels(),
            image: setup.image.clone(),
            runtime: Some(Runtime {
                name: config.other_shim(&setup.runtime)?.unwrap_or(options::SHIM).to_owned(),
                options: config.options(&setup.runtime, (0, 0), &self.folders)?,
            }),
            spec: Some(options::oci("Spec", setup.spec.clone())),
            snapshotter: self.snapshotter(&setup.snapshotter),
            snapshot_key: setup.id.to_string(),
            extensions: HashMap::from([(options::RECORD.to_owned(), options::record(&setup.record))]),
            ..Container::default()
        };
        let request = CreateContainerRequest { container: Some(container) };
        self.client.containers().create(request).await.map(drop).map_err(error)
    }

    fn labels(&self) -> HashMap<String, String> {
        HashMap::from([(engine_id::LABEL.to_owned(), self.engine.to_string())])
    }

    fn snapshotter(&self, named: &str) -> String {
        if named.is_empty() { self.config().snapshotter.clone() } else { named.to_owned() }
    }

    pub(super) async fn rewrite_container(
        &self,
        id: &ContainerId,
        spec: Option<Bytes>,
        record: Option<Bytes>,
    ) -> Result<()> {
        let mut container = Container { id: id.to_string(), ..Container::default() };
        let mut paths = Vec::new();
        if let Some(spec) = spec {
            container.spec = Some(options::oci("Spec", spec));
            paths.push("spec".to_owned());
        }
        if let Some(record) = record {
            container.extensions.insert(options::RECORD.to_owned(), options::record(&record));
            paths.push(format!("extensions.{}", options::RECORD));
        }
        if paths.is_empty() {
            return Ok(());
        }
        let request = UpdateContainerRequest { container: Some(container), update_mask: Some(FieldMask { paths }) };
        retry(|| {
            let request = request.clone();
            async { self.client.containers().update(request).await }
        })
        .await
        .map(drop)
    }

    pub(super) async fn remove_container(&self, id: &ContainerId) -> Result<()> {
        let snapshotter = match self.object(id).await {
            Ok(container) => container.snapshotter,
            Err(error) if error.is_not_found() => String::new(),
            Err(error) => return Err(error),
        };
        // Each waits for the disk, neither for the other; what fails is found again by the reconciliation.
        let (object, snapshot) = tokio::join!(self.delete_object(id), self.remove_snapshot(&snapshotter, id.as_str()));
        object.and(snapshot)
    }

    async fn delete_object(&self, id: &ContainerId) -> Result<()> {
        let request = DeleteContainerRequest { id: id.to_string() };
        absent_is_ok(
            retry(|| {
                let request = request.clone();
                async { self.client.containers().delete(request).await }
            })
            .await,
        )
    }

    async fn remove_snapshot(&self, snapshotter: &str, key: &str) -> Result<()> {
        let request = RemoveSnapshotRequest { snapshotter: self.snapshotter(snapshotter), key: key.to_owned() };
        absent_is_ok(
            retry(|| {
                let request = request.clone();
                async { self.client.snapshots().remove(request).await }
            })
            .await,
        )
    }

    pub(super) async fn object(&self, id: &ContainerId) -> Result<Container> {
        let request = GetContainerRequest { id: id.to_string() };
        let answer = retry(|| {
            let request = request.clone();
            async { self.client.containers().get(request).await }
        })
        .await?;
        answer.container.ok_or_else(|| Error::not_found(format!("container {id}: not found")))
    }

    /// Streamed: thousands of specs do not fit into one message.
    pub(super) async fn list_containers(&self) -> Result<Vec<RuntimeContainerInfo>> {
        let filters = vec![self.label_filter()];
        let mut stream = retry(|| {
            let request = ListContainersRequest { filters: filters.clone() };
            async { self.client.containers().list_stream(request).await }
        })
        .await?;
        let mut found = Vec::new();
        while let Some(message) = stream.message().await.map_err(error)? {
            let Some(mut container) = message.container else { continue };
            let Ok(id) = ContainerId::parse(&container.id) else { continue };
            let record = container.extensions.remove(options::RECORD).map(|any| Bytes::from(any.value));
            found.push(RuntimeContainerInfo { id, record });
        }
        Ok(found)
    }

    pub(super) async fn list_snapshots(&self) -> Result<Vec<ContainerId>> {
        let mut found = Vec::new();
        for snapshotter in self.snapshotters().await? {
            let request = ListSnapshotsRequest { snapshotter, filters: vec![self.label_filter()] };
            let mut stream = retry(|| {
                let request = request.clone();
                async { self.client.snapshots().list(request).await }
            })
            .await?;
            while let Some(message) = stream.message().await.map_err(error)? {
                let active = message.info.into_iter().filter(|info| info.kind == Kind::Active as i32);
                found.extend(active.filter_map(|info| ContainerId::parse(&info.name).ok()));
            }
        }
        Ok(found)
    }

    /// Those that work on this host.
    async fn snapshotters(&self) -> Result<Vec<String>> {
        let filters = vec!["type==io.containerd.snapshotter.v1".to_owned()];
        let answer = retry(|| {
            let request = PluginsRequest { filters: filters.clone() };
            async { self.client.introspection().plugins(request).await }
        })
        .await?;
        Ok(answer.plugins.into_iter().filter(|plugin| plugin.init_err.is_none()).map(|plugin| plugin.id).collect())
    }

    fn label_filter(&self) -> String {
        format!("labels.\"{}\"==\"{}\"", engine_id::LABEL, self.engine)
    }

    pub(super) async fn read_root_mounts(&self, id: &ContainerId) -> Result<Vec<RootMount>> {
        let mounts = self.mounts(id).await?;
        Ok(mounts
            .into_iter()
            .map(|mount| RootMount {
                kind: mount.r#type,
                source: mount.source,
                target: mount.target,
                options: mount.options,
            })
            .collect())
    }

    /// Asked anew each time: what a snapshotter answers may change with its configuration.
    pub(super) async fn mounts(&self, id: &ContainerId) -> Result<Vec<types::Mount>> {
        let container = self.object(id).await?;
        let request = MountsRequest { snapshotter: container.snapshotter, key: container.snapshot_key };
        let answer = retry(|| {
            let request = request.clone();
            async { self.client.snapshots().mounts(request).await }
        })
        .await?;
        Ok(answer.mounts)
    }

    pub(super) async fn read_root_usage(&self, id: &ContainerId) -> Result<u64> {
        let container = self.object(id).await?;
        let request = UsageRequest { snapshotter: container.snapshotter, key: container.snapshot_key };
        let answer = retry(|| {
            let request = request.clone();
            async { self.client.snapshots().usage(request).await }
        })
        .await?;
        Ok(u64::try_from(answer.size).unwrap_or_default())
    }
}

pub(super) fn absent_is_ok<T>(result: Result<T>) -> Result<()> {
    match result {
        Err(error) if !error.is_not_found() => Err(error),
        _ => Ok(()),
    }
}
