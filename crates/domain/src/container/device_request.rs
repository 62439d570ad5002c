//! `HostConfig.DeviceRequests` (`--gpus`, `--device vendor/class=name`): which driver serves one, and by which edits.

use super::host_config::DeviceRequest;
use crate::{
    Error, Result,
    cdi::{ContainerEdits, Hook, Registry},
};

/// The capabilities of NVIDIA's driver that a request may name.
const NVIDIA: [&str; 6] = ["compute", "compat32", "graphics", "utility", "video", "display"];
pub const NVIDIA_HOOK: &str = "nvidia-container-runtime-hook";
pub const AMD_RUNTIME: &str = "amd-container-runtime";

/// The drivers of this host.
#[derive(Debug, Clone, Default)]
pub struct DeviceDrivers {
    pub cdi: Registry,
    /// Paths of the vendors' programs, where they are installed.
    pub nvidia_hook: Option<String>,
    pub amd_runtime: Option<String>,
    /// The engine's `PATH`, which the hook gets.
    pub path: String,
}

/// A vendor of `--gpus`.
struct Vendor {
    name: &'static str,
    kind: &'static str,
    visible: &'static str,
    capabilities: &'static [&'static str],
}

const VENDORS: [Vendor; 2] = [
    Vendor { name: "nvidia", kind: "nvidia.com/gpu", visible: "NVIDIA_VISIBLE_DEVICES", capabilities: &NVIDIA },
    Vendor { name: "amd", kind: "amd.com/gpu", visible: "AMD_VISIBLE_DEVICES", capabilities: &[] },
];

impl DeviceDrivers {
    /// What a request changes in the OCI spec. `InvalidParameter` in dockerd's words where no driver takes it.
    pub fn edits(&self, request: &DeviceRequest) -> Result<Vec<ContainerEdits>> {
        if request.driver == "cdi" {
            return self.by_cdi(request);
        }
        for vendor in &VENDORS {
            let named = request.driver.is_empty() || request.driver == vendor.name;
            if named
                && self.has(vendor)
                && let Some(capabilities) = vendor.select(request)
            {
                return self.by_vendor(vendor, request, capabilities);
            }
        }
        Err(no_driver(request))
    }

    fn by_cdi(&self, request: &DeviceRequest) -> Result<Vec<ContainerEdits>> {
        if request.count != 0 {
            return Err(Error::invalid("unexpected count in CDI device request"));
        }
        if request.options.as_ref().is_some_and(|options| !options.is_empty()) {
            return Err(Error::invalid("unexpected options in CDI device request"));
        }
        self.cdi.edits(request.device_ids.iter().flatten().map(String::as_str))
    }

    fn has(&self, vendor: &Vendor) -> bool {
        let program = if vendor.name == "nvidia" { &self.nvidia_hook } else { &self.amd_runtime };
        program.is_some() || self.cdi.has_kind(vendor.kind)
    }

    /// By CDI where the vendor's specs are there: what they name is then known to the cgroup too, and is not lost when
    /// systemd writes the rules anew. Else by the vendor's own program.
    fn by_vendor(
        &self,
        vendor: &Vendor,
        request: &DeviceRequest,
        capabilities: &[String],
    ) -> Result<Vec<ContainerEdits>> {
        let ids = request.device_ids.as_deref().unwrap_or_default();
        if request.count != 0 && !ids.is_empty() {
            return Err(Error::system("cannot set both Count and DeviceIDs on device request"));
        }
        let devices: Vec<String> = match request.count {
            _ if !ids.is_empty() => ids.to_vec(),
            0 => Vec::new(),
            count if count < 0 => vec!["all".into()],
            count => (0..count).map(|number| number.to_string()).collect(),
        };
        if self.cdi.has_kind(vendor.kind) {
            let names: Vec<String> = devices.iter().map(|device| format!("{}={device}", vendor.kind)).collect();
            return self.cdi.edits(names.iter().map(String::as_str));
        }
        let visible = if devices.is_empty() { "void".to_owned() } else { devices.join(",") };
        let mut edits = ContainerEdits { env: vec![format!("{}={visible}", vendor.visible)], ..Default::default() };
        let known: Vec<&str> =
            capabilities.iter().map(String::as_str).filter(|name| vendor.capabilities.contains(name)).collect();
        if !known.is_empty() {
            edits.env.push(format!("NVIDIA_DRIVER_CAPABILITIES={}", known.join(",")));
        }
        if let Some(path) = self.nvidia_hook.clone().filter(|_| vendor.name == "nvidia") {
            edits.hooks.push(Hook {
                hook_name: "prestart".into(),
                path,
                args: vec![NVIDIA_HOOK.into(), "prestart".into()],
                env: vec![format!("PATH={}", self.path)],
                timeout: None,
            });
        }
        Ok(vec![edits])
    }
}

