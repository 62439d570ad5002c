//! The companions' protocols: a versioned, blocking codec over unix sockets. No tokio.
//!
//! A message is a frame (`frame`); descriptors travel beside its first byte (`fd`). `stdio` is what gantryd and
//! `gantry-stdio` say to each other, `net` what gantryd and `gantry-netd` do. Both sides say their version first and
//! ignore fields and frames that they do not know, so that a new gantryd speaks to companions an older one started.
//! `ship` is what gantryd leaves for `gantry-logship`, as files.

pub mod fd;
pub mod frame;
pub mod net;
pub mod ship;
pub mod stdio;
