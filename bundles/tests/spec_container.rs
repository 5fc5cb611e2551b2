//! What a container's OCI spec says, rule by rule.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use bundles::image::{Image, ImageConfig};
use bundles::manifest::{ParseOptions, Source, parse};
use bundles::plan::{PodPlan, RootSource};
use bundles::spec::{self, Namespace, Namespaces, PodFiles, SpecContext, SpecError};
use oci_spec::runtime::{Capability, LinuxNamespaceType, LinuxSeccompAction, Mount, Spec};

/// A pod of one container `a` of an image, with more lines in its spec and its container.
fn plan(spec: &str, container: &str, image: ImageConfig) -> PodPlan {
    let indented = |text: &str, by: &str| text.lines().map(|line| format!("{by}{line}\n")).collect::<String>();
    let text = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: web, annotations: {{note: hello}}}}\nspec:\n  containers:\n  - name: a\n    image: x:1\n{}{}",
        indented(container, "    "),
        indented(spec, "  ")
    );
    let source = Source { name: "web.yaml".to_owned(), text };
    let mut manifest = parse(&[source], &ParseOptions::default()).unwrap_or_else(|problems| panic!("{problems}"));
    let mut plan = manifest.pods.remove(0).plan;
    plan.containers[0].root = RootSource::Image(Box::new(Image {
        reference: "x:1".to_owned(),
        names: vec![],
        id: String::new(),
        digest: String::new(),
        digests: Vec::new(),
        layers: vec![],
        config: image,
        size: 0,
        created: None,
        architecture: "amd64".to_owned(),
    }));
    plan
}

fn image() -> ImageConfig {
    ImageConfig {
        entrypoint: vec!["/entry".to_owned(), "-e".to_owned()],
        cmd: vec!["cmd".to_owned()],
        env: vec!["PATH=/image/bin".to_owned(), "FROM_IMAGE=1".to_owned()],
        working_dir: "/image".to_owned(),
        ..ImageConfig::default()
    }
}

/// A root file system with users.
fn rootfs() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::create_dir(dir.path().join("etc")).expect("etc");
    std::fs::write(
        dir.path().join("etc/passwd"),
        "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1001:User:/home/user:/bin/sh\ntoor:x:0:0::/root:/bin/sh\n",
    )
    .expect("passwd");
    std::fs::write(dir.path().join("etc/group"), "root:x:0:\nuser:x:1001:\naudio:x:29:user\n").expect("group");
    dir
}

#[derive(Default)]
struct Host {
    rootfs: Option<PathBuf>,
    volumes: BTreeMap<String, PathBuf>,
    sub_paths: BTreeMap<(String, PathBuf), PathBuf>,
    image_volumes: BTreeMap<PathBuf, PathBuf>,
    namespaces: Namespaces,
    v2: bool,
    seccomp_root: PathBuf,
}

impl Host {
    fn spec(&self, plan: &PodPlan) -> Result<Spec, SpecError> {
        let context = SpecContext {
            rootfs: self.rootfs.as_deref(),
            pod_ip: "10.244.0.2".parse().ok(),
            node_name: "node",
            files: PodFiles {
                hosts: Some(Path::new("/run/p/hosts")),
                hostname: Some(Path::new("/run/p/hostname")),
                resolv_conf: Some(Path::new("/run/p/resolv.conf")),
                shm: Some(Path::new("/run/p/shm")),
            },
            volumes: &self.volumes,
            sub_paths: &self.sub_paths,
            image_volumes: &self.image_volumes,
            namespaces: &self.namespaces,
            cgroups_path: "/minipod/pod/a",
            cgroup_v2: self.v2,
            seccomp_root: &self.seccomp_root,
        };
        spec::container(plan, &plan.containers[0], &context)
    }

    fn good(&self, plan: &PodPlan) -> Spec {
        self.spec(plan).unwrap_or_else(|error| panic!("{error}"))
    }
}

