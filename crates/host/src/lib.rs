//! gantry-host.
