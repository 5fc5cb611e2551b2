//! The lease file: who has which address, link and host ports. Written before what it describes is made.
//!
//! Replaced whole (temp + rename) under a flock on a file of its own, so readers need no lock. Never synced to disk:
//! every entry is void under another boot id, so a lost write loses nothing that still exists.

use crate::{Conflict, IfName, NetError, Network, PortMapping, ipam::Range, ports::PortKey};
use ipnet::Ipv4Net;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File},
    io,
    net::{IpAddr, Ipv4Addr},
    path::Path,
};

/// random(4): fresh at every boot.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// What one owner holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Lease {
    pub(crate) owner: String,
    pub(crate) label: String,
    /// One per family.
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) host_if: IfName,
    pub(crate) ports: Vec<PortMapping>,
}

impl Lease {
    /// The IPv4 address.
    pub(crate) fn v4(&self) -> Option<Ipv4Addr> {
        self.addresses.iter().find_map(|address| match address {
            IpAddr::V4(address) => Some(*address),
            IpAddr::V6(_) => None,
        })
    }
}

/// The whole file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Leases {
    boot_id: String,
    /// Of which subnet; void without entries.
    subnet: Option<Ipv4Net>,
    /// Bytes per packet of the network, found when the bridge was made.
    pub(crate) mtu: Option<u32>,
    /// The address leased last, where the search for the next begins.
    last: Option<Ipv4Addr>,
    pub(crate) entries: Vec<Lease>,
}

impl Leases {
    /// Reads the file; no file, an empty one or one of another boot means no leases.
    pub(crate) fn read(network: &Network) -> Result<Self, NetError> {
        let boot_id = fs::read_to_string(BOOT_ID)
            .map_err(file("read", BOOT_ID.as_ref()))?
            .trim()
            .to_owned();
        let none = Self {
            boot_id,
            ..Self::default()
        };
        let text = match fs::read(&network.leases) {
            Ok(text) if text.is_empty() => return Ok(none), // the disk lost the write of an earlier boot
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(none),
            other => other.map_err(file("read leases", &network.leases))?,
        };
        let found: Self =
            serde_json::from_slice(&text).map_err(|source| NetError::LeaseFormat {
                path: network.leases.clone(),
                source,
            })?;
        if found.boot_id == none.boot_id {
            return Ok(found);
        }
        Ok(Self {
            last: found.last,
            ..none
        })
    }

    /// The lease of an owner.
    pub(crate) fn of(&self, owner: &str) -> Option<&Lease> {
        self.entries.iter().find(|lease| lease.owner == owner)
    }

    /// Refuses a network that has leases of another subnet.
    pub(crate) fn check_subnet(&self, network: &Network) -> Result<(), NetError> {
        match self.subnet {
            Some(current) if !self.entries.is_empty() && current != network.subnet.trunc() => {
                Err(NetError::OtherSubnet {
                    bridge: network.bridge.to_string(),
                    current,
                    wanted: network.subnet.trunc(),
                })
            }
            _ => Ok(()),
        }
    }

    /// Which address a request would get, and every way in which it collides with the leases there are.
    pub(crate) fn plan(
        &self,
        network: &Network,
        ports: &[PortMapping],
        address: Option<Ipv4Addr>,
    ) -> (Option<Ipv4Addr>, Vec<Conflict>) {
        let mut conflicts = repeated(ports);
        for port in ports {
            let holder = self
                .entries
                .iter()
                .find(|lease| lease.ports.iter().any(|held| held.key() == port.key()));
            conflicts.extend(holder.map(|lease| Conflict::PortTaken {
                port: *port,
                label: lease.label.clone(),
            }));
        }
        let taken: Vec<(Ipv4Addr, &str)> = self
            .entries
            .iter()
            .filter_map(|lease| Some((lease.v4()?, lease.label.as_str())))
            .collect();
        match Range::of(network.subnet).choose(address, self.last, &taken) {
            Ok(address) => (Some(address), conflicts),
            Err(conflict) => {
                conflicts.push(conflict);
                (None, conflicts)
            }
        }
    }