fn spec_of(spec: &str, container: &str) -> Spec {
    Host::default().good(&plan(spec, container, image()))
}

fn args(spec: &Spec) -> Vec<String> {
    spec.process().as_ref().and_then(|process| process.args().clone()).expect("args")
}

fn env(spec: &Spec) -> Vec<String> {
    spec.process().as_ref().and_then(|process| process.env().clone()).expect("env")
}

fn mount<'a>(spec: &'a Spec, target: &str) -> Option<&'a Mount> {
    let found: Vec<&Mount> = spec.mounts().iter().flatten().filter(|mount| mount.destination() == Path::new(target)).collect();
    assert!(found.len() < 2, "{target} is mounted {} times", found.len());
    found.first().copied()
}

fn options(spec: &Spec, target: &str) -> Vec<String> {
    mount(spec, target).and_then(|mount| mount.options().clone()).unwrap_or_else(|| panic!("{target} is not mounted"))
}

fn has(options: &[String], wanted: &str) -> bool {
    options.iter().any(|option| option == wanted)
}

fn namespaces(spec: &Spec) -> BTreeMap<String, Option<PathBuf>> {
    let list = spec.linux().as_ref().and_then(|linux| linux.namespaces().clone()).expect("namespaces");
    list.iter().map(|namespace| (namespace.typ().to_string(), namespace.path().clone())).collect()
}

#[test]
fn command_and_args_meet_the_image_in_four_ways() {
    for (lines, expected) in [
        ("", vec!["/entry", "-e", "cmd"]),
        ("command: [c]", vec!["c"]),
        ("args: [x]", vec!["/entry", "-e", "x"]),
        ("command: [c]\nargs: [x]", vec!["c", "x"]),
        ("command: []\nargs: []", vec!["/entry", "-e", "cmd"]),
    ] {
        assert_eq!(args(&spec_of("", lines)), expected, "{lines}");
    }
    let nothing = Host::default().spec(&plan("", "", ImageConfig::default()));
    assert!(matches!(nothing, Err(SpecError::NoCommand { .. })));
    let mut unresolved = plan("", "", image());
    unresolved.containers[0].root = RootSource::Reference;
    assert!(matches!(Host::default().spec(&unresolved), Err(SpecError::Unresolved { .. })));
}

#[test]
fn variables_are_expanded_in_command_args_and_values() {
    let spec = spec_of(
        "",
        "command: [\"$(A)\", \"$$(A)\", \"$(NOPE)\"]\nargs: [\"$(B)\"]\nenv: [{name: B, value: \"$(A)\"}, {name: A, value: \"1\"}, {name: B, value: \"<$(A)>\"}]",
    );
    assert_eq!(args(&spec), ["1", "$(A)", "$(NOPE)", "<1>"]);
    let env = env(&spec);
    assert_eq!(env.iter().filter(|line| line.starts_with("B=")).collect::<Vec<_>>(), ["B=<1>"]);
    // The image's own words and variables are not expanded, nor known to the expansion.
    let image = ImageConfig { cmd: vec!["$(A)".to_owned()], env: vec!["I=1".to_owned()], ..ImageConfig::default() };
    let spec = Host::default().good(&plan("", "env: [{name: A, value: \"$(I)\"}]", image));
    assert_eq!(args(&spec), ["$(A)"]);
    assert!(self::env(&spec).contains(&"A=$(I)".to_owned()));
}

#[test]
fn the_environment_is_image_over_defaults_and_manifest_over_image() {
    let root = rootfs();
    let host = Host { rootfs: Some(root.path().to_owned()), ..Host::default() };
    let spec = host.good(&plan("", "tty: true\nenv: [{name: FROM_IMAGE, value: \"2\"}]", image()));
    assert_eq!(env(&spec), ["PATH=/image/bin", "HOSTNAME=web", "HOME=/root", "TERM=xterm", "FROM_IMAGE=2"]);
    let bare = ImageConfig { cmd: vec!["x".to_owned()], ..ImageConfig::default() };
    let spec = host.good(&plan("hostname: shop", "securityContext: {runAsUser: 1000}", bare));
    assert_eq!(
        env(&spec),
        ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOSTNAME=shop", "HOME=/home/user"]
    );
}

