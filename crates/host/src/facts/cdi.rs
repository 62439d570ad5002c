//! Reads the specs of device vendors: every `.json` and `.yaml` file of some folders.

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use gantry_domain::{
    Error, Result,
    cdi::{Spec, SpecFile},
    ports::CdiSpecs,
};

use super::system::read_capped;

/// A spec of a host with many cards has some hundred kilobytes.
const MAX_SPEC: u64 = 4 << 20;
const MAX_FILES: usize = 256;

/// Later folders come before earlier ones. A folder that is not there is none; a file that cannot be read keeps no
/// other from being read.
pub(super) fn read(folders: &[String]) -> CdiSpecs {
    let mut found = CdiSpecs::default();
    for (priority, folder) in folders.iter().enumerate() {
        let paths = match spec_paths(Path::new(folder)) {
            Ok(paths) => paths,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => {
                found.errors.push((folder.clone(), error.to_string()));
                continue;
            }
        };
        for path in paths.into_iter().take(MAX_FILES) {
            let name = path.to_string_lossy().into_owned();
            match read_spec(&path) {
                Ok(spec) => found.files.push(SpecFile { path: name, priority, spec }),
                Err(error) => found.errors.push((name, error.to_string())),
            }
        }
    }
    found
}

fn spec_paths(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder)?.collect::<Result<Vec<_>, _>>()?;
    let is_spec = |path: &PathBuf| path.extension().is_some_and(|end| end == "json" || end == "yaml");
    let mut paths: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path()).filter(is_spec).collect();
    paths.sort();
    Ok(paths)
}

fn read_spec(path: &Path) -> Result<Spec> {
    let bytes = read_capped(path, MAX_SPEC)?;
    let damaged = |error: &dyn std::fmt::Display| Error::invalid(format!("failed to load CDI Spec {error}"));
    let spec: Spec = if path.extension().is_some_and(|end| end == "json") {
        serde_json::from_slice(&bytes).map_err(|error| damaged(&error))?
    } else {
        let text = std::str::from_utf8(&bytes).map_err(|error| damaged(&error))?;
        serde_saphyr::from_str(text).map_err(|error| damaged(&error))?
    };
    spec.check()?;
    Ok(spec)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn json_and_yaml_are_read_and_what_is_wrong_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        write(
            "a.json",
            r#"{"cdiVersion":"0.6.0","kind":"v.com/a","devices":[{"name":"x","containerEdits":{"env":["A=1"]}}]}"#,
        );
        write(
            "b.yaml",
            "cdiVersion: 0.6.0\nkind: v.com/b\ndevices:\n- name: \"0\"\n  containerEdits:\n    deviceNodes:\n    - path: /dev/x\n      permissions: rw\ncontainerEdits:\n  hooks:\n  - hookName: createContainer\n    path: /bin/true\n    args: [true, x]\n",
        );
        write("c.yaml", "- a list");
        write("d.json", r#"{"cdiVersion":"0.6.0","kind":"nonsense","devices":[]}"#);
        write("e.txt", "ignored");
        let found = read(&["/nonexistent".into(), folder.path().to_string_lossy().into_owned()]);
        let kinds: Vec<&str> = found.files.iter().map(|file| file.spec.kind.as_str()).collect();
        assert_eq!(kinds, ["v.com/a", "v.com/b"]);
        assert_eq!(found.files[1].priority, 1);
        assert_eq!(found.files[1].spec.container_edits.hooks[0].args, ["true", "x"]);
        assert_eq!(found.errors.len(), 2, "{:?}", found.errors);
    }
}
