//! Threads of their own for work that blocks for long or changes what a thread owns (umask).

use gantry_domain::{Error, Result};
use tokio::sync::oneshot;

/// Trees are walked by descent: room for the deepest ones that are taken. Only what is used of it takes memory.
const STACK: usize = 16 << 20;

/// Runs `work` on a new thread; its panic is an error here. The thread ends by itself when its input does.
pub fn run<T, W>(name: &str, work: W) -> impl Future<Output = Result<T>> + Send + use<T, W>
where
    T: Send + 'static,
    W: FnOnce() -> Result<T> + Send + 'static,
{
    let (sender, receiver) = oneshot::channel();
    let spawned = std::thread::Builder::new().name(name.to_owned()).stack_size(STACK).spawn(move || {
        // Nobody waits any more: the result drops, and with it what it holds open.
        let _ = sender.send(work());
    });
    async move {
        spawned?;
        receiver.await.unwrap_or_else(|_| Err(Error::system("a thread of the image store panicked")))
    }
}
