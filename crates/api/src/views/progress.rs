//! Progress of what takes long, one JSON object a line, as the CLI and the SDKs draw it.

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use gantry_domain::{
    Error,
    image::Descriptor,
    ports::{BoxStream, PullStep, PushStep},
};
use gantry_engine::image::{PullMessage, PushMessage};
use schemars::JsonSchema;
use serde::Serialize;

use crate::stream;

/// One line of progress; lines end in `\r\n`.
#[derive(Debug, Default, Serialize, JsonSchema)]
pub struct ProgressMessage {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    #[serde(rename = "progressDetail", skip_serializing_if = "Option::is_none")]
    pub progress_detail: Option<ProgressDetail>,
    /// The bar as text, for old clients.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    #[serde(rename = "errorDetail", skip_serializing_if = "Option::is_none")]
    pub error_detail: Option<ErrorDetail>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What machines read of a push.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aux: Option<Aux>,
}

/// Bytes; empty where there is nothing to count.
#[derive(Debug, Default, Serialize, JsonSchema)]
pub struct ProgressDetail {
    #[serde(skip_serializing_if = "Option::is_none")]
    current: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    total: Option<u64>,
    /// What is counted, where it is not bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    units: Option<&'static str>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct ErrorDetail {
    message: String,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Aux {
    #[serde(rename_all = "PascalCase")]
    Pushed { tag: String, digest: String, size: i64 },
    #[serde(rename_all = "camelCase")]
    Instead {
        manifest_pushed_instead_of_index: bool,
        original_index: Box<Descriptor>,
        selected_manifest: Box<Descriptor>,
    },
    #[serde(rename_all = "camelCase")]
    Missing { content_missing: bool, desc: Box<Descriptor> },
}

impl ProgressDetail {
    pub fn of(current: u64, total: u64) -> Self {
        Self { current: Some(current), total: (total > 0).then_some(total), units: None }
    }
    /// What has no end that is known.
    fn seconds(passed: u64) -> Self {
        Self { current: Some(passed), total: None, units: Some("s") }
    }
}

impl ProgressMessage {
    pub fn status(status: impl Into<String>) -> Self {
        Self { status: Some(status.into()), ..Self::default() }
    }
    pub fn stream(text: String) -> Self {
        Self { stream: Some(text), ..Self::default() }
    }
    pub fn error(error: &Error) -> Self {
        let message = error.message().to_owned();
        Self { error: Some(message.clone()), error_detail: Some(ErrorDetail { message }), ..Self::default() }
    }
    pub fn line(&self) -> Bytes {
        stream::json_line(self, "\r\n")
    }

