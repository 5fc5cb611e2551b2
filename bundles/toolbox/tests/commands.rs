//! That every command of the list is there, and those written here do their work.

mod common;

use std::net::{TcpListener, TcpStream};
use std::process::Child;

use common::{Image, applets, finish, limited, start, until};

/// A port that was free a moment ago.
fn port() -> String {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port().to_string()
}

/// Ends a server and collects it.
struct Server(Option<Child>);

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            child.kill().expect("end the server");
            child.wait().expect("collect the server");
        }
    }
}

fn text(image: &Image, name: &str, args: &[&str]) -> String {
    let output = image.run(name, args, "");
    assert!(output.status.success(), "{name} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn every_applet_is_dispatched() {
    let image = Image::new();
    let mut list = std::process::Command::new(env!("CARGO_BIN_EXE_toolbox"));
    list.arg("--list");
    let list = String::from_utf8(finish(list, "").stdout).expect("a list");
    assert_eq!(list.lines().collect::<Vec<_>>(), applets());
    for name in applets() {
        // An option nobody has, or where none is looked at (yes, sh, clear) the end of input, ends all of them.
        let args: &[&str] = if name == "yes" { &["--help"] } else { &["--no-such-option-anywhere"] };
        let output = image.run(name, args, "");
        assert!(!String::from_utf8_lossy(&output.stderr).contains("no such command"), "{name} does not dispatch");
    }
}

#[test]
fn everyday_commands_have_their_words() {
    let image = Image::new();
    let (output, status) = image.sh(
        "printf 'b\\na\\nb\\n' >f; sort f | uniq -c | tr -s ' '; grep -c b f; grep -vn b f; grep -Eqi 'A|x' f && echo found; \
         sed 's/b/X/' f | head -1; cut -c1 f | tail -1; find . -name f; echo f g | xargs -n1 echo; seq 3 | wc -l; \
         basename /a/b; stat -c %s f; sha256sum f | cut -d' ' -f1; timeout 0.1 sleep 5; echo $?",
    );
    // The digest is what coreutils' sha256sum says of "b\na\nb\n".
    let digest = "7cafa1b24cf9d8d1f03cdc8c03cbe7343e2c7345af2dccce72a830042858a984";
    assert_eq!(output, format!(" 1 a\n 2 b\n2\n2:a\nfound\nX\nb\n./f\nf\ng\n3\nb\n6\n{digest}\n124\n"));
    assert_eq!(status, 0);
    let help = text(&image, "ls", &["--help"]);
    assert!(help.contains("List") && !help.contains("ls-about"), "messages are embedded: {help}");
}

#[test]
fn ip_shows_and_changes_a_namespace() {
    let image = Image::new();
    let script = "ip link set lo up; ip link add d0 type bridge; ip addr add 10.9.8.7/24 dev d0; ip link set d0 up mtu 1400; \
                  ip route add default via 10.9.8.1; ip -br -4 a; ip r; ip link show d0; ip addr del 10.9.8.7/24 dev d0; ip r; ip link del d0; ip link show d0; echo $?";
    // unshare itself is the host's; the script finds only the image's commands.
    let mut command = std::process::Command::new("/usr/bin/unshare");
    command.arg("--net").arg(image.path().join("bin/sh")).args(["-c", script]).env("PATH", image.path().join("bin"));
    let output = finish(command, "");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    for expected in [
        "lo               UNKNOWN        127.0.0.1/8 \n",
        " 10.9.8.7/24 \n",
        "default via 10.9.8.1 dev d0 \n",
        "10.9.8.0/24 dev d0 proto kernel scope link src 10.9.8.7 \n",
        "BROADCAST,MULTICAST,UP",
        " mtu 1400 ",
        "    link/ether ",
    ] {
        assert!(text.contains(expected), "{expected:?} is not in:\n{text}\n{}", String::from_utf8_lossy(&output.stderr));
    }
    assert!(text.ends_with("\n1\n"), "a link that was removed is not found:\n{text}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("cannot find device \"d0\""));
}

