//! Ports.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Container, ContainerPort, PodSpec};

use super::container::{Role, each};
use super::{Report, path};
use crate::plan::{HostPort, NetworkMode, Protocol};

/// The ports of a container.
pub(super) struct Ports {
    pub(super) host: Vec<HostPort>,
    pub(super) container: Vec<u16>,
}

/// A port number, 1 to 65535.
fn number(value: i32) -> Option<u16> {
    u16::try_from(value).ok().filter(|port| *port > 0)
}

pub(super) fn lower(container: &Container, role: Role, network: NetworkMode, at: &str, report: &mut Report<'_>) -> Ports {
    let mut ports = Ports { host: Vec::new(), container: Vec::new() };
    let at = path::field(at, "ports");
    for (index, port) in container.ports.iter().flatten().enumerate() {
        let at = path::element(&at, index);
        let Some(inside) = number(port.container_port) else {
            let message = match port.container_port {
                0 => "missing: give the port the container listens on, 1 to 65535".to_owned(),
                other => format!("{other} is out of range: 1 to 65535"),
            };
            report.error(&path::field(&at, "containerPort"), message);
            continue;
        };
        ports.container.push(inside);
        if let Some(mapping) = mapping(port, inside, network, &at, report) {
            match role {
                Role::App => ports.host.push(mapping),
                // As in Kubernetes, which maps the ports of what runs as long as the pod.
                Role::Init if network == NetworkMode::Pod => {
                    report.warn(&path::field(&at, "hostPort"), "ignored: the ports of an init container are not mapped");
                }
                Role::Init => {}
            }
        }
    }
    ports
}

fn mapping(port: &ContainerPort, inside: u16, network: NetworkMode, at: &str, report: &mut Report<'_>) -> Option<HostPort> {
    let protocol = match port.protocol.as_deref().unwrap_or("TCP") {
        "TCP" => Some(Protocol::Tcp),
        "UDP" => Some(Protocol::Udp),
        "SCTP" => None,
        other => {
            report.error(&path::field(at, "protocol"), format!("{other:?} is none of TCP, UDP, SCTP"));
            return None;
        }
    };
    let host_ip = host_ip(port, at, report);
    let outside = port.host_port.filter(|outside| *outside != 0)?;
    let host_path = path::field(at, "hostPort");
    let Some(host_port) = number(outside) else {
        report.error(&host_path, format!("{outside} is out of range: 1 to 65535"));
        return None;
    };
    if network == NetworkMode::Host && host_port != inside {
        report.error(&host_path, format!("with hostNetwork it has to be the containerPort, {inside}"));
    }
    let Some(protocol) = protocol else {
        report.error(&path::field(at, "protocol"), "SCTP cannot be mapped to a hostPort: only TCP and UDP can");
        return None;
    };
    Some(HostPort { host_ip, host_port, container_port: inside, protocol })
}

fn host_ip(port: &ContainerPort, at: &str, report: &mut Report<'_>) -> Option<IpAddr> {
    let text = port.host_ip.as_deref().filter(|ip| !ip.is_empty())?;
    let Ok(ip) = text.parse() else {
        report.error(&path::field(at, "hostIP"), format!("{text:?} is no IP address"));
        return None;
    };
    Some(ip)
}

/// True when both would take the same port of the host.
pub(crate) fn collide(a: &HostPort, b: &HostPort) -> bool {
    let any = |ip: Option<IpAddr>| ip.is_none_or(|ip| ip.is_unspecified());
    let same = any(a.host_ip) || any(b.host_ip) || a.host_ip == b.host_ip;
    a.protocol == b.protocol && a.host_port == b.host_port && same
}

/// Ports used twice: an error for those of the host, a warning for those of the pod.
pub(super) fn check(spec: &PodSpec, network: NetworkMode, at: &str, report: &mut Report<'_>) {
    // Who declares each port, the first two.
    let mut inside: BTreeMap<(u16, &str), Vec<&str>> = BTreeMap::new();
    let mut outside = HostPorts::default();
    for (container, _, at) in each(spec, at).filter(|(_, role, _)| *role == Role::App) {
        let list = path::field(&at, "ports");
        for (index, port) in container.ports.iter().flatten().enumerate() {
            let at = path::element(&list, index);
            let Some(number) = number(port.container_port) else { continue };
            let owners = inside.entry((number, port.protocol.as_deref().unwrap_or_default())).or_default();
            if let Some(first) = owners.iter().find(|owner| **owner != container.name) {
                report.warn(
                    &path::field(&at, "containerPort"),
                    format!("{number} is also declared by container {first:?}: they share one network namespace, the second to bind gets EADDRINUSE"),
                );
            }
            if owners.len() < 2 && !owners.contains(&container.name.as_str()) {
                owners.push(&container.name);
            }
            check_host(port, number, network, &at, &mut outside, report);
        }
    }
}

fn check_host(port: &ContainerPort, inside: u16, network: NetworkMode, at: &str, seen: &mut HostPorts, report: &mut Report<'_>) {
    let Some(host_port) = port.host_port.and_then(number) else { return };
    let protocol = match port.protocol.as_deref() {
        Some("UDP") => Protocol::Udp,
        Some("TCP") | None => Protocol::Tcp,
        Some(_) => return,
    };
    let host_ip = port.host_ip.as_deref().and_then(|ip| ip.parse().ok());
    let mapping = HostPort { host_ip, host_port, container_port: inside, protocol };
    let at = path::field(at, "hostPort");
    if let Some(first) = seen.taken(&mapping, &at) {
        // With hostNetwork every containerPort is one: that is the warning above, not a double mapping.
        if network != NetworkMode::Host {
            report.error(&at, format!("{host_port} is already used by {first}"));
        }
    }
}

/// The ports of the host that a pod takes. It is [`collide`] without a comparison of all with all.
#[derive(Default)]
struct HostPorts(BTreeMap<(bool, u16), Holders>);

/// Who takes a port of the host: on all addresses, on single ones.
#[derive(Default)]
struct Holders {
    all: Option<String>,
    single: BTreeMap<IpAddr, String>,
}

impl HostPorts {
    /// Takes a port for who is at `at`, and tells who has it already.
    fn taken(&mut self, port: &HostPort, at: &str) -> Option<String> {
        let Holders { all, single } = self.0.entry((port.protocol == Protocol::Udp, port.host_port)).or_default();
        let ip = port.host_ip.filter(|ip| !ip.is_unspecified());
        let holder = match ip {
            Some(ip) => all.as_ref().or_else(|| single.get(&ip)),
            None => all.as_ref().or_else(|| single.values().next()),
        };
        let holder = holder.cloned();
        match ip {
            Some(ip) => single.entry(ip).or_insert_with(|| at.to_owned()),
            None => all.get_or_insert_with(|| at.to_owned()),
        };
        holder
    }
}
