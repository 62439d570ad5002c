//! containerd itself: found or started, adopted, watched, and started again when it dies.