    /// Adds a lease.
    pub(crate) fn insert(&mut self, network: &Network, lease: Lease) {
        self.subnet = Some(network.subnet.trunc());
        self.last = lease.v4().or(self.last);
        self.entries.push(lease);
    }

    /// Gives an owner's lease back.
    pub(crate) fn remove(&mut self, owner: &str) {
        self.entries.retain(|lease| lease.owner != owner);
    }
}

/// Mappings that one request has twice.
fn repeated(ports: &[PortMapping]) -> Vec<Conflict> {
    let mut seen = std::collections::HashSet::<PortKey>::new();
    ports
        .iter()
        .filter(|port| !seen.insert(port.key()))
        .map(|port| Conflict::PortRepeated { port: *port })
        .collect()
}

/// The leases, held for change: nobody else makes or removes the bridge, the table or a lease meanwhile.
pub(crate) struct Locked<'a> {
    network: &'a Network,
    pub(crate) leases: Leases,
    _lock: Flock<File>,
}

impl<'a> Locked<'a> {
    /// Waits for the lock without blocking the runtime.
    pub(crate) async fn acquire(network: &'a Network) -> Result<Self, NetError> {
        let path = network.leases.with_extension("lock");
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory).map_err(file("create directory", directory))?;
        }
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path);
        let lock = lock.map_err(file("open lock", &path))?;
        let lock = match Flock::lock(lock, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => lock,
            // Another task of this very thread may hold it: waiting here would be for ever.
            Err((lock, nix::errno::Errno::EWOULDBLOCK)) => {
                let wait =
                    move || Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, errno)| errno);
                let waited = tokio::task::spawn_blocking(wait)
                    .await
                    .map_err(io::Error::other);
                waited
                    .map_err(file("lock", &path))?
                    .map_err(|errno| file("lock", &path)(errno.into()))?
            }
            Err((_, errno)) => return Err(file("lock", &path)(errno.into())),
        };
        Ok(Self {
            network,
            leases: Leases::read(network)?,
            _lock: lock,
        })
    }

    /// Replaces the file.
    pub(crate) fn save(&self) -> Result<(), NetError> {
        let path = &self.network.leases;
        let fresh = path.with_extension("new"); // only the holder of the lock writes it
        let json =
            serde_json::to_vec_pretty(&self.leases).map_err(|source| NetError::LeaseFormat {
                path: path.clone(),
                source,
            })?;
        let replaced = fs::write(&fresh, json).and_then(|()| fs::rename(&fresh, path));
        replaced.map_err(|source| {
            // A full disk: the half-written file only makes it fuller. Nothing reads it, so a failure changes nothing.
            drop(fs::remove_file(&fresh));
            NetError::File {
                operation: "write leases",
                path: path.clone(),
                source,
            }
        })
    }
}

