//! gantry-wire.
