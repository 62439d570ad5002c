//! DNS messages: what a client asks, and the answers that are ours.

use std::net::IpAddr;

use hickory_proto::{
    op::{Edns, Message, MessageType, OpCode, Query as Question, ResponseCode},
    rr::{
        DNSClass, Name, RData, Record, RecordType,
        rdata::{A, AAAA, PTR},
    },
};

/// Bytes of the header.
pub const HEADER: usize = 12;
/// What a client takes by UDP when it says nothing.
const PLAIN_LIMIT: usize = 512;
/// What we say that we take by UDP: fits every path without fragments.
const OUR_LIMIT: u16 = 1232;
/// dockerd's, in seconds.
const TTL: u32 = 600;

/// One question of a client.
#[derive(Debug, Clone)]
pub struct Query {
    pub id: u16,
    pub question: Question,
    /// Lower case, without the closing dot.
    pub name: String,
    /// Bytes that an answer by UDP may have.
    pub limit: usize,
    pub edns: bool,
    pub dnssec_ok: bool,
    pub checking_disabled: bool,
    pub recursion_desired: bool,
    /// As it came, to be forwarded.
    pub raw: Vec<u8>,
    /// Where the question ends in it.
    pub question_end: usize,
}

/// Reads a query. `Err` is what to answer instead; nothing where there is nobody to answer.
pub fn read(raw: &[u8]) -> Result<Query, Option<Vec<u8>>> {
    let [a, b, flags, ..] = *raw else { return Err(None) };
    let id = u16::from_be_bytes([a, b]);
    // An answer must never be answered.
    if flags & 0x80 != 0 {
        return Err(None);
    }
    let Ok(message) = Message::from_vec(raw) else { return Err(refusal(id, OpCode::Query, ResponseCode::FormErr)) };
    let code = message.metadata.op_code;
    if code != OpCode::Query {
        return Err(refusal(id, code, ResponseCode::NotImp));
    }
    let ([question], Some(question_end)) = (message.queries.as_slice(), question_end(raw)) else {
        return Err(refusal(id, code, ResponseCode::FormErr));
    };
    let edns = message.edns.as_ref();
    Ok(Query {
        id,
        name: lower(&question.name),
        limit: edns.map_or(PLAIN_LIMIT, |edns| usize::from(edns.max_payload()).max(PLAIN_LIMIT)),
        edns: edns.is_some(),
        dnssec_ok: edns.is_some_and(|edns| edns.flags().dnssec_ok),
        checking_disabled: message.metadata.checking_disabled,
        recursion_desired: message.metadata.recursion_desired,
        question: question.clone(),
        raw: raw.to_vec(),
        question_end,
    })
}

impl Query {
    pub fn record_type(&self) -> RecordType {
        self.question.query_type
    }

    pub fn is_internet(&self) -> bool {
        self.question.query_class == DNSClass::IN
    }

    /// The address that a pointer is asked for.
    pub fn pointed_at(&self) -> Option<IpAddr> {
        let net = self.question.name.parse_arpa_name().ok()?;
        let whole = net.prefix_len() == if net.addr().is_ipv4() { 32 } else { 128 };
        whole.then(|| net.addr())
    }

    pub fn addresses(&self, addresses: Vec<IpAddr>) -> Vec<u8> {
        let records = addresses.into_iter().map(|address| match address {
            IpAddr::V4(ip) => RData::A(A(ip)),
            IpAddr::V6(ip) => RData::AAAA(AAAA(ip)),
        });
        self.records(records)
    }

    pub fn pointer(&self, target: &str) -> Vec<u8> {
        let target = Name::from_labels(target.split('.').map(str::as_bytes));
        self.records(target.ok().into_iter().map(|name| RData::PTR(PTR(name))))
    }

    /// Without records: nothing of this kind, or an error.
    pub fn code(&self, code: ResponseCode) -> Vec<u8> {
        encode(&self.reply(code))
    }

    /// An answer of another server's in this query's name, `age` seconds old. `None` where it cannot be read.
    pub fn aged(&self, raw: &[u8], age: u32) -> Option<Vec<u8>> {
        let mut message = Message::from_vec(raw).ok()?;
        message.metadata.id = self.id;
        message.metadata.recursion_desired = self.recursion_desired;
        message.queries = vec![self.question.clone()];
        for record in message.answers.iter_mut().chain(&mut message.authorities).chain(&mut message.additionals) {
            record.decrement_ttl(age);
        }
        message.to_vec().ok()
    }

