//! containerd's events about tasks, and the envelope in which a shim hands one over. Source: containerd's
//! `api/events/task.proto`, `api/services/ttrpc/events/v1/events.proto`.

use prost::{Message, Name};
use prost_types::{Any, Timestamp};

use super::task::Mount;

/// The service of containerd that takes them, and its one method.
pub(crate) const SERVICE: &str = "containerd.services.events.ttrpc.v1.Events";
pub(crate) const METHOD: &str = "Forward";

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Forward {
    #[prost(message, optional, tag = "1")]
    pub(crate) envelope: Option<Envelope>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Envelope {
    #[prost(message, optional, tag = "1")]
    pub(crate) timestamp: Option<Timestamp>,
    #[prost(string, tag = "2")]
    pub(crate) namespace: String,
    #[prost(string, tag = "3")]
    pub(crate) topic: String,
    #[prost(message, optional, tag = "4")]
    pub(crate) event: Option<Any>,
}

/// An event and the topic that it is published under.
pub(crate) trait Event: Message + Name + Sized {
    const TOPIC: &'static str;

    fn to_any(&self) -> Any {
        // containerd's registry knows the bare name.
        Any { type_url: format!("{}.{}", Self::PACKAGE, Self::NAME), value: self.encode_to_vec() }
    }
}

macro_rules! events {
    ($($event:ident $topic:literal)*) => {$(
        impl Name for $event {
            const NAME: &'static str = stringify!($event);
            const PACKAGE: &'static str = "containerd.events";
        }
        impl Event for $event {
            const TOPIC: &'static str = $topic;
        }
    )*};
}

events! {
    TaskCreate "/tasks/create"
    TaskStart "/tasks/start"
    TaskExit "/tasks/exit"
    TaskDelete "/tasks/delete"
    TaskOOM "/tasks/oom"
    TaskExecAdded "/tasks/exec-added"
    TaskExecStarted "/tasks/exec-started"
    TaskPaused "/tasks/paused"
    TaskResumed "/tasks/resumed"
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct TaskCreate {
    #[prost(string, tag = "1")]
    pub(crate) container_id: String,
    #[prost(string, tag = "2")]
    pub(crate) bundle: String,
    #[prost(message, repeated, tag = "3")]
    pub(crate) rootfs: Vec<Mount>,
    #[prost(message, optional, tag = "4")]
    pub(crate) io: Option<TaskIo>,
    #[prost(uint32, tag = "6")]
    pub(crate) pid: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct TaskIo {
    #[prost(string, tag = "1")]
    pub(crate) stdin: String,
    #[prost(string, tag = "2")]
    pub(crate) stdout: String,
    #[prost(string, tag = "3")]
    pub(crate) stderr: String,
    #[prost(bool, tag = "4")]
    pub(crate) terminal: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct TaskStart {
    #[prost(string, tag = "1")]
    pub(crate) container_id: String,
    #[prost(uint32, tag = "2")]
    pub(crate) pid: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct TaskExit {
    #[prost(string, tag = "1")]
    pub(crate) container_id: String,
    /// The exec's, or the container's own for its first process.
    #[prost(string, tag = "2")]
    pub(crate) id: String,
    #[prost(uint32, tag = "3")]
    pub(crate) pid: u32,
    #[prost(uint32, tag = "4")]
    pub(crate) exit_status: u32,
    #[prost(message, optional, tag = "5")]
    pub(crate) exited_at: Option<Timestamp>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct TaskDelete {
    #[prost(string, tag = "1")]
    pub(crate) container_id: String,
    #[prost(uint32, tag = "2")]
    pub(crate) pid: u32,
    #[prost(uint32, tag = "3")]
    pub(crate) exit_status: u32,
    #[prost(message, optional, tag = "4")]
    pub(crate) exited_at: Option<Timestamp>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct TaskOOM {
    #[prost(string, tag = "1")]
    pub(crate) container_id: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct TaskExecAdded {
    #[prost(string, tag = "1")]
    pub(crate) container_id: String,
    #[prost(string, tag = "2")]
    pub(crate) exec_id: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct TaskExecStarted {
    #[prost(string, tag = "1")]
    pub(crate) container_id: String,
    #[prost(string, tag = "2")]
    pub(crate) exec_id: String,
    #[prost(uint32, tag = "3")]
    pub(crate) pid: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct TaskPaused {
    #[prost(string, tag = "1")]
    pub(crate) container_id: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct TaskResumed {
    #[prost(string, tag = "1")]
    pub(crate) container_id: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_named_as_containerds_registry_knows_it() {
        let any = TaskOOM { container_id: "c".into() }.to_any();
        assert_eq!((any.type_url.as_str(), TaskOOM::TOPIC), ("containerd.events.TaskOOM", "/tasks/oom"));
    }
}