#[test]
fn the_user_comes_from_manifest_then_image_and_root_can_be_forbidden() {
    let root = rootfs();
    let host = Host { rootfs: Some(root.path().to_owned()), ..Host::default() };
    let run = |user: &str, spec: &str, container: &str| {
        host.spec(&plan(spec, container, ImageConfig { user: user.to_owned(), ..image() }))
    };
    let ids = |spec: Spec| {
        let process = spec.process().clone().expect("process");
        let user = process.user().clone();
        (user.uid(), user.gid(), user.additional_gids().clone().unwrap_or_default())
    };
    assert_eq!(ids(run("", "", "").expect("root")), (0, 0, vec![]));
    assert_eq!(ids(run("user", "", "").expect("user")), (1000, 1001, vec![29]));
    assert_eq!(ids(run("user:audio", "", "").expect("user")).1, 29);
    assert_eq!(ids(run("user", "", "securityContext: {runAsUser: 5, runAsGroup: 6}").expect("5")), (5, 6, vec![]));
    let groups = "securityContext: {runAsUser: 1000, supplementalGroups: [7, 29]}";
    assert_eq!(ids(run("", groups, "").expect("groups")), (1000, 1001, vec![29, 7]));
    assert!(matches!(run("nobody-such", "", ""), Err(SpecError::User { .. })));
    let forbid = "securityContext: {runAsNonRoot: true}";
    for user in ["", "0", "root", "toor"] {
        assert!(matches!(run(user, forbid, ""), Err(SpecError::RunAsRoot { .. })), "{user:?}");
    }
    assert_eq!(ids(run("user", forbid, "").expect("user")).0, 1000);
    let checking = Host::default().spec(&plan(forbid, "", ImageConfig { user: "named".to_owned(), ..image() }));
    assert!(checking.is_ok(), "a name is not judged without a root file system");
}

#[test]
fn capabilities_are_podmans_changed_by_add_and_drop() {
    let sets = |container: &str| {
        let spec = spec_of("", container);
        let process = spec.process().clone().expect("process");
        let sets = process.capabilities().clone().expect("capabilities are always there");
        let names = |set: &Option<oci_spec::runtime::Capabilities>| -> BTreeSet<String> {
            set.iter().flatten().map(ToString::to_string).collect()
        };
        [names(sets.bounding()), names(sets.effective()), names(sets.permitted()), names(sets.inheritable()), names(sets.ambient())]
    };
    let of = |list: &[&str]| -> BTreeSet<String> { list.iter().map(|name| (*name).to_owned()).collect() };
    let default = of(&[
        "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "NET_BIND_SERVICE", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT",
    ]);
    let none = BTreeSet::new();
    assert_eq!(sets(""), [default.clone(), default.clone(), default.clone(), none.clone(), none.clone()]);
    let changed = |add: &str, drop: &str| sets(&format!("securityContext: {{capabilities: {{add: [{add}], drop: [{drop}]}}}}"))[0].clone();
    assert_eq!(changed("NET_ADMIN", "ALL"), of(&["NET_ADMIN"]));
    assert_eq!(changed("NET_ADMIN", "NET_ADMIN"), default);
    assert_eq!(changed("", "KILL").len(), 10);
    assert_eq!(changed("ALL", "").len(), 41);
    assert_eq!(changed("ALL", "SYS_ADMIN").len(), 40);
    assert_eq!(sets("securityContext: {privileged: true}")[0].len(), 41);
    let user = sets("securityContext: {runAsUser: 1000, capabilities: {add: [NET_ADMIN]}}");
    assert_eq!(user[0].len(), 12, "the bounding set stays");
    assert!(user[1..].iter().all(BTreeSet::is_empty), "nothing else does");
}

