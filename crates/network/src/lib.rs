//! gantry-network.
