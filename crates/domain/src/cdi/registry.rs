//! The devices that all specs together offer.

use std::collections::{BTreeMap, BTreeSet};

use super::{ContainerEdits, Spec};
use crate::{Error, Result};

/// A spec and where it was found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SpecFile {
    pub path: String,
    /// Rises along the list of folders: a device of a later folder hides one of the same name.
    pub priority: usize,
    pub spec: Spec,
}

/// What can be asked for, by qualified name, `vendor/class=name`.
#[derive(Debug, Clone, Default)]
pub struct Registry {
    files: Vec<SpecFile>,
    /// The file and the place in it.
    devices: BTreeMap<String, (usize, usize)>,
    /// Names that two files of one folder claim: nobody gets them.
    pub conflicts: BTreeSet<String>,
}

impl Registry {
    pub fn new(files: Vec<SpecFile>) -> Self {
        let (mut devices, mut conflicts) = (BTreeMap::<String, (usize, usize)>::new(), BTreeSet::new());
        for (at, file) in files.iter().enumerate() {
            for (number, device) in file.spec.devices.iter().enumerate() {
                let name = format!("{}={}", file.spec.kind, device.name);
                let before = devices.get(&name).map(|(other, _)| files[*other].priority);
                if before == Some(file.priority) {
                    conflicts.insert(name);
                } else if before.is_none_or(|before| before < file.priority) {
                    conflicts.remove(&name);
                    devices.insert(name, (at, number));
                }
            }
        }
        devices.retain(|name, _| !conflicts.contains(name));
        Self { files, devices, conflicts }
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.devices.keys().map(String::as_str)
    }

    pub fn has_kind(&self, kind: &str) -> bool {
        self.names().any(|name| name.split_once('=').is_some_and(|(of, _)| of == kind))
    }

    /// The edits for these devices, in their order; those of a spec come once, before its first device's. Names that
    /// are not known are told all together, in dockerd's words.
    pub fn edits<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> Result<Vec<ContainerEdits>> {
        let (mut edits, mut unknown, mut seen) = (Vec::new(), Vec::new(), BTreeSet::new());
        for name in names {
            let Some((file, number)) = self.devices.get(name) else {
                unknown.push(name);
                continue;
            };
            let spec = &self.files[*file].spec;
            if seen.insert(*file) {
                edits.push(spec.container_edits.clone());
            }
            edits.push(spec.devices[*number].container_edits.clone());
        }
        if unknown.is_empty() {
            return Ok(edits);
        }
        let list = unknown.join(", ");
        Err(Error::system(format!("CDI device injection failed: unresolvable CDI devices {list}")))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::cdi::Device;

    fn file(path: &str, priority: usize, devices: &[&str]) -> SpecFile {
        let edits = |text: String| ContainerEdits { env: vec![text], ..ContainerEdits::default() };
        let device = |name: &&str| Device { name: (*name).into(), container_edits: edits(format!("{name}={path}")) };
        let spec = Spec {
            cdi_version: "0.5.0".into(),
            kind: "v.com/x".into(),
            devices: devices.iter().map(device).collect(),
            container_edits: edits(format!("ALL={path}")),
        };
        SpecFile { path: path.into(), priority, spec }
    }

    fn env(edits: Vec<ContainerEdits>) -> Vec<String> {
        edits.into_iter().flat_map(|edits| edits.env).collect()
    }

    #[test]
    fn a_later_folder_hides_and_two_of_one_folder_exclude_each_other() {
        let registry =
            Registry::new(vec![file("a", 0, &["one", "two", "both"]), file("b", 1, &["two"]), file("c", 0, &["both"])]);
        assert_eq!(registry.names().collect::<Vec<_>>(), ["v.com/x=one", "v.com/x=two"]);
        assert!(registry.conflicts.contains("v.com/x=both"));
        assert!(registry.has_kind("v.com/x") && !registry.has_kind("v.com/y"));
        let edits = registry.edits(["v.com/x=two", "v.com/x=one"]).unwrap();
        assert_eq!(env(edits), ["ALL=b", "two=b", "ALL=a", "one=a"]);
    }

    #[test]
    fn what_is_shared_comes_once_and_what_is_unknown_is_named() {
        let registry = Registry::new(vec![file("a", 0, &["one", "two"])]);
        assert_eq!(env(registry.edits(["v.com/x=one", "v.com/x=two"]).unwrap()), ["ALL=a", "one=a", "two=a"]);
        let error = registry.edits(["v.com/x=one", "v.com/x=no", "w.com/x=no"]).unwrap_err();
        assert_eq!(error.message(), "CDI device injection failed: unresolvable CDI devices v.com/x=no, w.com/x=no");
    }
}
