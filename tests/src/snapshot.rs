//! What an installation has on the host: taken before and after, and compared.
//!
//! Each fact is a line: links, addresses, routes, nft tables, leases, netns links, cgroups, mounts of any mount namespace,
//! processes, files. Witnesses are the kernel's own files and `ip` and `nft`, not the code under test.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};

use crate::Cmd;
use crate::process::Process;

/// A process that has answered may still be on its way out.
const SETTLE: Duration = Duration::from_secs(5);

/// Whose things to look for.
#[derive(Debug, Clone)]
pub struct Scope {
    /// `--root` of the installation.
    pub root: PathBuf,
    /// How its cgroups and netns links are named.
    pub instance: String,
    /// Its bridge.
    pub bridge: String,
    /// Whether the calling thread's network namespace is the test's own: then everything in it counts.
    pub whole_network: bool,
}

/// The facts of one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostSnapshot(BTreeSet<String>);

impl HostSnapshot {
    /// Looks around.
    #[must_use]
    pub fn take(scope: &Scope) -> Self {
        let mut facts = BTreeSet::new();
        network(scope, &mut facts);
        netns_links(scope, &mut facts);
        cgroups(scope, &mut facts);
        mounts(scope, &mut facts);
        processes(scope, &mut facts);
        files(scope, &scope.root, &mut facts);
        Self(facts)
    }

    /// What the other has that this has not, and the other way round; nothing when they are the same.
    #[must_use]
    pub fn difference(&self, after: &Self) -> Vec<String> {
        let gone = self.0.difference(&after.0).map(|fact| format!("- {fact}"));
        let new = after.0.difference(&self.0).map(|fact| format!("+ {fact}"));
        gone.chain(new).collect()
    }
}

/// Waits until the host is as it was before.
///
/// # Panics
/// When it still is not after some seconds: with the difference.
pub fn assert_same(scope: &Scope, before: &HostSnapshot) {
    let difference = settle(scope, before);
    assert!(difference.is_empty(), "the host is not as before:\n{}", difference.join("\n"));
}

