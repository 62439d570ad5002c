//! The channel to containerd: lazy, namespaced, surviving containerd's restarts; and its errors in the engine's kinds.
