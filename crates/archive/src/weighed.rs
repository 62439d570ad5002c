//! The budget of a stream that is being unpacked: a small archive must not become an endless one.

use bytes::Bytes;
use gantry_domain::Result;

use crate::{
    chunks::Chunks,
    compression::Decompressed,
    limits::{Limits, Meter},
};

/// Weighs what comes out of a stream against what went in.
pub struct Weighed<C: Chunks> {
    stream: Decompressed<C>,
    meter: Meter,
}

impl<C: Chunks> Weighed<C> {
    pub fn new(stream: Decompressed<C>, limits: Limits) -> Self {
        Self { stream, meter: Meter::new(limits) }
    }

    pub fn meter(&mut self) -> &mut Meter {
        &mut self.meter
    }
}

impl<C: Chunks> Chunks for Weighed<C> {
    fn next(&mut self) -> Result<Option<Bytes>> {
        let chunk = self.stream.next()?;
        if let Some(chunk) = &chunk {
            self.meter.bytes(chunk.len() as u64, self.stream.packed())?;
        }
        Ok(chunk)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::Write as _;

    use super::*;
    use crate::chunks::Ready;

    #[test]
    fn much_out_of_little_is_refused_in_every_packing() {
        let zeros = vec![0; 8 << 20];
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        gzip.write_all(&zeros).unwrap();
        let limits = Limits { ratio: 50, ratio_floor: 1 << 20, ..Limits::default() };
        for packed in [gzip.finish().unwrap(), zstd::encode_all(&zeros[..], 3).unwrap()] {
            let (stream, _) = Decompressed::layer(Ready([packed.into()].into())).unwrap();
            let mut weighed = Weighed::new(stream, limits);
            let error = std::iter::from_fn(|| weighed.next().transpose()).find_map(Result::err).unwrap();
            assert!(error.message().contains("50 times"), "{error}");
        }
    }
}
