//! What gantryd and `gantry-stdio` say to each other.
//!
//! ```text
//!   spare:    gantryd ── Assign + descriptors ──► companion (its descriptor 0)    companion ── Ready | Failed ──►
//!   control:  gantryd ── Hello{control} ──► socket    ◄── Welcome    ◄── StdinEnd, End    ── TaskExited, Quit ──►
//!                                                                                        ◄── Released
//!   attach:   gantryd ── Hello{attach}  ──► socket    ◄── Welcome    ◄── frames 1, 2, then End    ── frames 0 ──►
//! ```
//!
//! After Ready the assigning connection is a control connection. An empty frame 0 is the end of a client's input; a
//! connection that just goes away is not. Descriptors of Assign, in this order: the listening socket, the reading end
//! of stdout, of stderr (if `stderr`), stdin (if `stdin`), open for reading and writing.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};

/// Said in Hello, Welcome and Ready. Raised when a peer must know more than an ignored field tells.
pub const VERSION: u32 = 1;
/// Output read at once. With the unfinished lines of two streams this bounds what a killed companion loses.
pub const READ_SIZE: usize = 32 << 10;
/// Most that is lost when a companion is killed: one read, and an unfinished line of each output.
pub const MAX_LOSS: usize = 64 << 10;
/// What the socket in the run's folder is called.
pub const SOCKET: &str = "stdio.sock";
/// Written into the run's folder when both outputs are at their end and in the log; holds the run's number.
pub const ENDED: &str = "ended";

/// A control message, either way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Message {
    Assign(Assign),
    Ready {
        version: u32,
        pid: u32,
    },
    Failed {
        message: String,
    },
    Hello {
        version: u32,
        role: Role,
        #[serde(default)]
        stdin: bool,
        #[serde(default)]
        stdout: bool,
        #[serde(default)]
        stderr: bool,
    },
    Welcome {
        version: u32,
        pid: u32,
        run: u64,
        #[serde(default)]
        log_position: Option<u64>,
        #[serde(default)]
        ended: bool,
    },
    /// To control: the input is over and the companion closed its end of the stdin FIFO.
    StdinEnd,
    /// To control: both outputs are at their end and in the log. To a client, behind its last byte: there is no more.
    End,
    /// From control: the task has exited; an output without a writer is at its end.
    TaskExited,
    /// From control: let the folder and the log go. Clients still get what is on its way to them.
    Quit,
    /// To control: nothing here touches the folder or the log any more. An older companion just goes.
    Released,
    /// From a newer peer; ignored.
    #[serde(other)]
    Unknown,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    Control,
    Attach,
}

/// One run of a container, for a companion that stands ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assign {
    pub version: u32,
    pub id: String,
    pub run: u64,
    /// The run's folder, where `ENDED` is written.
    pub folder: PathBuf,
    pub terminal: bool,
    pub stdin: bool,
    pub stdin_once: bool,
    pub stderr: bool,
    /// `None`: nothing is kept.
    pub log: Option<Log>,
    /// This one follows a companion that died: say in the log that output may be missing here.
    #[serde(default)]
    pub successor: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Log {
    pub format: LogFormat,
    pub path: PathBuf,
    #[serde(default)]
    pub max_size: Option<u64>,
    pub max_files: u32,
    #[serde(default)]
    pub compress: bool,
    #[serde(default)]
    pub attrs: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    JsonFile,
    Local,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::frame;

    #[test]
    fn a_newer_peer_is_understood_as_far_as_it_goes() {
        let known = br#"{"type":"hello","version":9,"role":"attach","stdout":true,"colour":"green"}"#;
        let hello = Message::Hello { version: 9, role: Role::Attach, stdin: false, stdout: true, stderr: false };
        assert_eq!(frame::message::<Message>(known).unwrap(), hello);
        assert_eq!(frame::message::<Message>(br#"{"type":"dance","steps":3}"#).unwrap(), Message::Unknown);
    }
}
