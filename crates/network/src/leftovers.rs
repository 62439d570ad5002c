//! Links that should go with their namespace. The kernel takes them away by itself, many at a time and without anybody
//! waiting (a removal by hand costs tens of milliseconds under the kernel's one lock); but a process that still holds
//! the namespace keeps them, and then they are removed here.

use std::{
    sync::mpsc,
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

    /// Links by their index, which no later link will have.
    pub fn expect_gone(&self, links: impl IntoIterator<Item = u32>) {
        for index in links {
            // The thread ends only with this.
            let _ = self.links.send((Instant::now() + GRACE, index));
        }
    }
}

fn work(inbox: mpsc::Receiver<(Instant, u32)>) {
    for (at, index) in inbox {
        thread::sleep(at.saturating_duration_since(Instant::now()));
        let removed = Route::open().and_then(|host| gone_is_fine(host.execute(vec![link::delete_index(index)])));
        if let Err(error) = removed {
            tracing::warn!(index, %error, "cannot remove a link of a container that went");
        }
    }
}
