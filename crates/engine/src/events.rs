//! The event bus: a ring of the latest events for `since`, and a broadcast for those who listen.

use std::{collections::VecDeque, sync::Arc};

use futures::{Stream, StreamExt as _, stream};
use gantry_domain::{
    Error, Result,
    event::{Event, EventType, RING},
    filter::Filters,
    ports::{BoxStream, EventRing, Store, cache_key},
};
use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::{Notify, broadcast};
use tokio_stream::wrappers::{BroadcastStream, errors::BroadcastStreamRecvError};

use crate::Engine;

/// Events a slow listener may lag behind before it is told of a gap.
const BACKLOG: usize = 4096;

/// Query of `GET /events`.
#[derive(Debug, Clone, Default)]
pub struct EventQuery {
    pub since: Option<Timestamp>,
    pub until: Option<Timestamp>,
    pub filters: Filters,
}

/// Publishes events, keeps the last 256, and lets any number listen.
pub struct EventBus {
    ring: Mutex<VecDeque<Arc<Event>>>,
    sender: broadcast::Sender<Arc<Event>>,
    changed: Notify,
}

impl EventBus {
    pub(crate) fn new(kept: Vec<Event>) -> Self {
        let (sender, _) = broadcast::channel(BACKLOG);
        Self { ring: Mutex::new(kept.into_iter().map(Arc::new).collect()), sender, changed: Notify::new() }
    }

    pub(crate) fn publish(&self, event: Event) {
        let event = Arc::new(event);
        let mut ring = self.ring.lock();
        if ring.len() == RING {
            ring.pop_front();
        }
        ring.push_back(event.clone());
        // Sent under the lock, so that a listener that takes the ring and subscribes sees each event exactly once.
        let _ = self.sender.send(event);
        drop(ring);
        self.changed.notify_one();
    }

    pub(crate) fn listeners(&self) -> usize {
        self.sender.receiver_count()
    }

    /// The ring as it is, and everything after it.
    fn subscribe(&self) -> (Vec<Arc<Event>>, broadcast::Receiver<Arc<Event>>) {
        let ring = self.ring.lock();
        (ring.iter().cloned().collect(), self.sender.subscribe())
    }

    /// Writes the ring to the store's cache, at most once a second, for as long as it is awaited.
    pub(crate) async fn keep(&self, store: Arc<dyn Store>) {
        loop {
            self.changed.notified().await;
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            self.save(store.as_ref()).await;
        }
    }

    pub(crate) async fn save(&self, store: &dyn Store) {
        let ring = EventRing { events: self.ring.lock().iter().map(|event| event.as_ref().clone()).collect() };
        let bytes = serde_json::to_vec(&ring).expect("events are plain data");
        if let Err(error) = store.put_cache(cache_key::EVENTS, bytes).await {
            tracing::warn!(%error, "the event ring could not be kept");
        }
    }
}

impl Engine {
    /// `GET /events`. Ends by itself only where `until` is given.
    pub async fn system_events(&self, query: EventQuery) -> Result<BoxStream<Event>> {
        if let (Some(since), Some(until)) = (query.since, query.until)
            && since > until
        {
            return Err(Error::invalid(format!(
                "`since` time ({}) cannot be after `until` time ({})",
                in_seconds(since),
                in_seconds(until)
            )));
        }
        let (ring, receiver) = self.parts.events.subscribe();
        let since = query.since;
        let until = query.until;
        // As in dockerd either of the two asks for the past.
        let replay = since.is_some() || until.is_some();
        let filters = Arc::new(query.filters);
        let wanted = filters.clone();
        let past = ring
            .into_iter()
            .filter(move |event| replay && since.is_none_or(|since| event.at >= since) && matches(&wanted, event));
        let live = BroadcastStream::new(receiver).filter_map(move |received| {
            let event = match received {
                Ok(event) => matches(&filters, &event).then_some(event),
                // Whatever was asked for may have been in it.
                Err(BroadcastStreamRecvError::Lagged(missed)) => Some(Arc::new(gap(missed))),
            };
            std::future::ready(event)
        });
        // Only what is yet to come is cut at its time: the past is told in full, however late the client reads.
        let all = stream::iter(past)
            .chain(end_at(live, until))
            .take_while(move |event| std::future::ready(until.is_none_or(|until| event.at <= until)))
            .map(|event| event.as_ref().clone());
        Ok(Box::pin(all))
    }
}

/// Seconds and nanoseconds as dockerd prints them in its text.
fn in_seconds(at: Timestamp) -> String {
    let text = format!("{}.{:09}", at.as_second(), at.subsec_nanosecond());
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn end_at<T: 'static>(events: impl Stream<Item = T> + Send + 'static, until: Option<Timestamp>) -> BoxStream<T> {
    let Some(until) = until else { return Box::pin(events) };
    let left = until.duration_since(Timestamp::now());
    let left = std::time::Duration::try_from(left).unwrap_or_default();
    Box::pin(events.take_until(tokio::time::sleep(left)))
}

/// What a listener gets in place of events that it was too slow for (T56).
fn gap(missed: u64) -> Event {
    Event {
        kind: EventType::Daemon,
        action: "gap".into(),
        actor_id: String::new(),
        attributes: [("missed".to_owned(), missed.to_string())].into(),
        at: Timestamp::now(),
    }
}

/// Docker's event filter (section 3.7 of the API reference, point 7).
fn matches(filters: &Filters, event: &Event) -> bool {
    const PREFIXED: [&str; 3] = ["exec_create", "exec_start", "health_status"];
    let action_matches = || {
        filters.exact_match("event", &event.action)
            || PREFIXED.iter().any(|prefix| event.action.starts_with(prefix) && filters.exact_match("event", prefix))
    };
    let name = event.attributes.get("name").map_or("", String::as_str);
    let actor = |key: &str| {
        !filters.contains(key) || filters.fuzzy_match(key, &event.actor_id) || filters.fuzzy_match(key, name)
    };
    let image = || {
        if !filters.contains("image") {
            return true;
        }
        let from = event.attributes.get("image").map_or("", String::as_str);
        let candidates =
            [event.actor_id.as_str(), name, from, without_tag(&event.actor_id), without_tag(name), without_tag(from)];
        candidates.iter().any(|candidate| !candidate.is_empty() && filters.exact_match("image", candidate))
    };
    action_matches()
        && filters.exact_match("type", event.kind.as_str())
        && filters.exact_match("scope", "local")
        && ["container", "network", "volume", "daemon", "plugin", "service", "node", "secret", "config"]
            .into_iter()
            .all(actor)
        && image()
        && filters.labels_match("label", &event.attributes)
}

fn without_tag(reference: &str) -> &str {
    match reference.rfind(':') {
        Some(colon) if !reference[colon..].contains('/') => &reference[..colon],
        _ => reference,
    }
}
