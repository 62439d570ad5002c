//! SIGHUP: everything is read and checked first; then what can change changes at once, and the rest is named.

use super::{Config, Environment, build, changed, file, merge::merged};
use crate::{
    cli::CommandLine,
    options::{Reload, by_key},
};

/// What a reload comes to.
#[derive(Debug)]
pub struct Reloaded {
    /// The configuration from now on: the new values, but for those that need a restart.
    pub config: Config,
    /// Keys that changed now.
    pub changed: Vec<&'static str>,
    /// Keys that changed, but only for containers that are made from now on.
    pub for_new_containers: Vec<&'static str>,
    /// Keys that will change with the next start.
    pub waiting: Vec<&'static str>,
}

/// Reads the file again. On an error nothing has changed.
pub fn reload(current: &Config, line: &CommandLine, environment: &Environment) -> Result<Reloaded, String> {
    let wanted = merged(&line.given, file::read(line)?);
    // The whole of what is wanted has to be right, also what waits for the restart.
    build(wanted.clone(), environment).map_err(|why| file::merged(line, why))?;

    let of_class = |class: Reload| {
        let mut keys = changed(&current.given, &wanted);
        keys.retain(|key| by_key(key).is_some_and(|row| row.reload == class));
        keys
    };
    let waiting = of_class(Reload::Restart);
    let mut given = wanted.clone();
    for key in &waiting {
        match current.given.get(key) {
            Some(value) => given.insert(key, value.clone()),
            None => given.remove(key),
        };
    }
    Ok(Reloaded {
        config: build(given, environment)?,
        changed: of_class(Reload::Live),
        for_new_containers: of_class(Reload::NewContainers),
        waiting,
    })
}
