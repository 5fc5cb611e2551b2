//! `ss`: sockets, from /proc/net (proc(5)). The backlog's size, which only sock_diag(7) tells, is shown as 0.

use std::collections::HashMap;
use std::net::SocketAddr;

use procfs::net::{TcpState, UdpState};
use procfs::process::FDTarget;

use crate::tool::{arguments, complain, print};

const HELP: &str = "usage: ss [-t] [-u] [-l] [-a] [-n] [-p] [-4] [-6] [-H]\n";

#[derive(Default)]
struct Options {
    tcp: bool,
    udp: bool,
    listening: bool,
    all: bool,
    processes: bool,
    v4: bool,
    v6: bool,
    no_header: bool,
}

/// One line.
struct Socket {
    kind: &'static str,
    state: &'static str,
    queues: (u32, u32),
    local: SocketAddr,
    remote: SocketAddr,
    inode: u64,
}

/// Runs `ss`.
pub(crate) fn main(args: &[std::ffi::OsString]) -> i32 {
    let mut options = Options::default();
    for arg in arguments(args) {
        let Some(letters) = arg.strip_prefix('-').filter(|letters| !letters.is_empty()) else {
            return complain("ss", "filters: not in this ss");
        };
        let letters = match letters {
            "-tcp" => "t",
            "-udp" => "u",
            "-listening" => "l",
            "-all" => "a",
            "-numeric" => "n",
            "-processes" => "p",
            "-no-header" => "H",
            "-help" => return print(HELP),
            other => other,
        };
        for letter in letters.chars() {
            match letter {
                't' => options.tcp = true,
                'u' => options.udp = true,
                'l' => options.listening = true,
                'a' => options.all = true,
                'p' => options.processes = true,
                '4' => options.v4 = true,
                '6' => options.v6 = true,
                'H' => options.no_header = true,
                // Names of ports and extra detail: there are none to leave out or show.
                'n' | 'e' | 'i' | 'o' => {}
                'h' => return print(HELP),
                _ => return complain("ss", &format!("-{letter}: unknown option\n{HELP}")),
            }
        }
    }
    if !options.tcp && !options.udp {
        (options.tcp, options.udp) = (true, true);
    }
    let owners = if options.processes { owners() } else { HashMap::new() };
    let mut text = String::new();
    if !options.no_header {
        text.push_str("Netid State      Recv-Q Send-Q      Local Address:Port       Peer Address:Port Process\n");
    }
    for socket in sockets(&options) {
        let owner = owners.get(&socket.inode).map(|users| format!("users:({})", users.join(","))).unwrap_or_default();
        let line = format!(
            "{:<5} {:<10} {:<6} {:<6} {:>23} {:>23} {owner}",
            socket.kind,
            socket.state,
            socket.queues.0,
            socket.queues.1,
            show(&socket.local),
            show(&socket.remote)
        );
        text.push_str(line.trim_end());
        text.push('\n');
    }
    print(&text)
}

fn show(address: &SocketAddr) -> String {
    let port = if address.port() == 0 { "*".to_owned() } else { address.port().to_string() };
    match address {
        SocketAddr::V4(address) => format!("{}:{port}", address.ip()),
        SocketAddr::V6(address) => format!("[{}]:{port}", address.ip()),
    }
}

fn sockets(options: &Options) -> Vec<Socket> {
    let mut found = Vec::new();
    if options.udp {
        // An absent table is a kernel without that protocol: nothing to show.
        for entry in procfs::net::udp().into_iter().chain(procfs::net::udp6()).flatten() {
            found.push(Socket {
                kind: "udp",
                state: if entry.state == UdpState::Established { "ESTAB" } else { "UNCONN" },
                queues: (entry.rx_queue, entry.tx_queue),
                local: entry.local_address,
                remote: entry.remote_address,
                inode: entry.inode,
            });
        }
    }
    if options.tcp {
        for entry in procfs::net::tcp().into_iter().chain(procfs::net::tcp6()).flatten() {
            found.push(Socket {
                kind: "tcp",
                state: tcp_state(&entry.state),
                queues: (entry.rx_queue, entry.tx_queue),
                local: entry.local_address,
                remote: entry.remote_address,
                inode: entry.inode,
            });
        }
    }
    found.retain(|socket| {
        let waits = matches!(socket.state, "LISTEN" | "UNCONN");
        let family = match (options.v4, options.v6) {
            (true, false) => socket.local.is_ipv4(),
            (false, true) => socket.local.is_ipv6(),
            _ => true,
        };
        family && (options.all || options.listening == waits)
    });
    found
}

fn tcp_state(state: &TcpState) -> &'static str {
    match state {
        TcpState::Established => "ESTAB",
        TcpState::SynSent => "SYN-SENT",
        TcpState::SynRecv | TcpState::NewSynRecv => "SYN-RECV",
        TcpState::FinWait1 => "FIN-WAIT-1",
        TcpState::FinWait2 => "FIN-WAIT-2",
        TcpState::TimeWait => "TIME-WAIT",
        TcpState::Close => "CLOSE",
        TcpState::CloseWait => "CLOSE-WAIT",
        TcpState::LastAck => "LAST-ACK",
        TcpState::Listen => "LISTEN",
        TcpState::Closing => "CLOSING",
    }
}

/// Who has which socket, as ss writes it; processes one may not look into are left out.
fn owners() -> HashMap<u64, Vec<String>> {
    let mut owners: HashMap<u64, Vec<String>> = HashMap::new();
    for process in procfs::process::all_processes().into_iter().flatten().flatten() {
        let Ok(fds) = process.fd() else { continue };
        let name = process.stat().map(|stat| stat.comm).unwrap_or_default();
        for fd in fds.flatten() {
            if let FDTarget::Socket(inode) = fd.target {
                owners.entry(inode).or_default().push(format!("(\"{name}\",pid={},fd={})", process.pid, fd.fd));
            }
        }
    }
    owners
}
