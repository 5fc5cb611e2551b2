//! What `httpd` must not do: leave its directory, take another's port quietly, or outlive SIGTERM as PID 1.

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::symlink;
use std::process::Child;
use std::time::Duration;

use common::{Image, limited, start, until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// An address that was free a moment ago.
fn free() -> String {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").to_string()
}

/// Ends a server and collects it, also when the test fails.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        self.0.kill().expect("end the server");
        self.0.wait().expect("collect the server");
    }
}

/// The whole answer to one request, as it comes.
fn ask(address: &str, request: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("connect");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("set a limit");
    write!(stream, "{request} HTTP/1.0\r\n\r\n").expect("ask");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

#[test]
fn links_lead_only_inside() {
    let image = Image::new();
    let www = image.path().join("www");
    fs::create_dir_all(www.join("trap")).expect("make directories");
    fs::create_dir(image.path().join("www-not")).expect("make a directory");
    for (path, text) in [("www/a.txt", "content"), ("secret", "secret"), ("www-not/b", "secret")] {
        fs::write(image.path().join(path), text).expect("write a file");
    }
    for (target, link) in [("../secret", "leak"), ("/", "root"), ("../www-not", "beside"), ("a.txt", "inner"), ("gone", "dangling")] {
        symlink(target, www.join(link)).expect("make a link");
    }
    symlink(www.join("a.txt"), www.join("absolute")).expect("make a link");
    symlink("../../secret", www.join("trap/index.html")).expect("make a link");
    let address = free();
    let _server = Server(start(image.command("httpd", &["-f", "-p", &address, "-h", "www"])));
    until("httpd listens", || TcpStream::connect(&address).ok());

    for path in ["/inner", "/absolute"] {
        let answer = ask(&address, &format!("GET {path}"));
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\ncontent"), "{path}: {answer}");
    }
    for path in ["/leak", "/root/", "/root/etc/passwd", "/beside/b", "/trap/"] {
        let answer = ask(&address, &format!("GET {path}"));
        assert!(answer.starts_with("HTTP/1.1 403 ") && !answer.contains("secret"), "{path}: {answer}");
    }
    assert!(ask(&address, "GET /dangling").starts_with("HTTP/1.1 404 "));
    let head = ask(&address, "HEAD /a.txt");
    assert!(head.contains("\r\nContent-Length: 7\r\n") && head.contains("\r\nContent-Type: text/plain\r\n") && head.ends_with("\r\n\r\n"), "{head}");
    assert!(ask(&address, "GET //trap").contains("\r\nLocation: /trap/\r\n"), "not another host's address");
}

#[test]
fn a_taken_port_is_an_error() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("take a port");
    let address = taken.local_addr().expect("its address").to_string();
    let output = Image::new().run("httpd", &["-f", "-p", &address], "");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "httpd: bind: Address already in use\n");
}

#[test]
fn pid_1_ends_at_sigterm() {
    let image = Image::new();
    let mut command = std::process::Command::new("/usr/bin/unshare");
    // The shell says that it is PID 1, then becomes httpd, in a network of its own.
    let script = "ip link set lo up; echo $$; exec httpd -f -v -p 127.0.0.1:80 -h .";
    command.args(["--net", "--pid", "--fork", "--kill-child"]).arg(image.path().join("bin/sh")).args(["-c", script]);
    command.current_dir(image.path()).env("PATH", image.path().join("bin"));
    let mut child = start(command);
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().expect("its output")).read_line(&mut line).expect("a line");
    assert_eq!(line, "1\n");
    let unshare = child.id();
    // Signals that come before it asks for them are lost: it has asked once it listens (state 0A in its own tcp table).
    let pid = until("httpd listens as PID 1", || {
        let children = fs::read_to_string(format!("/proc/{unshare}/task/{unshare}/children")).ok()?;
        let pid: i32 = children.trim().parse().ok()?;
        fs::read_to_string(format!("/proc/{pid}/net/tcp")).ok()?.contains("0100007F:0050 00000000:0000 0A").then_some(pid)
    });
    kill(Pid::from_raw(pid), Signal::SIGTERM).expect("tell it to end");
    let output = limited(child);
    assert_eq!(output.status.code(), Some(143), "{}", String::from_utf8_lossy(&output.stderr));
}
