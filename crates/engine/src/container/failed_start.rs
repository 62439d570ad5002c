//! What a start that failed counts as.

use gantry_domain::{Error, ErrorKind};

/// The exit code that dockerd gives a failed start, by runc's text (section 3.2 of the API reference, point 2).
pub(crate) fn classify(error: Error) -> (u32, Error) {
    let text = error.message();
    let has = |needle: &str| text.contains(needle);
    if !has("runc") && !has("OCI runtime") {
        return (128, error);
    }
    if has("executable file not found") || has("no such file or directory") || has("not a directory") {
        return (127, error.with_kind(ErrorKind::InvalidParameter));
    }
    if has("permission denied") {
        return (126, error.with_kind(ErrorKind::InvalidParameter));
    }
    if has("is a directory") {
        let message = format!("{text}: permission denied");
        return (126, Error::invalid(message));
    }
    (128, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_is_127_and_the_clients_fault() {
        let (code, error) = classify(Error::system(
            "failed to create task for container: failed to create shim task: OCI runtime create failed: runc create failed: \
             unable to start container process: exec: \"x\": executable file not found in $PATH: unknown",
        ));
        assert_eq!((code, error.kind()), (127, ErrorKind::InvalidParameter));
    }

    #[test]
    fn a_program_without_permission_is_126() {
        let (code, _) = classify(Error::system("OCI runtime create failed: exec: \"/x\": permission denied: unknown"));
        assert_eq!(code, 126);
    }

    #[test]
    fn anything_else_is_128() {
        assert_eq!(classify(Error::system("failed to set up container networking")).0, 128);
    }
}
