//! Where minipod keeps things. Knows paths only; creates nothing.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// The directories of one minipod installation; `--root` moves them all, so that several live side by side.
#[derive(Debug, Clone)]
pub struct Layout {
    /// State that does not survive a reboot, `/run/minipod`.
    pub run: PathBuf,
    /// Images, volumes, leases: `/var/lib/minipod`.
    pub lib: PathBuf,
    /// Container logs: `/var/log/minipod`.
    pub log: PathBuf,
    /// Names what has no directory: cgroups and links in /run/netns. `minipod`, or `minipod-<8 hex>` under a private root.
    pub instance: String,
}

impl Layout {
    /// The layout below `root`, or the host's own without one.
    #[must_use]
    pub fn new(root: Option<&Path>) -> Self {
        match root {
            None => Self {
                run: "/run/minipod".into(),
                lib: "/var/lib/minipod".into(),
                log: "/var/log/minipod".into(),
                instance: "minipod".to_owned(),
            },
            Some(root) => {
                let root = std::path::absolute(root).unwrap_or_else(|_| root.to_owned());
                let hash = Sha256::digest(root.as_os_str().as_encoded_bytes());
                Self {
                    run: root.join("run"),
                    lib: root.join("lib"),
                    log: root.join("log"),
                    instance: format!("minipod-{:02x}{:02x}{:02x}{:02x}", hash[0], hash[1], hash[2], hash[3]),
                }
            }
        }
    }

    /// Every pod's directory, named by uid.
    #[must_use]
    pub fn pods(&self) -> PathBuf {
        self.run.join("pods")
    }

    /// Directories of pods that are being deleted: nobody finds them by uid any more.
    #[must_use]
    pub fn trash(&self) -> PathBuf {
        self.run.join("trash")
    }

    /// `<namespace>_<name>` links to uids: who owns a name.
    #[must_use]
    pub fn names(&self) -> PathBuf {
        self.run.join("names")
    }

    /// State of one pod.
    #[must_use]
    pub fn pod(&self, uid: &str) -> PathBuf {
        self.pods().join(uid)
    }

    /// What one pod keeps on disk while it runs: upper directories and emptyDir volumes.
    #[must_use]
    pub fn pod_lib(&self, uid: &str) -> PathBuf {
        self.lib.join("pods").join(uid)
    }

    /// Logs of one pod, as kubelet names them.
    #[must_use]
    pub fn pod_logs(&self, namespace: &str, name: &str, uid: &str) -> PathBuf {
        self.log.join("pods").join(format!("{namespace}_{name}_{uid}"))
    }

    /// The lease file of a network.
    #[must_use]
    pub fn leases(&self, network: &str) -> PathBuf {
        self.lib.join("net").join(network).join("leases.json")
    }

    /// The cgroup that holds all pods, as a path below each hierarchy's root.
    #[must_use]
    pub fn cgroup(&self) -> String {
        format!("/{}", self.instance)
    }

    /// The cgroup of one pod.
    #[must_use]
    pub fn pod_cgroup(&self, uid: &str) -> String {
        format!("/{}/{uid}", self.instance)
    }

    /// The link by which `ip netns exec` finds a pod's network namespace.
    #[must_use]
    pub fn netns_link(&self, namespace: &str, name: &str) -> PathBuf {
        let dir = Path::new("/run/netns");
        match namespace {
            "default" => dir.join(format!("{}-{name}", self.instance)),
            _ => dir.join(format!("{}-{namespace}.{name}", self.instance)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_private_root_shares_no_name_with_the_host_or_another_root() {
        let (host, a, b) = (Layout::new(None), Layout::new(Some(Path::new("/a"))), Layout::new(Some(Path::new("/b"))));
        assert_eq!(host.cgroup(), "/minipod");
        assert_ne!(host.instance, a.instance);
        assert_ne!(a.instance, b.instance);
        assert!(a.run.starts_with("/a") && a.lib.starts_with("/a") && a.log.starts_with("/a"));
    }

    #[test]
    fn netns_links_of_equal_names_differ_by_namespace() {
        let host = Layout::new(None);
        assert_eq!(host.netns_link("default", "web"), Path::new("/run/netns/minipod-web"));
        assert_eq!(host.netns_link("prod", "web"), Path::new("/run/netns/minipod-prod.web"));
    }
}