#[test]
fn no_new_privileges_is_said_only_when_wanted() {
    let said = |container: &str| spec_of("", container).process().as_ref().and_then(|process| process.no_new_privileges());
    assert_eq!(said(""), None);
    assert_eq!(said("securityContext: {allowPrivilegeEscalation: true}"), None);
    assert_eq!(said("securityContext: {allowPrivilegeEscalation: false}"), Some(true));
}

#[test]
fn an_ordinary_container_has_the_usual_mounts() {
    let spec = spec_of("", "");
    let targets: Vec<&str> = spec.mounts().iter().flatten().filter_map(|mount| mount.destination().to_str()).collect();
    assert_eq!(
        targets,
        ["/proc", "/dev", "/dev/pts", "/dev/mqueue", "/dev/shm", "/sys", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf"]
    );
    assert_eq!(options(&spec, "/dev"), ["nosuid", "strictatime", "mode=755", "size=65536k"]);
    assert_eq!(options(&spec, "/dev/pts"), ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]);
    assert!(has(&options(&spec, "/sys"), "ro"));
    assert!(has(&options(&spec, "/etc/hosts"), "rw"));
    assert_eq!(mount(&spec, "/dev/shm").and_then(|mount| mount.source().clone()), Some(PathBuf::from("/run/p/shm")));
    let linux = spec.linux().as_ref().expect("linux");
    for masked in ["/proc/kcore", "/proc/keys", "/sys/firmware"] {
        assert!(has(linux.masked_paths().as_ref().expect("masked"), masked));
    }
    assert!(has(linux.readonly_paths().as_ref().expect("read-only"), "/proc/sys"));
    assert_eq!(linux.rootfs_propagation().as_deref(), Some("private"));
    assert!(linux.resources().is_none() && linux.devices().is_none());
    assert_eq!(linux.cgroups_path().as_deref(), Some(Path::new("/minipod/pod/a")));
    assert!(spec.hostname().is_none());
}

#[test]
fn privileged_lifts_masks_seccomp_and_read_only_and_brings_devices() {
    let spec = spec_of("", "securityContext: {privileged: true}");
    let linux = spec.linux().as_ref().expect("linux");
    assert!(linux.masked_paths().is_none() && linux.readonly_paths().is_none() && linux.seccomp().is_none());
    assert!(has(&options(&spec, "/sys"), "rw"));
    let devices = linux.devices().as_ref().expect("devices");
    assert!(devices.iter().all(|device| !device.path().starts_with("/dev/pts") && device.path() != Path::new("/dev/null")));
    let listed: BTreeSet<PathBuf> = devices.iter().map(|device| device.path().clone()).collect();
    let skipped = ["null", "zero", "full", "random", "urandom", "tty", "console", "ptmx"].map(|name| Path::new("/dev").join(name));
    for entry in std::fs::read_dir("/dev").expect("/dev").flatten() {
        let kind = entry.metadata().map(|found| found.file_type());
        let device = kind.is_ok_and(|kind| kind.is_char_device() || kind.is_block_device());
        assert_eq!(listed.contains(&entry.path()), device && !skipped.contains(&entry.path()), "{:?}", entry.path());
    }
}

#[test]
fn a_read_only_root_makes_the_pods_files_read_only_too() {
    let spec = spec_of("", "securityContext: {readOnlyRootFilesystem: true}");
    assert_eq!(spec.root().as_ref().and_then(|root| root.readonly()), Some(true));
    assert!(has(&options(&spec, "/etc/hosts"), "ro") && has(&options(&spec, "/dev/shm"), "rw"));
    assert_eq!(spec_of("", "").root().as_ref().and_then(|root| root.readonly()), Some(false));
}

