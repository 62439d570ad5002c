//! What a new gantryd does with what it finds: records, tasks, companions, namespaces, half-done removals.
//!
//! 1. load the records, 2. take the claims, 3. spawn the owners, 4. finish removals that were decided,
//! 5. join what still runs, 6. work off the exits nobody saw, in the order of their end, 7. start what is to run.
//!
//! Reads are answered from step 3 on.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use futures::{FutureExt as _, StreamExt as _};
use gantry_domain::{
    ContainerId, Result,
    container::{ContainerRecord, Exit, Status, record::Desired, restart},
    engine_id::EngineId,
    ports::{EventRing, LeaseGuard, Loaded, RuntimeEvent, TaskInfo, TaskStatus, Write, cache_key},
    settings::Settings,
    volume::ANONYMOUS_LABEL,
};
use jiff::Timestamp;

use crate::{
    Engine, EventBus, Ports,
    container::{
        UNSEEN,
        owner::{Handle, Owner},
        retake,
    },
    exec::table::{Exec, Phase},
    network::predefined::{self, DefaultBridge},
    parts::Parts,
};

/// What the engine starts from.
pub struct Start {
    pub id: EngineId,
    pub ports: Ports,
    pub settings: Settings,
    pub bridge: DefaultBridge,
}

impl Engine {
    /// Loads the records and makes the engine; it answers reads at once. Call `recover` next.
    pub async fn open(start: Start) -> Result<(Self, Recovery)> {
        let loaded = start.ports.store.load().await?;
        let ring = kept_events(&start.ports).await;
        let parts = Arc::new(Parts::new(start.id, start.ports, start.settings, EventBus::new(ring)));
        for text in &loaded.damage {
            parts.warn(text.clone());
        }
        for (kind, id, _) in &loaded.newer {
            parts.warn(format!("WARNING: the {kind} {id} was written by a newer gantryd: it is kept and not touched"));
        }
        claim(&parts, &loaded);
        let engine = Self { parts };
        for record in &loaded.containers {
            engine.adopt_record(record.clone());
        }
        Ok((engine, Recovery { loaded, bridge: start.bridge }))
    }

    fn adopt_record(&self, record: ContainerRecord) -> Arc<Handle> {
        let id = record.id.clone();
        let status = status_at_rest(&record);
        let handle = Owner::spawn(self.parts.clone(), record, status, 0);
        self.parts.containers.write().insert(id, handle.clone());
        handle
    }

    /// Brings the host in line with the records. Before it returns no lifecycle verb may run.
    pub async fn recover(&self, recovery: Recovery) -> Result<()> {
        let Recovery { loaded, bridge } = recovery;
        self.finish_removals(&loaded).await;
        self.adopt_volumes(&loaded).await;
        self.rebuild(&loaded).await;
        predefined::ensure(&self.parts, &bridge).await?;
        let tasks: HashMap<ContainerId, TaskInfo> =
            self.parts.ports.runtime.tasks().await?.into_iter().map(|task| (task.id.clone(), task)).collect();
        let handles: Vec<Arc<Handle>> = self.parts.containers.read().values().cloned().collect();
        for handle in &handles {
            // Fails with the container's task only.
            let _ = handle.run(|owner| owner.remember_health().boxed()).await;
        }
        let mut ended = Vec::new();
        for handle in handles {
            let record = handle.snapshot().record;
            match tasks.get(&handle.id) {
                Some(task) if is_alive(task) => self.rejoin(&handle, task.clone()).await,
                Some(task) if was_running(&record) => ended.push((handle, task.exit.unwrap_or_else(unseen))),
                None if was_running(&record) => ended.push((handle, unseen())),
                Some(_) => self.clear_away(&handle).await,
                None if record.host_config.auto_remove && record.runs > 0 => self.clear_away(&handle).await,
                None => {}
            }
        }
        ended.sort_by_key(|(_, exit)| exit.at);
        for (handle, exit) in ended {
            self.work_off(&handle, exit).await;
        }
        self.undo_cut_off_starts().await;
        self.release_leases().await;
        self.adopt_execs().await;
        self.start_policies(&tasks).await;
        Ok(())
    }

