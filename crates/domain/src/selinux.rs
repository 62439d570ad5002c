//! SELinux labels of containers: the policy's defaults, a level of its own for each container, and what
//! `--security-opt label=` changes of them.

use std::{collections::BTreeMap, fmt};

use rand::RngExt as _;

use crate::{Error, Result};

/// Categories of a level are below this; the last two are those of nobody's files.
const CATEGORIES: u32 = 1024;
const OPTIONS: [&str; 6] = ["disable", "type", "filetype", "user", "role", "level"];
/// What is never relabelled: the host would not work any more.
const HOSTS_OWN: &[&str] = &[
    "/",
    "/bin",
    "/boot",
    "/dev",
    "/etc",
    "/etc/passwd",
    "/etc/pki",
    "/etc/shadow",
    "/home",
    "/lib",
    "/lib64",
    "/media",
    "/opt",
    "/proc",
    "/root",
    "/run",
    "/sbin",
    "/srv",
    "/sys",
    "/tmp",
    "/usr",
    "/var",
    "/var/lib",
    "/var/log",
];

/// `user:role:type:level`; a level has colons of its own, or is missing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Context {
    pub user: String,
    pub role: String,
    pub kind: String,
    pub level: String,
}

impl Context {
    pub fn parse(label: &str) -> Result<Self> {
        let mut parts = label.splitn(4, ':').map(str::to_owned);
        match (parts.next(), parts.next(), parts.next()) {
            (Some(user), Some(role), Some(kind)) => {
                Ok(Self { user, role, kind, level: parts.next().unwrap_or_default() })
            }
            _ => Err(Error::invalid(format!("Invalid Label: {label}"))),
        }
    }
}

impl fmt::Display for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.user, self.role, self.kind)?;
        if self.level.is_empty() { Ok(()) } else { write!(f, ":{}", self.level) }
    }
}

/// What the host's policy says of containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    process: Context,
    file: Context,
}

/// Labels of a container; one without confinement has none for its processes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Labels {
    pub process: String,
    pub mount: String,
}

impl Policy {
    /// From the text of `lxc_contexts`.
    pub fn parse(text: &str) -> Result<Self> {
        let lines = text.lines().map(str::trim).filter(|line| !line.starts_with([';', '#']));
        let entries: BTreeMap<&str, &str> = lines
            .filter_map(|line| line.split_once('='))
            .map(|(key, value)| (key.trim(), value.trim().trim_matches('"')))
            .collect();
        let context = |key: &str| {
            let label = entries.get(key).ok_or_else(|| Error::invalid(format!("no label {key:?} for containers")))?;
            Context::parse(label)
        };
        Ok(Self { process: context("process")?, file: context("file")? })
    }

    /// Labels with a level that is nobody's, changed by the options of `--security-opt label=`. Errors in Docker's
    /// words.
    pub fn labels(&self, options: &[String], is_taken: &dyn Fn(&str) -> bool) -> Result<Labels> {
        let (mut process, mut file) = (self.process.clone(), self.file.clone());
        if !process.level.is_empty() {
            process.level = free_level(is_taken);
            file.level.clone_from(&process.level);
        }
        for option in options {
            if option == "disable" {
                return Ok(Labels { process: String::new(), mount: self.nobodys() });
            }
            let (key, value) = option.split_once(':').ok_or_else(|| {
                Error::invalid(format!(
                    "bad label option {option:?}, valid options 'disable' or \n'user, role, level, type, filetype' \
                     followed by ':' and a value"
                ))
            })?;
            let value = value.to_owned();
            match key {
                "filetype" => file.kind = value,
                "type" => process.kind = value,
                "role" => process.role = value,
                "user" => (process.user, file.user) = (value.clone(), value),
                "level" => (process.level, file.level) = (value.clone(), value),
                _ if OPTIONS.contains(&key) => {}
                _ => {
                    return Err(Error::invalid(format!(
                        "bad label option {key:?}, valid options 'disable, user, role, level, type, filetype'"
                    )));
                }
            }
        }
        Ok(Labels { process: process.to_string(), mount: file.to_string() })
    }

    /// For files of a container that is not confined: no confined one may use them.
    fn nobodys(&self) -> String {
        Context { level: nobodys_level(), ..self.file.clone() }.to_string()
    }
}

fn nobodys_level() -> String {
    format!("s0:c{},c{}", CATEGORIES - 2, CATEGORIES - 1)
}

fn free_level(is_taken: &dyn Fn(&str) -> bool) -> String {
    loop {
        let (one, other) = (rand::rng().random_range(0..CATEGORIES), rand::rng().random_range(0..CATEGORIES));
        let level = format!("s0:c{},c{}", one.min(other), one.max(other));
        if one != other && level != nobodys_level() && !is_taken(&level) {
            return level;
        }
    }
}

/// The level of a label, where it has one.
pub fn level(label: &str) -> Option<String> {
    Context::parse(label).ok().map(|context| context.level).filter(|level| !level.is_empty())
}

/// The options that give another container the same label.
pub fn options_of(label: &str) -> Vec<String> {
    let Ok(context) = Context::parse(label) else { return Vec::new() };
    let parts = [("user", &context.user), ("role", &context.role), ("type", &context.kind), ("level", &context.level)];
    parts.iter().filter(|(_, value)| !value.is_empty()).map(|(key, value)| format!("{key}:{value}")).collect()
}

