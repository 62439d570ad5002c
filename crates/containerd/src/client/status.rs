//! gRPC statuses as the engine's errors, in the words of containerd's own Go client, which dockerd passes on.

use std::error::Error as _;

use gantry_domain::{Error, ErrorKind};
use tokio::time::Instant;
use tonic::{Code, Response, Status};

use super::connect::{FIRST_PAUSE, LONGEST_PAUSE, PATIENCE};

/// Turns a status into an error. The text ends in the class, as containerd's Go client puts it
/// (`…: executable file not found in $PATH: unknown`): the docker CLI prints it so.
pub fn error(status: Status) -> Error {
    if is_broken(&status) {
        return Error::unavailable(broken_text(&status)).with_source(status);
    }
    let (kind, class) = class(status.code());
    let message = status.message();
    let text = if message.is_empty() || message == class {
        class.to_owned()
    } else if message.ends_with(&format!(": {class}")) {
        message.to_owned()
    } else {
        format!("{message}: {class}")
    };
    Error::new(kind, text).with_source(status)
}

/// Whether the connection failed, rather than containerd answering with an error: what was asked may or may not have
/// been done.
pub fn is_broken(status: &Status) -> bool {
    // A status that came over the wire has no source; one that tonic made of a transport's failure has. A containerd
    // that is being stopped answers `Unavailable`.
    status.source().is_some() || status.code() == Code::Unavailable
}

/// Repeats a call that may be repeated for as long as the connection breaks under it, at most [`PATIENCE`]: one that is
/// made while containerd dies may still reach its socket, and is reset.
pub async fn retry<T, F>(mut call: impl FnMut() -> F) -> Result<T, Error>
where
    F: Future<Output = Result<Response<T>, Status>>,
{
    let end = Instant::now() + PATIENCE;
    let mut pause = FIRST_PAUSE;
    loop {
        match call().await {
            Err(status) if is_broken(&status) && Instant::now() < end => {
                tracing::debug!(error = %status, "the connection to containerd broke, asking again");
            }
            done => return done.map(Response::into_inner).map_err(error),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

fn broken_text(status: &Status) -> String {
    let mut innermost: Option<&dyn std::error::Error> = status.source();
    while let Some(next) = innermost.and_then(|error| error.source()) {
        innermost = Some(next);
    }
    let cause = innermost.map_or_else(|| status.message().to_owned(), ToString::to_string);
    format!("containerd is not available: {cause}")
}

fn class(code: Code) -> (ErrorKind, &'static str) {
    match code {
        Code::NotFound => (ErrorKind::NotFound, "not found"),
        Code::InvalidArgument => (ErrorKind::InvalidParameter, "invalid argument"),
        Code::FailedPrecondition => (ErrorKind::InvalidParameter, "failed precondition"),
        Code::OutOfRange => (ErrorKind::InvalidParameter, "out of range"),
        Code::AlreadyExists => (ErrorKind::Conflict, "already exists"),
        Code::Aborted => (ErrorKind::Conflict, "aborted"),
        Code::PermissionDenied => (ErrorKind::Forbidden, "permission denied"),
        Code::Unauthenticated => (ErrorKind::Unauthorized, "unauthenticated"),
        Code::Unimplemented => (ErrorKind::NotImplemented, "not implemented"),
        Code::Unavailable => (ErrorKind::Unavailable, "unavailable"),
        Code::DataLoss => (ErrorKind::DataLoss, "data loss"),
        Code::Cancelled => (ErrorKind::Cancelled, "context canceled"),
        Code::DeadlineExceeded => (ErrorKind::Cancelled, "context deadline exceeded"),
        Code::ResourceExhausted => (ErrorKind::System, "resource exhausted"),
        Code::Internal => (ErrorKind::System, "internal"),
        Code::Ok | Code::Unknown => (ErrorKind::System, "unknown"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_class_ends_the_text_exactly_once() {
        let bare = error(Status::unknown("runc create failed: x"));
        assert_eq!(bare.message(), "runc create failed: x: unknown");
        let said = error(Status::not_found("task abc: not found"));
        assert_eq!(said.message(), "task abc: not found");
        assert!(said.is_not_found());
    }

    #[test]
    fn precondition_and_range_are_the_callers_fault() {
        for code in [Code::FailedPrecondition, Code::OutOfRange, Code::InvalidArgument] {
            assert_eq!(error(Status::new(code, "x")).kind(), ErrorKind::InvalidParameter);
        }
        assert!(error(Status::already_exists("x")).is_conflict());
    }

    #[test]
    fn a_broken_connection_is_unavailable() {
        let status = Status::from_error(Box::new(std::io::Error::other("connection reset")));
        assert!(is_broken(&status));
        let error = error(status);
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert_eq!(error.message(), "containerd is not available: connection reset");
    }
}
