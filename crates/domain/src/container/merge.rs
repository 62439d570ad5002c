//! How an image's config fills what a request left open (dockerd's `merge`).

use std::collections::BTreeMap;

use super::{Config, HealthConfig, config::Empty, port};
use crate::{Error, Result, image::ImageRunConfig};

/// Fills `config` from the image. `InvalidParameter` for a malformed exposed port of the image, and
/// `no command specified` where neither names a program.
pub fn merge(config: &mut Config, image: &ImageRunConfig) -> Result<()> {
    if config.user.is_empty() {
        config.user.clone_from(&image.user);
    }
    for exposed in image.exposed_ports.iter().flat_map(BTreeMap::keys) {
        port::parse_port(exposed)?;
        config.exposed_ports.entry(exposed.clone()).or_insert(Empty {});
    }
    merge_env(config, image.env.as_deref().unwrap_or_default());
    merge_labels(config, image.labels.as_ref());
    merge_command(config, image);
    merge_health(config, image.healthcheck.as_ref());
    if config.working_dir.is_empty() {
        config.working_dir.clone_from(&image.working_dir);
    }
    merge_volumes(config, image.volumes.as_ref());
    if config.stop_signal.is_empty() {
        config.stop_signal.clone_from(&image.stop_signal);
    }
    if config.entrypoint.as_ref().is_none_or(Vec::is_empty) && config.cmd.as_ref().is_none_or(Vec::is_empty) {
        return Err(Error::invalid("no command specified"));
    }
    Ok(())
}

fn key_of(variable: &str) -> &str {
    variable.split_once('=').map_or(variable, |(key, _)| key)
}

fn merge_env(config: &mut Config, image: &[String]) {
    let own = config.env.get_or_insert_default();
    let asked = own.len();
    for variable in image {
        if !own[..asked].iter().any(|mine| key_of(mine) == key_of(variable)) {
            own.push(variable.clone());
        }
    }
}

fn merge_labels(config: &mut Config, image: Option<&BTreeMap<String, String>>) {
    let own = config.labels.get_or_insert_default();
    for (key, value) in image.into_iter().flatten() {
        own.entry(key.clone()).or_insert_with(|| value.clone());
    }
}

/// The image's command belongs to the image's entrypoint: a caller's own entrypoint drops it. `[""]` resets.
fn merge_command(config: &mut Config, image: &ImageRunConfig) {
    if config.entrypoint.as_ref().is_none_or(Vec::is_empty) {
        if config.cmd.as_ref().is_none_or(Vec::is_empty) {
            config.cmd.clone_from(&image.cmd);
            config.args_escaped = image.args_escaped;
        }
        if config.entrypoint.is_none() {
            config.entrypoint.clone_from(&image.entrypoint);
        }
    }
    if config.entrypoint.as_deref().is_some_and(|list| list.len() == 1 && list[0].is_empty()) {
        config.entrypoint = None;
    }
}

fn merge_health(config: &mut Config, image: Option<&HealthConfig>) {
    let Some(image) = image else { return };
    let Some(own) = &mut config.healthcheck else {
        config.healthcheck = Some(image.clone());
        return;
    };
    if own.test.as_ref().is_none_or(Vec::is_empty) {
        own.test.clone_from(&image.test);
    }
    for (mine, theirs) in [
        (&mut own.interval, image.interval),
        (&mut own.timeout, image.timeout),
        (&mut own.start_period, image.start_period),
        (&mut own.start_interval, image.start_interval),
        (&mut own.retries, image.retries),
    ] {
        if *mine == 0 {
            *mine = theirs;
        }
    }
}

fn merge_volumes(config: &mut Config, image: Option<&BTreeMap<String, Empty>>) {
    let Some(image) = image.filter(|volumes| !volumes.is_empty()) else { return };
    let own = config.volumes.get_or_insert_default();
    own.extend(image.keys().map(|path| (path.clone(), Empty {})));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn list(words: &[&str]) -> Option<Vec<String>> {
        Some(words.iter().map(|word| (*word).to_owned()).collect())
    }

    fn image() -> ImageRunConfig {
        ImageRunConfig {
            env: list(&["PATH=/bin", "A=image"]),
            entrypoint: list(&["/entry"]),
            cmd: list(&["serve"]),
            working_dir: "/srv".into(),
            labels: Some(BTreeMap::from([("a".into(), "image".into()), ("b".into(), "image".into())])),
            exposed_ports: Some(BTreeMap::from([("80/tcp".into(), Empty {})])),
            ..ImageRunConfig::default()
        }
    }

    #[test]
    fn what_the_request_says_wins() {
        let mut config = Config {
            env: list(&["A=mine"]),
            labels: Some(BTreeMap::from([("a".into(), "mine".into())])),
            ..Config::default()
        };
        merge(&mut config, &image()).unwrap();
        assert_eq!(config.env, list(&["A=mine", "PATH=/bin"]));
        assert_eq!(config.labels.unwrap()["a"], "mine");
        assert_eq!(config.entrypoint, list(&["/entry"]));
        assert_eq!(config.cmd, list(&["serve"]));
        assert_eq!(config.working_dir, "/srv");
        assert!(config.exposed_ports.contains_key("80/tcp"));
    }

    #[test]
    fn an_own_entrypoint_drops_the_images_command() {
        let mut config = Config { entrypoint: list(&["sh"]), ..Config::default() };
        merge(&mut config, &image()).unwrap();
        assert_eq!((config.entrypoint, config.cmd), (list(&["sh"]), None));
    }

    #[test]
    fn an_empty_word_resets_the_entrypoint() {
        let mut config = Config { entrypoint: list(&[""]), cmd: list(&["ls"]), ..Config::default() };
        merge(&mut config, &image()).unwrap();
        assert_eq!((config.entrypoint, config.cmd), (None, list(&["ls"])));
    }

    #[test]
    fn nothing_to_run_is_refused() {
        let error = merge(&mut Config::default(), &ImageRunConfig::default()).unwrap_err();
        assert_eq!(error.message(), "no command specified");
    }

    #[test]
    fn health_is_merged_by_field() {
        let mut config = Config {
            healthcheck: Some(HealthConfig { interval: 5, ..HealthConfig::default() }),
            cmd: list(&["x"]),
            ..Config::default()
        };
        let theirs = HealthConfig { test: list(&["CMD", "true"]), interval: 9, retries: 4, ..HealthConfig::default() };
        merge(&mut config, &ImageRunConfig { healthcheck: Some(theirs), ..ImageRunConfig::default() }).unwrap();
        let health = config.healthcheck.unwrap();
        assert_eq!((health.interval, health.retries, health.test), (5, 4, list(&["CMD", "true"])));
    }
}
