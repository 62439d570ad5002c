//! Which plugins there are: the names in Docker's folders.

use std::{collections::BTreeSet, ffi::OsStr, fs, os::unix::fs::FileTypeExt as _, path::Path, time::Duration};

use tokio::time::Instant;

use super::Plugins;
use crate::blocking::blocking;

/// For how long one that said nothing is not asked by who does not need it.
const LEFT_OUT: Duration = Duration::from_secs(10);

impl Plugins {
    /// The names of all plugins, of whatever kind and whether they answer or not.
    pub async fn names(&self) -> BTreeSet<String> {
        let (sockets, specs) = (self.sockets.clone(), self.specs.clone());
        let read = blocking(move || {
            let mut names = BTreeSet::new();
            collect(&sockets, &["sock"], &mut names);
            specs.iter().for_each(|folder| collect(folder, &["spec", "json"], &mut names));
            Ok(names)
        });
        read.await.unwrap_or_default()
    }

    /// Those that have said that they implement `what`, by name.
    pub fn found(&self, what: &str) -> Vec<String> {
        let active = self.active.lock();
        let found = active.iter().filter(|(_, known)| known.implements.contains(what));
        let names: BTreeSet<String> = found.map(|(name, _)| name.clone()).collect();
        names.into_iter().collect()
    }

    /// Whether it kept somebody waiting for nothing not long ago.
    pub fn is_slow(&self, name: &str) -> bool {
        self.slow.lock().get(name).is_some_and(|until| *until > Instant::now())
    }

    pub fn note_answer(&self, name: &str) {
        self.slow.lock().remove(name);
    }

    pub fn note_slow(&self, name: &str) {
        self.slow.lock().insert(name.to_owned(), Instant::now() + LEFT_OUT);
    }
}

/// `NAME.ext` and `NAME/NAME.ext`. A folder that is not there has none.
fn collect(folder: &Path, extensions: &[&str], names: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let Some(stem) = path.file_stem().and_then(OsStr::to_str) else { continue };
        if path.is_dir() {
            let Some(name) = path.file_name().and_then(OsStr::to_str) else { continue };
            if extensions.iter().any(|extension| path.join(format!("{name}.{extension}")).exists()) {
                names.insert(name.to_owned());
            }
        } else if path.extension().and_then(OsStr::to_str).is_some_and(|found| extensions.contains(&found)) {
            let socket = extensions != ["sock"] || entry.file_type().is_ok_and(|kind| kind.is_socket());
            if socket {
                names.insert(stem.to_owned());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plugins_are_found_by_their_files_alone_and_in_folders_of_their_name() {
        let folder = tempfile::tempdir().expect("a folder");
        for file in ["one.spec", "two.json", "three/three.spec", "four/other.spec", "five.txt", "six.sock"] {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().expect("it has one")).expect("made");
            fs::write(path, "").expect("written");
        }
        let mut names = BTreeSet::new();
        collect(folder.path(), &["spec", "json"], &mut names);
        assert_eq!(names, ["one", "three", "two"].map(str::to_owned).into());
        // A file that is no socket is no plugin.
        let _listening = std::os::unix::net::UnixListener::bind(folder.path().join("seven.sock")).expect("bound");
        names.clear();
        collect(folder.path(), &["sock"], &mut names);
        assert_eq!(names, ["seven".to_owned()].into());
    }
}