#[test]
fn volumes_are_bound_parents_first_and_win_over_defaults() {
    let volumes = "volumes: [{name: v, emptyDir: {}}, {name: dev, hostPath: {path: /dev}}]";
    let prepared: BTreeMap<String, PathBuf> =
        [("v".to_owned(), "/lib/v".into()), ("dev".to_owned(), "/dev".into())].into_iter().collect();
    let mut host = Host { volumes: prepared, ..Host::default() };
    let container = "volumeMounts: [{name: v, mountPath: /a/b/c}, {name: v, mountPath: /a, readOnly: true}, {name: v, mountPath: /etc/hosts, subPath: h}]";
    let with_sub = plan(volumes, container, image());
    assert!(matches!(host.spec(&with_sub), Err(SpecError::SubPath { .. })));
    host.sub_paths.insert(("v".to_owned(), "h".into()), "/staged/0".into());
    let spec = host.good(&with_sub);
    let order: Vec<&str> = spec.mounts().iter().flatten().filter_map(|mount| mount.destination().to_str()).collect();
    let position = |target: &str| order.iter().position(|other| *other == target).expect(target);
    assert!(position("/a") < position("/a/b/c") && position("/etc/resolv.conf") < position("/a"));
    assert_eq!(options(&spec, "/a"), ["rbind", "rprivate", "ro"]);
    assert_eq!(options(&spec, "/a/b/c"), ["rbind", "rprivate", "rw"]);
    assert_eq!(mount(&spec, "/etc/hosts").and_then(|mount| mount.source().clone()), Some(PathBuf::from("/staged/0")));
    let spec = host.good(&plan(volumes, "volumeMounts: [{name: dev, mountPath: /dev}]", image()));
    assert!(mount(&spec, "/dev/pts").is_none() && mount(&spec, "/dev/shm").is_none() && mount(&spec, "/proc").is_some());
    assert!(matches!(Host::default().spec(&plan(volumes, "volumeMounts: [{name: v, mountPath: /a}]", image())), Err(SpecError::Volume { .. })));
}

/// A remount with fewer flags than the volume's own mount would take them off.
#[test]
fn an_image_volume_is_bound_with_all_that_it_is_mounted_with() {
    let volumes = "volumes: [{name: v, image: {reference: \"x:1\"}}]";
    let host = Host { volumes: BTreeMap::from([("v".to_owned(), PathBuf::from("/lib/v"))]), ..Host::default() };
    for wish in ["", ", readOnly: false", ", readOnly: true"] {
        let spec = host.good(&plan(volumes, &format!("volumeMounts: [{{name: v, mountPath: /a{wish}}}]"), image()));
        assert_eq!(options(&spec, "/a"), ["rbind", "rprivate", "nosuid", "noexec", "nodev", "ro"]);
    }
}

#[test]
fn the_images_volumes_lie_below_the_pods_files_and_in_the_pods_volumes() {
    let places = ["/etc", "/data", "/data/in/side", "/a/b/c"];
    let image_volumes = places.iter().map(|place| (PathBuf::from(place), PathBuf::from(format!("/lib{place}")))).collect();
    let host = Host { volumes: BTreeMap::from([("v".to_owned(), PathBuf::from("/lib/v"))]), image_volumes, ..Host::default() };
    let lines = "securityContext: {readOnlyRootFilesystem: true}\nvolumeMounts: [{name: v, mountPath: /a/b}, {name: v, mountPath: /a/b/c/d}, {name: v, mountPath: /data/in}]";
    let spec = host.good(&plan("volumes: [{name: v}]", lines, image()));
    let order: Vec<&str> = spec.mounts().iter().flatten().filter_map(|mount| mount.destination().to_str()).collect();
    let at = |place: &str| order.iter().position(|other| *other == place).unwrap_or_else(|| panic!("{place} in {order:?}"));
    for chain in [&["/sys", "/etc", "/etc/hosts"][..], &["/sys", "/data", "/data/in", "/data/in/side"], &["/a/b", "/a/b/c", "/a/b/c/d"]] {
        assert!(chain.windows(2).all(|pair| at(pair[0]) < at(pair[1])), "{chain:?} in {order:?}");
    }
    assert_eq!(mount(&spec, "/data").and_then(|mount| mount.source().clone()), Some(PathBuf::from("/lib/data")));
    assert_eq!(options(&spec, "/data"), ["rbind", "rprivate", "rw"], "whatever the root is");
}

