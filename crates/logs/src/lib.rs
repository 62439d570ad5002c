//! gantry-logs.
