//! gantry-store.
