//! Dockerfile instructions that import and commit take as `changes`.

mod healthcheck;
mod words;

use self::words::{expand, words};
use super::ImageRunConfig;
use crate::{Error, Result, container::config::Empty};

/// Applies instructions in their order, one a line. An entrypoint without a command of these instructions drops the
/// command that was there, which belongs to another entrypoint.
pub fn apply_all(config: &mut ImageRunConfig, changes: &[String]) -> Result<()> {
    let mut has_command = false;
    for change in changes.iter().flat_map(|text| text.lines()).map(str::trim) {
        if change.is_empty() || change.starts_with('#') {
            continue;
        }
        apply(config, change)?;
        let instruction = change.split_whitespace().next().unwrap_or_default();
        has_command |= instruction.eq_ignore_ascii_case("CMD");
        if instruction.eq_ignore_ascii_case("ENTRYPOINT") && !has_command {
            config.cmd = None;
        }
    }
    Ok(())
}

/// Applies one instruction: CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, STOPSIGNAL, USER, VOLUME, WORKDIR.
/// `InvalidParameter` for any other, in dockerd's words.
pub fn apply(config: &mut ImageRunConfig, change: &str) -> Result<()> {
    let change = change.trim();
    let (instruction, rest) = change.split_once(char::is_whitespace).unwrap_or((change, ""));
    let rest = rest.trim();
    let upper = instruction.to_ascii_uppercase();
    if rest.is_empty() {
        return Err(Error::invalid(format!("{upper} requires at least one argument")));
    }
    match upper.as_str() {
        "HEALTHCHECK" => config.healthcheck = Some(healthcheck::parse(rest)?),
        "CMD" => config.cmd = Some(command(rest)),
        "ENTRYPOINT" => config.entrypoint = Some(command(rest)),
        "ENV" => {
            let set = pairs(rest, env_of(config))?;
            let env = config.env.get_or_insert_default();
            for (key, value) in set {
                let prefix = format!("{key}=");
                let set = format!("{prefix}{value}");
                match env.iter_mut().find(|known| known.starts_with(&prefix)) {
                    Some(known) => *known = set,
                    None => env.push(set),
                }
            }
        }
        "EXPOSE" => {
            for word in words(rest, env_of(config))? {
                let (_, _, protocol) = crate::container::port::parse_port(&word)?;
                let port = word.split('/').next().unwrap_or_default();
                config.exposed_ports.get_or_insert_default().insert(format!("{port}/{}", protocol.as_str()), Empty {});
            }
        }
        "LABEL" => {
            let set = pairs(rest, env_of(config))?;
            config.labels.get_or_insert_default().extend(set);
        }
        "ONBUILD" => config.on_build.get_or_insert_default().push(rest.to_owned()),
        "STOPSIGNAL" => {
            let signal = expand(rest, env_of(config))?;
            crate::signal::parse(&signal)?;
            config.stop_signal = signal;
        }
        "USER" => config.user = expand(rest, env_of(config))?,
        "VOLUME" => {
            let list = exec_form(rest).map_or_else(|| words(rest, env_of(config)), Ok)?;
            config.volumes.get_or_insert_default().extend(list.into_iter().map(|path| (path, Empty {})));
        }
        "WORKDIR" => config.working_dir = join(&config.working_dir, &expand(rest, env_of(config))?),
        _ => return Err(Error::invalid(format!("{instruction} is not a valid change command"))),
    }
    Ok(())
}

/// The `config` member of an image's config blob, with only what is set.
pub fn as_json(config: &ImageRunConfig) -> serde_json::Value {
    let value = serde_json::to_value(config).unwrap_or_default();
    let is_set = |value: &serde_json::Value| {
        !(value.is_null() || *value == serde_json::Value::Bool(false) || value.as_str().is_some_and(str::is_empty))
    };
    match value {
        serde_json::Value::Object(members) => members.into_iter().filter(|(_, value)| is_set(value)).collect(),
        other => other,
    }
}

