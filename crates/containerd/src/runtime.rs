//! The runtime port on containerd: containers, snapshots, tasks, execs and events.
