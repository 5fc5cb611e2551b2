//! Names to addresses: /etc/hosts and the name servers of /etc/resolv.conf.
//!
//! Not by getaddrinfo: our programs are linked statically, and it would load the host's NSS modules into them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::net::NetError;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

use super::transport::{Fault, SLICE};
use crate::cancel::Cancel;

/// As many addresses as ureq has room for.
const MOST_ADDRESSES: usize = 16;

/// Looks names up for one client.
#[derive(Debug)]
pub(super) struct Names {
    pub(super) cancel: Cancel,
    pub(super) limit: Duration,
}

impl Resolver for Names {
    fn resolve(&self, uri: &Uri, _: &Config, _: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let host = uri.host().ok_or_else(|| ureq::Error::BadUri("no host in it".into()))?;
        let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("http") { 80 } else { 443 });
        let mut found = self.empty();
        for address in self.addresses(host)?.into_iter().take(MOST_ADDRESSES) {
            found.push(SocketAddr::new(address, port));
        }
        Ok(found)
    }
}

impl Names {
    /// At least one.
    fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, Fault> {
        if let Some(address) = literal(host) {
            return Ok(vec![address]);
        }
        if is_localhost(host) {
            return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
        }
        // A runtime of our own for each look-up: no thread, no descriptor stays behind.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build();
        let runtime = runtime.map_err(|error| Fault::NameServer(error.to_string()))?;
        let found = runtime.block_on(async {
            let resolver = TokioResolver::builder_tokio().and_then(|builder| builder.build());
            self.ask(&resolver.map_err(name_server)?, host).await
        })?;
        if found.is_empty() { Err(Fault::UnknownHost) } else { Ok(found) }
    }

    /// Looks at the cancel now and then.
    async fn ask(&self, resolver: &TokioResolver, host: &str) -> Result<Vec<IpAddr>, Fault> {
        let mut answer = std::pin::pin!(resolver.lookup_ip(host));
        let mut waited = Duration::ZERO;
        loop {
            match tokio::time::timeout(SLICE, &mut answer).await {
                Ok(Ok(found)) => return Ok(found.iter().collect()),
                Ok(Err(error)) if error.is_nx_domain() || error.is_no_records_found() => return Err(Fault::UnknownHost),
                Ok(Err(error)) => return Err(name_server(error)),
                Err(_) if self.cancel.is_cancelled() => return Err(Fault::Cancelled),
                Err(_) => waited += SLICE,
            }
            if waited >= self.limit {
                return Err(Fault::NameServer("no answer in time".into()));
            }
        }
    }
}

fn name_server(error: NetError) -> Fault {
    Fault::NameServer(error.to_string())
}

fn literal(host: &str) -> Option<IpAddr> {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    bare.parse().ok()
}

/// RFC 6761: `localhost` and all below it are this machine, whatever a name server says.
fn is_localhost(host: &str) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    host == "localhost" || host.ends_with(".localhost")
}

/// Whether a host is this machine, by its name alone.
pub(super) fn is_loopback(host: &str) -> bool {
    is_localhost(host) || literal(host).is_some_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
    use hickory_resolver::net::runtime::TokioRuntimeProvider;

    use super::*;

    #[test]
    fn what_needs_no_name_server() {
        let names = Names { cancel: Cancel::new(), limit: Duration::ZERO };
        let known = [("127.0.0.1", "127.0.0.1"), ("[::1]", "::1"), ("localhost", "127.0.0.1"), ("a.localhost", "127.0.0.1")];
        for (host, wanted) in known {
            assert_eq!(names.addresses(host).unwrap()[0].to_string(), wanted, "{host}");
        }
        let uri: Uri = "https://127.0.0.1/".parse().unwrap();
        let found = names.resolve(&uri, &Config::default(), NextTimeout::default()).unwrap();
        assert_eq!(found[0].to_string(), "127.0.0.1:443");
    }

    #[test]
    fn loopback_by_name() {
        for (host, wanted) in [
            ("127.9.9.9", true),
            ("localhost", true),
            ("[::1]", true),
            ("localhost.io", false),
            ("10.0.0.1", false),
        ] {
            assert_eq!(is_loopback(host), wanted, "{host}");
        }
    }

    /// How a name server answers.
    #[derive(Clone, Copy)]
    enum Answer {
        Address,
        Code(u8),
        Silence,
    }

    /// The answer to a question. Spec: RFC 1035, 4.1.
    fn answer(question: &[u8], answer: Answer) -> Option<Vec<u8>> {
        const FIXED: usize = 12;
        const TYPE_A: u8 = 1;
        let name = question[FIXED..].iter().position(|byte| *byte == 0).unwrap() + 1;
        let mut reply = question[..FIXED + name + 4].to_vec();
        let code = match answer {
            Answer::Address => 0,
            Answer::Code(code) => code,
            Answer::Silence => return None,
        };
        let is_a = reply[FIXED + name + 1] == TYPE_A;
        let records = u8::from(matches!(answer, Answer::Address) && is_a);
        // A response, recursion available; one question, its answers, nothing else.
        reply[2..FIXED].copy_from_slice(&[0x81, 0x80 | code, 0, 1, 0, records, 0, 0, 0, 0]);
        if records > 0 {
            // The name of the question, A, IN, a minute, four bytes.
            reply.extend([0xc0, 12, 0, TYPE_A, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 1]);
        }
        Some(reply)
    }

    /// Asks a name server on 127.0.0.1 that answers so. When it is silent, `cancel` is told with the first question.
    fn ask(how: Answer, cancel: Option<Cancel>) -> Result<Vec<IpAddr>, Fault> {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let names = Names { cancel: cancel.clone().unwrap_or_default(), limit: SLICE * 2 };
        // Ends with an empty question.
        let server = std::thread::spawn(move || {
            let mut question = [0; 1024];
            loop {
                let (length, from) = socket.recv_from(&mut question).unwrap();
                if length == 0 {
                    return;
                }
                cancel.iter().for_each(Cancel::cancel);
                if let Some(reply) = answer(&question[..length], how) {
                    socket.send_to(&reply, from).unwrap();
                }
            }
        });
        let mut connection = ConnectionConfig::udp();
        connection.port = address.port();
        let mut server_config = NameServerConfig::udp_and_tcp(address.ip());
        server_config.connections = vec![connection];
        let config = ResolverConfig::from_parts(None, Vec::new(), vec![server_config]);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build().unwrap();
        let result = runtime.block_on(async {
            let resolver = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default()).build().unwrap();
            names.ask(&resolver, "registry.example").await
        });
        UdpSocket::bind("127.0.0.1:0").unwrap().send_to(&[], address).unwrap();
        server.join().unwrap();
        result
    }

    #[test]
    fn what_name_servers_say() {
        assert_eq!(ask(Answer::Address, None).unwrap(), ["192.0.2.1".parse::<IpAddr>().unwrap()]);
        assert!(matches!(ask(Answer::Code(3), None), Err(Fault::UnknownHost)), "no such name");
        assert!(matches!(ask(Answer::Code(2), None), Err(Fault::NameServer(_))), "the server failed");
        assert!(matches!(ask(Answer::Silence, None), Err(Fault::NameServer(_))));
        assert!(matches!(ask(Answer::Silence, Some(Cancel::new())), Err(Fault::Cancelled)));
    }
}
