//! The command line that containerd gives to a shim: Go's flags, then the action.

use std::path::PathBuf;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Start,
    Delete,
    Version,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Args {
    pub(crate) action: Action,
    pub(crate) namespace: String,
    pub(crate) id: String,
    /// containerd's own socket.
    pub(crate) address: String,
    /// Given for `delete`; the working folder is meant where it is missing.
    pub(crate) bundle: PathBuf,
}

impl Args {
    pub(crate) fn parse(words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut args = Self {
            action: Action::Version,
            namespace: String::new(),
            id: String::new(),
            address: String::new(),
            bundle: PathBuf::new(),
        };
        let mut action = None;
        let mut words = words.peekable();
        while let Some(word) = words.next() {
            let Some(flag) = word.strip_prefix("--").or_else(|| word.strip_prefix('-')) else {
                action = Some(word);
                break;
            };
            let (name, joined) = match flag.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (flag, None),
            };
            match name {
                "v" | "version" => return Ok(args),
                "debug" => continue,
                _ => {}
            }
            let value = joined.or_else(|| words.next()).ok_or_else(|| format!("flag needs an argument: -{name}"))?;
            match name {
                "namespace" => args.namespace = value,
                "id" => args.id = value,
                "address" => args.address = value,
                "bundle" => args.bundle = value.into(),
                "socket" | "publish-binary" => {}
                _ => return Err(format!("flag provided but not defined: -{name}")),
            }
        }
        args.action = match action.as_deref() {
            Some("start") => Action::Start,
            Some("delete") => Action::Delete,
            other => return Err(format!("unknown action {:?}: start and delete are known", other.unwrap_or_default())),
        };
        // Both become parts of paths.
        for (what, value) in [("namespace", &args.namespace), ("id", &args.id)] {
            if value.is_empty() || value.contains('/') || value == "." || value == ".." {
                return Err(format!("shim {what} cannot be {value:?}"));
            }
        }
        Ok(args)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Args, String> {
        Args::parse(line.split(' ').map(str::to_owned))
    }

    #[test]
    fn containerds_command_line_is_understood() {
        let line = "-namespace gantry -address /run/c.sock -publish-binary /usr/bin/containerd -id abc -debug start";
        let args = parse(line).expect("it parses");
        assert_eq!((args.action, args.namespace.as_str(), args.id.as_str()), (Action::Start, "gantry", "abc"));
        assert_eq!(args.address, "/run/c.sock");
        let args = parse("--namespace=n --id=x -bundle /b delete").expect("it parses");
        assert_eq!((args.action, args.bundle), (Action::Delete, PathBuf::from("/b")));
    }

    #[test]
    fn an_id_that_leads_out_of_its_folder_is_refused() {
        assert!(parse("-namespace n -id ../x start").is_err());
        assert!(parse("-namespace n start").is_err());
    }
}
