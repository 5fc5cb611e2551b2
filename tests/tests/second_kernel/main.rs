//! minipod on an emulated machine with an older kernel, cgroup v2 alone and every capability: docs/decisions/0010.

use std::path::Path;

use serde_json::json;
use testkit::guest::{Archive, Guest, Kernel, packed};
use testkit::{FOREVER, container, pod, with};

/// What minipod uses and Debian's kernel has as modules.
const MODULES: [&str; 12] = [
    "overlay", "bridge", "veth", "vxlan", "dummy", "tun", "nf_tables", "nft_ct", "nft_nat", "nft_masq", "nft_chain_nat", "nft_fib_inet",
];

/// An archive with the guest's init and minipod.
fn minipod_alone() -> Archive {
    let mut root = Archive::default();
    packed(&mut root, "/init", Path::new(env!("CARGO_BIN_EXE_minipod-guest")));
    packed(&mut root, "/minipod", &testkit::binary());
    root
}

#[test]
fn one_file_is_enough() {
    let Some(kernel) = Kernel::find() else { return };
    let mut guest = Guest::boot(&kernel, &MODULES, minipod_alone());
    assert_eq!(guest.read("/proc/sys/kernel/osrelease"), kernel.release);
    let limits = json!({ "resources": { "limits": { "memory": "64Mi", "cpu": "250m" } }, "ports": [{"containerPort": 80, "hostPort": 8080}] });
    let serve = "mkdir -p /w; echo found > /w/f; exec httpd -f -p 80 -h /w";
    let two = pod("two", &[with(container("web", serve), limits), container("visitor", FOREVER)]);
    guest.write("/tmp/two.json", &two.to_string());
    for line in ["/minipod -v run -d /tmp/two.json", "/minipod ps", "/minipod exec two/visitor -- wget -q -O - http://localhost/f", "/minipod inspect two", "/minipod ps --containers", "/minipod exec two/visitor -- cat /proc/self/mountinfo", "/minipod logs two"] {
        println!("{}", guest.run(&line.split(' ').collect::<Vec<_>>()));
    }
    println!("{:?}", guest.fetch("127.0.0.1:8080".parse().unwrap(), "/f"));
    println!("{}", guest.walk("/sys/fs/cgroup").join("\n"));
    for line in ["/minipod rm -f two", "/minipod gc"] {
        println!("{}", guest.run(&line.split(' ').collect::<Vec<_>>()));
    }
    println!("{}", guest.power_off());
}