    /// Whether these bytes answer this query, sent under that id.
    pub fn is_answered_by(&self, bytes: &[u8], id: u16) -> bool {
        let Some(header) = bytes.first_chunk::<HEADER>() else { return false };
        if header[..2] != id.to_be_bytes() || header[2] & 0x80 == 0 {
            return false;
        }
        // An error may come without the question.
        let without = header[4..6] == [0, 0] && header[3] & 0xf != 0;
        let asked = &self.raw[HEADER..self.question_end];
        let repeated = bytes.get(HEADER..self.question_end).is_some_and(|said| said.eq_ignore_ascii_case(asked));
        without || (header[4..6] == [0, 1] && repeated)
    }

    fn records(&self, records: impl Iterator<Item = RData>) -> Vec<u8> {
        let mut reply = self.reply(ResponseCode::NoError);
        reply.answers = records.map(|data| Record::from_rdata(self.question.name.clone(), TTL, data)).collect();
        encode(&reply)
    }

    fn reply(&self, code: ResponseCode) -> Message {
        let mut reply = Message::response(self.id, OpCode::Query);
        reply.metadata.recursion_desired = self.recursion_desired;
        reply.metadata.recursion_available = true;
        reply.metadata.checking_disabled = self.checking_disabled;
        reply.metadata.response_code = code;
        reply.queries = vec![self.question.clone()];
        if self.edns {
            let mut edns = Edns::new();
            edns.set_max_payload(OUR_LIMIT).set_dnssec_ok(self.dnssec_ok);
            reply.edns = Some(edns);
        }
        reply
    }
}

/// How long an answer may be kept, in seconds; `None`: not at all.
pub fn lifetime(raw: &[u8]) -> Option<u32> {
    let message = Message::from_vec(raw).ok()?;
    let head = &message.metadata;
    if head.truncation || head.message_type != MessageType::Response {
        return None;
    }
    let negative = message.answers.is_empty();
    match head.response_code {
        ResponseCode::NoError => {}
        ResponseCode::NXDomain => {}
        _ => return None,
    }
    let of_records = |records: &[Record]| records.iter().map(|record| record.ttl).min();
    let soa = message.authorities.iter().find_map(|record| match &record.data {
        RData::SOA(soa) => Some(soa.minimum.min(record.ttl)),
        _ => None,
    });
    if negative || head.response_code == ResponseCode::NXDomain {
        // RFC 2308: without the zone's word nothing negative is kept.
        return soa;
    }
    [of_records(&message.answers), of_records(&message.authorities), of_records(&message.additionals)]
        .into_iter()
        .flatten()
        .min()
}

/// Response code in a raw message.
pub fn response_code(raw: &[u8]) -> u8 {
    raw.get(3).map_or(0, |flags| flags & 0xf)
}

/// Cuts answers off until it fits.
pub fn fit(raw: Vec<u8>, limit: usize) -> Vec<u8> {
    if raw.len() <= limit {
        return raw;
    }
    let Ok(mut message) = Message::from_vec(&raw) else { return raw };
    message.metadata.truncation = true;
    message.authorities.clear();
    message.additionals.clear();
    let mut bytes = encode(&message);
    while bytes.len() > limit && !message.answers.is_empty() {
        let keep = (message.answers.len() * limit / bytes.len()).min(message.answers.len() - 1);
        message.answers.truncate(keep);
        bytes = encode(&message);
    }
    bytes
}

fn refusal(id: u16, code: OpCode, response: ResponseCode) -> Option<Vec<u8>> {
    Message::error_msg(id, code, response).to_vec().ok()
}

/// Empty where it cannot be encoded, as with a name beyond the limits: then nothing is answered.
fn encode(message: &Message) -> Vec<u8> {
    message.to_vec().unwrap_or_default()
}

fn lower(name: &Name) -> String {
    let labels: Vec<_> = name.iter().map(|label| String::from_utf8_lossy(label).to_ascii_lowercase()).collect();
    labels.join(".")
}

