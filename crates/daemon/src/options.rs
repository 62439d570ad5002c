//! What an option of gantryd is: its flag, its key in daemon.json, its kind of value, when a change takes effect, and
//! what it does here. One row for each option of dockerd 28; flags, file, reload and warnings all read the same table.

mod table;
pub mod value;

use serde_json::Value;

/// One option under dockerd's names.
#[derive(Debug)]
pub struct Row {
    /// Name on the command line, without dashes; `None` for a key of the file alone.
    pub flag: Option<&'static str>,
    pub short: Option<char>,
    /// Name in daemon.json.
    pub key: &'static str,
    pub kind: Kind,
    pub reload: Reload,
    pub effect: Effect,
    pub help: &'static str,
}

/// The kind of an option's value. Flags and file come to the same JSON value, so that they can be merged and compared.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    Bool(bool),
    Int(i64),
    Text(&'static str),
    /// A flag that may be repeated, a list in the file.
    List,
    /// `key=value` flags, an object of strings in the file.
    Map,
    /// `name=key=value` flags, an object of objects in the file.
    MapOfMaps,
    /// `name=true` flags, an object of booleans in the file.
    Switches,
    /// Bytes with a unit (`64m`).
    Size(i64),
    /// `name=soft[:hard]` flags, `{"name": {"Name", "Soft", "Hard"}}` in the file.
    Ulimits,
    /// `name=path` flags, `{"name": {"path", "runtimeArgs"}}` in the file.
    Runtimes,
    /// `base=10.0.0.0/8,size=24` flags, a list of objects in the file.
    Pools,
    /// An object that nothing here reads.
    Any,
}

/// When a changed value takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reload {
    /// At SIGHUP.
    Live,
    /// At SIGHUP, for containers made from then on.
    NewContainers,
    /// At the next start of gantryd.
    Restart,
}

/// What an option does here.
#[derive(Debug, Clone, Copy)]
pub enum Effect {
    Works,
    /// It only tunes, and there is nothing here to tune: said once when it is set.
    TunesNothing(&'static str),
    /// gantryd does not start where the value asks for something that it cannot do. `asks` says whether it does.
    Refused {
        asks: fn(&Value) -> bool,
        why: &'static str,
    },
}

pub use table::ROWS;

/// The row of a flag.
#[cfg(test)]
pub fn by_flag(flag: &str) -> Option<&'static Row> {
    ROWS.iter().find(|row| row.flag == Some(flag))
}

/// The row of a key of daemon.json.
pub fn by_key(key: &str) -> Option<&'static Row> {
    ROWS.iter().find(|row| row.key == key)
}

impl Kind {
    /// The value where neither flag nor file names the option.
    pub fn default_value(self) -> Value {
        match self {
            Self::Bool(value) => value.into(),
            Self::Int(value) | Self::Size(value) => value.into(),
            Self::Text(value) => value.into(),
            Self::List | Self::Pools => Value::Array(Vec::new()),
            Self::Map | Self::MapOfMaps | Self::Switches | Self::Ulimits | Self::Runtimes | Self::Any => {
                Value::Object(serde_json::Map::new())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_flag_and_no_key_is_listed_twice() {
        let (mut flags, mut keys, mut shorts) = (HashSet::new(), HashSet::new(), HashSet::new());
        for row in ROWS {
            assert!(row.flag.is_none_or(|flag| flags.insert(flag)), "flag {:?}", row.flag);
            assert!(row.short.is_none_or(|short| shorts.insert(short)), "short {:?}", row.short);
            assert!(keys.insert(row.key), "key {}", row.key);
        }
    }

    #[test]
    fn a_default_is_never_refused() {
        for row in ROWS {
            if let Effect::Refused { asks, .. } = row.effect {
                assert!(!asks(&row.kind.default_value()), "{}", row.key);
            }
        }
    }

    #[test]
    fn every_protecting_option_works_or_is_refused() {
        for key in [
            "tls",
            "tlsverify",
            "tlscacert",
            "tlscert",
            "tlskey",
            "authorization-plugins",
            "userns-remap",
            "selinux-enabled",
            "no-new-privileges",
            "icc",
            "iptables",
            "ip6tables",
            "default-ulimits",
            "log-driver",
            "seccomp-profile",
            "cpu-rt-period",
            "cpu-rt-runtime",
            "storage-opts",
            "group",
            "cgroup-parent",
        ] {
            let row = by_key(key).unwrap_or_else(|| panic!("{key} is not listed"));
            assert!(!matches!(row.effect, Effect::TunesNothing(_)), "{key}");
        }
    }
}
