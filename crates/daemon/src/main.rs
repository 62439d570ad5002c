//! gantry-daemon.

fn main() {}
