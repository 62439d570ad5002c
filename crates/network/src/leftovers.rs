//! Links that nobody waits for. Bridges of removed networks are down and renamed, and removed here; links of containers
//! should go with their namespace. The kernel takes them away by itself, many at a time and without anybody
//! waiting (a removal by hand costs tens of milliseconds under the kernel's one lock); but a process that still holds
//! the namespace keeps them, and then they are removed here.

use std::{
    collections::BTreeSet,
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use crate::{driver::bridge::gone_is_fine, link, netlink::Route};

/// How long the kernel is given.
const GRACE: Duration = Duration::from_secs(1);

/// Ends, once its links are worked off, when this is dropped.
pub struct Leftovers {
    links: mpsc::Sender<(Instant, u32)>,
}

impl Leftovers {
    pub fn new() -> std::io::Result<Self> {
        let (links, inbox) = mpsc::channel();
        thread::Builder::new().name("leftovers".into()).stack_size(128 << 10).spawn(move || work(inbox))?;
        Ok(Self { links })
    }

    /// Removes links that have been put aside.
    pub fn remove(&self, links: impl IntoIterator<Item = u32>) {
        self.add(Instant::now(), links);
    }

    /// Links by their index, which no later link will have.
    pub fn expect_gone(&self, links: impl IntoIterator<Item = u32>) {
        self.add(Instant::now() + GRACE, links);
    }

    fn add(&self, at: Instant, links: impl IntoIterator<Item = u32>) {
        for index in links {
            // The thread ends only with this.
            let _ = self.links.send((at, index));
        }
    }
}

fn work(inbox: mpsc::Receiver<(Instant, u32)>) {
    let mut waiting = BTreeSet::<(Instant, u32)>::new();
    loop {
        let received = match waiting.first() {
            None => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some((at, _)) => inbox.recv_timeout(at.saturating_duration_since(Instant::now())),
        };
        match (received, waiting.first()) {
            (Ok(one), _) => {
                waiting.insert(one);
            }
            (Err(RecvTimeoutError::Timeout), _) => {}
            (Err(RecvTimeoutError::Disconnected), Some((at, _))) => {
                thread::sleep(at.saturating_duration_since(Instant::now()));
            }
            (Err(RecvTimeoutError::Disconnected), None) => return,
        }
        while let Some((_, index)) = waiting.first().copied().filter(|(at, _)| *at <= Instant::now()) {
            waiting.pop_first();
            remove(index);
        }
    }
}

fn remove(index: u32) {
    let removed = Route::open().and_then(|host| gone_is_fine(host.execute(vec![link::delete_index(index)])));
    if let Err(error) = removed {
        tracing::warn!(index, %error, "cannot remove a link of a container or network that went");
    }
}