#[test]
fn httpd_serves_and_wget_fetches() {
    let image = Image::new();
    std::fs::create_dir_all(image.path().join("www/sub dir")).expect("make directories");
    std::fs::write(image.path().join("www/a.txt"), "content\n").expect("write a file");
    std::fs::write(image.path().join("secret"), "secret\n").expect("write a file");
    let big = "0123456789abcdef".repeat(100_000);
    std::fs::write(image.path().join("www/big"), &big).expect("write a file");
    let port = port();
    let _server = Server(Some(start(image.command("httpd", &["-f", "-p", &format!("127.0.0.1:{port}"), "-h", "www"]))));
    until("httpd listens", || TcpStream::connect(format!("127.0.0.1:{port}")).ok());
    let url = |path: &str| format!("http://127.0.0.1:{port}{path}");
    assert_eq!(text(&image, "wget", &["-qO-", &url("/a.txt")]), "content\n");
    assert_eq!(text(&image, "wget", &["-q", "-O", "-", "-T", "5", &format!("http://localhost:{port}/a%2etxt?q")]), "content\n");
    assert_eq!(text(&image, "wget", &["-qO-", &url("/big")]), big);
    text(&image, "wget", &["-q", &url("/a.txt")]);
    assert_eq!(std::fs::read_to_string(image.path().join("a.txt")).expect("the fetched file"), "content\n");
    let listing = text(&image, "wget", &["-qO-", &url("/")]);
    assert!(listing.contains("<a href=\"sub%20dir/\">sub dir/</a>"), "{listing}");
    text(&image, "wget", &["-qO-", &url("/sub%20dir")]);
    for path in ["/../secret", "/%2e%2e/secret", "/sub%20dir/../../secret", "//../secret", "/nope"] {
        let output = image.run("wget", &["-qO-", &url(path)], "");
        assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(1), &b""[..]), "{path}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("server returned error: HTTP/1.1 40"), "{path}");
    }
    let sockets = text(&image, "ss", &["-Htlnp"]);
    assert!(sockets.lines().any(|line| line.contains(&format!("127.0.0.1:{port}")) && line.contains("LISTEN") && line.contains("users:((\"httpd\",pid=")), "{sockets}");
    assert_eq!(image.run("wget", &["-q", "https://127.0.0.1/"], "").status.code(), Some(1));
}

#[test]
fn nc_joins_both_ways() {
    let image = Image::new();
    let port = port();
    for udp in [false, true] {
        let (mut listen, mut connect) = (vec!["-l", "-p", port.as_str()], vec!["127.0.0.1", port.as_str()]);
        if udp {
            // UDP has no end: half a second of silence is one.
            listen.splice(0..0, ["-u", "-w", "0.5"]);
            connect.splice(0..0, ["-u", "-w", "0.5"]);
        }
        let mut server = start(image.command("nc", &listen));
        std::io::Write::write_all(server.stdin.as_mut().expect("its input"), b"from the server\n").expect("write");
        until("nc listens", || text(&image, "ss", &["-Hanut"]).contains(&format!(":{port} ")).then_some(()));
        let client = image.run("nc", &connect, "from the client\n");
        let server = limited(server);
        assert_eq!(String::from_utf8_lossy(&client.stdout), "from the server\n", "udp: {udp}");
        assert_eq!(String::from_utf8_lossy(&server.stdout), "from the client\n", "udp: {udp}");
    }
    assert_eq!(image.run("nc", &["-z", "-w", "1", "127.0.0.1", &port], "").status.code(), Some(1));
}

#[test]
fn ping_loopback_and_names() {
    let image = Image::new();
    for host in ["127.0.0.1", "localhost"] {
        let output = text(&image, "ping", &["-c", "2", "-i", "0.05", "-W", "2", host]);
        assert!(output.contains("64 bytes from 127.0.0.1: icmp_seq=2") && output.contains(" 0% packet loss"), "{output}");
    }
    assert_eq!(image.run("ping", &["-c", "1", "name with spaces"], "").status.code(), Some(2));
}

#[test]
fn ps_shows_processes() {
    let image = Image::new();
    let pid = std::process::id().to_string();
    assert_eq!(text(&image, "ps", &["-o", "pid=,user=", "-p", &pid]).split_whitespace().collect::<Vec<_>>(), [pid.as_str(), "root"]);
    assert!(text(&image, "ps", &["-ef"]).starts_with("USER") && text(&image, "ps", &["aux"]).contains("%MEM"));
    let line = text(&image, "ps", &["-o", "comm,netns", "--no-headers", "-p", &pid]);
    let own = std::fs::read_link("/proc/self/ns/net").expect("our namespace").to_string_lossy().into_owned();
    assert!(own.contains(line.split_whitespace().last().expect("an inode")), "{line}");
}

#[test]
fn ipc_objects_are_made_shown_and_removed() {
    let (output, status) = Image::new().sh("id=$(ipcmk -M 4096 | sed 's/.*: //'); ipcs -m | grep -c \" $id  *root  *644  *4096\"; ipcrm -m $id; ipcrm -m $id 2>/dev/null; echo $?");
    assert_eq!((output.as_str(), status), ("1\n1\n", 0));
}

#[test]
fn facts_are_the_kernels() {
    let image = Image::new();
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").expect("the host's name");
    assert_eq!(text(&image, "hostname", &[]), name);
    assert!(text(&image, "mount", &[]).contains(" on / type "));
    assert!(text(&image, "free", &["-m"]).contains("Mem:"));
}
