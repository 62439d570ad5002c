//! gantry-stdio.

fn main() {}
