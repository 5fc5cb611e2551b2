//! How long an attach takes. A measurement, not a check:
//! `cargo test --release -p netsetup --test time -- --ignored --nocapture`
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use common::{Host, Netns, in_private_host, port, request};
use netsetup::{Protocol, attach, detach};
use std::time::{Duration, Instant};

const ROUNDS: usize = 30;

#[test]
#[ignore = "a measurement, not a check"]
fn attach_and_detach() {
    in_private_host(|| async {
        let host = Host::new();
        let mut times: [Vec<Duration>; 4] = Default::default();
        for _ in 0..ROUNDS {
            for (index, name) in ["first", "later"].into_iter().enumerate() {
                let netns = Netns::new();
                let ports = [port(
                    None,
                    9000 + u16::try_from(index).unwrap(),
                    80,
                    Protocol::Tcp,
                )];
                let start = Instant::now();
                attach(&host.network, &request(name, &netns, &ports))
                    .await
                    .unwrap();
                times[index].push(start.elapsed());
            }
            for (index, name) in ["first", "later"].into_iter().enumerate() {
                let start = Instant::now();
                detach(&host.network, name).await.unwrap();
                times[index + 2].push(start.elapsed());
            }
        }
        for (what, times) in [
            "attach, bridge to be made",
            "attach, bridge there",
            "detach",
            "detach, bridge to go",
        ]
        .iter()
        .zip(&mut times)
        {
            times.sort_unstable();
            println!(
                "{what:26} median {:?}, least {:?}",
                times[ROUNDS / 2],
                times[0]
            );
        }
    });
}
