//! gantry-spec.
