//! gantryd's own log: lines on stderr as dockerd writes them, in text or JSON, with a level that SIGHUP can change.

use std::{fmt::Write as _, io::Write as _};

use serde_json::{Map, Value};
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
    level_filters::LevelFilter,
};
use tracing_subscriber::{
    Layer, Registry,
    filter::Targets,
    layer::{Context, SubscriberExt},
    registry::LookupSpan,
    reload,
    util::SubscriberInitExt,
};

use crate::config::{LogFormat, LogLevel};

/// Changes the level of a log that runs.
pub struct Log {
    filter: reload::Handle<Targets, Registry>,
}

/// Starts the log of this process; once.
pub fn start(level: LogLevel, format: LogFormat) -> anyhow::Result<Log> {
    let (filter, handle) = reload::Layer::new(targets(level));
    tracing_subscriber::registry().with(filter).with(Lines { format }).try_init()?;
    Ok(Log { filter: handle })
}

impl Log {
    pub fn set_level(&self, level: LogLevel) {
        // Fails only where the subscriber is gone, and it lives as long as the process.
        let _ = self.filter.reload(targets(level));
    }
}

/// What other crates say at `debug` drowns what we say; `trace` is for all.
fn targets(level: LogLevel) -> Targets {
    let ours = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let others = if level == LogLevel::Trace { LevelFilter::TRACE } else { ours.min(LevelFilter::WARN) };
    // Every crate of ours begins with this, and so does the program.
    Targets::new().with_default(others).with_target("gantry", ours)
}

/// Writes one line for each event.
struct Lines {
    format: LogFormat,
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let at = jiff::Timestamp::now();
        let level = name(*event.metadata().level());
        let line = match self.format {
            LogFormat::Text => text(&format!("{at:.9}"), level, &fields),
            LogFormat::Json => json(&format!("{at:.9}"), level, fields),
        };
        // A log that cannot be written is nobody's error.
        let _ = std::io::stderr().lock().write_all(line.as_bytes());
    }
}

/// dockerd's names.
fn name(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warning",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

fn text(at: &str, level: &str, fields: &Fields) -> String {
    let mut line = format!("time=\"{at}\" level={level} msg={}", quoted(&fields.message));
    for (key, value) in &fields.others {
        let value = match value {
            Value::String(text) if is_bare(text) => text.clone(),
            Value::String(text) => quoted(text),
            other => other.to_string(),
        };
        // Writing to a string cannot fail.
        let _ = write!(line, " {key}={value}");
    }
    line.push('\n');
    line
}

fn json(at: &str, level: &str, fields: Fields) -> String {
    let mut object = fields.others;
    object.insert("level".into(), level.into());
    object.insert("msg".into(), fields.message.into());
    object.insert("time".into(), at.into());
    format!("{}\n", Value::Object(object))
}

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

fn is_bare(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._/@^+:".contains(&b))
}

#[derive(Default)]
struct Fields {
    message: String,
    others: Map<String, Value>,
}

impl Fields {
    fn set(&mut self, field: &Field, value: Value) {
        // Events of crates that use `log` carry where they come from; their message is enough.
        if !field.name().starts_with("log.") {
            self.others.insert(field.name().to_owned(), value);
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            self.message = format!("{value:?}");
        } else {
            self.set(field, format!("{value:?}").into());
        }
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.message = value.to_owned();
        } else {
            self.set(field, value.into());
        }
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.set(field, value.into());
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.set(field, value.into());
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.set(field, value.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields() -> Fields {
        let mut others = Map::new();
        others.insert("id".into(), "abc".into());
        others.insert("why".into(), "two words \"quoted\"\n".into());
        others.insert("count".into(), 3.into());
        Fields { message: "it is so".into(), others }
    }

    #[test]
    fn a_text_line_is_one_line_that_can_be_split() {
        assert_eq!(
            text("T", "info", &fields()),
            "time=\"T\" level=info msg=\"it is so\" count=3 id=abc why=\"two words \\\"quoted\\\"\\n\"\n"
        );
    }

    #[test]
    fn a_json_line_is_one_object() {
        let value: Value = serde_json::from_str(&json("T", "warning", fields())).expect("JSON");
        assert_eq!(
            (&value["msg"], &value["level"], &value["count"]),
            (&"it is so".into(), &"warning".into(), &3.into())
        );
    }
}