fn env_of(config: &ImageRunConfig) -> &[String] {
    config.env.as_deref().unwrap_or_default()
}

fn exec_form(text: &str) -> Option<Vec<String>> {
    serde_json::from_str(text).ok()
}

/// The exec form as it is, the shell form under `/bin/sh -c`.
fn command(text: &str) -> Vec<String> {
    exec_form(text).unwrap_or_else(|| vec!["/bin/sh".into(), "-c".into(), text.into()])
}

fn join(base: &str, path: &str) -> String {
    if path.starts_with('/') {
        return path.to_owned();
    }
    format!("{}/{path}", base.trim_end_matches('/'))
}

/// `k=v k2="v 2"`, or the old form `k v`.
fn pairs(text: &str, env: &[String]) -> Result<Vec<(String, String)>> {
    let words = words(text, env)?;
    if !words.first().is_some_and(|word| word.contains('=')) {
        let (key, value) = text
            .split_once(char::is_whitespace)
            .ok_or_else(|| Error::invalid(format!("{text} must have two arguments")))?;
        return Ok(vec![(key.to_owned(), expand(value.trim(), env)?)]);
    }
    words
        .into_iter()
        .map(|word| match word.split_once('=') {
            Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
            _ => Err(Error::invalid(format!(
                "Syntax error - can't find = in \"{word}\". Must be of the form: name=value"
            ))),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_change_the_config() {
        let mut config = ImageRunConfig::default();
        for change in [
            "CMD [\"a\",\"b\"]",
            "ENTRYPOINT run it",
            "ENV A=1 B=\"x y\"",
            "ENV A 2",
            "WORKDIR /w",
            "WORKDIR x",
            "LABEL k='v w'",
        ] {
            apply(&mut config, change).expect(change);
        }
        assert_eq!(config.cmd, Some(vec!["a".into(), "b".into()]));
        assert_eq!(config.entrypoint, Some(vec!["/bin/sh".into(), "-c".into(), "run it".into()]));
        assert_eq!(config.env, Some(vec!["A=2".into(), "B=x y".into()]));
        assert_eq!(config.working_dir, "/w/x");
        assert_eq!(config.labels.expect("set")["k"], "v w");
    }

    #[test]
    fn other_instructions_are_refused() {
        let error = apply(&mut ImageRunConfig::default(), "RUN true").expect_err("refused");
        assert_eq!(error.message(), "RUN is not a valid change command");
    }

    #[test]
    fn variables_are_those_of_the_image_and_of_the_instructions_before() {
        let mut config = ImageRunConfig { env: Some(vec!["PATH=/bin".into()]), ..ImageRunConfig::default() };
        let changes = ["ENV PATH=$PATH:/x A=1", "ENV B=${A}2 C='$A' D=${NONE:-other}\nUSER u$A", "WORKDIR /$A"];
        apply_all(&mut config, &changes.map(str::to_owned)).expect("valid");
        assert_eq!(config.env.expect("set"), ["PATH=/bin:/x", "A=1", "B=12", "C=$A", "D=other"]);
        assert_eq!((config.user.as_str(), config.working_dir.as_str()), ("u1", "/1"));
    }

    #[test]
    fn an_entrypoint_drops_the_command_unless_one_was_given() {
        let with = |changes: &[&str]| {
            let mut config = ImageRunConfig { cmd: Some(vec!["old".into()]), ..ImageRunConfig::default() };
            let changes: Vec<String> = changes.iter().map(|change| (*change).to_owned()).collect();
            apply_all(&mut config, &changes).expect("valid");
            config.cmd
        };
        assert_eq!(with(&["ENTRYPOINT [\"e\"]"]), None);
        assert_eq!(with(&["CMD [\"c\"]", "ENTRYPOINT [\"e\"]"]), Some(vec!["c".into()]));
        assert_eq!(with(&["USER u"]), Some(vec!["old".into()]));
    }
}