/// The first question's name, which nothing before it could shorten, with type and class.
fn question_end(raw: &[u8]) -> Option<usize> {
    let mut at = HEADER;
    loop {
        match *raw.get(at)? {
            0 => break,
            length @ 1..=63 => at += 1 + usize::from(length),
            _ => return None,
        }
    }
    (at + 5 <= raw.len()).then_some(at + 5)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn ask(name: &str, kind: RecordType, payload: Option<u16>) -> Vec<u8> {
        let mut message = Message::new(7, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        message.queries.push(Question::query(Name::from_ascii(name).unwrap(), kind));
        message.edns = payload.map(|limit| {
            let mut edns = Edns::new();
            edns.set_max_payload(limit);
            edns
        });
        message.to_vec().unwrap()
    }

    #[test]
    fn the_question_is_repeated_as_it_was_typed() {
        let query = read(&ask("WeB.Net.", RecordType::A, None)).unwrap();
        assert_eq!(query.name, "web.net");
        let reply = Message::from_vec(&query.addresses(vec!["10.0.0.2".parse().unwrap()])).unwrap();
        assert_eq!(reply.queries[0].name.to_ascii(), "WeB.Net.");
        assert_eq!((reply.metadata.id, reply.answers[0].ttl, reply.metadata.recursion_available), (7, 600, true));
        assert!(reply.edns.is_none());
    }

    #[test]
    fn what_does_not_fit_is_cut_and_says_so() {
        let many: Vec<IpAddr> = (0..100).map(|n| IpAddr::from([10, 0, 0, n])).collect();
        for (payload, expected) in [(None, 512), (Some(1232), 1232)] {
            let query = read(&ask("web.", RecordType::A, payload)).unwrap();
            assert_eq!(query.limit, expected);
            let bytes = fit(query.addresses(many.clone()), query.limit);
            let reply = Message::from_vec(&bytes).unwrap();
            assert!(bytes.len() <= expected && reply.metadata.truncation && reply.answers.len() > 20);
            assert_eq!(reply.edns.is_some(), payload.is_some());
        }
    }

    #[test]
    fn an_answer_is_never_answered_and_nonsense_is_a_format_error() {
        let mut reply = ask("web.", RecordType::A, None);
        reply[2] |= 0x80;
        assert!(read(&reply).unwrap_err().is_none());
        let bytes = read(b"\0\x09\x01\0\0\x01\0\0\0\0\0\0\xff").unwrap_err().unwrap();
        assert_eq!((bytes[1], response_code(&bytes)), (9, 1));
    }

    #[test]
    fn a_pointer_names_one_address() {
        let query = |name| read(&ask(name, RecordType::PTR, None)).unwrap();
        assert_eq!(query("2.0.18.172.in-addr.arpa.").pointed_at(), "172.18.0.2".parse().ok());
        assert_eq!(query("18.172.in-addr.arpa.").pointed_at(), None);
        assert_eq!(query("web.").pointed_at(), None);
    }

    #[test]
    fn only_the_answer_to_the_question_counts() {
        let query = read(&ask("example.com.", RecordType::A, None)).unwrap();
        let mut good = query.addresses(vec!["192.0.2.1".parse().unwrap()]);
        good[..2].copy_from_slice(&[3, 4]);
        assert!(query.is_answered_by(&good, 0x0304));
        assert!(!query.is_answered_by(&good, 0x0305), "another id");
        let other = read(&ask("example.org.", RecordType::A, None)).unwrap();
        assert!(!other.is_answered_by(&good, 0x0304), "another name");
        assert!(!query.is_answered_by(&query.raw, 7), "a query");
    }

    #[test]
    fn a_kept_answer_grows_older() {
        let query = read(&ask("example.com.", RecordType::A, None)).unwrap();
        let raw = query.addresses(vec!["192.0.2.1".parse().unwrap()]);
        assert_eq!(lifetime(&raw), Some(600));
        let mut later = read(&ask("EXAMPLE.com.", RecordType::A, None)).unwrap();
        later.id = 99;
        let reply = Message::from_vec(&later.aged(&raw, 100).unwrap()).unwrap();
        assert_eq!((reply.metadata.id, reply.answers[0].ttl), (99, 500));
        assert_eq!(reply.queries[0].name.to_ascii(), "EXAMPLE.com.");
        assert_eq!(lifetime(&query.code(ResponseCode::ServFail)), None);
        assert_eq!(lifetime(&query.code(ResponseCode::NXDomain)), None, "the zone did not say how long");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = read(&bytes);
            let _ = lifetime(&bytes);
            let _ = fit(bytes, 40);
        }
    }
}
