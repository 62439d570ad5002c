//! Signals by name and number, as `docker kill -s` and `StopSignal` take them.

use crate::Result;

pub const SIGKILL: u32 = 9;
pub const SIGTERM: u32 = 15;

/// `KILL`, `SIGKILL`, `9`, `RTMIN+3`; `InvalidParameter` `invalid signal: x`.
pub fn parse(_text: &str) -> Result<u32> {
    todo!()
}