#[test]
fn namespaces_are_joined_made_or_left() {
    let joined = |name: &str| Namespace::Path(PathBuf::from(format!("/proc/7/ns/{name}")));
    let host = Host {
        namespaces: Namespaces { network: joined("net"), ipc: joined("ipc"), uts: joined("uts"), pid: Namespace::New },
        ..Host::default()
    };
    let spec = host.good(&plan("", "", image()));
    let found = namespaces(&spec);
    assert_eq!(found.len(), 5);
    assert_eq!(found[&LinuxNamespaceType::Network.to_string()], Some("/proc/7/ns/net".into()));
    assert_eq!(found[&LinuxNamespaceType::Uts.to_string()], Some("/proc/7/ns/uts".into()));
    assert_eq!(found[&LinuxNamespaceType::Pid.to_string()], None);
    assert_eq!(found[&LinuxNamespaceType::Mount.to_string()], None);
    let host = Host {
        namespaces: Namespaces { network: Namespace::Host, ipc: Namespace::Host, uts: Namespace::Host, pid: Namespace::Host },
        v2: true,
        ..Host::default()
    };
    let spec = host.good(&plan("", "", image()));
    let found: Vec<String> = namespaces(&spec).into_keys().collect();
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found.contains(&LinuxNamespaceType::Mount.to_string()) && found.contains(&LinuxNamespaceType::Cgroup.to_string()));
    assert_eq!(mount(&spec, "/sys").and_then(|mount| mount.typ().clone()).as_deref(), Some("bind"));
    assert!(has(&options(&spec, "/sys"), "ro") && has(&options(&spec, "/sys/fs/cgroup"), "ro"));
}

