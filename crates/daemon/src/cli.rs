//! The command line: dockerd's flags, made from the table of options.

use std::{collections::BTreeMap, ffi::OsString, path::PathBuf};

use clap::{Arg, ArgAction, ArgMatches, Command, error::ErrorKind, parser::ValueSource};
use serde_json::Value;

use crate::options::{Kind, ROWS, Row, value};

/// Where dockerd looks, and so do we: a machine that changes from one to the other keeps its file.
pub const DEFAULT_CONFIG_FILE: &str = "/etc/docker/daemon.json";

/// What the command line asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct CommandLine {
    pub config_file: PathBuf,
    /// `--config-file` was given: then the file has to be there.
    pub config_file_named: bool,
    pub validate: bool,
    /// The options that were given, by their key in daemon.json.
    pub given: BTreeMap<&'static str, Value>,
}

/// What the program does instead of serving.
#[derive(Debug, PartialEq)]
pub enum Instead {
    /// Print this and succeed: help, version.
    Print(String),
    /// Print this as an error.
    Fail(String),
}

/// Reads the arguments; the first is the program's own name and decides nothing: started as `dockerd` it is the same.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<CommandLine, Instead> {
    let matches = command().try_get_matches_from(arguments).map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp => Instead::Print(error.render().to_string()),
        ErrorKind::UnknownArgument => Instead::Fail(unknown(&error)),
        _ => Instead::Fail(error.render().to_string().trim_start_matches("error: ").trim_end().to_owned()),
    })?;
    if matches.get_flag("version") {
        return Err(Instead::Print(format!("gantryd version {}", env!("CARGO_PKG_VERSION"))));
    }
    let mut given = BTreeMap::new();
    for row in ROWS {
        if let Some(texts) = texts(&matches, row) {
            given.insert(row.key, value::from_flags(row, &texts).map_err(Instead::Fail)?);
        }
    }
    let config_file = matches.get_one::<String>("config-file").map_or(DEFAULT_CONFIG_FILE, String::as_str);
    Ok(CommandLine {
        config_file: config_file.into(),
        config_file_named: matches.value_source("config-file") == Some(ValueSource::CommandLine),
        validate: matches.get_flag("validate"),
        given,
    })
}

fn texts(matches: &ArgMatches, row: &Row) -> Option<Vec<String>> {
    let flag = row.flag?;
    Some(matches.get_many::<String>(flag)?.cloned().collect())
}

fn unknown(error: &clap::Error) -> String {
    let argument = error.get(clap::error::ContextKind::InvalidArg).map(ToString::to_string).unwrap_or_default();
    if argument.starts_with('-') {
        format!("unknown flag: {argument}\nSee 'gantryd --help'.")
    } else {
        "\"gantryd\" accepts no arguments.\nSee 'gantryd --help'.".to_owned()
    }
}

fn command() -> Command {
    let command = Command::new("gantryd")
        .about("A container engine: Docker's API on containerd.")
        .override_usage("gantryd [OPTIONS]")
        .disable_version_flag(true)
        .arg(Arg::new("version").short('v').long("version").action(ArgAction::SetTrue).help("Print version and quit"))
        .arg(
            Arg::new("validate")
                .long("validate")
                .action(ArgAction::SetTrue)
                .help("Validate daemon configuration and exit"),
        )
        .arg(
            Arg::new("config-file")
                .long("config-file")
                .default_value(DEFAULT_CONFIG_FILE)
                .help("Daemon configuration file"),
        );
    ROWS.iter().filter_map(argument).fold(command, Command::arg)
}

fn argument(row: &Row) -> Option<Arg> {
    let flag = row.flag?;
    let argument = Arg::new(flag).long(flag).help(row.help).allow_hyphen_values(true).action(ArgAction::Append);
    let argument = match row.short {
        Some(letter) => argument.short(letter),
        None => argument,
    };
    Some(match row.kind {
        // As in Go, `--debug` and `--debug=false`, but never `--debug false`.
        Kind::Bool(_) => argument.num_args(0..=1).require_equals(true).default_missing_value("true"),
        _ => argument.num_args(1),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(arguments: &[&str]) -> Result<CommandLine, Instead> {
        super::parse(std::iter::once("dockerd").chain(arguments.iter().copied()).map(OsString::from))
    }

    #[test]
    fn clap_accepts_the_table() {
        command().debug_assert();
    }

    #[test]
    fn what_was_not_given_is_not_there() {
        let line = parse(&[]).expect("no arguments are fine");
        assert!(line.given.is_empty());
        assert_eq!((line.config_file.to_str(), line.config_file_named), (Some(DEFAULT_CONFIG_FILE), false));
    }

    #[test]
    fn flags_are_taken_as_go_takes_them() {
        let line = parse(&[
            "-D",
            "-H",
            "unix:///a.sock",
            "--host=fd://",
            "--iptables=false",
            "-G=staff",
            "-l",
            "warn",
            "--tlsverify",
            "--label",
            "a=b",
            "--label",
            "c=d",
        ])
        .expect("dockerd's flags");
        assert_eq!(line.given["debug"], json!(true));
        assert_eq!(line.given["hosts"], json!(["unix:///a.sock", "fd://"]));
        assert_eq!(line.given["iptables"], json!(false));
        assert_eq!(line.given["group"], json!("staff"));
        assert_eq!(line.given["log-level"], json!("warn"));
        assert_eq!(line.given["tlsverify"], json!(true));
        assert_eq!(line.given["labels"], json!(["a=b", "c=d"]));
    }

    #[test]
    fn the_last_of_a_repeated_single_flag_wins() {
        let line = parse(&["--mtu", "1400", "--mtu=1300", "--debug", "--debug=false"]).expect("repeated");
        assert_eq!((&line.given["mtu"], &line.given["debug"]), (&json!(1300), &json!(false)));
    }

    #[test]
    fn an_unknown_flag_is_told_in_dockerds_words() {
        let Err(Instead::Fail(text)) = parse(&["--no-such"]) else { panic!("accepted") };
        assert!(text.starts_with("unknown flag: --no-such"), "{text}");
        let Err(Instead::Fail(text)) = parse(&["daemon"]) else { panic!("accepted") };
        assert!(text.contains("accepts no arguments"), "{text}");
    }

    #[test]
    fn version_and_help_are_printed() {
        assert!(matches!(parse(&["--version"]), Err(Instead::Print(text)) if text.starts_with("gantryd version ")));
        let Err(Instead::Print(help)) = parse(&["--help"]) else { panic!("no help") };
        for flag in ["--add-runtime", "--tlsverify", "--default-ulimit", "--userns-remap", "-H, --host"] {
            assert!(help.contains(flag), "{flag}");
        }
    }
}
