//! Hostname, hosts and resolvers.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{PodDNSConfig, PodSpec};

use super::super::names;
use super::{Report, choice, path};
use crate::plan::{DnsPlan, HostAlias, NetworkMode};

/// Longest host name of Kubernetes, in bytes; the kernel takes 64.
const HOSTNAME_MAX: usize = 63;

pub(super) fn hostname(spec: &PodSpec, pod: &str, network: NetworkMode, at: &str, report: &mut Report<'_>) -> String {
    if network == NetworkMode::Host {
        if spec.hostname.is_some() {
            report.note(&path::field(at, "hostname"), "has no effect with hostNetwork: the host's name is seen");
        }
        return rustix::system::uname().nodename().to_string_lossy().into_owned();
    }
    if let Some(name) = spec.hostname.as_deref().filter(|name| !name.is_empty()) {
        if !names::is_label(name) {
            report.error(&path::field(at, "hostname"), format!("{name:?} is no host name (lower-case letters, digits and '-', at most {HOSTNAME_MAX})"));
        }
        return name.to_owned();
    }
    let cut: String = pod.chars().take(HOSTNAME_MAX).collect();
    cut.trim_end_matches(['-', '.']).to_owned()
}

pub(super) fn host_aliases(spec: &PodSpec, at: &str, report: &mut Report<'_>) -> Vec<HostAlias> {
    let at = path::field(at, "hostAliases");
    let mut aliases = Vec::new();
    for (index, alias) in spec.host_aliases.iter().flatten().enumerate() {
        let at = path::element(&at, index);
        let hostnames = alias.hostnames.clone().unwrap_or_default();
        for (index, name) in hostnames.iter().enumerate() {
            // A name with a space or a newline would write lines of its own into /etc/hosts.
            if !names::is_subdomain(&name.to_lowercase().replace('_', "-")) {
                let at = path::element(&path::field(&at, "hostnames"), index);
                report.error(&at, format!("{name:?} is no host name"));
            }
        }
        match alias.ip.parse() {
            Ok(ip) => aliases.push(HostAlias { ip, hostnames }),
            Err(_) => report.error(&path::field(&at, "ip"), format!("{:?} is no IP address", alias.ip)),
        }
    }
    aliases
}

/// What is asked of /etc/resolv.conf.
#[derive(Clone, Copy, PartialEq)]
enum DnsPolicy {
    Host,
    Cluster,
    None,
}

pub(super) fn dns(spec: &PodSpec, at: &str, report: &mut Report<'_>) -> DnsPlan {
    const CHOICES: &[(&str, DnsPolicy)] = &[
        ("Default", DnsPolicy::Host),
        ("ClusterFirst", DnsPolicy::Cluster),
        ("ClusterFirstWithHostNet", DnsPolicy::Cluster),
        ("None", DnsPolicy::None),
    ];
    let policy_path = path::field(at, "dnsPolicy");
    let policy = choice(spec.dns_policy.as_deref(), CHOICES, &policy_path, report).unwrap_or(DnsPolicy::Host);
    // The default is ClusterFirst: only who writes it expects a cluster.
    let written = report.root().locate(&path::steps(&policy_path)) != report.root().locate(&path::steps(at));
    if policy == DnsPolicy::Cluster && written {
        report.note(&policy_path, "there is no cluster DNS: the host's resolvers are used");
    }
    let mut plan = DnsPlan { inherit_host: policy != DnsPolicy::None, ..DnsPlan::default() };
    if let Some(config) = &spec.dns_config {
        dns_config(config, &mut plan, &path::field(at, "dnsConfig"), report);
    }
    if policy == DnsPolicy::None && plan.nameservers.is_empty() {
        report.error(&policy_path, "None needs at least one of dnsConfig.nameservers");
    }
    plan
}

fn dns_config(config: &PodDNSConfig, plan: &mut DnsPlan, at: &str, report: &mut Report<'_>) {
    let list = path::field(at, "nameservers");
    for (index, text) in config.nameservers.iter().flatten().enumerate() {
        match text.parse::<IpAddr>() {
            Ok(ip) => plan.nameservers.push(ip),
            Err(_) => report.error(&path::element(&list, index), format!("{text:?} is no IP address")),
        }
    }
    if plan.nameservers.len() > 3 {
        report.error(&list, "at most 3 nameservers are used by a resolver (resolv.conf(5))");
    }
    let list = path::field(at, "searches");
    for (index, domain) in config.searches.iter().flatten().enumerate() {
        let plain = domain.trim_end_matches('.').to_lowercase().replace('_', "-");
        if !(domain == "." || names::is_subdomain(&plain)) {
            report.error(&path::element(&list, index), format!("{domain:?} is no domain name"));
        }
        plan.searches.push(domain.clone());
    }
    if plan.searches.len() > 32 {
        report.error(&list, "at most 32 search domains are allowed");
    }
    let list = path::field(at, "options");
    for (index, option) in config.options.iter().flatten().enumerate() {
        let at = path::element(&list, index);
        let name = option.name.as_deref().unwrap_or_default();
        let text = option.value.as_ref().map_or_else(|| name.to_owned(), |value| format!("{name}:{value}"));
        if name.is_empty() {
            report.error(&path::field(&at, "name"), "missing: an option needs a name");
        } else if text.contains(|c: char| c.is_whitespace() || c.is_control()) {
            report.error(&at, format!("{text:?} must not hold a space"));
        }
        plan.options.push(text);
    }
}
