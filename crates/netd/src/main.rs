//! gantry-netd.

fn main() {}
