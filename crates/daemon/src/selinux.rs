//! `--selinux-enabled`: whether the host has SELinux, and what its policy says of containers.

use std::path::Path;

use gantry_domain::selinux::Policy;

use crate::config::Config;

/// The configuration with the policy, where it is asked for.
pub fn applied(mut config: Config) -> Result<Config, String> {
    if config.selinux_enabled {
        let policy = policy(Path::new("/"));
        // dockerd logs it and goes on: here a flag that protects works, or nothing starts.
        let refused = |why| format!("gantryd does not start with selinux-enabled = true: {why}");
        config.settings.selinux = Some(policy.map_err(refused)?);
    }
    Ok(config)
}

fn policy(root: &Path) -> Result<Policy, String> {
    let enforce = std::fs::read_to_string(root.join("sys/fs/selinux/enforce"));
    let current = std::fs::read_to_string(root.join("proc/self/attr/current")).unwrap_or_default();
    // Before a policy is loaded everything is the kernel's.
    if enforce.is_err() || current.trim_end_matches(['\0', '\n']) == "kernel" {
        return Err("this host has no SELinux, processes and files of containers would not be labelled".into());
    }
    let config = std::fs::read_to_string(root.join("etc/selinux/config")).unwrap_or_default();
    let kind = config.lines().find_map(|line| line.trim().strip_prefix("SELINUXTYPE=")).unwrap_or("targeted").trim();
    let places = [
        root.join("usr/share/containers/selinux/contexts"),
        root.join("etc/selinux").join(kind).join("contexts/lxc_contexts"),
    ];
    let text = places.iter().find_map(|path| std::fs::read_to_string(path).ok());
    let text =
        text.ok_or_else(|| format!("its policy {kind:?} knows no containers: is container-selinux installed?"))?;
    Policy::parse(&text).map_err(|error| error.message().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a folder");
        for (path, content) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().expect("has a parent")).expect("made");
            std::fs::write(path, content).expect("written");
        }
        root
    }

    #[test]
    fn a_host_without_selinux_or_without_labels_for_containers_is_told() {
        let bare = host(&[]);
        assert!(policy(bare.path()).expect_err("nothing is there").contains("has no SELinux"));
        let unlabelled = host(&[("sys/fs/selinux/enforce", "1"), ("etc/selinux/config", "SELINUXTYPE=mls\n")]);
        assert!(policy(unlabelled.path()).expect_err("no contexts").contains("\"mls\" knows no containers"));
        let unloaded = host(&[("sys/fs/selinux/enforce", "0"), ("proc/self/attr/current", "kernel\0")]);
        assert!(policy(unloaded.path()).is_err());
    }

    #[test]
    fn the_policys_labels_are_those_of_its_type() {
        let contexts =
            "process = \"system_u:system_r:container_t:s0\"\nfile = \"system_u:object_r:container_file_t:s0\"\n";
        let enabled = host(&[
            ("sys/fs/selinux/enforce", "1"),
            ("proc/self/attr/current", "system_u:system_r:unconfined_service_t:s0\0"),
            ("etc/selinux/config", "SELINUX=enforcing\nSELINUXTYPE=targeted\n"),
            ("etc/selinux/targeted/contexts/lxc_contexts", contexts),
        ]);
        assert_eq!(policy(enabled.path()), Policy::parse(contexts).map_err(|error| error.message().to_owned()));
    }
}
