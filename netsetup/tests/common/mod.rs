//! A private "host": a network namespace of the test's own, in which everything happens. The machine's is untouched.
#![allow(dead_code, clippy::unwrap_used, missing_docs)] // each suite uses its own part

use netsetup::{Attachment, IfName, Network, PortMapping, Protocol, Request, attach};
use nix::sched::{CloneFlags, setns, unshare};
use std::{
    fs::{self, File},
    future::Future,
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket},
    os::fd::{AsFd, AsRawFd, BorrowedFd},
    process::Command,
    sync::mpsc,
    thread,
    time::Duration,
};

/// Longest test, far beyond what any needs.
const LIMIT: Duration = Duration::from_secs(60);
/// Longest wait for a packet.
pub(crate) const PATIENCE: Duration = Duration::from_secs(3);

/// Runs a test on a thread in a network namespace of its own, whose `lo` is up.
pub(crate) fn in_private_host<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    let (done, wait) = mpsc::channel();
    let body = move || {
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace of one's own needs root");
        run("ip", "link set lo up");
        fs::write("/proc/sys/net/ipv4/ping_group_range", "0 2147483647").unwrap(); // so that the host can ping too
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(test());
        drop(runtime);
        done.send(()).unwrap();
    };
    let thread = thread::spawn(body);
    match wait.recv_timeout(LIMIT) {
        Ok(()) | Err(mpsc::RecvTimeoutError::Disconnected) => {
            if let Err(panic) = thread.join() {
                std::panic::resume_unwind(panic);
            }
        }
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("the test took longer than {LIMIT:?}"),
    }
}

/// A network namespace, gone with its last descriptor.
pub(crate) struct Netns(File);

impl Netns {
    pub(crate) fn new() -> Self {
        let made = thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            File::open("/proc/thread-self/ns/net").unwrap()
        });
        Self(made.join().unwrap())
    }

    /// The calling thread's own.
    pub(crate) fn current() -> Self {
        Self(File::open("/proc/thread-self/ns/net").unwrap())
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// A path for `ip link ... netns PATH`.
    pub(crate) fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }

    pub(crate) fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                setns(&self.0, CloneFlags::CLONE_NEWNET).unwrap();
                work()
            });
            inside.join().unwrap()
        })
    }
}

/// A network of the private host, with its lease file.
pub(crate) struct Host {
    pub(crate) network: Network,
    _state: tempfile::TempDir,
}

impl Host {
    pub(crate) fn new() -> Self {
        Self::with_subnet("10.244.0.0/24")
    }

    pub(crate) fn with_subnet(subnet: &str) -> Self {
        let state = tempfile::tempdir().unwrap();
        let network = Network {
            bridge: IfName::new("minipod0").unwrap(),
            subnet: subnet.parse().unwrap(),
            cluster: "10.244.0.0/16".parse().unwrap(),
            leases: state.path().join("leases.json"),
        };
        Self {
            network,
            _state: state,
        }
    }

    /// Attaches a new namespace; panics when that fails.
    pub(crate) async fn pod(&self, name: &str, ports: &[PortMapping]) -> (Netns, Attachment) {
        let netns = Netns::new();
        let attachment = attach(&self.network, &request(name, &netns, ports))
            .await
            .unwrap();
        (netns, attachment)
    }
}

/// A request as a runtime would make it: owner NAME, label default/NAME, link mp-NAME.
pub(crate) fn request<'a>(
    name: &'a str,
    netns: &'a Netns,
    ports: &'a [PortMapping],
) -> Request<'a> {
    Request {
        owner: name,
        label: format!("default/{name}").leak(),
        netns: netns.fd(),
        host_if: IfName::new(format!("mp-{name}")).unwrap(),
        pod_if: IfName::new("eth0").unwrap(),
        address: None,
        mac: None,
        mtu: None,
        ports,
    }
}

pub(crate) fn port(
    host_ip: Option<Ipv4Addr>,
    host_port: u16,
    container_port: u16,
    protocol: Protocol,
) -> PortMapping {
    PortMapping {
        host_ip,
        host_port,
        container_port,
        protocol,
    }
}

/// Runs a program in the calling thread's namespace; its output. Ten seconds at most.
pub(crate) fn run(program: &str, arguments: &str) -> String {
    let output = Command::new("timeout")
        .arg("10")
        .arg(program)
        .args(arguments.split_whitespace())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{program} {arguments}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

/// Links and ruleset of the calling thread's namespace, without what counts or numbers.
pub(crate) fn snapshot() -> String {
    let links = run("ip", "-o link");
    let names: Vec<&str> = links
        .lines()
        .filter_map(|line| line.split(": ").nth(1))
        .collect();
    format!(
        "{names:?}\n{}{}{}",
        run("ip", "route"),
        run("ip", "-o -4 address"),
        run("nft", "list ruleset")
    )
}

/// Serves one address: answers every client with the client's address as seen from here.
pub(crate) fn serve_tcp(netns: &Netns, port: u16) {
    let listener = netns.enter(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let peer = stream.peer_addr().unwrap().ip().to_string();
            if stream.write_all(peer.as_bytes()).is_err() {
                return;
            }
        }
    });
}

/// The same by UDP, one datagram for one.
pub(crate) fn serve_udp(netns: &Netns, port: u16) {
    let socket = netns.enter(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap());
    thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok((_, peer)) = socket.recv_from(&mut buffer) {
            if socket
                .send_to(peer.ip().to_string().as_bytes(), peer)
                .is_err()
            {
                return;
            }
        }
    });
}

/// Who the server says we are; from the calling thread's namespace.
pub(crate) fn ask_tcp(to: Ipv4Addr, port: u16) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&SocketAddr::from((to, port)), PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// The same by UDP.
pub(crate) fn ask_udp(to: Ipv4Addr, port: u16) -> io::Result<String> {
    let socket = UdpSocket::bind(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.connect((to, port))?;
    socket.send(b"?")?;
    let mut buffer = [0; 64];
    let length = socket.recv(&mut buffer)?;
    Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

/// One echo request by an unprivileged ICMP socket (icmp(7)), answered or not.
pub(crate) fn ping(to: Ipv4Addr) -> io::Result<()> {
    use rustix::net::{AddressFamily, SocketType, connect, ipproto, socket, sockopt};
    let socket = socket(AddressFamily::INET, SocketType::DGRAM, Some(ipproto::ICMP))?;
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(PATIENCE))?;
    connect(&socket, &SocketAddrV4::new(to, 0))?;
    let echo_request = [8, 0, 0, 0, 0, 0, 0, 1]; // the kernel fills in checksum and identifier
    rustix::io::write(&socket, &echo_request)?;
    let mut answer = [0; 64];
    let length = rustix::io::read(&socket, &mut answer)?;
    if length >= 8 && answer[0] == 0 {
        Ok(())
    } else {
        Err(io::Error::other("not an echo reply"))
    }
}