#[test]
fn seccomp_follows_the_profile() {
    let of = |container: &str| spec_of("", container).linux().as_ref().and_then(|linux| linux.seccomp().clone());
    let default = of("").expect("the default profile");
    assert_eq!(default.default_action(), LinuxSeccompAction::ScmpActErrno);
    assert_eq!(default.architectures().as_ref().map(Vec::len), Some(1));
    assert!(of("securityContext: {seccompProfile: {type: Unconfined}}").is_none());
    let admin = of("securityContext: {capabilities: {add: [SYS_ADMIN]}}").expect("a profile");
    let mounts = |profile: &oci_spec::runtime::LinuxSeccomp| {
        profile.syscalls().iter().flatten().any(|rule| {
            rule.action() == LinuxSeccompAction::ScmpActAllow && rule.names().iter().any(|name| name == "mount")
        })
    };
    assert!(mounts(&admin) && !mounts(&default));
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("p.json"), r#"{"defaultAction":"SCMP_ACT_LOG"}"#).expect("profile");
    std::fs::write(dir.path().join("bad.json"), r#"{"defaultAction":"#).expect("profile");
    let host = Host { seccomp_root: dir.path().to_owned(), ..Host::default() };
    let local = |file: &str| {
        let container = format!("securityContext: {{seccompProfile: {{type: Localhost, localhostProfile: {file}}}}}");
        host.spec(&plan("", &container, image()))
    };
    let spec = local("p.json").expect("a profile");
    let profile = spec.linux().as_ref().and_then(|linux| linux.seccomp().clone()).expect("seccomp");
    assert_eq!(profile.default_action(), LinuxSeccompAction::ScmpActLog);
    assert!(matches!(local("bad.json"), Err(SpecError::SeccompParse { .. })));
    assert!(matches!(local("none.json"), Err(SpecError::SeccompRead { .. })));
}

#[test]
fn limits_are_given_in_the_kernels_terms() {
    let of = |resources: &str| {
        let plan = plan("", &format!("resources: {resources}"), image());
        let resources = spec::resources(&plan.containers[0]);
        let (cpu, memory) = (resources.cpu().clone().expect("cpu"), resources.memory().expect("memory"));
        (cpu.shares(), cpu.quota(), cpu.period(), memory.limit())
    };
    assert_eq!(of("{}"), (Some(2), None, None, None));
    assert_eq!(of("{limits: {cpu: 500m, memory: 64Mi}}"), (Some(512), Some(50_000), Some(100_000), Some(64 << 20)));
    assert_eq!(of("{limits: {cpu: 1m}, requests: {cpu: 1m}}"), (Some(2), Some(1000), Some(100_000), None));
    assert_eq!(of("{requests: {cpu: 2}}"), (Some(2048), None, None, None));
}

#[test]
fn a_bundle_is_used_as_it_is_and_joined() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut own = Spec::default();
    own.set_hostname(Some("own".to_owned()));
    spec::write(dir.path(), &own).expect("written");
    let mut plan = plan("", "env: [{name: A, value: b}]", image());
    plan.containers[0].root = RootSource::Bundle(dir.path().to_owned());
    let host = Host {
        namespaces: Namespaces { network: Namespace::Path("/proc/7/ns/net".into()), ipc: Namespace::Host, ..Namespaces::default() },
        ..Host::default()
    };
    let spec = host.good(&plan);
    assert_eq!(args(&spec), own.process().as_ref().and_then(|process| process.args().clone()).expect("args"));
    assert!(env(&spec).contains(&"A=b".to_owned()));
    assert_eq!(spec.root().as_ref().map(|root| root.path().clone()), Some(dir.path().join("rootfs")));
    assert!(spec.hostname().is_none());
    let found = namespaces(&spec);
    assert_eq!(found[&LinuxNamespaceType::Network.to_string()], Some("/proc/7/ns/net".into()));
    assert!(!found.contains_key(&LinuxNamespaceType::Ipc.to_string()), "the pod uses the host's");
    assert_eq!(spec.mounts().as_ref().map(Vec::len), own.mounts().as_ref().map(Vec::len));
    plan.containers[0].command = Some(vec!["mine".to_owned()]);
    assert_eq!(args(&host.good(&plan)), ["mine"]);
    std::fs::remove_file(dir.path().join("config.json")).expect("removed");
    assert!(matches!(host.spec(&plan), Err(SpecError::BundleRead { .. })));
}

#[test]
fn a_written_bundle_reads_back_the_same() {
    let dir = tempfile::tempdir().expect("a directory");
    let bundle = dir.path().join("deep/a");
    let spec = spec_of("", "command: [sh]");
    spec::write(&bundle, &spec).expect("written");
    spec::write(&bundle, &spec).expect("replaced");
    let text = std::fs::read_to_string(bundle.join("config.json")).expect("config.json");
    let read: Spec = serde_json::from_str(&text).expect("a spec");
    assert_eq!(read, spec);
    let json: serde_json::Value = serde_json::from_str(&text).expect("json");
    assert_eq!(json["ociVersion"], "1.2.0");
    assert_eq!(json["annotations"]["io.kubernetes.cri.container-name"], "a");
    assert_eq!(json["annotations"]["note"], "hello");
    assert!(json["process"]["capabilities"]["bounding"].as_array().is_some_and(|caps| caps.iter().any(|cap| cap == "CAP_CHOWN")));
    assert_eq!(std::fs::read_dir(&bundle).expect("bundle").count(), 1, "no leftovers");
}

#[test]
fn every_capability_is_known_by_name() {
    let names: BTreeSet<String> = spec::capabilities::ALL.iter().map(Capability::to_string).collect();
    assert_eq!(names.len(), 41);
    for name in names {
        let container = format!("securityContext: {{capabilities: {{drop: [ALL], add: [{name}]}}}}");
        let bounding = spec::capabilities::bounding(&plan("", &container, image()).containers[0].security);
        assert_eq!(bounding.len(), 1, "{name}");
    }
}