fn file(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> NetError {
    let path = path.to_owned();
    move |source| NetError::File {
        operation,
        path,
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::{Lease, Leases, Locked};
    use crate::{Conflict, IfName, NetError, Network, PortMapping, Protocol};
    use std::{fs, net::Ipv4Addr};

    fn network(directory: &tempfile::TempDir) -> Network {
        Network {
            bridge: IfName::new("br").expect("name"),
            subnet: "10.0.0.0/24".parse().expect("subnet"),
            cluster: "10.0.0.0/16".parse().expect("cluster"),
            leases: directory.path().join("made/on/demand/leases.json"),
        }
    }

    fn port(host_ip: Option<[u8; 4]>, host_port: u16, protocol: Protocol) -> PortMapping {
        PortMapping {
            host_ip: host_ip.map(Into::into),
            host_port,
            container_port: 80,
            protocol,
        }
    }

    fn lease(owner: &str, last: u8, ports: Vec<PortMapping>) -> Lease {
        Lease {
            owner: owner.to_owned(),
            label: format!("default/{owner}"),
            addresses: vec![Ipv4Addr::new(10, 0, 0, last).into()],
            host_if: IfName::new(format!("mp-{owner}")).expect("name"),
            ports,
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn leases_come_back_from_the_file_and_are_void_after_a_boot() {
        let directory = tempfile::tempdir().expect("directory");
        let network = network(&directory);
        let mut locked = Locked::acquire(&network).await.expect("lock");
        locked
            .leases
            .insert(&network, lease("a", 2, vec![port(None, 80, Protocol::Tcp)]));
        locked.save().expect("save");
        let written = locked.leases.clone();
        drop(locked);
        assert_eq!(Leases::read(&network).expect("read"), written);
        assert!(!network.leases.with_extension("new").exists());

        let text = fs::read_to_string(&network.leases).expect("file");
        fs::write(
            &network.leases,
            text.replace(&written.boot_id, "another-boot"),
        )
        .expect("write");
        let after = Leases::read(&network).expect("read");
        assert!(after.entries.is_empty());
        assert_eq!(after.last, written.last, "the search goes on where it was");
    }

    #[test]
    fn a_damaged_file_is_named_and_an_empty_one_is_no_lease() {
        let directory = tempfile::tempdir().expect("directory");
        let network = network(&directory);
        fs::create_dir_all(network.leases.parent().expect("parent")).expect("directory");
        fs::write(&network.leases, "").expect("write");
        assert!(Leases::read(&network).expect("read").entries.is_empty());
        fs::write(&network.leases, "{\"bootId\":").expect("write");
        let error = Leases::read(&network).expect_err("damaged");
        assert!(
            matches!(&error, NetError::LeaseFormat { .. })
                && error.to_string().contains("leases.json"),
            "{error}"
        );
    }

    #[tokio::test(flavor = "current_thread")]
    async fn two_tasks_of_one_thread_do_not_deadlock() {
        let directory = tempfile::tempdir().expect("directory");
        let network = network(&directory);
        let first = Locked::acquire(&network).await.expect("lock");
        let waiting = async {
            let mut locked = Locked::acquire(&network).await.expect("lock");
            locked.leases.insert(&network, lease("b", 3, vec![]));
        };
        let holding = async {
            tokio::task::yield_now().await;
            drop(first);
        };
        tokio::time::timeout(std::time::Duration::from_secs(10), async {
            tokio::join!(waiting, holding)
        })
        .await
        .expect("deadlock");
    }

    #[test]
    fn all_conflicts_come_at_once_and_name_the_holder() {
        let directory = tempfile::tempdir().expect("directory");
        let network = network(&directory);
        let mut leases = Leases::default();
        leases.insert(
            &network,
            lease(
                "web",
                2,
                vec![
                    port(None, 80, Protocol::Tcp),
                    port(Some([192, 0, 2, 1]), 53, Protocol::Udp),
                ],
            ),
        );
        let ports = [
            port(None, 80, Protocol::Tcp),
            port(Some([0, 0, 0, 0]), 80, Protocol::Tcp), // the same as above
            port(None, 80, Protocol::Udp),               // another transport
            port(None, 53, Protocol::Udp),               // all but that one address
            port(Some([192, 0, 2, 1]), 53, Protocol::Udp),
        ];
        let (address, conflicts) = leases.plan(&network, &ports, Some(Ipv4Addr::new(10, 0, 0, 2)));
        assert_eq!(address, None);
        let texts: Vec<String> = conflicts.iter().map(Conflict::to_string).collect();
        assert_eq!(
            texts,
            [
                "host port 80/tcp is asked for twice",
                "host port 80/tcp is taken by default/web",
                "host port 80/tcp is taken by default/web",
                "host port 192.0.2.1:53/udp is taken by default/web",
                "address 10.0.0.2 is taken by default/web",
            ]
        );
    }

    #[test]
    fn one_bridge_serves_one_subnet_at_a_time() {
        let directory = tempfile::tempdir().expect("directory");
        let mut network = network(&directory);
        let mut leases = Leases::default();
        leases.insert(&network, lease("a", 2, vec![]));
        assert!(leases.check_subnet(&network).is_ok());
        network.subnet = "10.0.1.0/24".parse().expect("subnet");
        assert!(matches!(
            leases.check_subnet(&network),
            Err(NetError::OtherSubnet { .. })
        ));
        leases.remove("a");
        assert!(leases.check_subnet(&network).is_ok());
    }
}
