//! gantry-api.
