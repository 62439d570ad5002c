//! One log's delivery, on a thread of its own: a driver that waits for its server holds up nobody else.

use std::{
    io,
    os::fd::OwnedFd,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use gantry_logs::{End, Query, Reader, Stop, stop_pair};
use gantry_wire::ship::Shipment;
use rustix::event::{EventfdFlags, eventfd};

use crate::{
    cursor::Cursor,
    drivers::{self, Driver},
    line::{Line, Parts},
};

/// Enough for TLS and a resolver's answer.
const STACK: usize = 512 << 10;
const FIRST_DELAY: Duration = Duration::from_millis(100);
const MOST_DELAY: Duration = Duration::from_secs(5);
/// Lines that a driver gets at once.
const AT_ONCE: usize = 256;

/// The main thread's end of it.
pub struct Worker {
    pub run: u64,
    news: Arc<OwnedFd>,
    /// Gone when the log is to be read to its end.
    stop: Option<Stop>,
    /// Gone when it is to end at once.
    _wait: mpsc::Sender<()>,
}

impl Worker {
    /// `done` is called at the end, whatever it was.
    pub fn start(shipment: Shipment, done: impl FnOnce() + Send + 'static) -> io::Result<Self> {
        let (stop, signal) = stop_pair()?;
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let news = Arc::new(eventfd(0, flags)?);
        let counter = rustix::io::dup(&*news)?;
        let (wait, waited) = mpsc::channel();
        let stop = if shipment.ended {
            drop(stop);
            None
        } else {
            Some(stop)
        };
        let run = shipment.run;
        thread::Builder::new().name("ship".into()).stack_size(STACK).spawn(move || {
            let id = shipment.container.id.clone();
            let mut delivery = Delivery { cursor: Cursor::open(&shipment.cursor), shipment, driver: None, waited };
            if let Err(error) = delivery.run(End::Told(signal, counter)) {
                eprintln!("gantry-logship: {id}: {error}");
                // A log that cannot be read is tried again, and not without pause.
                let _ = delivery.waited.recv_timeout(MOST_DELAY);
            }
            done();
        })?;
        Ok(Self { run, news, stop, _wait: wait })
    }

    /// The folder of the log has changed.
    pub fn wake(&self) {
        let _ = rustix::io::write(&*self.news, &1u64.to_ne_bytes());
    }

    /// Nothing more is written: it ends when all that is there is delivered.
    pub fn finish(&mut self) {
        self.stop = None;
    }

    pub fn is_finishing(&self) -> bool {
        self.stop.is_none()
    }
}

struct Delivery {
    shipment: Shipment,
    cursor: Cursor,
    driver: Option<Box<dyn Driver>>,
    /// Its other end goes when nothing is to be delivered any more.
    waited: mpsc::Receiver<()>,
}

impl Delivery {
    fn run(&mut self, end: End) -> io::Result<()> {
        let before = self.cursor.place;
        let query = Query { since: before.map(|place| place.at), ..Query::default() };
        let mut reader = Reader::open(&self.shipment.log, query, end)?;
        let (mut parts, mut skip) = (Parts::default(), before.map_or(0, |place| place.count));
        while let Some(batch) = reader.next_batch()? {
            let lines = parts.lines(&batch);
            // Delivered by the one before us.
            let known = lines.iter().take_while(|line| Some(line.at) == before.map(|place| place.at));
            let known = known.take(usize::try_from(skip).unwrap_or(usize::MAX)).count();
            skip = if known == lines.len() { skip - known as u64 } else { 0 };
            for lines in lines[known..].chunks(AT_ONCE) {
                if !self.deliver(lines) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Until all of them are delivered; `false` when that is not wanted any more.
    fn deliver(&mut self, mut lines: &[Line<'_>]) -> bool {
        let mut delay = FIRST_DELAY;
        while !lines.is_empty() {
            match self.attempt(lines) {
                Ok(sent) => {
                    lines[..sent].iter().for_each(|line| self.cursor.advance(line.at));
                    lines = &lines[sent..];
                    delay = FIRST_DELAY;
                    if let Err(error) = self.cursor.save() {
                        // A full disk: what is delivered may be delivered again.
                        eprintln!("gantry-logship: {}: {error}", self.shipment.cursor.display());
                    }
                }
                Err(error) => {
                    if delay == FIRST_DELAY {
                        let (id, driver) = (&self.shipment.container.id, &self.shipment.driver);
                        eprintln!("gantry-logship: {id}: {driver}: {error}; trying again");
                    }
                    if let Err(mpsc::RecvTimeoutError::Disconnected) = self.waited.recv_timeout(delay) {
                        return false;
                    }
                    delay = (delay * 2).min(MOST_DELAY);
                }
            }
        }
        !matches!(self.waited.try_recv(), Err(mpsc::TryRecvError::Disconnected))
    }

    fn attempt(&mut self, lines: &[Line<'_>]) -> io::Result<usize> {
        let driver = match &mut self.driver {
            Some(driver) => driver,
            none => none.insert(drivers::open(&self.shipment)?),
        };
        driver.send(lines)
    }
}
