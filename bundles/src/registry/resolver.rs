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
        let found = runtime.block_on(self.ask(host))?;
        if found.is_empty() { Err(Fault::UnknownHost) } else { Ok(found) }
    }

    async fn ask(&self, host: &str) -> Result<Vec<IpAddr>, Fault> {
        let name_server = |error: NetError| Fault::NameServer(error.to_string());
        let resolver = TokioResolver::builder_tokio().and_then(|builder| builder.build()).map_err(name_server)?;
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
    use super::*;

    #[test]
    fn what_needs_no_name_server() {
        let names = Names { cancel: Cancel::new(), limit: Duration::ZERO };
        for (host, wanted) in [("127.0.0.1", "127.0.0.1"), ("[::1]", "::1"), ("localhost", "127.0.0.1"), ("a.localhost", "127.0.0.1")] {
            assert_eq!(names.addresses(host).unwrap()[0].to_string(), wanted, "{host}");
        }
        let uri: Uri = "https://127.0.0.1/".parse().unwrap();
        let found = names.resolve(&uri, &Config::default(), NextTimeout::default()).unwrap();
        assert_eq!(found[0].to_string(), "127.0.0.1:443");
    }

    #[test]
    fn loopback_by_name() {
        for (host, wanted) in [("127.9.9.9", true), ("localhost", true), ("[::1]", true), ("localhost.io", false), ("10.0.0.1", false)] {
            assert_eq!(is_loopback(host), wanted, "{host}");
        }
    }
}
