//! Every step of a pod's coming up and going down fails in turn, its process is killed there, and so is the command that asked
//! for it; then the host is compared with what it was. The steps are `runtime::step`'s; the fault points are those of a debug build.

use std::collections::BTreeSet;
use std::fs;

use runtime::step::{Step, names};
use rustix::process::Signal;
use serde_json::{Value, json};
use testkit::process::Process;
use testkit::{LIMIT, Minipod, Output, Running, container, eventually, pod, with};

/// Ends at SIGTERM, so that a stop takes no grace.
const OBEYS: &str = "trap 'exit 0' TERM; while true; do sleep 0.02; done";
const FAULT: &str = "MINIPOD_FAULT";

/// A pod that takes every step there is.
fn every() -> Value {
    let mounts = json!({ "volumeMounts": [{ "name": "disk", "mountPath": "/v", "subPath": "below" }, { "name": "memory", "mountPath": "/m" }, { "name": "image", "mountPath": "/i", "subPath": "bin" }] });
    let port = json!({ "ports": [{ "containerPort": 80, "hostPort": 8080 }] });
    let main = with(container("main", OBEYS), mounts);
    with(
        pod("every", &[with(main, port), container("other", OBEYS)]),
        json!({ "spec": {
            "terminationGracePeriodSeconds": 20,
            "volumes": [
                { "name": "disk", "emptyDir": {} }, { "name": "memory", "emptyDir": { "medium": "Memory" } },
                { "name": "image", "image": { "reference": "toolbox" } },
            ],
            "initContainers": [container("init", "true")],
        } }),
    )
}

/// `STEP/SUBJECT` of everything that bringing the pod up, stopping and removing it does, in order.
struct Lab {
    mp: Minipod,
    manifest: String,
    up: Vec<String>,
    down: Vec<String>,
}

impl Lab {
    fn new() -> Option<Self> {
        let mp = Minipod::new()?;
        let manifest = mp.manifest("every.json", &every().to_string());
        let file = mp.file("steps");
        let listed = |args: &[&str]| {
            drop(mp.cmd().args(args).env(FAULT, format!("list={}", file.display())).run().ok());
            let steps = fs::read_to_string(&file).unwrap_or_else(|e| panic!("no fault points: is this a debug build? {e}"));
            fs::remove_file(&file).expect("begin a new list");
            steps.lines().map(ToOwned::to_owned).collect::<Vec<_>>()
        };
        let up = listed(&["run", "-d", &manifest]);
        // The list of a shim goes where its `run` said.
        fs::write(&file, "").expect("begin a new list");
        drop(mp.ok(&["stop", "every"]));
        let mut down = fs::read_to_string(&file).expect("the steps of a stop").lines().map(ToOwned::to_owned).collect::<Vec<_>>();
        fs::remove_file(&file).expect("begin a new list");
        down.extend(listed(&["rm", "every"]));
        mp.assert_clean();
        Some(Self { mp, manifest, up, down })
    }

    /// Those of bringing up that make something; an init container comes down among them.
    fn making(&self) -> Vec<String> {
        let making = |step: &&String| !is_down(step);
        self.up.iter().filter(making).cloned().collect()
    }

    fn run(&self, fault: &str) -> Output {
        self.mp.cmd().args(["run", "-d", &self.manifest]).env(FAULT, fault).run()
    }

    /// Up, with a fault that waits for the way down.
    fn up_with(&self, fault: &str) {
        drop(self.run(fault).ok());
    }

    /// `rm` where there is a pod to name, or `gc`: either must do.
    fn recover(&self, turn: usize) {
        if turn.is_multiple_of(2) || self.mp.pods().is_empty() {
            drop(self.mp.ok(&["gc"]));
        } else {
            drop(self.mp.ok(&["rm", "-f", "every"]));
        }
        assert!(self.mp.pods().is_empty(), "{:?}", self.mp.pods());
        self.mp.assert_clean();
    }
}

fn is_down(step: &str) -> bool {
    let name = step.split_once('/').expect("a step and its subject").0;
    let first = Step::ALL.iter().position(|step| *step == Step::Signal).expect("a first step down");
    let down = Step::ALL[first..].iter().map(|step| step.name().to_owned());
    let unwired = netsetup_down();
    down.chain(unwired).any(|other| other == name)
}

fn netsetup_down() -> impl Iterator<Item = String> {
    // Behind the runtime's own and those of an attach, which ends with the route.
    names().skip_while(|name| name != "network: default route").skip(1)
}

/// The first child of a command: the shim it forked.
fn child_of(command: &Running) -> Process {
    let children = format!("/proc/{0}/task/{0}/children", command.pid());
    eventually(LIMIT, "the shim is forked", || fs::read_to_string(&children).ok()?.split_whitespace().next()?.parse().ok().map(Process))
}

fn is_stopped(process: Process) -> bool {
    process.status("State").is_some_and(|state| state.starts_with('T'))
}

fn go_on(process: Process) {
    let pid = rustix::process::Pid::from_raw(process.0.cast_signed()).expect("a pid");
    rustix::process::kill_process(pid, Signal::CONT).expect("let the shim go on");
}

/// A step that the list lacks, or that is never taken, would not be broken below.
#[test]
fn every_step_is_taken_and_every_one_taken_is_in_the_list() {
    let Some(lab) = Lab::new() else { return };
    let taken: BTreeSet<String> = lab.up.iter().chain(&lab.down).map(|step| step.split_once('/').expect("a subject").0.to_owned()).collect();
    assert_eq!(taken, names().collect());
}

