//! Images from registries: a real one, made on the spot, and a proxy before it that spoils what it is told to.

mod credentials;
mod faults;
mod fixture;
mod keep;
mod pull;
mod run;
mod transport;
mod together;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};
use testkit::process::Process;
use testkit::{Access, Cmd, Entry, Image, LIMIT, Minipod, Output, Proxy, Registry, Rule, Running, contents, docker_archive,
    eventually, installed, pod, with};

/// What must not reach from the machine's users into a test.
const FOREIGN: [&str; 4] = ["REGISTRY_AUTH_FILE", "DOCKER_CONFIG", "XDG_CONFIG_HOME", "MINIPOD_REGISTRIES"];

/// A registry, and an installation that knows it by its settings.
pub(crate) struct Lab {
    // Dropped first: it runs on the network that the installation leaves as it was, in the directory that it removes.
    pub(crate) registry: Registry,
    pub(crate) mp: Minipod,
}

impl Lab {
    /// With a registry over plain http, open to all, which the settings allow.
    pub(crate) fn new() -> Option<Self> {
        Self::with(Access::Open)
    }

    /// With a registry over plain http, which the settings allow.
    pub(crate) fn with(access: Access<'_>) -> Option<Self> {
        let lab = Self::on(Minipod::new()?, access)?;
        lab.settings(&insecure(&lab.registry.address()));
        Some(lab)
    }

    /// Without settings.
    pub(crate) fn on(mp: Minipod, access: Access<'_>) -> Option<Self> {
        let registry = Registry::start(mp.file("registry"), access)?;
        fs::create_dir(mp.file("home")).expect("make a home");
        fs::create_dir(mp.file("xdg")).expect("make a runtime directory");
        let lab = Self { registry, mp };
        // A store that can be left as it was: with its directories and files, and no image.
        let archive = lab.mp.file("made.tar");
        docker_archive(&Image { reference: "made:1".into(), ..blob_image("made", &[10]) }, &archive);
        lab.ok(&["image", "load", archive.to_str().expect("UTF-8")]);
        lab.ok(&["image", "rm", "made:1"]);
        Some(lab)
    }

    /// A proxy before the registry, which the settings allow from now on.
    pub(crate) fn proxy(&self, rules: Vec<Rule>) -> Proxy {
        let proxy = Proxy::before(self.registry.socket(), rules);
        self.settings(&(insecure(&self.registry.address()) + &insecure(&proxy.address())));
        proxy
    }

    /// Replaces the settings.
    pub(crate) fn settings(&self, toml: &str) {
        fs::write(self.mp.file("registries.toml"), toml).expect("write settings");
    }

    /// `minipod`, for a user who has nothing of his own.
    pub(crate) fn cmd(&self, args: &[&str]) -> Cmd {
        let cmd = FOREIGN.iter().fold(self.mp.cmd(), |cmd, name| cmd.without_env(name.as_ref()));
        let cmd = cmd.env("HOME", self.mp.file("home")).env("XDG_RUNTIME_DIR", self.mp.file("xdg"));
        let settings = self.mp.file("registries.toml");
        let cmd = if settings.exists() { cmd.env("MINIPOD_REGISTRIES", settings) } else { cmd };
        cmd.args(args)
    }

    pub(crate) fn run(&self, args: &[&str]) -> Output {
        self.cmd(args).run_within(PATIENT)
    }

    pub(crate) fn ok(&self, args: &[&str]) -> String {
        self.run(args).ok()
    }

    /// `minipod run` in the foreground.
    pub(crate) fn foreground(&self, manifest: &Value) -> Output {
        let path = self.mp.manifest("foreground.json", &manifest.to_string());
        self.run(&["run", &path])
    }

    /// Every file of the store, and what `image ls` says.
    pub(crate) fn store(&self) -> (BTreeMap<PathBuf, String>, String) {
        let listed = self.ok(&["image", "ls", "-o", "name"]);
        (contents(&self.mp.root().join("lib/images")), listed)
    }

    /// The command fails with 125, says why in a line that has all of `words` (`a|b`: one of them), and leaves the store alone.
    pub(crate) fn refused(&self, args: &[&str], words: &[&str]) -> String {
        let before = self.store();
        let output = self.run(args);
        let text = output.to_string();
        let said = output.fails(125);
        let errors: Vec<&str> = said.lines().filter(|line| line.starts_with("minipod: ")).collect();
        assert_eq!(errors.len(), 1, "one line says why: {text}");
        assert_eq!(said.lines().last(), Some(errors[0]), "and is the last: {text}");
        assert!(!errors[0].contains(char::is_control), "{text:?}");
        for word in words {
            assert!(has(errors[0], word), "{word} is not in the message: {text}");
        }
        assert_same_store(&before, &self.store());
        errors[0].to_owned()
    }

