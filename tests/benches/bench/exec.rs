//! `true` in a running container: by minipod, by podman, and by crun in podman's own container.

use testkit::Cmd;

use crate::image;
use crate::podman::Podman;
use crate::series::{Series, ratio, table};
use crate::start::{seen, told, two};

pub(crate) fn bench(runs: usize) {
    let (mp, podman) = (crate::minipod(), Podman::new());
    image::load(&mp, Some(&podman));
    let (seen, fifo) = seen(&mp);
    let manifest = mp.manifest("two.json", &two("two", &seen).to_string());
    mp.ok(&["run", "-d", &manifest]);
    podman.ok(&["kube", "play", &manifest]);
    told(&fifo, 12, String::new);
    let id = podman.ok(&["inspect", "-f", "{{.Id}}", "two-a"]).trim().to_owned();
    let mut all = ["minipod exec", "podman exec", "crun exec"].map(Series::new);
    for run in 0..crate::WARM_UP + runs {
        let outputs = [
            mp.run(&["exec", "two/a", "--", "true"]),
            podman.run(&["exec", "two-a", "true"]),
            Cmd::new("crun").args(["exec", &id, "true"]).run(),
        ];
        for (series, output) in all.iter_mut().zip(outputs) {
            if run >= crate::WARM_UP {
                series.took(output.took);
            }
            drop(output.ok());
        }
    }
    let [a, b, c] = &all;
    table("exec of true", "ms", &[a, b, c]);
    ratio(b, a, "");
    ratio(c, a, "");
    podman.ok(&["kube", "down", &manifest]);
}
