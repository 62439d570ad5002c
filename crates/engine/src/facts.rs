//! Facts of the host as requests and starts need them, AppArmor's default profile among them.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use gantry_domain::{
    container::{
        HostConfig,
        security::{DEFAULT_APPARMOR_PROFILE, SecurityOptions},
    },
    ports::Facts,
};
use parking_lot::Mutex;

use crate::parts::Parts;

/// How old facts may be that a request is checked against.
const AGE: Duration = Duration::from_secs(30);

/// What was found last, and when.
#[derive(Default)]
pub(crate) struct CachedFacts(Mutex<Option<(Instant, Arc<Facts>)>>);

impl CachedFacts {
    fn last(&self) -> Option<(Instant, Arc<Facts>)> {
        self.0.lock().clone()
    }

    fn keep(&self, facts: Arc<Facts>) -> Arc<Facts> {
        *self.0.lock() = Some((Instant::now(), facts.clone()));
        facts
    }
}

impl Parts {
    /// Facts of the host, at most half a minute old.
    pub async fn facts(&self) -> Arc<Facts> {
        match self.facts.last() {
            Some((at, facts)) if at.elapsed() < AGE => facts,
            _ => self.facts.keep(Arc::new(self.ports.host.facts().await)),
        }
    }

    /// Facts for a process that begins now. Where it is to be confined by `docker-default`, that profile is loaded
    /// first: updates of the host unload it.
    ///
    /// A host that cannot load it runs the container without, says so in the log and in `/info`.
    pub async fn confining_facts(&self, host: &HostConfig) -> Arc<Facts> {
        let facts = self.facts().await;
        if !facts.apparmor || profile(host).as_deref() != Some(DEFAULT_APPARMOR_PROFILE) {
            return facts;
        }
        let loaded = self.ports.host.load_apparmor_default().await;
        if let Err(error) = &loaded {
            self.warn(format!("WARNING: the AppArmor profile {DEFAULT_APPARMOR_PROFILE} could not be loaded: {error}"));
        }
        if facts.apparmor_default == loaded.is_ok() {
            return facts;
        }
        self.facts.keep(Arc::new(Facts { apparmor_default: loaded.is_ok(), ..facts.as_ref().clone() }))
    }

    /// What inspect shows. Empty on a host without AppArmor.
    pub fn apparmor_profile(&self, host: &HostConfig) -> String {
        let Some((_, facts)) = self.facts.last().filter(|(_, facts)| facts.apparmor) else { return String::new() };
        let shown = profile(host).filter(|profile| facts.apparmor_default || profile != DEFAULT_APPARMOR_PROFILE);
        shown.unwrap_or_default()
    }
}

/// `None` for options that create has refused.
fn profile(host: &HostConfig) -> Option<String> {
    let options = SecurityOptions::parse(host.security_opt.as_deref().unwrap_or_default()).ok()?;
    Some(options.apparmor_profile(host.privileged).to_owned())
}