impl Vendor {
    /// The first list of which every capability is known.
    fn select<'a>(&self, request: &'a DeviceRequest) -> Option<&'a [String]> {
        let known = |name: &String| name == "gpu" || name == self.name || self.capabilities.contains(&name.as_str());
        let lists = request.capabilities.iter().flatten();
        lists.map(Vec::as_slice).find(|list| list.iter().all(known))
    }
}

fn no_driver(request: &DeviceRequest) -> Error {
    // As Go prints a list of lists.
    let lists: Vec<String> =
        request.capabilities.iter().flatten().map(|list| format!("[{}]", list.join(" "))).collect();
    Error::invalid(format!(
        "could not select device driver \"{}\" with capabilities: [{}]",
        request.driver,
        lists.join(" ")
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::cdi::{Device, Spec, SpecFile};

    fn gpus(count: i64, ids: &[&str], capabilities: &[&str]) -> DeviceRequest {
        let texts = |list: &[&str]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
        DeviceRequest {
            count,
            device_ids: Some(texts(ids)),
            capabilities: Some(vec![texts(capabilities)]),
            ..DeviceRequest::default()
        }
    }

    fn env(edits: Result<Vec<ContainerEdits>>) -> Vec<String> {
        edits.unwrap().into_iter().flat_map(|edits| edits.env).collect()
    }

    #[test]
    fn without_a_driver_dockers_sentence_is_said() {
        let error = DeviceDrivers::default().edits(&gpus(-1, &[], &["gpu"])).unwrap_err();
        assert_eq!(error.message(), "could not select device driver \"\" with capabilities: [[gpu]]");
    }

    #[test]
    fn the_hook_is_told_what_is_visible() {
        let drivers = DeviceDrivers { nvidia_hook: Some("/usr/bin/hook".into()), ..DeviceDrivers::default() };
        let shown = |request| env(drivers.edits(&request));
        assert_eq!(shown(gpus(-1, &[], &["gpu"])), ["NVIDIA_VISIBLE_DEVICES=all"]);
        assert_eq!(shown(gpus(2, &[], &["gpu"])), ["NVIDIA_VISIBLE_DEVICES=0,1"]);
        assert_eq!(shown(gpus(0, &[], &["gpu"])), ["NVIDIA_VISIBLE_DEVICES=void"]);
        assert_eq!(
            shown(gpus(0, &["a", "b"], &["gpu", "utility"])),
            ["NVIDIA_VISIBLE_DEVICES=a,b", "NVIDIA_DRIVER_CAPABILITIES=utility"]
        );
        let hooks = drivers.edits(&gpus(-1, &[], &["gpu"])).unwrap().remove(0).hooks;
        assert_eq!((hooks[0].path.as_str(), hooks[0].args[1].as_str()), ("/usr/bin/hook", "prestart"));
        assert!(drivers.edits(&gpus(1, &["a"], &["gpu"])).is_err());
        assert!(drivers.edits(&gpus(1, &[], &["tpu"])).is_err());
    }

    #[test]
    fn the_vendors_specs_come_before_its_hook() {
        let device = |name: &str| Device {
            name: name.into(),
            container_edits: ContainerEdits { env: vec![format!("GOT={name}")], ..ContainerEdits::default() },
        };
        let spec = Spec {
            cdi_version: "0.6.0".into(),
            kind: "nvidia.com/gpu".into(),
            devices: vec![device("0"), device("1"), device("all")],
            ..Spec::default()
        };
        let cdi = Registry::new(vec![SpecFile { spec, ..SpecFile::default() }]);
        let drivers = DeviceDrivers { cdi, nvidia_hook: Some("/hook".into()), ..DeviceDrivers::default() };
        assert_eq!(env(drivers.edits(&gpus(-1, &[], &["gpu"]))), ["GOT=all"]);
        assert_eq!(env(drivers.edits(&gpus(2, &[], &["gpu"]))), ["GOT=0", "GOT=1"]);
    }
}