    /// Pulls; what it printed.
    pub(crate) fn pull(&self, name: &str) -> String {
        self.ok(&["image", "pull", name])
    }

    /// Pulls a small image of another name, so that a store is there that can be left as it was.
    pub(crate) fn begin(&self) {
        self.registry.fill(&blob_image("begin", &[1000]), "begin:1");
        self.pull(&self.registry.name("begin:1"));
    }
}

/// Waits until a command has asked for such a path and got so many bytes of it.
pub(crate) fn reaches(running: Running, proxy: &Proxy, path: &str, bytes: u64) -> Running {
    let process = Process(running.pid());
    let there = || proxy.seen().iter().any(|seen| seen.path.contains(path)) && proxy.sent(path) >= bytes;
    let ended = eventually(PATIENT, "it is asked for", || {
        let ended = !process.lives(); // before the look at the proxy, which may have seen it in between
        if there() { Some(false) } else { ended.then_some(true) }
    });
    if ended {
        panic!("it ended before it had {bytes} bytes of {path}: {}", running.finish(LIMIT));
    }
    running
}

/// For commands that try again: many times the pauses between.
pub(crate) const PATIENT: std::time::Duration = std::time::Duration::from_secs(60);

/// Whether a text has a word, or one of several.
pub(crate) fn has(text: &str, word: &str) -> bool {
    let text = text.to_lowercase();
    word.split('|').any(|word| text.contains(&word.to_lowercase()))
}

pub(crate) fn assert_same_store(before: &(BTreeMap<PathBuf, String>, String), after: &(BTreeMap<PathBuf, String>, String)) {
    assert_eq!(before.1, after.1, "image ls");
    let (before, after) = (&before.0, &after.0);
    let other = |a: &BTreeMap<PathBuf, String>, b: &BTreeMap<PathBuf, String>| -> Vec<PathBuf> {
        a.iter().filter(|(path, what)| b.get(*path) != Some(what)).map(|(path, _)| path.clone()).collect()
    };
    assert!(before == after, "the store is not as before: it had {:?}, it has {:?}", other(before, after), other(after, before));
}

/// Settings that allow plain http to a registry.
pub(crate) fn insecure(address: &str) -> String {
    format!("[[registry]]\nlocation = \"{address}\"\ninsecure = true\n\n")
}

/// An image that runs: busybox, files, whiteouts, a user by name; it prints `word` and where it is.
pub(crate) fn program(word: &str) -> Option<Image> {
    let busybox = fs::read(installed("busybox")?).expect("read busybox");
    Some(Image {
        reference: String::new(),
        layers: vec![
            vec![
                Entry::Dir("bin".into()), Entry::Dir("data".into()),
                Entry::File("bin/busybox".into(), busybox, 0o755), Entry::Link("bin/sh".into(), "busybox".into()),
                Entry::text("data/removed", "x"), Entry::text("data/kept", "kept"),
                Entry::text("etc/passwd", "root:x:0:0::/root:/bin/sh\nworker:x:1234:1235::/home:/bin/sh\n"),
            ],
            vec![Entry::text("data/.wh.removed", ""), Entry::text("data/word", word)],
        ],
        config: json!({
            "Entrypoint": ["/bin/sh", "-c"],
            "Cmd": ["busybox cat /data/word; echo; pwd; echo $FROM_IMAGE; busybox id -u; busybox ls /data"],
            "Env": ["PATH=/bin", "FROM_IMAGE=yes"], "WorkingDir": "/work", "User": "worker",
        }),
    })
}

/// What a pod of [`once`] with that image prints.
pub(crate) fn printed(word: &str) -> String {
    format!("[c] {word}\n[c] /work\n[c] yes\n[c] 1234\n[c] kept\n[c] word\n")
}

/// A pod that runs an image to its end.
pub(crate) fn once(name: &str, image: &str, policy: Option<&str>) -> Value {
    let mut container = json!({ "name": "c", "image": image });
    if let Some(policy) = policy {
        container["imagePullPolicy"] = json!(policy);
    }
    with(pod(name, &[container]), json!({ "spec": { "restartPolicy": "Never" } }))
}

/// An image that nobody runs: a layer of so many bytes each, that no compression makes smaller; other bytes for another `seed`.
pub(crate) fn blob_image(seed: &str, sizes: &[usize]) -> Image {
    let mut random = fastrand::Rng::with_seed(seed.bytes().fold(7, |sum, byte| sum * 31 + u64::from(byte)));
    let mut layer = |(n, size): (usize, &usize)| {
        let bytes = std::iter::repeat_with(|| random.u8(..)).take(*size).collect();
        vec![Entry::Dir("data".into()), Entry::File(format!("data/{n}"), bytes, 0o644)]
    };
    Image { reference: String::new(), layers: sizes.iter().enumerate().map(&mut layer).collect(),
        config: json!({ "Cmd": ["/none"] }) }
}
