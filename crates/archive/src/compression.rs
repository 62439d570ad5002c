//! Compression of archives and layers: found by the first bytes, undone in this process and never by a program (T03).

use std::{
    io::Read,
    sync::{Arc, LazyLock},
};

use bytes::{Bytes, BytesMut};
use gantry_domain::{Error, Result};
use tokio::sync::{Mutex, OwnedMutexGuard};

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
/// The longest header of a zstd frame, in bytes.
const ZSTD_HEADER: usize = 18;
/// Window that a zstd stream may ask for, as a power of two: 128 MiB, what `zstd --ultra` makes at most by default.
const ZSTD_WINDOW_LOG: u32 = 27;
/// Window that every layer may ask for, several at a time: 32 MiB, what image builders make at most.
const ZSTD_SMALL_WINDOW_LOG: u32 = 25;
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
    _alone: Option<OwnedMutexGuard<()>>,
}

enum Inner<C: Chunks> {
    Plain { head: Bytes, source: C, taken: u64 },
    Gzip(Box<flate2::bufread::MultiGzDecoder<ChunkRead<C>>>),
    Zstd(Box<zstd::stream::read::Decoder<'static, ChunkRead<C>>>),
    Xz(Box<xz2::bufread::XzDecoder<ChunkRead<C>>>),
    Bzip2(Box<bzip2::bufread::MultiBzDecoder<ChunkRead<C>>>),
}

/// One layer at a time has a large window. Held by an archive around layers it would wait for itself.
static LARGE_WINDOW: LazyLock<Arc<Mutex<()>>> = LazyLock::new(Arc::default);

impl<C: Chunks> Decompressed<C> {
    /// An archive on its own, or around layers. Looks at the first bytes and chooses.
    pub fn new(mut source: C) -> Result<(Self, Compression)> {
        let head = read_head(&mut source, MAGIC)?;
        Self::after(head, source, ZSTD_WINDOW_LOG)
    }

    /// A layer, of which several may be unpacked at a time: plain, gzip or zstd. Waits, on its thread, where it needs much
    /// memory and another one does too.
    pub fn layer(mut source: C) -> Result<(Self, Compression)> {
        let head = read_head(&mut source, ZSTD_HEADER)?;
        if matches!(Compression::detect(&head), Compression::Xz | Compression::Bzip2) {
            return Err(Error::invalid("layer is compressed in a way that images do not know"));
        }
        if zstd_window_log(&head).is_none_or(|log| log <= ZSTD_SMALL_WINDOW_LOG) {
            return Self::after(head, source, ZSTD_SMALL_WINDOW_LOG);
        }
        let alone = LARGE_WINDOW.clone().blocking_lock_owned();
        let (layer, compression) = Self::after(head, source, ZSTD_WINDOW_LOG)?;
        Ok((Self { _alone: Some(alone), ..layer }, compression))
    }

    fn after(head: Bytes, source: C, window_log: u32) -> Result<(Self, Compression)> {
        let compression = Compression::detect(&head);
        let reader = |source| ChunkRead { taken: head.len() as u64, current: head.clone(), source };
        let inner = match compression {
            Compression::None => Inner::Plain { taken: head.len() as u64, head, source },
            Compression::Gzip => Inner::Gzip(Box::new(flate2::bufread::MultiGzDecoder::new(reader(source)))),
            Compression::Zstd => Inner::Zstd(Box::new(zstd_decoder(reader(source), window_log)?)),
            Compression::Xz => Inner::Xz(Box::new(xz_decoder(reader(source))?)),
            Compression::Bzip2 => Inner::Bzip2(Box::new(bzip2::bufread::MultiBzDecoder::new(reader(source)))),
        };
        Ok((Self { inner, _alone: None }, compression))
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

/// What the first frame of a zstd stream asks for, rounded up; `None` for what is none, or begins with a skippable one.
fn zstd_window_log(head: &[u8]) -> Option<u32> {
    let [0x28, 0xb5, 0x2f, 0xfd, descriptor, rest @ ..] = head else { return None };
    let is_single = descriptor & 0x20 != 0;
    if !is_single {
        let window = u32::from(*rest.first()?);
        return Some(10 + (window >> 3) + u32::from(window & 7 > 0));
    }
    // The window is the content, whose size stands behind the name of a dictionary.
    let dictionary = [0, 1, 2, 4][usize::from(descriptor & 3)];
    let length = [1, 2, 4, 8][usize::from(descriptor >> 6)];
    let mut size = [0; 8];
    size[..length].copy_from_slice(rest.get(dictionary..dictionary + length)?);
    Some(u64::BITS - u64::from_le_bytes(size).saturating_sub(1).leading_zeros())
}

fn zstd_decoder<C: Chunks>(
    reader: ChunkRead<C>,
    window_log: u32,
) -> Result<zstd::stream::read::Decoder<'static, ChunkRead<C>>> {
    let mut decoder = zstd::stream::read::Decoder::with_buffer(reader)?;
    decoder.window_log_max(window_log)?;
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

    fn zstd_with_window(log: u32, content: &[u8]) -> Vec<u8> {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(log).unwrap();
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn the_window_that_a_zstd_frame_asks_for_is_read_from_its_header() {
        for log in [10, 20, 25, 26, 27] {
            assert_eq!(zstd_window_log(&zstd_with_window(log, b"x")), Some(log));
        }
        // A frame that tells its size has a window of that size.
        assert_eq!(zstd_window_log(&zstd::bulk::compress(&[0; 3000], 1).unwrap()), Some(12));
        assert_eq!(zstd_window_log(&[0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0]), None);
        assert_eq!(zstd_window_log(b""), None);
    }

    #[test]
    fn one_layer_at_a_time_has_a_large_window() {
        let layer = |log| Decompressed::layer(Ready([Bytes::from(zstd_with_window(log, b"x"))].into())).unwrap().0;
        let large = layer(26);
        let (small, archive) =
            (layer(25), Decompressed::new(Ready([zstd_with_window(27, b"x").into()].into())).unwrap());
        assert!(LARGE_WINDOW.try_lock().is_err());
        drop((small, archive, large));
        assert!(LARGE_WINDOW.try_lock().is_ok());
        let too_large = Ready([Bytes::from(zstd_with_window(28, &[1; 100]))].into());
        assert!(Decompressed::layer(too_large).unwrap().0.next().is_err());
    }

    #[test]
    fn a_layer_is_plain_gzip_or_zstd() {
        for compression in [Compression::Xz, Compression::Bzip2] {
            assert!(Decompressed::layer(Ready([packed(compression, b"x").into()].into())).is_err());
        }
    }

    #[test]
    fn gzip_members_in_a_row_are_one_stream() {
        let mut both = packed(Compression::Gzip, b"one ");
        both.extend(packed(Compression::Gzip, b"two"));
        assert_eq!(unpack(&both, 3).unwrap().0, b"one two");
    }
}
