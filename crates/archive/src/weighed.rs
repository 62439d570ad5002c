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
