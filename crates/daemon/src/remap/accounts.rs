//! Users, groups and their subordinate ids: the files in `/etc`, and for users of elsewhere what `getent` knows.

use std::{
    io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// A user or a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    pub name: String,
    pub id: u32,
}

pub struct Accounts {
    etc: PathBuf,
}

impl Accounts {
    pub fn of(etc: &Path) -> Self {
        Self { etc: etc.to_owned() }
    }

    /// The first entry of `passwd` or `group` that is wanted; `key` is its name or number, for `getent`.
    pub fn find(
        &self,
        database: &str,
        wanted: impl Fn(&Account) -> bool,
        key: &str,
    ) -> Result<Option<Account>, String> {
        let in_file = self.read(database)?.lines().filter_map(account).find(&wanted);
        Ok(in_file.or_else(|| self.elsewhere(database, key).filter(wanted)))
    }

    /// Ranges of `subuid` or `subgid` that belong to an account, by its name or number: first id and count.
    pub fn ranges(&self, file: &str, account: &Account) -> Result<Vec<(u32, u32)>, String> {
        let id = account.id.to_string();
        let text = self.read(file)?;
        let lines = text.lines().map(|line| line.trim().split(':').collect::<Vec<_>>());
        let own = lines.filter(|fields| fields.first().is_some_and(|name| *name == account.name || *name == id));
        own.map(|fields| match fields[..] {
            [_, first, count] => Some((first.trim().parse().ok()?, count.trim().parse().ok()?)),
            _ => None,
        })
        .collect::<Option<_>>()
        .ok_or_else(|| format!("{}: a range of {} cannot be read", self.etc.join(file).display(), account.name))
    }

    /// A file that is missing has no entries.
    pub fn read(&self, file: &str) -> Result<String, String> {
        let path = self.etc.join(file);
        match std::fs::read(&path) {
            Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
            Err(error) => Err(format!("{}: {error}", path.display())),
        }
    }

    /// Directories over the network and the like. Only for the host's own files: a test's know nobody else.
    fn elsewhere(&self, database: &str, key: &str) -> Option<Account> {
        if self.etc != Path::new("/etc") || key.starts_with('-') {
            return None;
        }
        let asked = Command::new("getent").args([database, key]).stdin(Stdio::null()).output().ok()?;
        account(String::from_utf8_lossy(&asked.stdout).lines().next()?)
    }
}

/// `name:x:id:…`
fn account(line: &str) -> Option<Account> {
    let mut fields = line.trim().split(':');
    let (name, _, id) = (fields.next()?, fields.next()?, fields.next()?);
    Some(Account { name: name.to_owned(), id: id.parse().ok()? }).filter(|account| !account.name.is_empty())
}