#[test]
fn a_step_that_fails_on_the_way_up_is_undone_at_once() {
    let Some(lab) = Lab::new() else { return };
    for step in lab.making() {
        let said = lab.run(&format!("fail={step}")).fails(125);
        assert!(said.contains("broken by"), "{step}: the cause is not told: {said}");
        assert!(lab.mp.pods().is_empty(), "{step}: {:?}", lab.mp.pods());
        assert_clean(&lab, &step);
    }
    drop(lab.mp.ok(&["run", "-d", &lab.manifest]));
}

#[test]
fn a_process_killed_on_the_way_up_leaves_what_gc_and_rm_can_find() {
    let Some(lab) = Lab::new() else { return };
    for (turn, step) in lab.making().into_iter().enumerate() {
        let killed = lab.run(&format!("kill={step}"));
        assert!([125, 137].contains(&killed.code()), "{step}: {killed}");
        eprintln!("killed at {step}");
        lab.recover(turn);
    }
    drop(lab.mp.ok(&["run", "-d", &lab.manifest]));
}

#[test]
fn a_command_killed_on_the_way_up_leaves_a_pod_that_comes_up() {
    let Some(lab) = Lab::new() else { return };
    let shims = lab.making().into_iter().skip_while(|step| !step.starts_with(Step::LeaveCommand.name()));
    for step in shims {
        let command = lab.mp.cmd().args(["run", &lab.manifest]).env(FAULT, format!("stop={step}")).spawn();
        let shim = child_of(&command);
        eventually(LIMIT, &step, || is_stopped(shim).then_some(()));
        command.signal(Signal::KILL);
        go_on(shim);
        // At its end, for until it has left the command the shim holds its streams too.
        assert_eq!(command.finish(LIMIT).code(), 137);
        drop(lab.mp.ok(&["wait", "--for", "running", "--timeout", "20s", "every"]));
        drop(lab.mp.ok(&["rm", "-f", "every"]));
        assert_clean(&lab, &step);
    }
}

#[test]
fn a_step_that_fails_on_the_way_down_is_tried_again() {
    let Some(lab) = Lab::new() else { return };
    lab.stops_whatever("fail");
}

#[test]
fn a_shim_killed_on_the_way_down_is_replaced_by_the_command() {
    let Some(lab) = Lab::new() else { return };
    lab.stops_whatever("kill");
}

#[test]
fn a_command_killed_on_the_way_down_leaves_a_pod_that_goes_down() {
    let Some(lab) = Lab::new() else { return };
    for (turn, step) in lab.in_the_shim().into_iter().enumerate() {
        lab.up_with(&format!("stop={step}"));
        let shim = lab.mp.shim("every");
        let command = lab.mp.cmd().args(["stop", "every"]).spawn();
        eventually(LIMIT, &step, || is_stopped(shim).then_some(()));
        command.signal(Signal::KILL);
        assert_eq!(command.finish(LIMIT).code(), 137);
        go_on(shim);
        eventually(LIMIT, "the shim ends", || (!shim.lives()).then_some(()));
        if turn.is_multiple_of(2) {
            drop(lab.mp.ok(&["gc"]));
        }
        drop(lab.mp.ok(&["rm", "every"]));
        assert_clean(&lab, &step);
    }
}

#[test]
fn without_a_shim_the_same_steps_are_the_commands() {
    let Some(lab) = Lab::new() else { return };
    for (turn, step) in lab.in_the_command().into_iter().enumerate() {
        for action in ["fail", "kill"] {
            drop(lab.mp.ok(&["run", "-d", &lab.manifest]));
            let shim = lab.mp.shim("every");
            shim.kill();
            eventually(LIMIT, "the shim is dead", || (!shim.lives()).then_some(()));
            // `rm -f` tries what a stop could not do once more.
            let verb: &[&str] = if is_removal(&step) { &["rm", "-f", "every"] } else { &["stop", "every"] };
            let broken = lab.mp.cmd().args(verb).env(FAULT, format!("{action}={step}")).run();
            assert_eq!(broken.code(), if action == "fail" { 125 } else { 137 }, "{action} {step}: {broken}");
            if action == "fail" {
                assert!(broken.stderr.contains("broken by"), "{step}: the cause is not told: {broken}");
            }
            if turn.is_multiple_of(2) {
                drop(lab.mp.ok(&["gc"]));
            }
            // A pod that is recorded as stopped is not gc's.
            drop(lab.mp.ok(&["rm", "-f", "every"]));
            assert_clean(&lab, &step);
        }
    }
}

impl Lab {
    /// A stop succeeds at once, whatever happens to the shim at any of its steps.
    fn stops_whatever(&self, action: &str) {
        for step in self.in_the_shim() {
            self.up_with(&format!("{action}={step}"));
            let stopped = self.mp.run(&["stop", "every"]);
            assert_eq!(stopped.code(), 0, "{action} {step}: {stopped}");
            drop(self.mp.ok(&["rm", "every"]));
            assert_clean(self, &step);
        }
    }

    /// The steps of a stop.
    fn in_the_shim(&self) -> Vec<String> {
        self.down.iter().filter(|step| !is_removal(step)).cloned().collect()
    }

    /// Those that a command takes in the place of a dead shim: all but the containers'.
    fn in_the_command(&self) -> Vec<String> {
        self.down.iter().filter(|step| step.ends_with('/')).cloned().collect()
    }
}

/// What comes after a stop.
fn is_removal(step: &str) -> bool {
    [Step::RemoveLogs, Step::Unname, Step::RemoveDirectory].iter().any(|removal| step.starts_with(removal.name()))
}

/// Says at which step something was left.
fn assert_clean(lab: &Lab, step: &str) {
    eprintln!("after a fault at {step}:");
    lab.mp.assert_clean();
}
