//! Execs: one more process in a running container.

mod create;
mod inspect;
mod probe;
mod resize;
mod start;
pub(crate) mod table;

use gantry_domain::{ContainerId, ExecId, exec::ExecConfig};

use crate::container::Attached;

/// Body of `POST /exec/{id}/start`.
#[derive(Debug, Clone, Copy, Default)]
pub struct ExecStart {
    pub detach: bool,
    /// Framing of the answer; whether the process has a terminal was said at create.
    pub tty: bool,
    /// Height, width.
    pub console_size: Option<[u32; 2]>,
}

/// `None` when detached.
pub type ExecStarted = Option<Attached>;

/// `GET /exec/{id}/json`.
#[derive(Debug, Clone)]
pub struct ExecDetails {
    pub id: ExecId,
    pub container: ContainerId,
    pub config: ExecConfig,
    pub running: bool,
    pub exit_code: Option<i64>,
    pub pid: u32,
    /// Program and arguments.
    pub entrypoint: String,
    pub arguments: Vec<String>,
}

pub(crate) use probe::{Prober, end_found};
pub(crate) use start::supervise;

/// `exec_create: sh -c true`; dockerd puts a space behind the program also where nothing follows.
pub(crate) fn action(what: &str, command: &[String]) -> String {
    let (program, arguments) = command.split_first().map_or(("", &[][..]), |(program, rest)| (program.as_str(), rest));
    format!("{what}: {program} {}", arguments.join(" "))
}

/// An exec's event, as a container's with `execID`.
pub(crate) fn publish(
    parts: &crate::parts::Parts,
    record: &gantry_domain::container::ContainerRecord,
    action: String,
    exec: &ExecId,
    code: Option<u32>,
) {
    let mut more = vec![("execID", exec.to_string())];
    more.extend(code.map(|code| ("exitCode", code.to_string())));
    let event = crate::container::container_event(record, action, &more, jiff::Timestamp::now());
    parts.events.publish(event);
}
