//! What a pod of two idle containers costs in memory, besides the containers themselves: each process's own share (PSS).

use testkit::process::Process;

use crate::image;
use crate::podman::Podman;
use crate::series::{Series, table};
use crate::start::{seen, told, two};

/// KiB of a process that count for it alone, and its part of what it shares (proc_pid_smaps(5), `smaps_rollup`).
pub(crate) fn pss(process: Process) -> f64 {
    share(process, "Pss:")
}

fn share(process: Process, field: &str) -> f64 {
    let text = process.file("smaps_rollup").unwrap_or_else(|| panic!("process {} is gone", process.0));
    let text = String::from_utf8_lossy(&text).into_owned();
    let line = text.lines().find_map(|line| line.strip_prefix(field)).unwrap_or_else(|| panic!("no {field} of {}: {text}", process.0));
    line.trim().trim_end_matches(" kB").trim().parse().expect("a number of KiB")
}

/// The processes that a shim has besides pause and its containers.
fn others(shim: Process, known: &[Process]) -> Vec<Process> {
    let child = |process: &Process| process.status("PPid").is_some_and(|parent| parent == shim.0.to_string());
    Process::all().into_iter().filter(|process| child(process) && !known.contains(process)).collect()
}

pub(crate) fn bench(pods: usize) {
    let (mp, podman) = (crate::minipod(), Podman::new());
    image::load(&mp, Some(&podman));
    let (seen, fifo) = seen(&mp);
    let names: Vec<String> = (0..pods.max(1)).map(|n| format!("m{n}")).collect();
    let up = |names: &[String]| {
        for name in names {
            let manifest = mp.manifest(&format!("{name}.json"), &two(name, &seen).to_string());
            mp.ok(&["run", "-d", &manifest]);
            podman.ok(&["kube", "play", &manifest]);
            told(&fifo, 12, String::new);
        }
    };
    up(&names[..1]);
    show("one pod of two containers", &mp, &podman, &names[..1]);
    up(&names[1..]);
    show(&format!("{} pods", names.len()), &mp, &podman, &names);
    println!("  aims: pause under 50 KiB, shim under 4096 KiB");
}

fn show(what: &str, mp: &testkit::Minipod, podman: &Podman, names: &[String]) {
    let mut all = ["minipod: pause", "minipod: shim", "minipod: everything else", "minipod: sum of a pod"].map(Series::new);
    for name in names {
        let (pause, shim) = (mp.pause(name), mp.shim(name));
        let known = [pause, mp.container(name, "a"), mp.container(name, "b")];
        let rest = others(shim, &known).into_iter().map(pss).fold(0.0, |sum, part| sum + part);
        let (pause, shim) = (pss(pause), pss(shim));
        for (series, value) in all.iter_mut().zip([pause, shim, rest, pause + shim + rest]) {
            series.note(value);
        }
    }
    let mut anonymous = Series::new("  of the shim not the program's file");
    names.iter().for_each(|name| anonymous.note(share(mp.shim(name), "Pss_Anon:")));
    let mut infra = Series::new("podman: infra container (catatonit)");
    for name in names {
        let id = podman.ok(&["pod", "inspect", "-f", "{{.InfraContainerID}}", name]);
        let pid = podman.ok(&["inspect", "-f", "{{.State.Pid}}", id.trim()]);
        infra.note(pss(Process(pid.trim().parse().expect("a process id"))));
    }
    let mut conmon = Series::new("podman: a conmon (three a pod)");
    podman.conmons().into_iter().for_each(|process| conmon.note(pss(process)));
    let [pause, shim, rest, sum] = &all;
    table(what, "KiB of PSS", &[pause, shim, &anonymous, rest, sum, &infra, &conmon]);
    let theirs = 3.0 * conmon.median() + infra.median();
    println!("  {:38} {:>10} {theirs:10.2}", "podman: sum of a pod", "");
    println!("  {:38} {:>10} {:10.2}  times", "podman : minipod", "", theirs / sum.median());
}
