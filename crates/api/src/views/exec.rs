//! Execs: inspect.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use gantry_engine::exec::ExecDetails;
use schemars::JsonSchema;
use serde::Serialize;

/// `GET /exec/{id}/json`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ExecInspect {
    #[serde(rename = "ID")]
    pub id: String,
    #[serde(rename = "Running")]
    pub running: bool,
    /// `null` until the process has ended.
    #[serde(rename = "ExitCode")]
    pub exit_code: Option<i64>,
    #[serde(rename = "ProcessConfig")]
    pub process_config: ProcessConfig,
    #[serde(rename = "OpenStdin")]
    pub open_stdin: bool,
    #[serde(rename = "OpenStderr")]
    pub open_stderr: bool,
    #[serde(rename = "OpenStdout")]
    pub open_stdout: bool,
    #[serde(rename = "CanRemove")]
    pub can_remove: bool,
    #[serde(rename = "ContainerID")]
    pub container_id: String,
    /// Base64 of the bytes.
    #[serde(rename = "DetachKeys")]
    pub detach_keys: String,
    #[serde(rename = "Pid")]
    pub pid: u32,
}

/// Docker spells these in lower case.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ProcessConfig {
    pub tty: bool,
    pub entrypoint: String,
    pub arguments: Vec<String>,
    pub privileged: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub user: String,
}

impl From<ExecDetails> for ExecInspect {
    fn from(details: ExecDetails) -> Self {
        let config = details.config;
        let keys = match config.detach_keys.as_str() {
            "" => Vec::new(),
            keys => crate::hijack::keys::parse(keys).unwrap_or_default(),
        };
        Self {
            id: details.id.to_string(),
            running: details.running,
            exit_code: details.exit_code,
            process_config: ProcessConfig {
                tty: config.tty,
                entrypoint: details.entrypoint,
                arguments: details.arguments,
                privileged: config.privileged,
                user: config.user,
            },
            open_stdin: config.attach_stdin,
            open_stderr: config.attach_stderr,
            open_stdout: config.attach_stdout,
            can_remove: false,
            container_id: details.container.to_string(),
            detach_keys: STANDARD.encode(keys),
            pid: details.pid,
        }
    }
}
