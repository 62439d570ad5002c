//! SIGHUP: the configuration is swapped whole.

use std::collections::BTreeMap;

use gantry_domain::{
    event::{Event, EventType},
    settings::Settings,
};
use jiff::Timestamp;

use crate::Engine;

impl Engine {
    /// Takes a validated configuration, and emits `reload` with what it is now.
    pub fn reload(&self, settings: Settings, shown: BTreeMap<String, String>) {
        self.parts.settings.store(std::sync::Arc::new(settings));
        self.parts.events.publish(Event {
            kind: EventType::Daemon,
            action: "reload".into(),
            actor_id: self.parts.id.to_string(),
            attributes: shown,
            at: Timestamp::now(),
        });
    }
}
