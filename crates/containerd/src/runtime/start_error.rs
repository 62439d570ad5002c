//! Why a container or an exec could not be started, in the texts and kinds that dockerd makes of runc's.

use gantry_domain::{Error, ErrorKind};

/// What dockerd puts in front of a failed creation of a task.
const CREATE_CONTEXT: &str = "failed to create task for container";

/// A program that cannot be run or found is the caller's fault (the client then exits with 126 or 127), all else is
/// the engine's (128). Kinds that say more (`Unavailable`, `NotFound`, …) are kept.
pub fn classified(error: Error) -> Error {
    if !matches!(error.kind(), ErrorKind::System | ErrorKind::InvalidParameter) {
        return error;
    }
    let text = error.message().to_lowercase();
    let addition = if text.contains("permission denied") {
        ""
    } else if text.contains("is a directory") {
        ": permission denied"
    } else if text.contains("not a directory") {
        ": Are you trying to mount a directory onto a file (or vice-versa)? \
         Check if the specified host path exists and is the expected type"
    } else if text.contains("executable file not found") || text.contains("no such file or directory") {
        ""
    } else {
        return error.with_kind(ErrorKind::System);
    };
    let message = format!("{}{addition}", error.message());
    Error::invalid(message).with_source(error)
}

/// A failed creation of a task. What containerd says itself, before there is a shim, has no class behind it in dockerd.
pub fn of_create(error: Error) -> Error {
    let said = error.message();
    let own = said.starts_with("failed to start shim: ").then(|| said.strip_suffix(": unknown")).flatten();
    let error = match own.map(str::to_owned) {
        Some(text) => Error::new(error.kind(), text).with_source(error),
        None => error,
    };
    classified(error.context(CREATE_CONTEXT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_is_the_callers_fault() {
        let error = classified(Error::system(r#"exec: "x": executable file not found in $PATH: unknown"#));
        assert_eq!(error.kind(), ErrorKind::InvalidParameter);
        assert_eq!(error.message(), r#"exec: "x": executable file not found in $PATH: unknown"#);
    }

    #[test]
    fn a_folder_as_program_counts_as_permission_denied() {
        let error = classified(Error::system(r#"exec: "/etc": is a directory: unknown"#));
        assert_eq!(error.message(), r#"exec: "/etc": is a directory: unknown: permission denied"#);
    }

    #[test]
    fn a_file_where_a_folder_is_needed_asks_about_the_mount() {
        let error = classified(Error::system("mount x: not a directory: unknown"));
        assert!(error.message().ends_with("exists and is the expected type"), "{error}");
    }

    #[test]
    fn a_shim_that_is_not_there_is_told_without_a_class() {
        let error = of_create(Error::system("failed to start shim: failed to resolve runtime path: x: unknown"));
        let text = "failed to create task for container: failed to start shim: failed to resolve runtime path: x";
        assert_eq!(error.message(), text);
        let error = of_create(Error::system("failed to create shim task: OCI runtime create failed: x: unknown"));
        assert!(error.message().ends_with("x: unknown"), "{error}");
    }

    #[test]
    fn anything_else_is_the_engines_fault() {
        assert_eq!(classified(Error::system("runc create failed: boom")).kind(), ErrorKind::System);
        assert_eq!(classified(Error::unavailable("gone")).kind(), ErrorKind::Unavailable);
    }
}
