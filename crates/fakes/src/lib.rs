//! gantry-fakes.
