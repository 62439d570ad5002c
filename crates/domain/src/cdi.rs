//! The Container Device Interface: what the specs of device vendors say a container needs, and who wins where two speak
//! of one device. Source: the CDI specification, cncf-tags/container-device-interface `SPEC.md`, versions 0.3.0 to 1.0.0.

mod edits;
mod registry;

use serde::Deserialize;

pub use edits::{ContainerEdits, DeviceEdit, Hook, IntelRdt, MountEdit};
pub use registry::{Registry, SpecFile};

use crate::{Error, Result};

/// One file of a vendor: the devices of one kind.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Spec {
    pub cdi_version: String,
    /// `vendor/class`, such as `nvidia.com/gpu`.
    pub kind: String,
    pub devices: Vec<Device>,
    /// For every container that gets any of the devices.
    pub container_edits: ContainerEdits,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Device {
    pub name: String,
    pub container_edits: ContainerEdits,
}

impl Spec {
    /// `InvalidParameter` with what is wrong with it.
    pub fn check(&self) -> Result<()> {
        let invalid = |text: String| Err(Error::invalid(format!("invalid CDI Spec: {text}")));
        if !matches!(self.cdi_version.split('.').next(), Some("0" | "1")) {
            return invalid(format!("unknown version \"{}\"", self.cdi_version));
        }
        if !is_kind(&self.kind) {
            return invalid(format!("kind \"{}\" is not vendor/class", self.kind));
        }
        if self.devices.is_empty() {
            return invalid("no devices".into());
        }
        self.container_edits.check()?;
        let mut names = std::collections::BTreeSet::new();
        for device in &self.devices {
            if !is_device_name(&device.name) {
                return invalid(format!("invalid device name \"{}\"", device.name));
            }
            if !names.insert(&device.name) {
                return invalid(format!("multiple device \"{}\"", device.name));
            }
            device.container_edits.check()?;
        }
        Ok(())
    }
}

/// `vendor/class`: letters, digits and a few signs, ending in a letter or digit.
fn is_kind(kind: &str) -> bool {
    kind.split_once('/').is_some_and(|(vendor, class)| is_word(vendor, "_-.") && is_word(class, "_-"))
}

fn is_word(word: &str, signs: &str) -> bool {
    word.starts_with(|first: char| first.is_ascii_alphabetic())
        && word.ends_with(|last: char| last.is_ascii_alphanumeric())
        && word.chars().all(|one| one.is_ascii_alphanumeric() || signs.contains(one))
}

fn is_device_name(name: &str) -> bool {
    let ends = |one: char| one.is_ascii_alphanumeric();
    name.starts_with(ends) && name.ends_with(ends) && name.chars().all(|one| ends(one) || "_-.:".contains(one))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn spec(kind: &str, device: &str) -> Spec {
        let devices = vec![Device { name: device.into(), ..Device::default() }];
        Spec { cdi_version: "0.6.0".into(), kind: kind.into(), devices, ..Spec::default() }
    }

    #[test]
    fn names_that_cannot_be_asked_for_are_refused() {
        assert!(spec("vendor.com/net-card", "0").check().is_ok());
        for (kind, device) in [
            ("vendor.com", "a"),
            ("/x", "a"),
            ("1.com/x", "a"),
            ("v.com/x.y", "a"),
            ("v.com/x", "-a"),
            ("v.com/x", "a b"),
        ] {
            assert!(spec(kind, device).check().is_err(), "{kind} {device}");
        }
        assert!(Spec { cdi_version: "2.0.0".into(), ..spec("v.com/x", "a") }.check().is_err());
        let mut twice = spec("v.com/x", "a");
        twice.devices.push(twice.devices[0].clone());
        assert_eq!(twice.check().unwrap_err().message(), "invalid CDI Spec: multiple device \"a\"");
    }
}
