//! gantry-containerd.
