//! What the shim asks of the kernel.

pub(crate) mod fifo;
pub(crate) mod log;
pub(crate) mod memory;
pub(crate) mod mounts;
pub(crate) mod overlay;
pub(crate) mod poll;
pub(crate) mod process;
pub(crate) mod pty;