/// What is different once nothing more changes, or when patience ends.
pub(crate) fn settle(scope: &Scope, before: &HostSnapshot) -> Vec<String> {
    let deadline = Instant::now() + crate::command::patient(SETTLE);
    loop {
        let difference = before.difference(&HostSnapshot::take(scope));
        if difference.is_empty() || Instant::now() > deadline {
            return difference;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Every file below a directory: kind, mode, owner, links, size, time and content. Directories' times change with what comes
/// and goes in them, and locks are no content.
#[must_use]
pub fn contents(dir: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).expect("read a directory") {
        let path = entry.expect("an entry").path();
        let stat = fs::symlink_metadata(&path).expect("look at a file");
        let ours = format!("{:o} {}:{}", stat.mode(), stat.uid(), stat.gid());
        if stat.is_dir() {
            found.extend(contents(&path));
            found.insert(path, ours);
        } else if path.extension().is_none_or(|extension| extension != "lock") {
            let content = if stat.is_file() { fs::read(&path).expect("read a file") } else { Vec::new() };
            let content = Sha256::digest(content);
            found.insert(path, format!("{ours} {} {} {}.{} {content:?}", stat.nlink(), stat.size(), stat.mtime(), stat.mtime_nsec()));
        }
    }
    found
}

fn lines(program: &str, args: &str) -> Vec<String> {
    let text = Cmd::new(program).args(args.split(' ')).run().ok();
    text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).filter(|line| !line.is_empty()).collect()
}

fn network(scope: &Scope, facts: &mut BTreeSet<String>) {
    if scope.whole_network {
        for link in links() {
            facts.insert(format!("link {link}"));
        }
        facts.extend(lines("ip", "-o -4 addr show").into_iter().map(|line| format!("address {line}")));
        facts.extend(lines("ip", "-4 route show table all").into_iter().map(|line| format!("route {line}")));
        // A ruleset is one text; its lines are facts in their order.
        let rules = lines("nft", "list ruleset");
        facts.extend(rules.into_iter().enumerate().map(|(n, line)| format!("nft {n}: {line}")));
        return;
    }
    for link in links().into_iter().filter(|link| link.split(' ').any(|word| word.trim_end_matches(':') == scope.bridge)) {
        facts.insert(format!("link {link}"));
    }
    for line in lines("ip", "-4 route show table all").into_iter().filter(|line| line.contains(&format!(" {} ", scope.bridge))) {
        facts.insert(format!("route {line}"));
    }
    for table in lines("nft", "list tables").into_iter().filter(|line| line.ends_with(&format!("-{}", scope.bridge))) {
        facts.insert(format!("nft {table}"));
    }
}

/// Name, master and alias of every link; not what comes and goes by itself (state, queue lengths).
fn links() -> Vec<String> {
    let text = Cmd::new("ip").args(["-j", "-d", "link", "show"]).run().ok();
    let links: serde_json::Value = serde_json::from_str(&text).expect("ip speaks JSON");
    let text = |link: &serde_json::Value, key: &str| link[key].as_str().unwrap_or("-").to_owned();
    let links = links.as_array().into_iter().flatten();
    links
        .map(|link| {
            let kind = link["linkinfo"]["info_kind"].as_str().unwrap_or("-");
            format!("{}: {kind} master {} alias {}", text(link, "ifname"), text(link, "master"), text(link, "ifalias"))
        })
        .collect()
}

fn netns_links(scope: &Scope, facts: &mut BTreeSet<String>) {
    for name in names(Path::new("/run/netns")).into_iter().filter(|name| name.starts_with(&scope.instance)) {
        facts.insert(format!("netns link /run/netns/{name}"));
    }
}

fn cgroups(scope: &Scope, facts: &mut BTreeSet<String>) {
    let root = Path::new("/sys/fs/cgroup");
    let hierarchies = names(root).into_iter().map(|name| root.join(name)).chain([root.to_owned()]);
    for dir in hierarchies.map(|h| h.join(&scope.instance)).filter(|dir| dir.is_dir()) {
        walk(&dir, &mut |path| {
            if path.is_dir() {
                facts.insert(format!("cgroup {}", path.display()));
            }
        });
        facts.insert(format!("cgroup {}", dir.display()));
    }
}

/// Mounts that mention the root, in every mount namespace that a process is in.
fn mounts(scope: &Scope, facts: &mut BTreeSet<String>) {
    let root = scope.root.to_string_lossy();
    let mut seen = HashSet::new();
    for process in Process::all() {
        let Ok(namespace) = process.namespace("mnt") else { continue };
        if !seen.insert(namespace) {
            continue;
        }
        let text = String::from_utf8_lossy(&process.file("mountinfo").unwrap_or_default()).into_owned();
        for line in text.lines().filter(|line| line.contains(&*root)) {
            // Fields 4 and 5 are the root of the mount and where it is; behind " - " follow type and source (proc_pid_mountinfo(5)).
            let words: Vec<&str> = line.split(' ').collect();
            let kind = line.split(" - ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap_or_default();
            facts.insert(format!("mount of {} on {} ({kind})", words.get(3).unwrap_or(&""), words.get(4).unwrap_or(&"")));
        }
    }
}

fn processes(scope: &Scope, facts: &mut BTreeSet<String>) {
    for process in Process::all() {
        if let Some(why) = belongs(process, scope) {
            let name = process.status("Name").unwrap_or_default();
            let state = process.status("State").unwrap_or_default();
            facts.insert(format!("process {} {name} {:?} ({state}): {why}", process.0, process.cmdline()));
        }
    }
}

/// Why a process belongs to the installation; the test itself does not.
pub(crate) fn belongs(process: Process, scope: &Scope) -> Option<String> {
    if process.0 == std::process::id() {
        return None;
    }
    let root = scope.root.to_string_lossy();
    if process.cgroups().contains(&format!("/{}", scope.instance)) {
        return Some("by its cgroup".to_owned());
    }
    for file in ["cmdline", "environ", "mountinfo"] {
        let text = String::from_utf8_lossy(&process.file(file).unwrap_or_default()).into_owned();
        // The host's own mounts may mention the root (a test's tmpfs); those of other namespaces may not.
        let shared = file == "mountinfo" && process.namespace("mnt").ok() == Process(std::process::id()).namespace("mnt").ok();
        if !shared && text.contains(&*root) {
            return Some(format!("by its {file}"));
        }
    }
    let directory = PathBuf::from(format!("/proc/{}", process.0));
    let links = ["cwd".into(), "root".into(), "exe".into()].into_iter().chain(names(&directory.join("fd")).into_iter().map(|n| format!("fd/{n}")));
    for link in links {
        if fs::read_link(directory.join(&link)).is_ok_and(|to| to.starts_with(&scope.root)) {
            return Some(format!("by its {link}"));
        }
    }
    let own_network = fs::metadata("/proc/thread-self/ns/net").map(|m| m.ino()).ok();
    (scope.whole_network && process.namespace("net").ok() == own_network).then(|| "by its network, the test's own".to_owned())
}

/// Files below the root that a pod has: not caches (images, seccomp programs; but what is unfinished in them), nor lock files, nor
/// leases that nobody holds.
fn files(scope: &Scope, root: &Path, facts: &mut BTreeSet<String>) {
    let caches = ["lib/images", "lib/seccomp"].map(|cache| scope.root.join(cache));
    walk(root, &mut |path| {
        if unfinished(scope, path) {
            facts.insert(format!("unfinished {}", path.display()));
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let empty_dir = path.is_dir() && !path.is_symlink();
        let is_lock = name == "lock" || name.ends_with(".lock");
        let no_lease = name == "leases.json" && held_leases(path).is_empty();
        if !(caches.iter().any(|cache| path.starts_with(cache)) || empty_dir || is_lock && path.parent().is_some_and(|p| !p.starts_with(scope.root.join("run/pods"))) || no_lease) {
            facts.insert(format!("file {}", path.display()));
        }
        if name == "leases.json" {
            facts.extend(held_leases(path).into_iter().map(|lease| format!("lease {lease}")));
        }
        if empty_dir && path.parent().is_some_and(|p| p.ends_with("pods")) {
            facts.insert(format!("directory of a pod {}", path.display()));
        }
    });
}

/// Work in progress of the image store, and temporary files of both caches.
fn unfinished(scope: &Scope, path: &Path) -> bool {
    let images = scope.root.join("lib/images");
    let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
    let temporary = hidden && path.parent().is_some_and(|p| [&*images, &images.join("blobs/sha256"), &scope.root.join("lib/seccomp")].contains(&p));
    temporary || path.parent() == Some(&images.join("tmp"))
}

fn held_leases(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let leases: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    leases["entries"].as_array().into_iter().flatten().map(ToString::to_string).collect()
}

/// The names in a directory; none when there is none.
pub(crate) fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten();
    entries.filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned())).collect()
}

