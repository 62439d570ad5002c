//! Extra attributes of a container's log entries: `labels`, `labels-regex`, `env`, `env-regex` and `tag`.

use std::collections::BTreeMap;

use regex::Regex;

use super::ContainerRecord;
use crate::{Error, Result};

/// The tag where none is asked for.
const DEFAULT_TAG: &str = "{{.ID}}";

/// What `--log-opt` asks to be written with each entry. `InvalidParameter` for a bad pattern or tag.
pub fn attributes(record: &ContainerRecord) -> Result<BTreeMap<String, String>> {
    let mut found = chosen(record)?;
    if option(record, "tag").is_some() {
        found.insert("tag".to_owned(), tag(record)?);
    }
    Ok(found)
}

/// The tag, rendered. `InvalidParameter` for a template that is not one of dockerd's.
pub fn tag(record: &ContainerRecord) -> Result<String> {
    render(option(record, "tag").unwrap_or(DEFAULT_TAG), record)
}

fn option<'a>(record: &'a ContainerRecord, key: &str) -> Option<&'a str> {
    let options = record.host_config.log_config.config.as_ref();
    options.and_then(|options| options.get(key)).map(String::as_str).filter(|text| !text.is_empty())
}

/// The labels and variables that are asked for.
pub fn chosen(record: &ContainerRecord) -> Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    let labels = record.config.labels.clone().unwrap_or_default();
    let env: BTreeMap<String, String> = record.config.env.iter().flatten().filter_map(|entry| pair(entry)).collect();
    for (source, names, pattern) in [(&labels, "labels", "labels-regex"), (&env, "env", "env-regex")] {
        let listed: Vec<&str> = option(record, names).map(|list| list.split(',').collect()).unwrap_or_default();
        let pattern = option(record, pattern).map(compile).transpose()?;
        let chosen = |key: &str| listed.contains(&key) || pattern.as_ref().is_some_and(|pattern| pattern.is_match(key));
        found.extend(source.iter().filter(|(key, _)| chosen(key)).map(|(key, value)| (key.clone(), value.clone())));
    }
    Ok(found)
}

fn pair(entry: &str) -> Option<(String, String)> {
    entry.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()))
}

fn compile(pattern: &str) -> Result<Regex> {
    Regex::new(pattern).map_err(|error| Error::invalid(format!("error parsing regexp: {error}")))
}

/// `{{.Name}}`, `{{.ID}}`, … as dockerd's tag templates have them.
fn render(template: &str, record: &ContainerRecord) -> Result<String> {
    let mut rendered = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        let (expression, after) = after
            .split_once("}}")
            .ok_or_else(|| Error::invalid(format!("invalid log tag: unclosed action in {template:?}")))?;
        rendered.push_str(before);
        rendered.push_str(&field(expression.trim(), record)?);
        rest = after;
    }
    rendered.push_str(rest);
    Ok(rendered)
}

fn field(expression: &str, record: &ContainerRecord) -> Result<String> {
    let image = record.image.id.as_ref();
    Ok(match expression {
        ".ID" => record.id.short().to_owned(),
        ".FullID" => record.id.to_string(),
        ".Name" => record.name.clone(),
        ".ImageID" => image.map(|image| image.short().to_owned()).unwrap_or_default(),
        ".ImageFullID" => image.map(ToString::to_string).unwrap_or_default(),
        ".ImageName" => record.config.image.clone(),
        ".DaemonName" => "gantry".to_owned(),
        _ => return Err(Error::invalid(format!("invalid log tag: {{{{{expression}}}}} is not known"))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(options: &[(&str, &str)]) -> ContainerRecord {
        let mut record = ContainerRecord { name: "web".into(), ..ContainerRecord::default() };
        record.config.labels = Some(BTreeMap::from([("app".into(), "x".into()), ("tier".into(), "y".into())]));
        record.config.env = Some(vec!["A=1".into(), "AB=2".into(), "C=3".into()]);
        record.host_config.log_config.config =
            Some(options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect());
        record
    }

    #[test]
    fn only_what_is_named_is_written() {
        let found = attributes(&record(&[("labels", "app"), ("env-regex", "^A")])).expect("well formed");
        assert_eq!(
            found.into_iter().collect::<Vec<_>>(),
            [("A".into(), "1".into()), ("AB".into(), "2".into()), ("app".into(), "x".into())]
        );
    }

    #[test]
    fn a_tag_is_rendered() {
        let found = attributes(&record(&[("tag", "{{.Name}}/{{.ID}}")])).expect("well formed");
        assert_eq!(found["tag"], "web/000000000000");
        assert!(attributes(&record(&[("tag", "{{.Nope}}")])).is_err());
    }
}
