//! One private installation of minipod, on a network of its own, that must leave nothing.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::network::Outside;
use crate::process::Process;
use crate::slice::Slice;
use crate::snapshot::{HostSnapshot, Scope, belongs, names, settle, walk};
use crate::{Cmd, Output};

/// A private minipod: its own `--root`, bridge and pod CIDR, and usually its own network stack.
///
/// Dropped, it removes its pods and compares the host with what it was; a difference fails the test.
#[derive(Debug)]
pub struct Minipod {
    scope: Scope,
    cidr: String,
    before: HostSnapshot,
    outside: Option<Outside>,
    // Dropped in this order: the directory, then the number it was named after.
    dir: TempDir,
    _slice: Slice,
}

impl Minipod {
    /// An installation on a host network made for it, into which the calling thread is moved. `None`: skip the test.
    ///
    /// # Panics
    /// Without root or a needed program when `CI` or `REQUIRE_ROOT` is set.
    #[must_use]
    pub fn new() -> Option<Self> {
        Self::needs_met().then(|| {
            let outside = Outside::private_host();
            Self::below(Some(outside))
        })
    }

    /// An installation on the network of the machine itself.
    ///
    /// # Panics
    /// As [`Self::new`].
    #[must_use]
    pub fn on_the_machine() -> Option<Self> {
        Self::needs_met().then(|| Self::below(None))
    }

    fn needs_met() -> bool {
        crate::root() && crate::installed("ip").is_some() && crate::installed("nft").is_some()
    }

    fn below(outside: Option<Outside>) -> Self {
        let dir = tempfile::Builder::new().prefix("mpt").tempdir().expect("make a directory");
        let slice = Slice::take();
        let root = dir.path().join("r");
        fs::create_dir(&root).expect("make the root of an installation");
        let hash = Sha256::digest(root.as_os_str().as_encoded_bytes());
        let scope = Scope {
            instance: format!("minipod-{:02x}{:02x}{:02x}{:02x}", hash[0], hash[1], hash[2], hash[3]),
            bridge: slice.bridge(),
            whole_network: outside.is_some(),
            root,
        };
        let before = HostSnapshot::take(&scope);
        Self { scope, cidr: slice.cidr(), before, outside, dir, _slice: slice }
    }

    /// Uses this pod CIDR instead of the private one; for an installation that has a network stack of its own.
    #[must_use]
    pub fn with_cidr(mut self, cidr: &str) -> Self {
        assert!(self.outside.is_some(), "on the machine's network a CIDR must be the test's own");
        cidr.clone_into(&mut self.cidr);
        self
    }