/// Shows everything below a directory, children before parents; crosses no mount and follows no link.
pub fn walk(dir: &Path, show: &mut dyn FnMut(&Path)) {
    let Ok(here) = fs::symlink_metadata(dir) else { return };
    for name in names(dir) {
        let path = dir.join(name);
        let Ok(there) = fs::symlink_metadata(&path) else { continue };
        if there.is_dir() && there.dev() == here.dev() {
            walk(&path, show);
        }
        show(&path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Running, eventually};

    fn scope(root: &Path) -> Scope {
        Scope { root: root.to_owned(), instance: "minipod-00000000".to_owned(), bridge: "mptest".to_owned(), whole_network: false }
    }

    /// The comparison would be worth nothing if it could not see what it looks for.
    #[test]
    fn sees_files_processes_and_leases() {
        let root = tempfile::tempdir().expect("a directory");
        let scope = scope(root.path());
        let before = HostSnapshot::take(&scope);
        assert!(before.difference(&before).is_empty());

        fs::create_dir_all(root.path().join("run/pods/x")).expect("make a pod's directory");
        fs::create_dir_all(root.path().join("lib/net/b")).expect("make a network's directory");
        fs::write(root.path().join("lib/net/b/leases.json"), r#"{"entries":[{"owner":"x"}]}"#).expect("write a lease");
        let sleeper: Running = Cmd::new("sleep").arg("60").env("MINIPOD_ROOT", root.path()).spawn();
        let found = eventually(Duration::from_secs(5), "the process shows its environment", || {
            let difference = before.difference(&HostSnapshot::take(&scope));
            difference.iter().any(|fact| fact.starts_with("+ process")).then_some(difference)
        });
        for kind in ["+ directory of a pod", "+ lease {\"owner\":\"x\"}", "+ file"] {
            assert!(found.iter().any(|fact| fact.starts_with(kind)), "no {kind} in {found:?}");
        }
        drop(sleeper);
        fs::remove_dir_all(root.path().join("run")).expect("remove the pod");
        fs::remove_dir_all(root.path().join("lib")).expect("remove the network");
        assert_same(&scope, &before);
    }

    #[test]
    fn sees_links_rules_mounts_and_cgroups() {
        if !crate::root() || crate::installed("nft").is_none() {
            return;
        }
        let root = tempfile::tempdir().expect("a directory");
        let mut scope = scope(root.path());
        scope.instance = format!("minipod-test{}", std::process::id());
        scope.whole_network = true;
        let _outside = crate::Outside::private_host();
        let before = HostSnapshot::take(&scope);
        let did = |line: &str| drop(Cmd::new("sh").args(["-c", line]).run().ok());

        let cgroup = names(Path::new("/sys/fs/cgroup")).into_iter().map(|n| Path::new("/sys/fs/cgroup").join(n)).find(|p| p.join("cgroup.procs").is_file());
        let cgroup = cgroup.unwrap_or_else(|| "/sys/fs/cgroup".into()).join(&scope.instance);
        did("ip link add leaked0 type dummy || ip link add leaked0 type bridge");
        did("nft add table inet leaked");
        did(&format!("mount -t tmpfs leaked {}", root.path().display()));
        fs::create_dir(&cgroup).expect("make a cgroup");
        let difference = before.difference(&HostSnapshot::take(&scope));
        did(&format!("umount {}", root.path().display()));
        fs::remove_dir(&cgroup).expect("remove the cgroup");
        for kind in ["+ link leaked0", "+ nft 0: table inet leaked", "+ mount of / on", "+ cgroup"] {
            assert!(difference.iter().any(|fact| fact.starts_with(kind)), "no {kind} in {difference:?}");
        }
        did("ip link del leaked0; nft delete table inet leaked");
        assert_same(&scope, &before);
    }
}
