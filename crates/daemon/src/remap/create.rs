//! `default`: the user `dockremap` and its subordinate ids, made where they are missing, by the host's own programs: they
//! know its locks and what else keeps account of users.

use std::process::{Command, Stdio};

use super::accounts::Accounts;

/// Where dockerd begins to look for free ids, and how many it takes.
const FIRST: u32 = 100_000;
const COUNT: u32 = 65_536;

/// Makes what is missing. May be repeated.
pub fn ensure(name: &str, accounts: &Accounts) -> Result<(), String> {
    let failed = |why: String| format!("Error during {name:?} user creation: {why}");
    if accounts.find("passwd", |user| user.name == name, name)?.is_none() {
        // Some that came without it have `adduser`.
        let made = run("useradd", &["--system", "--user-group", "--no-create-home", "--shell", "/bin/false", name]);
        match made {
            Err(Failed::Absent) => run("adduser", &["-S", "-H", "-D", "-s", "/bin/false", name])
                .and_then(|()| run("addgroup", &["-S", name]))
                .map_err(|error| failed(error.text("useradd or adduser")))?,
            done => done.map_err(|error| failed(error.text("useradd")))?,
        }
        tracing::info!(user = name, "a user for the ids of containers was made");
    }
    let user = accounts.find("passwd", |user| user.name == name, name)?;
    let user = user.ok_or_else(|| failed("it is not in /etc/passwd afterwards".into()))?;
    for (file, option) in [("subuid", "--add-subuids"), ("subgid", "--add-subgids")] {
        if accounts.ranges(file, &user)?.is_empty() {
            let first = first_free(&accounts.read(file)?)
                .ok_or_else(|| failed(format!("Can't find available {file} range")))?;
            let range = format!("{first}-{}", first + (COUNT - 1));
            run("usermod", &[option, &range, name]).map_err(|error| failed(error.text("usermod")))?;
            tracing::info!(user = name, file, range, "subordinate ids were given");
        }
    }
    Ok(())
}

/// Behind every range that reaches into what would be taken.
fn first_free(file: &str) -> Option<u32> {
    let mut taken: Vec<(u32, u32)> = file
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(':').skip(1).map(|field| field.trim().parse().ok());
            Some((fields.next()??, fields.next()??))
        })
        .collect();
    taken.sort_unstable();
    let mut first = FIRST;
    for (start, count) in taken {
        let end = start.checked_add(count)?;
        if start < first.checked_add(COUNT)? && first < end {
            first = end;
        }
    }
    first.checked_add(COUNT).map(|_| first)
}

enum Failed {
    Absent,
    Said(String),
}

impl Failed {
    fn text(self, program: &str) -> String {
        match self {
            Self::Absent => format!("cannot add user; no {program} was found"),
            Self::Said(text) => format!("{program}: {text}"),
        }
    }
}

fn run(program: &str, arguments: &[&str]) -> Result<(), Failed> {
    // A service may have a short PATH; where these lie is the same everywhere.
    let places = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(|folder| format!("{folder}/{program}"));
    let path = places.iter().find(|path| std::path::Path::new(path).is_file()).ok_or(Failed::Absent)?;
    let done = Command::new(path).args(arguments).stdin(Stdio::null()).output();
    match done {
        Ok(done) if done.status.success() => Ok(()),
        Ok(done) => Err(Failed::Said(String::from_utf8_lossy(&done.stderr).trim().to_owned())),
        Err(error) => Err(Failed::Said(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_ids_are_those_behind_what_is_taken() {
        assert_eq!(first_free(""), Some(100_000));
        assert_eq!(first_free("a:100000:65536\n"), Some(165_536));
        assert_eq!(first_free("b:165536:65536\na:100000:65536\n"), Some(231_072));
        assert_eq!(first_free("a:1000000:65536\n"), Some(100_000));
        assert_eq!(first_free("a:165000:10\n"), Some(165_010));
        assert_eq!(first_free("a:100000:4294867295\n"), None);
    }
}
