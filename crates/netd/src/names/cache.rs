//! Answers of other servers, kept for as long as they say.

use std::{
    collections::{HashMap, VecDeque},
    rc::Rc,
    time::{Duration, Instant},
};

use super::message::{self, Query};

/// Bytes of all answers together.
const ROOM: usize = 1 << 20;
/// An answer is asked anew at least so often.
const LONGEST: u32 = 3600;

/// What an answer is an answer to. Containers of other networks, or with other servers, do not see it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key {
    scope: Rc<str>,
    name: String,
    kind: u16,
    class: u16,
    edns: bool,
    dnssec_ok: bool,
    checking_disabled: bool,
}

impl Key {
    pub fn new(scope: Rc<str>, query: &Query) -> Self {
        Self {
            scope,
            name: query.name.clone(),
            kind: query.record_type().into(),
            class: query.question.query_class.into(),
            edns: query.edns,
            dnssec_ok: query.dnssec_ok,
            checking_disabled: query.checking_disabled,
        }
    }
}

#[derive(Debug, Default)]
pub struct Cache {
    answers: HashMap<Rc<Key>, Kept>,
    /// The oldest first.
    order: VecDeque<(Instant, Rc<Key>)>,
    size: usize,
}

#[derive(Debug)]
struct Kept {
    raw: Vec<u8>,
    at: Instant,
    until: Instant,
}

impl Cache {
    /// The kept answer in this query's name.
    pub fn answer(&self, key: &Key, query: &Query, now: Instant) -> Option<Vec<u8>> {
        let kept = self.answers.get(key).filter(|kept| now < kept.until)?;
        query.aged(&kept.raw, now.duration_since(kept.at).as_secs() as u32)
    }

    pub fn keep(&mut self, key: Key, raw: Vec<u8>, now: Instant) {
        let Some(seconds) = message::lifetime(&raw).filter(|seconds| *seconds > 0) else { return };
        let key = Rc::new(key);
        self.size += cost(&key, &raw);
        let until = now + Duration::from_secs(seconds.min(LONGEST).into());
        if let Some(old) = self.answers.insert(key.clone(), Kept { raw, at: now, until }) {
            self.size -= cost(&key, &old.raw);
        }
        self.order.push_back((now, key));
        self.make_room(now);
    }

    fn make_room(&mut self, now: Instant) {
        while let Some((at, key)) = self.order.front().cloned() {
            let current = self.answers.get(&key).filter(|kept| kept.at == at);
            let over = current.is_none_or(|kept| kept.until <= now);
            if !over && self.size <= ROOM {
                break;
            }
            self.order.pop_front();
            if current.is_some()
                && let Some(old) = self.answers.remove(&key)
            {
                self.size -= cost(&key, &old.raw);
            }
        }
    }
}

/// With what an entry takes besides its bytes, about.
fn cost(key: &Key, raw: &[u8]) -> usize {
    raw.len() + key.name.len() + 200
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::net::IpAddr;

    use super::*;

    fn query(name: &str) -> Query {
        let mut raw = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.') {
            raw.push(label.len() as u8);
            raw.extend(label.as_bytes());
        }
        raw.extend([0, 0, 1, 0, 1]);
        message::read(&raw).unwrap()
    }

    fn keep(cache: &mut Cache, name: &str, at: Instant) -> (Query, Key) {
        let query = query(name);
        let key = Key::new("scope".into(), &query);
        cache.keep(key.clone(), query.addresses(vec![IpAddr::from([192, 0, 2, 1])]), at);
        (query, key)
    }

    #[test]
    fn an_answer_is_kept_for_its_time_and_for_its_scope() {
        let (mut cache, begun) = (Cache::default(), Instant::now());
        let (query, key) = keep(&mut cache, "example.com", begun);
        assert!(cache.answer(&key, &query, begun + Duration::from_secs(599)).is_some());
        assert!(cache.answer(&key, &query, begun + Duration::from_secs(600)).is_none());
        assert!(cache.answer(&Key::new("other".into(), &query), &query, begun).is_none());
    }

    #[test]
    fn room_is_bounded_and_the_newest_stays() {
        let (mut cache, begun) = (Cache::default(), Instant::now());
        for n in 0..10_000 {
            keep(&mut cache, &format!("host-{n}.example.com"), begun + Duration::from_millis(n));
        }
        assert!(cache.size <= ROOM && cache.answers.len() > 1000 && cache.order.len() == cache.answers.len());
        let (query, key) = (query("host-9999.example.com"), Key::new("scope".into(), &query("host-9999.example.com")));
        assert!(cache.answer(&key, &query, begun + Duration::from_secs(11)).is_some());
    }

    #[test]
    fn an_answer_that_is_replaced_is_counted_once() {
        let (mut cache, begun) = (Cache::default(), Instant::now());
        for n in 0..100 {
            keep(&mut cache, "example.com", begun + Duration::from_secs(n));
        }
        assert_eq!(cache.answers.len(), 1);
        assert!(cache.size < 1000, "{}", cache.size);
    }
}
