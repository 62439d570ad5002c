//! News that wait until somebody takes them.

use std::{collections::VecDeque, sync::Arc};

use gantry_domain::{ContainerId, ports::BoxStream};
use parking_lot::Mutex;
use tokio::sync::Notify;

/// A queue that outlives its readers.
#[derive(Default)]
pub(super) struct News {
    queue: Mutex<VecDeque<ContainerId>>,
    arrived: Notify,
}

impl News {
    pub(super) fn push(&self, id: ContainerId) {
        self.queue.lock().push_back(id);
        self.arrived.notify_one();
    }

    /// Takes them from now on; with two streams each piece goes to one of them.
    pub(super) fn stream(news: &Arc<Self>) -> BoxStream<ContainerId> {
        Box::pin(futures::stream::unfold(news.clone(), |news| async move {
            let id = news.next().await;
            Some((id, news))
        }))
    }

    async fn next(&self) -> ContainerId {
        loop {
            let arrived = self.arrived.notified();
            if let Some(id) = self.queue.lock().pop_front() {
                return id;
            }
            arrived.await;
        }
    }
}