    /// Tombstones that were found: the removal is done again, whole.
    async fn finish_removals(&self, loaded: &Loaded) {
        for id in &loaded.container_tombstones {
            if let Err(error) = self.parts.take_away(id).await {
                tracing::warn!(container = %id, %error, "a removal is left for the reconciliation");
            }
        }
        for name in &loaded.volume_tombstones {
            let removed = self.parts.ports.volumes.remove(name).await;
            let gone = match removed {
                Ok(()) => self.parts.ports.store.commit(vec![Write::VolumeGone { name: name.clone() }]).await,
                Err(error) => Err(error),
            };
            if let Err(error) = gone {
                tracing::warn!(volume = %name, %error, "a removal is left for the next start");
            }
        }
        for id in &loaded.network_tombstones {
            // The kernel's part went with the rules that are made anew; only the record is left.
            if let Err(error) = self.parts.ports.store.commit(vec![Write::NetworkGone { id: id.clone() }]).await {
                tracing::warn!(network = %id, %error, "a removal is left for the next start");
            }
        }
    }

    /// Volumes whose folder is whole and whose record was cut off by a kill: they are made whole, but for those that
    /// were made for a container alone, which is gone too.
    async fn adopt_volumes(&self, loaded: &Loaded) {
        // A log that was lost or damaged says nothing on what there was.
        let complete = loaded.damage.is_empty() && !loaded.networks.is_empty();
        for volume in self.parts.ports.volumes.found().await.unwrap_or_default() {
            let known = self.parts.claims.lock().volumes.contains_key(&volume.name);
            if known || loaded.volume_tombstones.contains(&volume.name) {
                continue;
            }
            if complete && volume.labels.as_ref().is_some_and(|labels| labels.contains_key(ANONYMOUS_LABEL)) {
                if let Err(error) = self.parts.ports.volumes.remove(&volume.name).await {
                    tracing::warn!(volume = %volume.name, %error, "half a volume is left");
                }
            } else if self.parts.ports.store.commit(vec![Write::Volume(volume.clone())]).await.is_ok() {
                self.parts.claims.lock().volumes.insert(volume.name.clone(), volume);
            }
        }
    }

    /// After damage: containers that containerd knows and the store does not.
    async fn rebuild(&self, loaded: &Loaded) {
        // An engine that ever ran has its networks on record: with nothing at all the records are lost.
        let lost = loaded.networks.is_empty() && loaded.containers.is_empty();
        if loaded.damage.is_empty() && !lost {
            return;
        }
        let mut taken = 0;
        let copies = self.parts.ports.runtime.containers().await.unwrap_or_default();
        for copy in copies {
            let known =
                self.parts.containers.read().contains_key(&copy.id) || loaded.container_tombstones.contains(&copy.id);
            let record = copy.record.and_then(|bytes| serde_json::from_slice::<ContainerRecord>(&bytes).ok());
            let Some(record) = record.filter(|record| !known && record.id == copy.id) else { continue };
            if self.parts.ports.store.commit(vec![Write::Container(Box::new(record.clone()))]).await.is_ok() {
                claim_container(&self.parts, &record);
                self.adopt_record(record);
                taken += 1;
            }
        }
        if taken > 0 {
            self.parts
                .warn(format!("WARNING: the records of {taken} container(s) were lost and taken from containerd"));
        }
    }

    /// A container that ran on while gantryd was dead.
    async fn rejoin(&self, handle: &Arc<Handle>, task: TaskInfo) {
        let id = handle.id.clone();
        let joined = handle.run(move |owner| async move { owner.rejoin(&task).await }.boxed()).await;
        if let Err(error) = joined {
            self.parts.warn(format!("WARNING: container {} runs but could not be joined whole: {error}", id.short()));
        }
    }

    /// A run whose end is on record, and that a kill kept from being taken away.
    async fn clear_away(&self, handle: &Arc<Handle>) {
        let cleared = handle.run(|owner| owner.clear_away().boxed()).await;
        if let Err(error) = cleared {
            tracing::warn!(container = %handle.id, %error, "an ended run is left for the next verb");
        }
    }

    async fn work_off(&self, handle: &Arc<Handle>, exit: Exit) {
        let number = handle.snapshot().record.run.as_ref().map_or(0, |run| run.number);
        let worked = handle.run(move |owner| owner.exited_unseen(number, exit).boxed()).await;
        if let Err(error) = worked {
            tracing::warn!(container = %handle.id, %error, "an exit is left for the reconciliation");
        }
    }

    /// Starts that were cut off before they were written down: their ports and namespaces are given back, or the next
    /// start would find them taken.
    async fn undo_cut_off_starts(&self) {
        let ports = &self.parts.ports;
        let made = [ports.network.sandboxes().await, ports.stdio.sessions().await];
        let made: HashSet<ContainerId> = made.into_iter().flat_map(Result::unwrap_or_default).collect();
        for id in made {
            let Some(handle) = self.parts.containers.read().get(&id).cloned() else { continue };
            let undone = handle.run(|owner| owner.undo_unwritten_start().boxed()).await;
            if let Err(error) = undone {
                tracing::warn!(container = %id, %error, "a start that was cut off is left");
            }
        }
    }