    /// Its `--root`.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.scope.root
    }

    /// Name of its bridge.
    #[must_use]
    pub fn bridge(&self) -> &str {
        &self.scope.bridge
    }

    /// How its cgroups and links in /run/netns are named.
    #[must_use]
    pub fn instance(&self) -> &str {
        &self.scope.instance
    }

    /// The bridge's address, the first of the pod CIDR.
    #[must_use]
    pub fn gateway(&self) -> String {
        let base = self.cidr.rsplit_once('.').expect("a CIDR has dots").0;
        format!("{base}.1")
    }

    /// The world beyond the private host.
    ///
    /// # Panics
    /// On the machine's own network, which has none that a test may talk to.
    #[must_use]
    pub fn outside(&self) -> &Outside {
        self.outside.as_ref().expect("only a private host has an outside")
    }

    /// `minipod` with its options; to be given the rest.
    #[must_use]
    pub fn cmd(&self) -> Cmd {
        self.program(crate::binary())
    }

    /// Another program, in whose environment `minipod` works on this installation.
    #[must_use]
    pub fn program(&self, program: impl AsRef<OsStr>) -> Cmd {
        Cmd::new(program)
            .env("MINIPOD_ROOT", self.root())
            .env("MINIPOD_BRIDGE", &*self.scope.bridge)
            .env("MINIPOD_POD_CIDR", &*self.cidr)
            .env("NO_COLOR", "1")
    }

    /// Runs `minipod ARGS`.
    #[must_use]
    pub fn run(&self, args: &[&str]) -> Output {
        self.cmd().args(args).run()
    }

    /// Runs `minipod ARGS`, which must succeed; its standard output.
    pub fn ok(&self, args: &[&str]) -> String {
        self.run(args).ok()
    }

    /// Runs `minipod ARGS`, which must fail so; its standard error.
    pub fn fails(&self, code: i32, args: &[&str]) -> String {
        self.run(args).fails(code)
    }

    /// Writes a manifest outside of what minipod looks at; its path.
    #[must_use]
    pub fn manifest(&self, name: &str, yaml: &str) -> String {
        let path = self.file(name);
        fs::write(&path, yaml).expect("write a manifest");
        path.into_os_string().into_string().expect("a path of ours is UTF-8")
    }

    /// A path for a file of the test, in a directory that goes with the installation and lies beside its root.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Starts the pods of a manifest and leaves them running.
    pub fn up(&self, manifest: &Value) {
        let path = self.manifest("up.json", &manifest.to_string());
        let _progress = self.ok(&["run", "-d", &path]);
    }

    /// Runs the pods of a manifest to their end; what the command did.
    #[must_use]
    pub fn foreground(&self, manifest: &Value) -> Output {
        let path = self.manifest("foreground.json", &manifest.to_string());
        self.run(&["run", &path])
    }

    /// `minipod inspect POD`, parsed.
    #[must_use]
    pub fn inspect(&self, pod: &str) -> Value {
        let text = self.ok(&["inspect", "-o", "json", pod]);
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("inspect prints JSON: {e}\n{text}"))
    }

    /// An annotation of minipod's own, by the name behind the slash.
    #[must_use]
    pub fn annotation(&self, pod: &str, name: &str) -> String {
        let inspected = self.inspect(pod);
        let value = &inspected["metadata"]["annotations"][format!("minipod.dev/{name}")];
        value.as_str().unwrap_or_else(|| panic!("no annotation minipod.dev/{name} in {inspected:#}")).to_owned()
    }

    /// The pod's pause process.
    #[must_use]
    pub fn pause(&self, pod: &str) -> Process {
        self.process(pod, "pause-pid")
    }

    /// The pod's shim.
    #[must_use]
    pub fn shim(&self, pod: &str) -> Process {
        self.process(pod, "shim-pid")
    }

    /// The first process of a container.
    #[must_use]
    pub fn container(&self, pod: &str, container: &str) -> Process {
        self.process(pod, &format!("pid.{container}"))
    }

    fn process(&self, pod: &str, annotation: &str) -> Process {
        let text = self.annotation(pod, annotation);
        Process(text.parse().unwrap_or_else(|e| panic!("{annotation} is {text:?}: {e}")))
    }

    /// The pod's address.
    #[must_use]
    pub fn ip(&self, pod: &str) -> String {
        let inspected = self.inspect(pod);
        inspected["status"]["podIP"].as_str().unwrap_or_else(|| panic!("no podIP in {inspected:#}")).to_owned()
    }

    /// One container's status.
    #[must_use]
    pub fn status(&self, pod: &str, container: &str) -> Value {
        let inspected = self.inspect(pod);
        let lists = ["containerStatuses", "initContainerStatuses"].map(|list| inspected["status"][list].as_array().cloned().unwrap_or_default());
        let found = lists.concat().into_iter().find(|status| status["name"] == container);
        found.unwrap_or_else(|| panic!("no status of {container} in {inspected:#}"))
    }

    /// Runs a script in a container; its standard output, without the last line's end.
    #[must_use]
    pub fn sh(&self, container: &str, script: &str) -> String {
        let text = self.ok(&["exec", container, "--", "sh", "-c", script]);
        text.strip_suffix('\n').unwrap_or(&text).to_owned()
    }

    /// The directory of a container's log files.
    #[must_use]
    pub fn log_dir(&self, pod: &str, container: &str) -> PathBuf {
        let metadata = &self.inspect(pod)["metadata"];
        let part = |key: &str| metadata[key].as_str().unwrap_or_else(|| panic!("no {key} in {metadata:#}")).to_owned();
        self.root().join("log/pods").join(format!("{}_{}_{}", part("namespace"), part("name"), part("uid"))).join(container)
    }

    /// The names of all pods, `namespace/name`.
    #[must_use]
    pub fn pods(&self) -> Vec<String> {
        let text = self.ok(&["ps", "-a", "-o", "json"]);
        let list: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("ps prints JSON: {e}\n{text}"));
        let name = |pod: &Value| Some(format!("{}/{}", pod["metadata"]["namespace"].as_str()?, pod["metadata"]["name"].as_str()?));
        list["items"].as_array().into_iter().flatten().filter_map(name).collect()
    }

    /// Fails unless the host is as it was before this installation; to be used after what must leave nothing.
    pub fn assert_clean(&self) {
        crate::assert_same(&self.scope, &self.before);
    }

    /// Removes every pod with minipod's own means.
    fn remove_pods(&self) {
        for pod in self.pods() {
            let _said = self.ok(&["rm", "-f", &pod]);
        }
    }

    /// Removes with the test's own means whatever a failed test left, so that the machine is fit for the next.
    fn scrub(&self) {
        for process in Process::all().into_iter().filter(|p| belongs(*p, &self.scope).is_some()) {
            process.kill();
        }
        if !self.scope.whole_network {
            drop(Cmd::new("ip").args(["link", "del", &self.scope.bridge]).run());
            drop(Cmd::new("nft").args(["delete", "table", "inet", &format!("minipod-{}", self.scope.bridge)]).run());
        }
        for entry in fs::read_dir("/run/netns").into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(&self.scope.instance) {
                fs::remove_file(entry.path()).ok();
            }
        }
        for pod in names(&self.root().join("run/pods")) {
            // Ports of another's bridge are no longer its, so its links are known by the pods' uids only.
            let link = format!("mp-{}", pod.get(..8).unwrap_or(&pod));
            drop(Cmd::new("ip").args(["link", "del", &link]).run());
        }
        for mount in self.own_mounts() {
            drop(Cmd::new("umount").arg("-l").arg(mount).run());
        }
        for hierarchy in fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            let dir = hierarchy.path().join(&self.scope.instance);
            walk(&dir, &mut |path| {
                fs::remove_dir(path).ok();
            });
            fs::remove_dir(&dir).ok();
        }
    }

    /// What the shims have said, for whoever reads why a test failed.
    fn explain(&self) {
        for pod in names(&self.root().join("run/pods")) {
            for file in ["status.json", "events.jsonl", "shim.log"] {
                let path = self.root().join("run/pods").join(&pod).join(file);
                eprintln!("--- {}\n{}", path.display(), fs::read_to_string(&path).unwrap_or_else(|e| e.to_string()));
            }
        }
    }

    /// Mount points below the root in the host's mount namespace, deepest first.
    fn own_mounts(&self) -> Vec<PathBuf> {
        let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let points = text.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from);
        let mut points: Vec<PathBuf> = points.filter(|point| point.starts_with(self.root())).collect();
        points.sort_by_key(|point| std::cmp::Reverse(point.components().count()));
        points
    }
}

impl Drop for Minipod {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.explain();
            self.scrub();
        } else {
            self.remove_pods();
            let difference = settle(&self.scope, &self.before);
            if !difference.is_empty() {
                self.explain();
                self.scrub();
            }
            assert!(difference.is_empty(), "after the last pod was removed the host is not as before:\n{}", difference.join("\n"));
        }
    }
}
