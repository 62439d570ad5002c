//! The relay: carries what came to a published port and was not translated by the kernel to the container.

pub mod datagram;
pub mod tcp;
pub mod udp;