    fn layer(id: String, status: impl Into<String>) -> Self {
        Self { id: Some(id), progress_detail: Some(ProgressDetail::default()), ..Self::status(status) }
    }
    fn counted(id: String, status: &str, current: u64, total: u64) -> Self {
        Self {
            id: Some(id),
            progress_detail: Some(ProgressDetail::of(current, total)),
            progress: Some(bar(current, total)),
            ..Self::status(status)
        }
    }
    fn aux(aux: Aux) -> Self {
        Self { aux: Some(aux), ..Self::default() }
    }
}

/// The lines of a pull.
pub fn pull_lines(pulling: BoxStream<gantry_domain::Result<PullMessage>>) -> impl Stream<Item = Bytes> + Send {
    pulling.map(|message| match message {
        Ok(message) => pull_message(message).line(),
        Err(error) => {
            tracing::info!(error = ?error, "an image could not be pulled");
            ProgressMessage::error(&error).line()
        }
    })
}

fn pull_message(message: PullMessage) -> ProgressMessage {
    match message {
        PullMessage::Begun { repository, tag } => {
            ProgressMessage { id: Some(tag), ..ProgressMessage::status(format!("Pulling from {repository}")) }
        }
        PullMessage::Layer { id, step } => match step {
            PullStep::Queued => ProgressMessage::layer(id, "Pulling fs layer"),
            PullStep::Waiting => ProgressMessage::layer(id, "Waiting"),
            PullStep::Downloading { current, total } => ProgressMessage::counted(id, "Downloading", current, total),
            PullStep::Retrying { seconds } => ProgressMessage::layer(id, retrying(seconds)),
            PullStep::Downloaded => ProgressMessage::layer(id, "Download complete"),
            PullStep::Extracting { seconds } => ProgressMessage {
                id: Some(id),
                progress_detail: Some(ProgressDetail::seconds(seconds)),
                progress: Some(format!("{seconds} s")),
                ..ProgressMessage::status("Extracting")
            },
            PullStep::Complete => ProgressMessage::layer(id, "Pull complete"),
            PullStep::Exists => ProgressMessage::layer(id, "Already exists"),
        },
        PullMessage::Digest(digest) => ProgressMessage::status(format!("Digest: {digest}")),
        PullMessage::Done { shown, newer: true } => {
            ProgressMessage::status(format!("Status: Downloaded newer image for {shown}"))
        }
        PullMessage::Done { shown, newer: false } => {
            ProgressMessage::status(format!("Status: Image is up to date for {shown}"))
        }
    }
}

/// The lines of a push.
pub fn push_lines(pushing: BoxStream<gantry_domain::Result<PushMessage>>) -> impl Stream<Item = Bytes> + Send {
    pushing.flat_map(|message| {
        let messages = match message {
            Ok(message) => push_messages(message),
            Err(error) => {
                tracing::info!(error = ?error, "an image could not be pushed");
                vec![ProgressMessage::error(&error)]
            }
        };
        futures::stream::iter(messages.into_iter().map(|message| message.line()).collect::<Vec<_>>())
    })
}

fn push_messages(message: PushMessage) -> Vec<ProgressMessage> {
    let one = match message {
        PushMessage::Begun { repository } => {
            ProgressMessage::status(format!("The push refers to repository [{repository}]"))
        }
        PushMessage::Layer { id, step } => match step {
            PushStep::Preparing => ProgressMessage::layer(id, "Preparing"),
            PushStep::Waiting => ProgressMessage::layer(id, "Waiting"),
            PushStep::Pushing { current, total } => ProgressMessage::counted(id, "Pushing", current, total),
            PushStep::Retrying { seconds } => ProgressMessage::layer(id, retrying(seconds)),
            PushStep::Pushed => ProgressMessage::layer(id, "Pushed"),
            PushStep::Exists => ProgressMessage::layer(id, "Layer already exists"),
            PushStep::Mounted { from } => ProgressMessage::layer(id, format!("Mounted from {from}")),
        },
        PushMessage::Instead { index, manifest } => ProgressMessage::aux(Aux::Instead {
            manifest_pushed_instead_of_index: true,
            original_index: index,
            selected_manifest: manifest,
        }),
        PushMessage::Missing { target } => ProgressMessage::aux(Aux::Missing { content_missing: true, desc: target }),
        PushMessage::Pushed { tag, digest, size } => {
            let digest = digest.to_string();
            return vec![
                ProgressMessage::status(format!("{tag}: digest: {digest} size: {size}")),
                ProgressMessage::aux(Aux::Pushed { tag, digest, size }),
            ];
        }
    };
    vec![one]
}

fn retrying(seconds: u64) -> String {
    format!("Retrying in {seconds} second{}", if seconds == 1 { "" } else { "s" })
}

/// `[=====>      ]  1.2MB/3MB`, as Docker draws it.
fn bar(current: u64, total: u64) -> String {
    let size = |bytes: u64| human_size(bytes as f64);
    if total == 0 || current > total {
        return format!("{:>8}", size(current));
    }
    let half = (current * 50 / total) as usize;
    format!("[{}>{}] {:>8}/{}", "=".repeat(half), " ".repeat(50 - half), size(current), size(total))
}

/// `HumanSize` of go-units: powers of a thousand, four significant digits.
fn human_size(mut bytes: f64) -> String {
    const UNITS: [&str; 6] = ["B", "kB", "MB", "GB", "TB", "PB"];
    let mut unit = 0;
    while bytes >= 1000.0 && unit + 1 < UNITS.len() {
        bytes /= 1000.0;
        unit += 1;
    }
    let decimals = if bytes >= 1000.0 {
        0
    } else if bytes >= 100.0 {
        1
    } else if bytes >= 10.0 {
        2
    } else {
        3
    };
    let text = format!("{bytes:.decimals$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use gantry_domain::Digest;

    use super::*;

    fn text(message: PullMessage) -> String {
        String::from_utf8(pull_message(message).line().to_vec()).unwrap()
    }

    #[test]
    fn lines_of_a_pull_are_dockers() {
        let layer = |step| text(PullMessage::Layer { id: "abc".into(), step });
        assert_eq!(
            text(PullMessage::Begun { repository: "library/busybox".into(), tag: "latest".into() }),
            "{\"status\":\"Pulling from library/busybox\",\"id\":\"latest\"}\r\n"
        );
        assert_eq!(
            layer(PullStep::Queued),
            "{\"status\":\"Pulling fs layer\",\"progressDetail\":{},\"id\":\"abc\"}\r\n"
        );
        let bar = format!("[{}>{}]  1.235MB/2.469MB", "=".repeat(25), " ".repeat(25));
        assert_eq!(
            layer(PullStep::Downloading { current: 1_234_567, total: 2_469_134 }),
            format!(
                "{{\"status\":\"Downloading\",\"progressDetail\":{{\"current\":1234567,\"total\":2469134}},\
                 \"progress\":\"{bar}\",\"id\":\"abc\"}}\r\n"
            )
        );
        assert_eq!(
            layer(PullStep::Extracting { seconds: 2 }),
            "{\"status\":\"Extracting\",\"progressDetail\":{\"current\":2,\"units\":\"s\"},\"progress\":\"2 s\",\
             \"id\":\"abc\"}\r\n"
        );
        assert!(layer(PullStep::Retrying { seconds: 1 }).contains("Retrying in 1 second\""));
        let done = |newer| text(PullMessage::Done { shown: "a:1".into(), newer });
        assert_eq!(done(true), "{\"status\":\"Status: Downloaded newer image for a:1\"}\r\n");
        assert_eq!(done(false), "{\"status\":\"Status: Image is up to date for a:1\"}\r\n");
    }

    #[test]
    fn a_push_ends_with_a_line_for_people_and_one_for_machines() {
        let digest = Digest::from_sha256(&[1; 32]);
        let lines = push_messages(PushMessage::Pushed { tag: "t".into(), digest: digest.clone(), size: 5 });
        let lines: Vec<_> = lines.iter().map(|line| String::from_utf8(line.line().to_vec()).unwrap()).collect();
        assert_eq!(lines[0], format!("{{\"status\":\"t: digest: {digest} size: 5\"}}\r\n"));
        assert_eq!(lines[1], format!("{{\"aux\":{{\"Tag\":\"t\",\"Digest\":\"{digest}\",\"Size\":5}}}}\r\n"));
    }

    #[test]
    fn sizes_have_four_digits() {
        for (bytes, text) in [(0.0, "0B"), (999.0, "999B"), (1000.0, "1kB"), (1_234_567.0, "1.235MB"), (2.5e9, "2.5GB")]
        {
            assert_eq!(human_size(bytes), text);
        }
    }
}
