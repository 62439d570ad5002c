//! The main thread: sees jobs come, change and go, and logs grow, by one inotify for all of them.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs, io,
    mem::MaybeUninit,
    os::fd::{AsFd as _, OwnedFd},
    path::PathBuf,
    sync::{Arc, mpsc},
};

use gantry_wire::ship::{self, JOBS};
use rustix::{
    event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll},
    fs::inotify::{self, WatchFlags},
};

use crate::worker::Worker;

/// Without a job it ends after so long.
const IDLE: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };

pub struct Jobs {
    folder: PathBuf,
    inotify: OwnedFd,
    jobs: i32,
    /// By container.
    workers: BTreeMap<String, Worker>,
    /// Containers by the watch of their log's folder.
    logs: HashMap<i32, String>,
    done: (mpsc::Sender<String>, mpsc::Receiver<String>),
    wake: Arc<OwnedFd>,
}

impl Jobs {
    pub fn open(folder: PathBuf) -> io::Result<Self> {
        let inotify = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
        let flags = WatchFlags::MOVED_TO | WatchFlags::DELETE;
        let jobs = inotify::add_watch(&inotify, folder.join(JOBS), flags)?;
        let wake = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        Ok(Self { folder, inotify, jobs, workers: BTreeMap::new(), logs: HashMap::new(), done: mpsc::channel(), wake })
    }

    /// Until there was no job for a while.
    pub fn run(mut self) -> io::Result<()> {
        self.look();
        loop {
            let idle = self.workers.is_empty().then_some(&IDLE);
            let mut fds = [
                PollFd::from_borrowed_fd(self.inotify.as_fd(), PollFlags::IN),
                PollFd::from_borrowed_fd(self.wake.as_fd(), PollFlags::IN),
            ];
            match poll(&mut fds, idle) {
                Ok(0) => return Ok(()),
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            let _ = rustix::io::read(&*self.wake, &mut [0; 8]);
            self.notified();
            while let Ok(id) = self.done.1.try_recv() {
                self.ended(&id)?;
            }
        }
    }

    /// What the kernel has to tell.
    fn notified(&mut self) {
        let (mut jobs, mut grown, mut all) = (BTreeSet::new(), BTreeSet::new(), false);
        let mut space = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(&self.inotify, &mut space);
        while let Ok(event) = reader.next() {
            if event.wd() == self.jobs {
                jobs.extend(event.file_name().and_then(|name| name.to_str().ok()).map(str::to_owned));
            } else if event.wd() < 0 {
                all = true;
            } else {
                grown.insert(event.wd());
            }
        }
        if all {
            // Too much to tell each of it.
            self.look();
            self.workers.values().for_each(Worker::wake);
        }
        jobs.iter().for_each(|id| self.look_at(id));
        grown.iter().filter_map(|wd| self.workers.get(self.logs.get(wd)?)).for_each(Worker::wake);
    }

    fn look(&mut self) {
        let entries = fs::read_dir(self.folder.join(JOBS)).into_iter().flatten();
        let mut ids: BTreeSet<String> =
            entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
        ids.extend(self.workers.keys().cloned());
        ids.iter().for_each(|id| self.look_at(id));
    }

    /// Brings the worker in line with the job.
    fn look_at(&mut self, id: &str) {
        let Some(shipment) = ship::get(&self.folder, id) else {
            // Not wanted any more, delivered or not.
            self.drop_worker(id);
            return;
        };
        match self.workers.get_mut(id) {
            Some(worker) if shipment.ended || worker.run != shipment.run => worker.finish(),
            Some(_) => {}
            None => {
                let ended = shipment.ended;
                match self.start(id, shipment) {
                    // The log went with its folder: there is nothing to deliver, now or later.
                    Err(error) if ended && error.kind() == io::ErrorKind::NotFound => {
                        let _ = fs::remove_file(self.folder.join(JOBS).join(id));
                    }
                    Err(error) => eprintln!("gantry-logship: {id}: {error}"),
                    Ok(()) => {}
                }
            }
        }
    }

    fn start(&mut self, id: &str, shipment: ship::Shipment) -> io::Result<()> {
        let folder = shipment.log.parent().ok_or(io::ErrorKind::InvalidInput)?;
        let flags = WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_TO;
        let watch = inotify::add_watch(&self.inotify, folder, flags)?;
        self.logs.insert(watch, id.to_owned());
        let (done, wake, name) = (self.done.0.clone(), self.wake.clone(), id.to_owned());
        let worker = Worker::start(shipment, move || {
            let _ = done.send(name);
            let _ = rustix::io::write(&*wake, &1u64.to_ne_bytes());
        })?;
        // What came before the watch.
        worker.wake();
        self.workers.insert(id.to_owned(), worker);
        Ok(())
    }

    /// A worker's thread came to its end.
    fn ended(&mut self, id: &str) -> io::Result<()> {
        let Some(worker) = self.workers.get(id) else { return Ok(()) };
        let finished = worker.is_finishing();
        let run = worker.run;
        self.drop_worker(id);
        let turn = ship::take_turn(&self.folder)?;
        match ship::get(&self.folder, id) {
            Some(shipment) if finished && shipment.ended && shipment.run == run => {
                fs::remove_file(self.folder.join(JOBS).join(id))
            }
            // The next run began meanwhile.
            Some(shipment) => {
                drop(turn);
                self.start(id, shipment)
            }
            None => Ok(()),
        }
    }

    fn drop_worker(&mut self, id: &str) {
        self.workers.remove(id);
        self.logs.retain(|watch, of| {
            let goes = of == id;
            if goes {
                let _ = inotify::remove_watch(&self.inotify, *watch);
            }
            !goes
        });
    }
}
