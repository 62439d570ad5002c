//! ttrpc: a header of ten bytes (length, stream, kind, flags), then a protobuf message. Source: ttrpc's PROTOCOL.md.

use std::io;

use prost::Message;

const HEADER: usize = 10;
/// As ttrpc has it.
const LONGEST: usize = 4 << 20;

pub(crate) const REQUEST: u8 = 1;
pub(crate) const RESPONSE: u8 = 2;

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Request {
    #[prost(string, tag = "1")]
    pub(crate) service: String,
    #[prost(string, tag = "2")]
    pub(crate) method: String,
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) payload: Vec<u8>,
    #[prost(int64, tag = "4")]
    pub(crate) timeout_nano: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Response {
    #[prost(message, optional, tag = "1")]
    pub(crate) status: Option<Status>,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) payload: Vec<u8>,
}

/// `google.rpc.Status`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Status {
    #[prost(int32, tag = "1")]
    pub(crate) code: i32,
    #[prost(string, tag = "2")]
    pub(crate) message: String,
}

/// gRPC's codes, those in use here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    Unknown = 2,
    InvalidArgument = 3,
    NotFound = 5,
    AlreadyExists = 6,
    FailedPrecondition = 9,
    Unimplemented = 12,
}

/// Why a request was not done. containerd takes the code's own words off the end of the message and puts them there
/// again for its client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: Code,
    pub(crate) message: String,
}

impl Refusal {
    /// What a runtime's failure is told as.
    pub(crate) fn unknown(message: impl Into<String>) -> Self {
        Self { code: Code::Unknown, message: message.into() }
    }
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self { code: Code::InvalidArgument, message: message.into() }
    }
    pub(crate) fn not_found(message: &str) -> Self {
        Self { code: Code::NotFound, message: format!("{message}: not found") }
    }
    pub(crate) fn already_exists(message: &str) -> Self {
        Self { code: Code::AlreadyExists, message: format!("{message}: already exists") }
    }
    pub(crate) fn failed_precondition(message: &str) -> Self {
        Self { code: Code::FailedPrecondition, message: format!("{message}: failed precondition") }
    }
    pub(crate) fn unimplemented(message: &str) -> Self {
        Self { code: Code::Unimplemented, message: format!("{message}: not implemented") }
    }
}

/// A frame's stream, kind and message.
pub(crate) type Frame = (u32, u8, Vec<u8>);

/// Takes a whole frame out of what was read. An error means that the two sides no longer understand each other.
pub(crate) fn take(buffer: &mut Vec<u8>) -> io::Result<Option<Frame>> {
    let Some((header, rest)) = buffer.split_at_checked(HEADER) else { return Ok(None) };
    let word = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let (length, stream, kind) = (word(0) as usize, word(4), header[8]);
    if length > LONGEST {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a frame of {length} bytes")));
    }
    let Some(body) = rest.get(..length) else { return Ok(None) };
    let body = body.to_vec();
    buffer.drain(..HEADER + length);
    Ok(Some((stream, kind, body)))
}

pub(crate) fn frame(stream: u32, kind: u8, message: &impl Message) -> Vec<u8> {
    let length = message.encoded_len();
    let mut frame = Vec::with_capacity(HEADER + length);
    frame.extend(u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
    frame.extend(stream.to_be_bytes());
    frame.extend([kind, 0]);
    frame.extend(message.encode_to_vec());
    frame
}

pub(crate) fn response(stream: u32, result: Result<Vec<u8>, Refusal>) -> Vec<u8> {
    let response = match result {
        Ok(payload) => Response { status: Some(Status::default()), payload },
        Err(refusal) => Response {
            status: Some(Status { code: refusal.code as i32, message: refusal.message }),
            payload: Vec::new(),
        },
    };
    frame(stream, RESPONSE, &response)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_frame_is_taken_when_it_is_whole_and_leaves_what_follows() {
        let request = Request { service: "s".into(), method: "m".into(), payload: vec![7; 300], timeout_nano: 0 };
        let whole = frame(3, REQUEST, &request);
        let mut buffer = whole[..whole.len() - 1].to_vec();
        assert_eq!(take(&mut buffer).unwrap(), None);
        buffer.push(whole[whole.len() - 1]);
        buffer.extend([1, 2]);
        let (stream, kind, body) = take(&mut buffer).unwrap().unwrap();
        assert_eq!((stream, kind, Request::decode(&body[..]).unwrap()), (3, REQUEST, request));
        assert_eq!(buffer, [1, 2]);
    }

    #[test]
    fn a_frame_of_absurd_length_ends_the_conversation() {
        assert!(take(&mut vec![0xff; HEADER]).is_err());
    }

    #[test]
    fn the_header_is_as_ttrpc_has_it() {
        let frame = response(5, Err(Refusal::not_found("x")));
        assert_eq!(frame[..4], u32::try_from(frame.len() - HEADER).unwrap().to_be_bytes());
        assert_eq!(frame[4..HEADER], [0, 0, 0, 5, RESPONSE, 0]);
        let status = Response::decode(&frame[HEADER..]).unwrap().status.unwrap();
        assert_eq!((status.code, status.message.as_str()), (5, "x: not found"));
    }
}
