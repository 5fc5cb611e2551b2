//! `--publish [IP:]HOST:CTR[/PROTO]`.

use std::net::IpAddr;

use super::collide;
use crate::plan::{ContainerPlan, HostPort, NetworkMode, PodPlan, Protocol};

/// Adds one mapping of `--publish` to a pod. It replaces the mapping of the same container port and protocol, and goes
/// to the container that declares the port, else to the first.
///
/// # Errors
/// A sentence when the text is not of the form `[IP:]HOST:CTR[/PROTO]` or the port is taken within the pod.
pub fn publish(plan: &mut PodPlan, spec: &str) -> Result<(), String> {
    publish_all(plan, &[spec])
}

/// Adds all mappings of `--publish`; the same container port may be given several times.
///
/// # Errors
/// As [`publish`]; the plan is then unchanged.
pub fn publish_all(plan: &mut PodPlan, specs: &[&str]) -> Result<(), String> {
    let mappings = specs.iter().map(|spec| read(spec)).collect::<Result<Vec<_>, _>>()?;
    let mut containers = plan.containers.clone();
    for container in &mut containers {
        let given = |port: &HostPort| {
            mappings.iter().any(|m| (m.container_port, m.protocol) == (port.container_port, port.protocol))
        };
        container.host_ports.retain(|port| !given(port));
    }
    for (mapping, spec) in mappings.into_iter().zip(specs) {
        add(&mut containers, mapping, plan.network).map_err(|why| format!("publish {spec:?}: {why}"))?;
    }
    plan.containers = containers;
    Ok(())
}

fn add(containers: &mut [ContainerPlan], mapping: HostPort, network: NetworkMode) -> Result<(), String> {
    match network {
        NetworkMode::Host if mapping.host_port != mapping.container_port => {
            return Err("with hostNetwork the port of the host is the container's".to_owned());
        }
        NetworkMode::None => return Err("the pod has no network".to_owned()),
        NetworkMode::Host | NetworkMode::Pod => {}
    }
    if let Some(holder) = containers.iter().find(|c| c.host_ports.iter().any(|port| collide(port, &mapping))) {
        return Err(format!("port {} of the host is already mapped to container {:?}", mapping.host_port, holder.name));
    }
    let declares = |c: &ContainerPlan| c.container_ports.contains(&mapping.container_port);
    let index = containers.iter().position(declares).unwrap_or(0);
    let container = containers.get_mut(index).ok_or("the pod has no containers")?;
    container.host_ports.push(mapping);
    Ok(())
}

fn read(spec: &str) -> Result<HostPort, String> {
    let bad = |why: &str| format!("publish {spec:?}: {why}; write [IP:]HOST:CTR[/PROTO], such as 8080:80 or 127.0.0.1:53:53/udp");
    let (ports, protocol) = match spec.split_once('/') {
        None => (spec, Protocol::Tcp),
        Some((ports, protocol)) => match protocol.to_ascii_lowercase().as_str() {
            "tcp" => (ports, Protocol::Tcp),
            "udp" => (ports, Protocol::Udp),
            _ => return Err(bad("the protocol is neither tcp nor udp")),
        },
    };
    let (front, container) = ports.rsplit_once(':').ok_or_else(|| bad("the container's port is missing"))?;
    let (ip, host) = match front.rsplit_once(':') {
        Some((ip, host)) => (Some(ip.strip_prefix('[').and_then(|ip| ip.strip_suffix(']')).unwrap_or(ip)), host),
        None => (None, front),
    };
    let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
    let host_ip = match ip.filter(|ip| !ip.is_empty()) {
        Some(ip) => Some(ip.parse::<IpAddr>().map_err(|_| bad("the address is none"))?),
        None => None,
    };
    Ok(HostPort {
        host_ip,
        host_port: port(host).ok_or_else(|| bad("the host's port is not a number from 1 to 65535"))?,
        container_port: port(container).ok_or_else(|| bad("the container's port is not a number from 1 to 65535"))?,
        protocol,
    })
}
