//! Frames: a kind, three zero bytes, a length (u32, big endian), and that many bytes: Docker's own stdcopy header.
//!
//! Kinds 0 to 3 are data of the stream with that number; `CONTROL` is a JSON object with its name in `type`.

use std::{
    io::{self, Read},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use serde::{Serialize, de::DeserializeOwned};

/// Bytes before each frame's own.
pub const HEADER: usize = 8;
/// A longer frame is a fault of the peer.
pub const MAX_FRAME: usize = 4 << 20;
/// The kind of a control message.
pub const CONTROL: u8 = 16;

/// The header of a frame of `len` bytes.
pub fn header(kind: u8, len: usize) -> [u8; HEADER] {
    let len = (len as u32).to_be_bytes();
    [kind, 0, 0, 0, len[0], len[1], len[2], len[3]]
}

/// Appends one frame.
pub fn put(out: &mut Vec<u8>, kind: u8, data: &[u8]) {
    out.extend_from_slice(&header(kind, data.len()));
    out.extend_from_slice(data);
}

/// One control message as a frame.
pub fn control(message: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut out = vec![0; HEADER];
    serde_json::to_writer(&mut out, message)?;
    let head = header(CONTROL, out.len() - HEADER);
    out[..HEADER].copy_from_slice(&head);
    Ok(out)
}

/// Kind and length from a header; an oversized frame is `InvalidData`.
pub fn parse_header(head: &[u8; HEADER]) -> io::Result<(u8, usize)> {
    let len = u32::from_be_bytes([head[4], head[5], head[6], head[7]]) as usize;
    if len > MAX_FRAME {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "frame too long"));
    }
    Ok((head[0], len))
}

/// The first whole frame of `bytes`, as kind and data; `None` when more bytes are needed.
pub fn parse(bytes: &[u8]) -> io::Result<Option<(u8, &[u8])>> {
    let Some(head) = bytes.first_chunk::<HEADER>() else { return Ok(None) };
    let (kind, len) = parse_header(head)?;
    Ok(bytes.get(HEADER..HEADER + len).map(|data| (kind, data)))
}

/// One frame from a blocking stream; `None` at its end.
pub fn read(stream: &mut impl Read) -> io::Result<Option<(u8, Vec<u8>)>> {
    let mut head = [0; HEADER];
    loop {
        match stream.read(&mut head[..1]) {
            Ok(0) => return Ok(None),
            Ok(_) => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    stream.read_exact(&mut head[1..])?;
    let (kind, len) = parse_header(&head)?;
    let mut data = vec![0; len];
    stream.read_exact(&mut data)?;
    Ok(Some((kind, data)))
}

/// The JSON of a control frame. Unknown fields are ignored.
pub fn message<T: DeserializeOwned>(data: &[u8]) -> io::Result<T> {
    serde_json::from_slice(data).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Sends a control message with descriptors over a blocking socket.
pub fn send(socket: impl AsFd, body: &impl Serialize, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    crate::fd::send(socket.as_fd(), &control(body)?, fds)
}

/// A frame with the descriptors that came beside it.
#[derive(Debug)]
pub struct Received {
    pub kind: u8,
    pub data: Vec<u8>,
    pub fds: Vec<OwnedFd>,
}

/// Receives one frame and the descriptors sent beside it from a blocking socket; `None` at the end of the stream.
pub fn receive(socket: impl AsFd) -> io::Result<Option<Received>> {
    let mut fds = Vec::new();
    let mut head = [0; HEADER];
    if !fill(socket.as_fd(), &mut head, &mut fds)? {
        return Ok(None);
    }
    let (kind, len) = parse_header(&head)?;
    let mut data = vec![0; len];
    if len > 0 && !fill(socket.as_fd(), &mut data, &mut fds)? {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Some(Received { kind, data, fds }))
}

/// Fills `buffer`; `false` when the stream ended before its first byte.
fn fill(socket: BorrowedFd<'_>, buffer: &mut [u8], fds: &mut Vec<OwnedFd>) -> io::Result<bool> {
    let mut have = 0;
    while have < buffer.len() {
        match crate::fd::receive(socket, &mut buffer[have..], fds)? {
            0 if have == 0 => return Ok(false),
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => have += n,
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::{io::Write as _, os::unix::net::UnixStream};

    use super::*;

    #[test]
    fn a_frame_in_pieces_is_whole_only_with_its_last_byte() {
        let mut bytes = Vec::new();
        put(&mut bytes, 2, b"hello");
        for end in 0..bytes.len() {
            assert!(parse(&bytes[..end]).unwrap().is_none());
        }
        assert_eq!(parse(&bytes).unwrap(), Some((2, &b"hello"[..])));
    }

    #[test]
    fn an_oversized_frame_is_refused() {
        assert!(parse(&[1, 0, 0, 0, 0xff, 0, 0, 0]).is_err());
    }

    #[test]
    fn descriptors_arrive_with_their_message() {
        let (a, b) = UnixStream::pair().unwrap();
        let (read_end, write_end) = rustix::pipe::pipe().unwrap();
        send(&a, &serde_json::json!({"type": "x"}), &[read_end.as_fd(), write_end.as_fd()]).unwrap();
        let Received { kind, data, mut fds } = receive(&b).unwrap().unwrap();
        assert_eq!((kind, data.as_slice(), fds.len()), (CONTROL, &br#"{"type":"x"}"#[..], 2));
        let mut writer = std::fs::File::from(fds.pop().unwrap());
        let mut reader = std::fs::File::from(fds.pop().unwrap());
        writer.write_all(b"through").unwrap();
        drop((writer, write_end));
        assert_eq!(std::io::read_to_string(&mut reader).unwrap(), "through");
        drop(a);
        assert!(receive(&b).unwrap().is_none());
    }
}
