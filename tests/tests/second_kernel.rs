//! minipod on an emulated machine with an older kernel, cgroup v2 alone and every capability: docs/decisions/0010.

use std::path::Path;

use testkit::guest::{Archive, Guest, Kernel, packed};

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
    println!("{}", guest.walk("/").join("\n"));
    println!("{}", guest.run(&["/minipod", "version"]));
    println!("{}", guest.power_off());
}