    /// What an earlier gantryd was loading is not loaded any further: its content may go.
    async fn release_leases(&self) {
        for lease in self.parts.ports.images.leases().await.unwrap_or_default() {
            if let Err(error) = self.parts.ports.images.release_lease(LeaseGuard(lease)).await {
                tracing::warn!(%error, "a lease is left until it expires");
            }
        }
    }

    /// Execs that run on, by their notes; the others are over.
    async fn adopt_execs(&self) {
        for note in self.parts.ports.execs.list().await.unwrap_or_default() {
            let same_boot = note.boot_id == self.parts.boot_id;
            if note.probe && same_boot {
                self.end_probe(note).await;
                continue;
            }
            let pid = if same_boot { self.exec_pid(&note.container, &note.id).await } else { None };
            let record = self.parts.container(note.container.as_str()).map(|handle| handle.snapshot().record);
            // A check of another boot has ended, and nobody asks for it.
            let Some(record) = record.ok().filter(|_| !note.probe) else {
                let _ = self.parts.ports.execs.remove(&note.id).await;
                continue;
            };
            let Some(pid) = pid else {
                self.exec_ended_unseen(&note, &record).await;
                continue;
            };
            let exec = Arc::new(Exec::new(note.id, note.container, note.config, Phase::Running { pid }));
            self.drain_adopted(&exec).await;
            self.parts.execs.insert(exec.clone());
            crate::exec::supervise(&self.parts, &exec, record);
        }
    }

    /// Beside the start, which a check that hangs must not hold up.
    async fn end_probe(&self, note: gantry_domain::container::record::ExecRecord) {
        let parts = self.parts.clone();
        // Ends within its limits.
        tokio::spawn(async move {
            if let Err(error) = crate::exec::end_found(&parts, &note).await {
                tracing::warn!(exec = %note.id, %error, "a health check of before is left");
            }
        });
    }

    /// An exec that ended while gantryd was dead: containerd may still know how.
    async fn exec_ended_unseen(
        &self,
        note: &gantry_domain::container::record::ExecRecord,
        record: &Arc<ContainerRecord>,
    ) {
        let exit = self.parts.ports.runtime.delete_task(&note.container, Some(&note.id)).await.ok().flatten();
        let code = exit.map_or(UNSEEN, |exit| exit.code);
        let phase = Phase::Ended { code };
        let exec = Exec::new(note.id.clone(), note.container.clone(), note.config.clone(), Phase::Created);
        exec.set(phase);
        self.parts.execs.insert(Arc::new(exec));
        crate::exec::publish(&self.parts, record, "exec_die".into(), &note.id, Some(code));
        if let Err(error) = self.parts.ports.execs.remove(&note.id).await {
            tracing::warn!(exec = %note.id, %error, "an exec's note is left");
        }
    }

    /// The note was written before the process was made: only the runtime knows its id.
    async fn exec_pid(&self, container: &ContainerId, exec: &gantry_domain::ExecId) -> Option<u32> {
        let pids = self.parts.ports.runtime.pids(container).await.unwrap_or_default();
        pids.into_iter().find(|process| process.exec.as_ref() == Some(exec)).map(|process| process.pid)
    }

    /// Nobody reads an adopted exec's output any more; it must not block for that.
    async fn drain_adopted(&self, exec: &Exec) {
        let setup = gantry_domain::ports::ExecSetup {
            container: exec.container.clone(),
            exec: exec.id.clone(),
            process: bytes::Bytes::new(),
            terminal: exec.config.tty,
            stdin: false,
            output: exec.config.attach_stdout || exec.config.attach_stderr,
            console_size: None,
        };
        match self.parts.ports.runtime.adopt_exec(&setup).await {
            Ok(started) => {
                if let Some(mut output) = started.output {
                    // Ends with the exec.
                    tokio::spawn(async move { while output.next().await.is_some() {} });
                }
            }
            Err(error) => tracing::warn!(exec = %exec.id, %error, "the exec's output could not be taken over"),
        }
    }

    /// `always` and `unless-stopped` at the engine's start.
    async fn start_policies(&self, tasks: &HashMap<ContainerId, TaskInfo>) {
        let handles: Vec<Arc<Handle>> = self.parts.containers.read().values().cloned().collect();
        for handle in handles {
            let snapshot = handle.snapshot();
            let record = &snapshot.record;
            if snapshot.status.is_running() || tasks.get(&handle.id).is_some_and(is_alive) {
                continue;
            }
            let exit = record.run.as_ref().and_then(|run| run.exit).map(|exit| exit.code);
            let was_running = record.desired == Desired::Running;
            let policy = &record.host_config.restart_policy;
            if record.runs > 0 && restart::should_start_at_boot(policy, exit, was_running, record.manually_stopped) {
                // Ends with the start; failures are in the container's state.
                tokio::spawn(async move {
                    if let Err(error) = handle.run(|owner| owner.start().boxed()).await {
                        tracing::warn!(container = %handle.id, %error, "the start at boot failed");
                    }
                });
            }
        }
    }

