//! The engine's own tasks: what containerd and the companions tell it, and the reconciliation.

use futures::{FutureExt as _, StreamExt as _};
use gantry_domain::ports::RuntimeEvent;

use crate::Engine;

impl Engine {
    /// The engine's own tasks; they run until the future is dropped.
    pub async fn run(&self) {
        let keep = self.parts.events.keep(self.parts.ports.store.clone());
        let follow = async { futures::join!(self.follow_runtime(), self.follow_companions(), self.follow_input()) };
        futures::join!(keep, follow, self.sweep(), self.pay_debts());
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
            // Ends with its one job: many that died together get their successors side by side.
            tokio::spawn(async move {
                let adopted = handle.run_unless_hurried(|owner| owner.readopt_stdio().boxed()).await;
                if let Err(error) = adopted {
                    tracing::error!(container = %id, %error, "the container has no companion");
                }
            });
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
                if let Err(error) = handle.run_unless_hurried(|owner| owner.close_stdin().boxed()).await {
                    tracing::debug!(container = %id, %error, "the input ended after the container");
                }
            });
        }
    }
}
