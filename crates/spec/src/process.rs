//! The process: arguments, environment, user, capabilities, limits.

use gantry_domain::{
    Error, Result,
    container::{
        ContainerRecord, HostConfig,
        host_config::Ulimit,
        security::{self, DEFAULT_APPARMOR_PROFILE, SecurityOptions},
        user::User,
        validate::mounts::clean,
    },
    ports::Facts,
    settings::Settings,
};
use serde_json::{Value, json};

use crate::{ExecInput, SpecInput, mounts::INIT};

const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

pub(crate) fn of_container(input: &SpecInput<'_>, security: &SecurityOptions) -> Result<Value> {
    let (record, config) = (input.record, &input.record.config);
    let mut args = Vec::new();
    if input.init_path.is_some() {
        args.extend([INIT.to_owned(), "--".to_owned()]);
    }
    args.push(record.path.clone());
    args.extend(record.args.iter().cloned());
    let env = environment(record, config.tty, input.env_extra, &[], &input.user.home);
    let parts = Parts {
        host: &record.host_config,
        settings: input.settings,
        facts: input.facts,
        user: input.user,
        security,
        privileged: record.host_config.privileged,
    };
    let mut process = parts.process(args, env, config.tty, &config.working_dir)?;
    set_label(&mut process, record);
    process["oomScoreAdj"] = json!(record.host_config.oom_score_adj);
    set_console_size(&mut process, config.tty, record.host_config.console_size);
    Ok(process)
}

pub(crate) fn of_exec(input: &ExecInput<'_>) -> Result<Value> {
    let (record, exec) = (input.record, input.exec);
    let security = SecurityOptions::parse(record.host_config.security_opt.as_deref().unwrap_or_default())?;
    let env = environment(record, exec.tty, input.env_extra, exec.env.as_deref().unwrap_or_default(), &input.user.home);
    let cwd = if exec.working_dir.is_empty() { &record.config.working_dir } else { &exec.working_dir };
    let args = exec.cmd.clone().filter(|cmd| !cmd.is_empty());
    let args = args.ok_or_else(|| Error::invalid("No exec command specified"))?;
    let parts = Parts {
        host: &record.host_config,
        settings: input.settings,
        facts: input.facts,
        user: input.user,
        security: &security,
        privileged: exec.privileged || record.host_config.privileged,
    };
    let mut process = parts.process(args, env, exec.tty, cwd)?;
    set_label(&mut process, record);
    set_console_size(&mut process, exec.tty, exec.console_size.unwrap_or_default());
    Ok(process)
}

/// What the process of a container and that of an exec have in common.
struct Parts<'a> {
    host: &'a HostConfig,
    settings: &'a Settings,
    facts: &'a Facts,
    user: &'a User,
    security: &'a SecurityOptions,
    privileged: bool,
}

impl Parts<'_> {
    fn process(&self, args: Vec<String>, env: Vec<String>, tty: bool, cwd: &str) -> Result<Value> {
        let mut process = json!({
            "terminal": tty,
            "user": {
                "uid": self.user.uid,
                "gid": self.user.gid,
                "additionalGids": self.user.additional_gids,
            },
            "args": args,
            "env": env,
            // A relative directory of an image counts from the root; none climbs above it.
            "cwd": clean(cwd),
            "capabilities": self.capabilities()?,
            "noNewPrivileges": self.security.no_new_privileges.unwrap_or(self.settings.no_new_privileges),
        });
        let limits = rlimits(self.host, self.settings);
        if !limits.is_empty() {
            process["rlimits"] = json!(limits);
        }
        if self.facts.apparmor {
            // An exec has its container's, privileged or not.
            let profile = self.security.apparmor_profile(self.host.privileged);
            if self.facts.apparmor_default || profile != DEFAULT_APPARMOR_PROFILE {
                process["apparmorProfile"] = json!(profile);
            }
        }
        Ok(process)
    }

    /// Inheritable and ambient stay empty (T23). A user other than root starts with none in force and may gain those
    /// of the bounding set from files.
    fn capabilities(&self) -> Result<Value> {
        let caps = capabilities(self.host, self.facts, self.privileged)?;
        Ok(match self.user.uid {
            0 => json!({ "bounding": caps, "effective": caps, "permitted": caps }),
            _ => json!({ "bounding": caps }),
        })
    }
}

/// "All" means all that the engine itself may give away; the kernel refuses the start for one more.
pub(crate) fn capabilities(host: &HostConfig, facts: &Facts, privileged: bool) -> Result<Vec<&'static str>> {
    let list = |caps: &Option<Vec<String>>| caps.clone().unwrap_or_default();
    let mut caps = security::capabilities(&list(&host.cap_add), &list(&host.cap_drop), privileged)?;
    let all = host.cap_add.iter().flatten().any(|name| name.eq_ignore_ascii_case("all"));
    if privileged || all {
        caps.retain(|capability| security::can_give(capability, facts.capabilities));
    }
    Ok(caps)
}

/// dockerd's order: its own first, then the container's, then the exec's, each replacing in place what has its name.
/// A variable without `=` takes one away. `HOME` comes last, unless it is there.
fn environment(record: &ContainerRecord, tty: bool, extra: &[String], exec: &[String], home: &str) -> Vec<String> {
    let mut env = vec![DEFAULT_PATH.to_owned(), format!("HOSTNAME={}", record.config.hostname)];
    if tty {
        env.push("TERM=xterm".into());
    }
    env.extend(extra.iter().cloned());
    for variable in record.config.env.iter().flatten().chain(exec) {
        let name = variable.split_once('=').map_or(variable.as_str(), |(name, _)| name);
        let at = env.iter().position(|other| other.split_once('=').is_some_and(|(key, _)| key == name));
        match (at, variable.contains('=')) {
            (Some(at), true) => env[at].clone_from(variable),
            (Some(at), false) => drop(env.remove(at)),
            (None, true) => env.push(variable.clone()),
            (None, false) => {}
        }
    }
    if !env.iter().any(|variable| variable.starts_with("HOME=")) {
        env.push(format!("HOME={home}"));
    }
    env
}

/// The container's own, then the engine's defaults that it does not name.
fn rlimits(host: &HostConfig, settings: &Settings) -> Vec<Value> {
    let own: Vec<&Ulimit> = host.ulimits.iter().flatten().collect();
    let defaults = settings.default_ulimits.iter().filter(|(name, _)| !own.iter().any(|limit| limit.name == **name));
    let all = own.iter().map(|limit| (&limit.name, *limit)).chain(defaults);
    let entry = |(name, limit): (&String, &Ulimit)| {
        // -1 is no limit: all bits set.
        json!({
            "type": format!("RLIMIT_{}", name.to_ascii_uppercase()),
            "hard": limit.hard.cast_unsigned(),
            "soft": limit.soft.cast_unsigned(),
        })
    };
    all.map(entry).collect()
}

/// An exec has its container's, privileged or not.
fn set_label(process: &mut Value, record: &ContainerRecord) {
    if !record.process_label.is_empty() {
        process["selinuxLabel"] = json!(record.process_label);
    }
}

fn set_console_size(process: &mut Value, tty: bool, [height, width]: [u32; 2]) {
    if tty && (height, width) != (0, 0) {
        process["consoleSize"] = json!({ "height": height, "width": width });
    }
}
