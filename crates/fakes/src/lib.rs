//! Every port in memory, with recorded calls and failures to order: the outside of an engine under test.
//!
//! One `Fakes` is one host: what the engine makes is in its `World`, `held` lists it, and a second engine that is opened
//! on the same `Fakes` finds what the first one left.

mod calls;
mod files;
mod host;
mod images;
mod network;
mod network_plugins;
mod registry;
mod runtime;
mod stdio;
mod store;
mod world;

use std::{collections::BTreeSet, sync::Arc};

use gantry_domain::{ContainerId, ExecId, container::Exit, ports::RuntimeEvent};
use parking_lot::{Mutex, MutexGuard};

pub use calls::Calls;
pub use world::World;

/// Turns of others before a thread has done its work.
const THREAD_TURNS: usize = 8;

/// All ports of one engine. Cheap to clone; all clones are one host.
#[derive(Clone, Default)]
pub struct Fakes {
    /// What was called, and what is to fail.
    pub calls: Arc<Calls>,
    world: Arc<Mutex<World>>,
}

impl Fakes {
    /// A host with one image, `busybox:latest`.
    pub fn new() -> Self {
        let fakes = Self::default();
        fakes.world().add_image("docker.io/library/busybox:latest");
        fakes
    }

    /// The host's state. Held for a few lines only.
    pub fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock()
    }

    /// Everything that stands on the host, one line each (`task 3f2a…`): what a verb that failed must leave unchanged.
    pub fn held(&self) -> BTreeSet<String> {
        self.world().held()
    }

    /// Work on a thread of its own: it goes on where its caller no longer waits for it, as in the real thing.
    pub(crate) async fn on_a_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut World) -> T + Send + 'static,
    ) -> T {
        let fakes = self.clone();
        let done = tokio::spawn(async move {
            for _ in 0..THREAD_TURNS {
                tokio::task::yield_now().await;
            }
            work(&mut fakes.world())
        });
        done.await.expect("the work does not panic")
    }

    /// Ends a container's process, or an exec, with this code.
    pub fn exit(&self, id: &ContainerId, exec: Option<&ExecId>, code: u32) {
        self.exit_at(id, exec, Exit { code, at: jiff::Timestamp::now(), oom_killed: false });
    }

    /// The same, at a time of the test's choice.
    pub fn exit_at(&self, id: &ContainerId, exec: Option<&ExecId>, exit: Exit) {
        self.world().exit(id, exec, exit);
    }

    /// Tells the engine something through containerd's events.
    pub fn tell(&self, event: RuntimeEvent) {
        self.world().tell(event);
    }
}
