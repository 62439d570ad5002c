//! Shipments of logs to remote drivers: files for `gantry-logship`, and the thread that keeps one running.

use std::{
    fs, io,
    os::unix::{fs::DirBuilderExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use gantry_domain::{ContainerId, Error, Result, container::log_shipment::LogShipment};
use gantry_wire::ship::{self, Shipment, Subject};
use parking_lot::{Condvar, Mutex};

/// What is not delivered when a container is removed has so long.
const PATIENCE: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// One that dies at once is not started in a row.
const LEAST_LIFE: Duration = Duration::from_secs(1);
const JOURNAL: &str = "/run/systemd/journal/socket";

#[derive(Debug, Clone)]
pub struct Shipping {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    folder: PathBuf,
    program: PathBuf,
    /// Whether there is a thread that keeps logship running.
    kept: Mutex<bool>,
    news: Condvar,
}

impl Shipping {
    /// Takes up what an earlier gantryd left. `folder` need not be there.
    pub fn new(folder: PathBuf, program: PathBuf) -> Self {
        let inner = Arc::new(Inner { folder, program, kept: Mutex::new(false), news: Condvar::new() });
        let found = Self { inner };
        if found.inner.has_jobs()
            && let Err(error) = found.keep_running()
        {
            tracing::error!(%error, "nobody delivers logs");
        }
        found
    }

    pub fn put(&self, shipment: &LogShipment) -> Result<()> {
        if shipment.driver == "journald" && !Path::new(JOURNAL).exists() {
            return Err(Error::system("failed to initialize logging driver: journald is not enabled on this host"));
        }
        self.put_job(shipment).map_err(said)
    }

    /// Nothing more will be written. Absent is `Ok`.
    pub fn end(&self, id: &ContainerId) -> Result<()> {
        if self.inner.has(id) { self.mark_ended(id).map_err(said) } else { Ok(()) }
    }

    /// Waits for what is on its way, and lets go. Absent is `Ok`. Blocks.
    pub fn remove(&self, id: &ContainerId) -> Result<()> {
        if !self.inner.has(id) {
            return Ok(());
        }
        self.mark_ended(id).map_err(said)?;
        let begun = Instant::now();
        while self.inner.has(id) {
            if begun.elapsed() > PATIENCE {
                tracing::warn!(container = %id, "removed before all of its log was delivered");
                return self.inner.forget(id).map_err(said);
            }
            thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }

    pub fn list(&self) -> Vec<ContainerId> {
        let entries = fs::read_dir(self.inner.jobs()).into_iter().flatten();
        entries.filter_map(|entry| ContainerId::parse(entry.ok()?.file_name().to_str()?).ok()).collect()
    }

    fn put_job(&self, shipment: &LogShipment) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(self.inner.jobs())?;
        // Before its first line, so that it can be watched.
        if let Some(folder) = shipment.log.parent() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        let job = job(shipment);
        let _turn = ship::take_turn(&self.inner.folder)?;
        if ship::get(&self.inner.folder, shipment.id.as_str()).as_ref() != Some(&job) {
            ship::put(&self.inner.folder, shipment.id.as_str(), &job)?;
        }
        self.keep_running()
    }

    fn mark_ended(&self, id: &ContainerId) -> io::Result<()> {
        let _turn = ship::take_turn(&self.inner.folder)?;
        match ship::get(&self.inner.folder, id.as_str()) {
            Some(job) if !job.ended => ship::put(&self.inner.folder, id.as_str(), &Shipment { ended: true, ..job }),
            _ => Ok(()),
        }
    }

    fn keep_running(&self) -> io::Result<()> {
        let mut kept = self.inner.kept.lock();
        if !*kept {
            let inner = self.inner.clone();
            thread::Builder::new().name("logship".into()).stack_size(128 << 10).spawn(move || inner.keep())?;
            *kept = true;
        }
        self.inner.news.notify_all();
        Ok(())
    }
}

impl Inner {
    fn jobs(&self) -> PathBuf {
        self.folder.join(ship::JOBS)
    }

    fn has(&self, id: &ContainerId) -> bool {
        self.jobs().join(id.as_str()).exists()
    }

    fn has_jobs(&self) -> bool {
        fs::read_dir(self.jobs()).is_ok_and(|mut entries| entries.next().is_some())
    }

    fn forget(&self, id: &ContainerId) -> io::Result<()> {
        let _turn = ship::take_turn(&self.folder)?;
        match fs::remove_file(self.jobs().join(id.as_str())) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// For ever: whenever there is work and nobody does it, somebody is started.
    fn keep(&self) {
        let mut last: Option<(Child, Instant)> = None;
        loop {
            let mut kept = self.kept.lock();
            while !self.has_jobs() {
                self.news.wait(&mut kept);
            }
            drop(kept);
            // The one that works holds it, also one of an earlier gantryd: here its end is waited for.
            let lock = match self.lock() {
                Ok(lock) => lock,
                Err(error) => {
                    tracing::error!(%error, "cannot take the lock of gantry-logship");
                    thread::sleep(LEAST_LIFE);
                    continue;
                }
            };
            if let Some((mut child, started)) = last.take() {
                let status = child.wait();
                if status.is_ok_and(|status| !status.success()) {
                    tracing::warn!("gantry-logship died; the next one goes on where it stopped");
                }
                thread::sleep(LEAST_LIFE.saturating_sub(started.elapsed()));
            }
            if self.has_jobs() {
                match self.start(lock) {
                    Ok(child) => last = Some((child, Instant::now())),
                    Err(error) => {
                        tracing::error!(%error, program = %self.program.display(), "cannot start gantry-logship");
                        thread::sleep(LEAST_LIFE);
                    }
                }
            }
        }
    }

    fn lock(&self) -> io::Result<fs::File> {
        let lock = fs::File::options().create(true).truncate(false).write(true).open(self.folder.join(ship::LOCK))?;
        lock.lock()?;
        Ok(lock)
    }

    /// The lock goes with it: it is free when the process ends, however it does.
    fn start(&self, lock: fs::File) -> io::Result<Child> {
        let log = fs::File::options().create(true).append(true).open(self.folder.join("logship.log"))?;
        if log.metadata()?.len() > 1 << 20 {
            log.set_len(0)?;
        }
        Command::new(&self.program)
            .arg(&self.folder)
            .stdin(Stdio::from(lock))
            .stdout(Stdio::null())
            .stderr(log)
            .current_dir("/")
            .process_group(0)
            .spawn()
    }
}

fn job(shipment: &LogShipment) -> Shipment {
    let shipment = shipment.clone();
    Shipment {
        run: shipment.run,
        ended: false,
        cursor: shipment.log.with_file_name("delivered"),
        log: shipment.log,
        driver: shipment.driver,
        options: shipment.options,
        container: Subject {
            id: shipment.id.to_string(),
            name: shipment.name,
            image_id: shipment.image_id,
            image_name: shipment.image_name,
            command: shipment.command,
            created: shipment.created,
            tag: shipment.tag,
            attributes: shipment.attributes,
        },
    }
}

fn said(error: io::Error) -> Error {
    Error::system(format!("failed to initialize logging driver: {error}")).with_source(error)
}
