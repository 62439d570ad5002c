//! Dockerfile instructions that import and commit take as `changes`.

use std::collections::BTreeMap;

use super::ImageRunConfig;
use crate::{Error, Result, container::config::Empty};

/// Applies one instruction: CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, ONBUILD, STOPSIGNAL, USER, VOLUME, WORKDIR.
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
        "CMD" => config.cmd = Some(command(rest)),
        "ENTRYPOINT" => config.entrypoint = Some(command(rest)),
        "ENV" => {
            let env = config.env.get_or_insert_default();
            for (key, value) in pairs(rest)? {
                let prefix = format!("{key}=");
                env.retain(|known| !known.starts_with(&prefix));
                env.push(format!("{key}={value}"));
            }
        }
        "EXPOSE" => {
            for word in words(rest)? {
                let (_, _, protocol) = crate::container::port::parse_port(&word)?;
                let port = word.split('/').next().unwrap_or_default();
                config.exposed_ports.get_or_insert_default().insert(format!("{port}/{}", protocol.as_str()), Empty {});
            }
        }
        "LABEL" => config.labels.get_or_insert_default().extend(pairs(rest)?),
        "ONBUILD" => config.on_build.get_or_insert_default().push(rest.to_owned()),
        "STOPSIGNAL" => {
            crate::signal::parse(rest)?;
            rest.clone_into(&mut config.stop_signal);
        }
        "USER" => rest.clone_into(&mut config.user),
        "VOLUME" => {
            let list = exec_form(rest).map_or_else(|| words(rest), Ok)?;
            config.volumes.get_or_insert_default().extend(list.into_iter().map(|path| (path, Empty {})));
        }
        "WORKDIR" => config.working_dir = join(&config.working_dir, rest),
        _ => return Err(Error::invalid(format!("{upper} is not a valid change command"))),
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
fn pairs(text: &str) -> Result<BTreeMap<String, String>> {
    let words = words(text)?;
    if !words.first().is_some_and(|word| word.contains('=')) {
        let (key, value) = text
            .split_once(char::is_whitespace)
            .ok_or_else(|| Error::invalid(format!("{text} must have two arguments")))?;
        return Ok(BTreeMap::from([(key.to_owned(), value.trim().to_owned())]));
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

/// Words with quotes and backslashes taken as a shell takes them.
fn words(text: &str) -> Result<Vec<String>> {
    let (mut words, mut word, mut quote, mut started) = (Vec::new(), String::new(), None, false);
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        match (c, quote) {
            ('\\', None | Some('"')) => {
                word.extend(characters.next());
                started = true;
            }
            (c, Some(open)) if c == open => quote = None,
            ('"' | '\'', None) => (quote, started) = (Some(c), true),
            (c, None) if c.is_whitespace() => {
                if started {
                    words.push(std::mem::take(&mut word));
                    started = false;
                }
            }
            (c, _) => {
                word.push(c);
                started = true;
            }
        }
    }
    if quote.is_some() {
        return Err(Error::invalid("unexpected end of statement while looking for matching quote"));
    }
    if started {
        words.push(word);
    }
    Ok(words)
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
        assert_eq!(config.env, Some(vec!["B=x y".into(), "A=2".into()]));
        assert_eq!(config.working_dir, "/w/x");
        assert_eq!(config.labels.expect("set")["k"], "v w");
    }

    #[test]
    fn other_instructions_are_refused() {
        let error = apply(&mut ImageRunConfig::default(), "RUN true").expect_err("refused");
        assert_eq!(error.message(), "RUN is not a valid change command");
    }
}
