//! The one error below HTTP: a kind, the message that the Docker client prints, and a source for the log.

use std::{error::Error as StdError, fmt, sync::Arc};

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, in the classes that Docker's API knows. The HTTP status is chosen from it in one table of `api`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    NotFound,
    InvalidParameter,
    Conflict,
    Unauthorized,
    Unavailable,
    Forbidden,
    NotImplemented,
    /// The fault is the engine's or the host's.
    System,
    /// Stored data is damaged.
    DataLoss,
    /// The client went away or a deadline passed.
    Cancelled,
}

/// The message is what the Docker client prints, in Docker's words; the source is for the log.
#[derive(Clone)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

impl Error {
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: go_words(message.into()), source: None }
    }
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::NotFound, message)
    }
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidParameter, message)
    }
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Conflict, message)
    }
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Forbidden, message)
    }
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unavailable, message)
    }
    pub fn not_implemented(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::NotImplemented, message)
    }
    pub fn system(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::System, message)
    }
    pub fn data_loss(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::DataLoss, message)
    }
    pub fn cancelled(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Cancelled, message)
    }

    /// Keeps what caused this for the log.
    #[must_use]
    pub fn with_source(mut self, source: impl StdError + Send + Sync + 'static) -> Self {
        self.source = Some(Arc::new(source));
        self
    }
    /// Puts `prefix: ` in front of the message; the kind stays, as Docker's wrapped errors keep the class of the cause.
    #[must_use]
    pub fn context(mut self, prefix: impl fmt::Display) -> Self {
        self.message = format!("{prefix}: {}", self.message);
        self
    }
    /// The same message under another kind.
    #[must_use]
    pub fn with_kind(mut self, kind: ErrorKind) -> Self {
        self.kind = kind;
        self
    }
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
    pub fn message(&self) -> &str {
        &self.message
    }
    pub fn is_not_found(&self) -> bool {
        self.kind == ErrorKind::NotFound
    }
    /// Whether a full disk or quota was the cause, wherever it was met: containerd tells it only in its text.
    pub fn is_no_space(&self) -> bool {
        ["no space left on device", "disk quota exceeded"].iter().any(|text| self.message.contains(text))
    }
    pub fn is_conflict(&self) -> bool {
        self.kind == ErrorKind::Conflict
    }
}

/// The kernel's reasons as Go prints them, and as the docker CLI looks for them to choose its exit code:
/// `open x: No such file or directory (os error 2)` becomes `open x: no such file or directory`.
pub fn go_words(mut message: String) -> String {
    const MARK: &str = " (os error ";
    while let Some(at) = message.find(MARK) {
        let Some(end) = message[at..].find(')') else { break };
        message.replace_range(at..=at + end, "");
        let start = message[..at].rfind([':', '"', '(']).map_or(0, |before| before + 1);
        let start = start + message[start..at].len() - message[start..at].trim_start().len();
        if let Some(first) = message.get_mut(start..start + 1) {
            first.make_ascii_lowercase();
        }
    }
    message
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.message)?;
        match &self.source {
            Some(source) => write!(f, " (cause: {source})"),
            None => Ok(()),
        }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_ref().map(|source| source.as_ref() as &(dyn StdError + 'static))
    }
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        Self::system(error.to_string()).with_source(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_reasons_are_in_gos_words() {
        let io = std::io::Error::from_raw_os_error(2);
        assert_eq!(Error::from(io).message(), "no such file or directory");
        let told = Error::system("open /x/Y: Permission denied (os error 13)").context("mount");
        assert_eq!(told.message(), "mount: open /x/Y: permission denied");
        let two = Error::system("A: Is a directory (os error 21); B: File exists (os error 17)");
        assert_eq!(two.message(), "A: is a directory; B: file exists");
        assert_eq!(Error::system("no number (os error").message(), "no number (os error");
    }
}