/// The label that `z` (shared by all containers) or `Z` in a mount's mode asks for.
pub fn relabelled(mode: &str, mount_label: &str) -> Option<String> {
    let mut words = mode.split(',').filter(|word| matches!(*word, "z" | "Z"));
    let context = Context::parse(mount_label).ok()?;
    match words.next()? {
        "z" => Some(Context { level: "s0".into(), ..context }.to_string()),
        _ => Some(context.to_string()),
    }
}

/// `InvalidParameter` for a folder that the host itself lives by.
pub fn check_relabelling(path: &str, home: &str) -> Result<()> {
    let trimmed = if path == "/" { path } else { path.strip_suffix('/').unwrap_or(path) };
    if HOSTS_OWN.contains(&trimmed) || (!home.is_empty() && trimmed == home) {
        return Err(Error::invalid(format!("SELinux relabeling of {trimmed} is not allowed")));
    }
    Ok(())
}

/// The option of a mount whose files all bear the label.
pub fn mount_option(label: &str) -> String {
    // Quoted, for a level has commas.
    format!("context=\"{label}\"")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// As container-selinux installs it.
    const RECORDED: &str = "process = \"system_u:system_r:container_t:s0\"\ncontent = \"system_u:object_r:virt_var_lib_t:s0\"\n\
        file = \"system_u:object_r:container_file_t:s0\"\nro_file=\"system_u:object_r:container_ro_file_t:s0\"\n\
        # a comment = x\nsandbox_lxc_process = \"system_u:system_r:container_t:s0\"\n";

    fn policy() -> Policy {
        Policy::parse(RECORDED).unwrap()
    }

    fn labels(options: &[&str]) -> Result<Labels> {
        let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
        policy().labels(&options, &|_| false)
    }

    #[test]
    fn a_container_and_its_files_share_a_level_that_is_nobody_elses() {
        let found = labels(&[]).unwrap();
        let (process, mount) = (Context::parse(&found.process).unwrap(), Context::parse(&found.mount).unwrap());
        assert_eq!((process.kind.as_str(), mount.kind.as_str()), ("container_t", "container_file_t"));
        assert_eq!(process.level, mount.level);
        let numbers: Vec<u32> =
            process.level.strip_prefix("s0:c").unwrap().split(",c").map(|number| number.parse().unwrap()).collect();
        assert!(numbers[0] < numbers[1] && numbers[1] < 1024);
        let taken = std::cell::RefCell::new(Vec::new());
        let free = policy().labels(&[], &|level| {
            taken.borrow_mut().push(level.to_owned());
            taken.borrow().len() < 4
        });
        assert_eq!(level(&free.unwrap().process).as_ref(), taken.borrow().last(), "taken ones are passed over");
    }

    #[test]
    fn options_change_the_labels_and_nonsense_is_refused_in_dockers_words() {
        let found = labels(&["type:mine_t", "level:s0:c1,c2", "user:me_u", "role:r", "filetype:files_t"]).unwrap();
        assert_eq!(found.process, "me_u:r:mine_t:s0:c1,c2");
        assert_eq!(found.mount, "me_u:object_r:files_t:s0:c1,c2");
        let open = labels(&["disable"]).unwrap();
        assert_eq!(
            (open.process.as_str(), open.mount.as_str()),
            ("", "system_u:object_r:container_file_t:s0:c1022,c1023")
        );
        assert_eq!(
            labels(&["nonsense"]).unwrap_err().message(),
            "bad label option \"nonsense\", valid options 'disable' or \n'user, role, level, type, filetype' followed by \
             ':' and a value"
        );
        assert_eq!(
            labels(&["nested:true"]).unwrap_err().message(),
            "bad label option \"nested\", valid options 'disable, user, role, level, type, filetype'"
        );
        assert!(
            Policy::parse("file = \"a:b:c\"").is_err() && Policy::parse("process = \"x\"\nfile = \"a:b:c\"").is_err()
        );
    }

    #[test]
    fn who_shares_a_namespace_gets_the_same_label() {
        let label = "system_u:system_r:container_t:s0:c1,c2";
        let options = options_of(label);
        assert_eq!(options, ["user:system_u", "role:system_r", "type:container_t", "level:s0:c1,c2"]);
        assert_eq!(policy().labels(&options, &|_| false).unwrap().process, label);
        assert!(options_of("").is_empty());
    }

    #[test]
    fn a_mount_is_relabelled_for_one_or_for_all_and_the_hosts_own_never() {
        let label = "system_u:object_r:container_file_t:s0:c1,c2";
        assert_eq!(relabelled("ro,Z", label).as_deref(), Some(label));
        assert_eq!(relabelled("z", label).as_deref(), Some("system_u:object_r:container_file_t:s0"));
        assert_eq!((relabelled("ro", label), relabelled("z", "")), (None, None));
        for path in ["/", "/etc", "/etc/", "/usr", "/home", "/root/me"] {
            let error = check_relabelling(path, "/root/me").unwrap_err();
            assert!(error.message().starts_with("SELinux relabeling of /"), "{path}");
        }
        assert!(check_relabelling("/srv/data", "/root").is_ok());
        assert_eq!(mount_option(label), format!("context=\"{label}\""));
    }
}