    /// The engine's own tasks; they run until the future is dropped.
    pub async fn run(&self) {
        let keep = self.parts.events.keep(self.parts.ports.store.clone());
        futures::join!(keep, self.follow_runtime(), self.follow_companions(), self.follow_input(), self.sweep());
    }

    /// containerd's events: out-of-memory kills, and a look at all tasks after each gap.
    async fn follow_runtime(&self) {
        let mut events = self.parts.ports.runtime.events();
        while let Some(event) = events.next().await {
            if let RuntimeEvent::OutOfMemory { id } = event
                && let Ok(handle) = self.parts.container(id.as_str())
            {
                let noted = handle.run(|owner| owner.out_of_memory().boxed()).await;
                if let Err(error) = noted {
                    tracing::debug!(container = %id, %error, "an out-of-memory kill came too late");
                }
            }
        }
    }

    /// A companion that died gets a successor.
    async fn follow_companions(&self) {
        let mut deaths = self.parts.ports.stdio.deaths();
        while let Some(id) = deaths.next().await {
            let Ok(handle) = self.parts.container(id.as_str()) else { continue };
            tracing::warn!(container = %id, "its companion died: a successor is started");
            let adopted = handle.run(|owner| owner.readopt_stdio().boxed()).await;
            if let Err(error) = adopted {
                tracing::error!(container = %id, %error, "the container has no companion");
            }
        }
    }

    /// A client's end of input ends the container's (`StdinOnce`).
    async fn follow_input(&self) {
        let mut ends = self.parts.ports.stdio.stdin_ends();
        while let Some(id) = ends.next().await {
            let Ok(handle) = self.parts.container(id.as_str()) else { continue };
            // As a job of the owner: input that ends during the start is closed after it.
            // Ends with its one call; one container's start does not hold the others' up.
            tokio::spawn(async move {
                if let Err(error) = handle.run(|owner| owner.close_stdin().boxed()).await {
                    tracing::debug!(container = %id, %error, "the input ended after the container");
                }
            });
        }
    }
}

/// The part of the start that comes after the sockets are open.
pub struct Recovery {
    loaded: Loaded,
    bridge: DefaultBridge,
}

async fn kept_events(ports: &Ports) -> Vec<gantry_domain::event::Event> {
    let kept = ports.store.get_cache(cache_key::EVENTS).await.ok().flatten();
    kept.and_then(|bytes| serde_json::from_slice::<EventRing>(&bytes).ok()).unwrap_or_default().events
}

fn claim(parts: &Parts, loaded: &Loaded) {
    {
        let mut claims = parts.claims.lock();
        claims.volumes.extend(loaded.volumes.iter().map(|volume| (volume.name.clone(), volume.clone())));
        claims.networks.extend(loaded.networks.iter().map(|network| (network.id.clone(), network.clone())));
    }
    for record in &loaded.containers {
        claim_container(parts, record);
    }
}

fn claim_container(parts: &Parts, record: &ContainerRecord) {
    let mut claims = parts.claims.lock();
    if let Err(error) = claims.take_name(&record.name, &record.id) {
        tracing::error!(container = %record.id, %error, "two records have one name");
    }
    for point in record.mounts.iter().filter(|point| point.kind == "volume") {
        claims.use_volume(&point.name, &record.id);
    }
    if let Some(image) = &record.image.id {
        claims.use_image(image, &record.id);
    }
    if let Some(run) = record.run.as_ref().filter(|run| run.exit.is_none()) {
        retake(&mut claims, &record.id, &run.endpoints);
    }
}

/// The status of a record before anybody has looked at containerd.
fn status_at_rest(record: &ContainerRecord) -> Status {
    match &record.run {
        _ if record.dead => Status::Dead,
        _ if record.runs > 0 => Status::Exited,
        Some(run) if run.exit.is_none() && !run.started.is_zero() => Status::Exited,
        _ => Status::Created,
    }
}

fn was_running(record: &ContainerRecord) -> bool {
    record.run.as_ref().is_some_and(|run| run.exit.is_none())
}

fn is_alive(task: &TaskInfo) -> bool {
    matches!(task.status, TaskStatus::Running | TaskStatus::Paused)
}

fn unseen() -> Exit {
    Exit { code: UNSEEN, at: Timestamp::now(), oom_killed: false }
}
