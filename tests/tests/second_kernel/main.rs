//! minipod on an emulated machine with an older kernel, cgroup v2 alone and every capability: docs/decisions/0010.
#![cfg(target_arch = "x86_64")]

mod cgroups;
mod one_file;
mod suites;

use std::path::Path;

use testkit::Output;
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

/// A guest with nothing else, and the release of its kernel; `None`: skip the test.
fn on_minipod_alone() -> Option<(Guest, String)> {
    let kernel = Kernel::find()?;
    Some((Guest::boot(&kernel, &MODULES, minipod_alone()), kernel.release))
}

/// Runs `minipod ARGS` there; a last argument in quotes is one.
fn minipod(guest: &mut Guest, args: &str) -> Output {
    let (args, quoted) = args.split_once(" '").map_or((args, None), |(args, rest)| (args, rest.strip_suffix('\'')));
    let argv: Vec<&str> = std::iter::once("/minipod").chain(args.split(' ')).chain(quoted).collect();
    guest.run(&argv)
}

/// Runs `minipod ARGS` there, which must succeed; its standard output.
fn ok(guest: &mut Guest, args: &str) -> String {
    minipod(guest, args).ok()
}
