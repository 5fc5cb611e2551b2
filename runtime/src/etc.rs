//! /etc/hosts, /etc/hostname and /etc/resolv.conf of a pod, as kubelet writes them.

use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use bundles::plan::{DnsPlan, HostAlias, NetworkMode, PodPlan};

use crate::error::Error;
use crate::store::private_dir;

/// Most name servers a resolver reads (resolv.conf(5), MAXNS).
const MAX_NAMESERVERS: usize = 3;
/// Most search domains Kubernetes allows.
const MAX_SEARCHES: usize = 32;

/// The files, on the host; bind mounted into every container of the pod.
#[derive(Debug, Clone)]
pub(crate) struct EtcFiles {
    pub(crate) hosts: PathBuf,
    pub(crate) hostname: PathBuf,
    pub(crate) resolv_conf: PathBuf,
}

impl EtcFiles {
    /// Writes them into `dir`.
    pub(crate) fn write(dir: &Path, plan: &PodPlan, pod_ip: Option<Ipv4Addr>) -> Result<Self, Error> {
        private_dir(dir)?;
        let files = Self { hosts: dir.join("hosts"), hostname: dir.join("hostname"), resolv_conf: dir.join("resolv.conf") };
        let host_network = plan.network == NetworkMode::Host;
        let hosts = if host_network { host_hosts(&plan.host_aliases) } else { pod_hosts(plan, pod_ip) };
        write(&files.hosts, &hosts)?;
        write(&files.hostname, &format!("{}\n", plan.hostname))?;
        write(&files.resolv_conf, &resolv_conf(&plan.dns, &host_resolv_conf(host_network)))?;
        Ok(files)
    }
}

fn write(path: &Path, text: &str) -> Result<(), Error> {
    // Mode 0644: read by any user of the container through the bind mount; the directory keeps the host's users out.
    fs::write(path, text).map_err(Error::file("write", path))
}

fn pod_hosts(plan: &PodPlan, pod_ip: Option<Ipv4Addr>) -> String {
    let mut text = String::from(
        "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n\
         fe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n",
    );
    if let Some(ip) = pod_ip {
        text.push_str(&format!("{ip}\t{}\n", plan.hostname));
    }
    text + &aliases(&plan.host_aliases)
}

fn host_hosts(host_aliases: &[HostAlias]) -> String {
    // A host without the file has no names of its own to give.
    let own = fs::read_to_string("/etc/hosts").unwrap_or_default();
    format!("# Kubernetes-managed hosts file (host network).\n{own}{}", aliases(host_aliases))
}

fn aliases(host_aliases: &[HostAlias]) -> String {
    let mut text = String::new();
    if !host_aliases.is_empty() {
        text.push_str("\n# Entries added by HostAliases.\n");
    }
    for alias in host_aliases {
        // Writing to a String cannot fail.
        writeln!(text, "{}\t{}", alias.ip, alias.hostnames.join("\t")).unwrap_or_default();
    }
    text
}

/// The host's resolver configuration. A stub resolver on the host's loopback cannot be reached from a pod's network:
/// then systemd-resolved's list of real servers is taken, as kubelet is told to on such hosts.
fn host_resolv_conf(host_network: bool) -> String {
    let own = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    if host_network || !nameservers(&own).iter().all(IpAddr::is_loopback) {
        return own;
    }
    fs::read_to_string("/run/systemd/resolve/resolv.conf").unwrap_or(own)
}

fn nameservers(text: &str) -> Vec<IpAddr> {
    text.lines().filter_map(|line| line.trim().strip_prefix("nameserver")).filter_map(|rest| rest.trim().parse().ok()).collect()
}

fn resolv_conf(dns: &DnsPlan, host: &str) -> String {
    let (mut servers, mut searches, mut options) = (Vec::new(), Vec::new(), Vec::new());
    if dns.inherit_host {
        servers = nameservers(host);
        for line in host.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("search" | "domain") => searches = words.map(str::to_owned).collect(),
                Some("options") => options.extend(words.map(str::to_owned)),
                _ => {}
            }
        }
    }
    for server in &dns.nameservers {
        if !servers.contains(server) {
            servers.push(*server);
        }
    }
    for search in &dns.searches {
        if !searches.contains(search) {
            searches.push(search.clone());
        }
    }
    for option in &dns.options {
        // The pod's value replaces the host's.
        let key = |o: &str| o.split(':').next().unwrap_or_default().to_owned();
        options.retain(|o| key(o) != key(option));
        options.push(option.clone());
    }
    let mut text = String::new();
    if !searches.is_empty() {
        searches.truncate(MAX_SEARCHES);
        text.push_str(&format!("search {}\n", searches.join(" ")));
    }
    for server in servers.iter().take(MAX_NAMESERVERS) {
        text.push_str(&format!("nameserver {server}\n"));
    }
    if !options.is_empty() {
        text.push_str(&format!("options {}\n", options.join(" ")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pod_dns_is_added_behind_the_hosts_and_replaces_its_options() {
        let dns = DnsPlan {
            inherit_host: true,
            nameservers: vec!["1.1.1.1".parse().unwrap(), "9.9.9.9".parse().unwrap(), "8.8.8.8".parse().unwrap()],
            searches: vec!["b.example".into()],
            options: vec!["ndots:2".into()],
        };
        let host = "nameserver 1.1.1.1\nnameserver 4.4.4.4\nsearch a.example\noptions ndots:5 edns0\n";
        assert_eq!(
            resolv_conf(&dns, host),
            "search a.example b.example\nnameserver 1.1.1.1\nnameserver 4.4.4.4\nnameserver 9.9.9.9\noptions edns0 ndots:2\n"
        );
    }

    #[test]
    fn policy_none_takes_nothing_from_the_host() {
        let dns = DnsPlan { nameservers: vec!["10.0.0.1".parse().unwrap()], ..DnsPlan::default() };
        assert_eq!(resolv_conf(&dns, "nameserver 1.1.1.1\nsearch a\n"), "nameserver 10.0.0.1\n");
    }
}
