//! Compression of archives and layers: found by the first bytes, undone in this process and never by a program (T03).

use std::io::Read;

use bytes::{Bytes, BytesMut};
use gantry_domain::{Error, Result};

use crate::chunks::{ChunkRead, Chunks, PIECE, unwrap_io};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    None,
    Gzip,
    Zstd,
    Xz,
    Bzip2,
}

/// Bytes that [`Compression::detect`] wants to see where there are so many.
pub const MAGIC: usize = 6;
/// Window that a zstd stream may ask for, as a power of two: 128 MiB, what `zstd --ultra` makes at most by default.
const ZSTD_WINDOW_LOG: u32 = 27;
/// Memory that an xz stream may ask for, in bytes: what level 9 needs.
const XZ_MEMORY: u64 = 96 << 20;

impl Compression {
    pub fn detect(head: &[u8]) -> Self {
        match head {
            [0x1f, 0x8b, 0x08, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            // A skippable frame, which may lead a zstd stream.
            [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            [0xfd, b'7', b'z', b'X', b'Z', 0x00, ..] => Self::Xz,
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => Self::Bzip2,
            _ => Self::None,
        }
    }
}

/// A stream after decompression, with what it took.
pub struct Decompressed<C: Chunks> {
    inner: Inner<C>,
}

enum Inner<C: Chunks> {
    Plain { head: Bytes, source: C, taken: u64 },
    Gzip(Box<flate2::bufread::MultiGzDecoder<ChunkRead<C>>>),
    Zstd(Box<zstd::stream::read::Decoder<'static, ChunkRead<C>>>),
    Xz(Box<xz2::bufread::XzDecoder<ChunkRead<C>>>),
    Bzip2(Box<bzip2::bufread::MultiBzDecoder<ChunkRead<C>>>),
}

impl<C: Chunks> Decompressed<C> {
    /// Looks at the first bytes and chooses.
    pub fn new(mut source: C) -> Result<(Self, Compression)> {
        let head = read_head(&mut source, MAGIC)?;
        let compression = Compression::detect(&head);
        let reader = |source| ChunkRead { taken: head.len() as u64, current: head.clone(), source };
        let inner = match compression {
            Compression::None => Inner::Plain { taken: head.len() as u64, head, source },
            Compression::Gzip => Inner::Gzip(Box::new(flate2::bufread::MultiGzDecoder::new(reader(source)))),
            Compression::Zstd => Inner::Zstd(Box::new(zstd_decoder(reader(source))?)),
            Compression::Xz => Inner::Xz(Box::new(xz_decoder(reader(source))?)),
            Compression::Bzip2 => Inner::Bzip2(Box::new(bzip2::bufread::MultiBzDecoder::new(reader(source)))),
        };
        Ok((Self { inner }, compression))
    }

    /// Bytes taken from the compressed side so far.
    pub fn packed(&self) -> u64 {
        match &self.inner {
            Inner::Plain { taken, .. } => *taken,
            Inner::Gzip(decoder) => decoder.get_ref().taken,
            Inner::Zstd(decoder) => decoder.get_ref().taken,
            Inner::Xz(decoder) => decoder.get_ref().taken,
            Inner::Bzip2(decoder) => decoder.get_ref().taken,
        }
    }
}

impl<C: Chunks> Chunks for Decompressed<C> {
    fn next(&mut self) -> Result<Option<Bytes>> {
        Ok(match &mut self.inner {
            Inner::Plain { head, source, taken } => match std::mem::take(head) {
                head if !head.is_empty() => Some(head),
                _ => source.next()?.inspect(|chunk| *taken += chunk.len() as u64),
            },
            Inner::Gzip(decoder) => read_piece(decoder.as_mut())?,
            Inner::Zstd(decoder) => read_piece(decoder.as_mut())?,
            Inner::Xz(decoder) => read_piece(decoder.as_mut())?,
            Inner::Bzip2(decoder) => read_piece(decoder.as_mut())?,
        })
    }
}

/// At least `want` bytes where the source has them, as one piece.
pub fn read_head(source: &mut impl Chunks, want: usize) -> Result<Bytes> {
    let mut head = Bytes::new();
    while head.len() < want {
        let Some(chunk) = source.next()? else { break };
        if head.is_empty() {
            head = chunk;
        } else {
            let mut joined = BytesMut::with_capacity(head.len() + chunk.len());
            joined.extend_from_slice(&head);
            joined.extend_from_slice(&chunk);
            head = joined.freeze();
        }
    }
    Ok(head)
}

fn zstd_decoder<C: Chunks>(reader: ChunkRead<C>) -> Result<zstd::stream::read::Decoder<'static, ChunkRead<C>>> {
    let mut decoder = zstd::stream::read::Decoder::with_buffer(reader)?;
    decoder.window_log_max(ZSTD_WINDOW_LOG)?;
    Ok(decoder)
}

fn xz_decoder<C: Chunks>(reader: ChunkRead<C>) -> Result<xz2::bufread::XzDecoder<ChunkRead<C>>> {
    let stream = xz2::stream::Stream::new_stream_decoder(XZ_MEMORY, xz2::stream::CONCATENATED)
        .map_err(|error| Error::system(format!("cannot set up xz: {error}")))?;
    Ok(xz2::bufread::XzDecoder::new_stream(reader, stream))
}

fn read_piece(reader: &mut impl Read) -> Result<Option<Bytes>> {
    let mut piece = vec![0; PIECE];
    let mut filled = 0;
    while filled < piece.len() {
        match reader.read(&mut piece[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(unwrap_io(error)),
        }
    }
    piece.truncate(filled);
    Ok((filled > 0).then(|| piece.into()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::Write as _;

    use super::*;
    use crate::chunks::Ready;

    fn packed(compression: Compression, data: &[u8]) -> Vec<u8> {
        match compression {
            Compression::None => data.to_vec(),
            Compression::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(data).unwrap();
                encoder.finish().unwrap()
            }
            Compression::Zstd => zstd::encode_all(data, 1).unwrap(),
            Compression::Xz => {
                let mut encoder = xz2::write::XzEncoder::new(Vec::new(), 1);
                encoder.write_all(data).unwrap();
                encoder.finish().unwrap()
            }
            Compression::Bzip2 => {
                let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
                encoder.write_all(data).unwrap();
                encoder.finish().unwrap()
            }
        }
    }

    fn unpack(data: &[u8], step: usize) -> Result<(Vec<u8>, Compression)> {
        let chunks = data.chunks(step).map(Bytes::copy_from_slice).collect();
        let (mut stream, compression) = Decompressed::new(Ready(chunks))?;
        let mut out = Vec::new();
        while let Some(chunk) = stream.next()? {
            out.extend_from_slice(&chunk);
        }
        Ok((out, compression))
    }

    const ALL: [Compression; 5] =
        [Compression::None, Compression::Gzip, Compression::Zstd, Compression::Xz, Compression::Bzip2];

    #[test]
    fn every_compression_is_found_and_undone_whatever_the_chunks() {
        let data: Vec<u8> = (0..700_000u32).map(|i| (i.wrapping_mul(i) >> 7) as u8).collect();
        for compression in ALL {
            let packed = packed(compression, &data);
            for step in [1 << 20, 4096, 5] {
                let (out, found) = unpack(&packed, step).unwrap();
                assert_eq!((found, out == data), (compression, true), "step {step}");
            }
        }
    }

    #[test]
    fn a_cut_stream_is_an_error_and_not_an_end() {
        for compression in &ALL[1..] {
            let packed = packed(*compression, &vec![7; 300_000]);
            let error = unpack(&packed[..packed.len() - 9], 1000).unwrap_err();
            assert_eq!(error.kind(), gantry_domain::ErrorKind::InvalidParameter, "{compression:?}: {error}");
        }
    }

    #[test]
    fn gzip_members_in_a_row_are_one_stream() {
        let mut both = packed(Compression::Gzip, b"one ");
        both.extend(packed(Compression::Gzip, b"two"));
        assert_eq!(unpack(&both, 3).unwrap().0, b"one two");
    }
}
