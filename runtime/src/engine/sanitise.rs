//! From the spec as asked for to what libcontainer is given and what we do ourselves.
//!
//! libcontainer ignores, mistakes or does insecurely a list of things. Each is here: refused when nobody does it,
//! taken away when we do it ([`Settings`]), written in the one form that it understands otherwise.

use std::os::fd::AsFd;
use std::path::{Component, Path, PathBuf};

use oci_spec::runtime::{
    Capabilities as SpecCapabilities, Capability, Linux, LinuxCapabilities, LinuxNamespace, LinuxNamespaceBuilder,
    LinuxNamespaceType, Mount, PosixRlimitType, Process, Spec, UserBuilder,
};

use super::protocol::{Capabilities, Rlimit, Settings, TerminalSize};
use crate::sys;

/// A field of the spec that cannot be honoured, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct Refusal {
    /// Path in `config.json` (`process.selinuxLabel`).
    pub field: String,
    /// What is wrong with it.
    pub reason: String,
}

impl Refusal {
    fn new(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { field: field.into(), reason: reason.into() }
    }
}

type Result<T> = std::result::Result<T, Refusal>;

const UNSUPPORTED: &str = "not supported";

/// Umask of a process that asks for none (runtime spec: the runtime's, which is 0022 by custom).
const DEFAULT_UMASK: u32 = 0o022;

/// What is known of the machine and the container and not in the spec.
pub(super) struct Context<'a> {
    pub bundle: &'a Path,
    pub cgroup_path: &'a str,
    pub cgroup_v2: bool,
}

/// A spec that libcontainer may see, and the rest.
#[derive(Debug)]
pub(super) struct Sanitised {
    pub spec: Spec,
    pub settings: Settings,
    /// Whether nothing of the container looks into the host's `/sys/fs/cgroup`.
    pub hide_cgroups: bool,
}

/// Checks `spec` and splits it. Reads the root file system, changes nothing.
pub(super) fn sanitise(spec: &Spec, context: &Context<'_>) -> Result<Sanitised> {
    if !spec.version().starts_with("1.") {
        return Err(Refusal::new("ociVersion", format!("{} is not 1.x", spec.version())));
    }
    for (present, field) in [
        (spec.solaris().is_some(), "solaris"),
        (spec.windows().is_some(), "windows"),
        (spec.vm().is_some(), "vm"),
        (spec.zos().is_some(), "zos"),
    ] {
        refuse_if(present, field, "this is Linux")?;
    }
    if let Some(hooks) = spec.hooks() {
        let some = |hooks: &Option<Vec<_>>| hooks.as_ref().is_some_and(|h| !h.is_empty());
        refuse_if(some(hooks.poststart()), "hooks.poststart", UNSUPPORTED)?;
        refuse_if(some(hooks.poststop()), "hooks.poststop", UNSUPPORTED)?;
    }
    let asked = spec.process().as_ref().ok_or_else(|| Refusal::new("process", "missing"))?;
    let mut settings = settings_of(asked, spec.linux().as_ref())?;
    // libcontainer does these on create.
    settings.oom_score_adj = None;
    settings.apparmor_profile = None;

    let mut safe = spec.clone();
    safe.set_process(Some(process_for_libcontainer(asked, &settings)?));
    let root = root(spec, context.bundle)?;
    let mut spec_root = spec.root().clone().unwrap_or_default();
    spec_root.set_path(root.clone());
    safe.set_root(Some(spec_root));

    let mut linux = spec.linux().clone().unwrap_or_default();
    refuse_in_linux(&linux)?;
    let mut namespaces = namespaces(&linux)?;
    if joins(&namespaces, LinuxNamespaceType::Uts) {
        settings.hostname = spec.hostname().clone();
        refuse_if(spec.domainname().is_some(), "domainname", "the UTS namespace is joined")?;
        safe.set_hostname(None);
    }
    let (mounts, propagation, cgroup_mount) = mounts(spec, &linux, context.cgroup_v2)?;
    if cgroup_mount && !namespaces.iter().any(|n| n.typ() == LinuxNamespaceType::Cgroup) {
        // Mounted without one it would show the host's tree.
        namespaces.push(namespace(LinuxNamespaceType::Cgroup)?);
    }
    check_image_links(&root)?;

    let hide_cgroups = propagation != "shared" && !mounts.iter().any(shows_cgroups);
    safe.set_mounts(Some(mounts));
    linux.set_namespaces(Some(namespaces));
    linux.set_rootfs_propagation(Some(propagation.to_owned()));
    linux.set_cgroups_path(Some(PathBuf::from(context.cgroup_path)));
    linux.set_resources(None); // the cgroup has them
    linux.set_seccomp(None); // loaded by us
    safe.set_linux(Some(linux));
    Ok(Sanitised { spec: safe, settings, hide_cgroups })
}

fn refuse_if(condition: bool, field: &str, reason: &str) -> Result<()> {
    if condition { Err(Refusal::new(field, reason)) } else { Ok(()) }
}

/// What we apply ourselves, for a container's process and an exec'd one alike.
pub(super) fn settings_of(process: &Process, linux: Option<&Linux>) -> Result<Settings> {
    let args = process.args().clone().unwrap_or_default();
    refuse_if(args.is_empty(), "process.args", "empty")?;
    let env = process.env().clone().unwrap_or_default();
    for (list, field) in [(&args, "process.args"), (&env, "process.env")] {
        refuse_if(list.iter().any(|s| s.contains('\0')), field, "contains a NUL byte")?;
    }
    let label = process.selinux_label().as_deref().unwrap_or_default();
    refuse_if(!label.is_empty(), "process.selinuxLabel", UNSUPPORTED)?;
    refuse_if(!process.cwd().is_absolute(), "process.cwd", "not an absolute path")?;
    let user = process.user();
    let umask = user.umask().unwrap_or(DEFAULT_UMASK);
    refuse_if(umask > 0o777, "process.user.umask", "more than 0777")?;

    let size = process.console_size().map(|size| TerminalSize {
        rows: u16::try_from(size.height()).unwrap_or(u16::MAX),
        columns: u16::try_from(size.width()).unwrap_or(u16::MAX),
    });
    Ok(Settings {
        args,
        env,
        cwd: process.cwd().clone(),
        uid: user.uid(),
        gid: user.gid(),
        groups: user.additional_gids().clone().unwrap_or_default(),
        umask,
        capabilities: process.capabilities().as_ref().map(capabilities).transpose()?.unwrap_or_default(),
        no_new_privileges: process.no_new_privileges().unwrap_or(false),
        seccomp_flags: None, // known when the profile is compiled
        rlimits: rlimits(process)?,
        oom_score_adj: process.oom_score_adj(),
        apparmor_profile: process.apparmor_profile().clone().filter(|p| !p.is_empty() && linux.is_some()),
        hostname: None,
        terminal: process.terminal().unwrap_or(false).then(|| size.unwrap_or_default()),
    })
}

/// Fields that only a container's first process may have.
pub(super) fn refuse_in_exec(process: &Process) -> Result<()> {
    for (present, field) in [
        (process.io_priority().is_some(), "process.ioPriority"),
        (process.scheduler().is_some(), "process.scheduler"),
        (process.exec_cpu_affinity().is_some(), "process.execCPUAffinity"),
    ] {
        refuse_if(present, field, UNSUPPORTED)?;
    }
    Ok(())
}

fn capabilities(caps: &LinuxCapabilities) -> Result<Capabilities> {
    let bits = |set: &Option<SpecCapabilities>| set.iter().flatten().try_fold(0, |bits, cap| Ok(bits | bit(*cap)?));
    let caps = Capabilities {
        bounding: bits(caps.bounding())?,
        effective: bits(caps.effective())?,
        permitted: bits(caps.permitted())?,
        inheritable: bits(caps.inheritable())?,
        ambient: bits(caps.ambient())?,
    };
    // The kernel's rules (capabilities(7)), checked here to name the field.
    refuse_if(caps.effective & !caps.permitted != 0, "process.capabilities.effective", "more than permitted")?;
    // runc and crun drop ambient capabilities that cannot be; a spec that lists ambient alone means the usual sets.
    let ambient = caps.ambient & caps.permitted & caps.inheritable;
    Ok(Capabilities { ambient, ..caps })
}

fn bit(cap: Capability) -> Result<u64> {
    let unknown = || Refusal::new("process.capabilities", format!("{cap:?} is unknown"));
    let name = serde_json::to_value(cap).map_err(|_| unknown())?;
    let cap: caps::Capability = name.as_str().and_then(|name| name.parse().ok()).ok_or_else(unknown)?;
    Ok(cap.bitmask())
}

fn rlimits(process: &Process) -> Result<Vec<Rlimit>> {
    let mut all: Vec<Rlimit> = Vec::new();
    for limit in process.rlimits().iter().flatten() {
        let resource = match limit.typ() {
            PosixRlimitType::RlimitCpu => libc::RLIMIT_CPU,
            PosixRlimitType::RlimitFsize => libc::RLIMIT_FSIZE,
            PosixRlimitType::RlimitData => libc::RLIMIT_DATA,
            PosixRlimitType::RlimitStack => libc::RLIMIT_STACK,
            PosixRlimitType::RlimitCore => libc::RLIMIT_CORE,
            PosixRlimitType::RlimitRss => libc::RLIMIT_RSS,
            PosixRlimitType::RlimitNproc => libc::RLIMIT_NPROC,
            PosixRlimitType::RlimitNofile => libc::RLIMIT_NOFILE,
            PosixRlimitType::RlimitMemlock => libc::RLIMIT_MEMLOCK,
            PosixRlimitType::RlimitAs => libc::RLIMIT_AS,
            PosixRlimitType::RlimitLocks => libc::RLIMIT_LOCKS,
            PosixRlimitType::RlimitSigpending => libc::RLIMIT_SIGPENDING,
            PosixRlimitType::RlimitMsgqueue => libc::RLIMIT_MSGQUEUE,
            PosixRlimitType::RlimitNice => libc::RLIMIT_NICE,
            PosixRlimitType::RlimitRtprio => libc::RLIMIT_RTPRIO,
            PosixRlimitType::RlimitRttime => libc::RLIMIT_RTTIME,
        };
        refuse_if(all.iter().any(|l| l.resource == resource), "process.rlimits", "one type twice")?;
        refuse_if(limit.soft() > limit.hard(), "process.rlimits", "soft above hard")?;
        all.push(Rlimit { resource, soft: limit.soft(), hard: limit.hard() });
    }
    Ok(all)
}

/// Root with everything, because we take it all away ourselves, later and in the right order.
fn process_for_libcontainer(asked: &Process, settings: &Settings) -> Result<Process> {
    let mut process = asked.clone();
    let root = UserBuilder::default().uid(0u32).gid(0u32).build();
    process.set_user(root.map_err(|e| Refusal::new("process.user", e.to_string()))?);
    process.set_cwd(PathBuf::from("/"));
    process.set_terminal(None);
    process.set_console_size(None);
    process.set_capabilities(None); // which libcontainer takes for "keep all"
    process.set_rlimits(None);
    process.set_no_new_privileges(None);
    process.set_selinux_label(None);
    // Without HOME it asks the image's name service modules; hooks inherit the rest.
    let mut env = settings.env.clone();
    for (name, value) in [("HOME", "/"), ("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")] {
        if !env.iter().any(|e| e.strip_prefix(name).is_some_and(|rest| rest.len() > 1 && rest.starts_with('='))) {
            env.push(format!("{name}={value}"));
        }
    }
    process.set_env(Some(env));
    Ok(process)
}

fn root(spec: &Spec, bundle: &Path) -> Result<PathBuf> {
    let root = spec.root().as_ref().ok_or_else(|| Refusal::new("root", "missing"))?;
    let path = bundle.join(root.path());
    let failed = |e: std::io::Error| Refusal::new("root.path", format!("{}: {e}", path.display()));
    let resolved = path.canonicalize().map_err(failed)?;
    refuse_if(!resolved.is_dir(), "root.path", &format!("{} is not a directory", path.display()))?;
    refuse_if(resolved == Path::new("/"), "root.path", "is the host's root")?;
    Ok(resolved)
}

/// libcontainer makes device links by joined paths: through a link in the image they would land on the host.
fn check_image_links(root: &Path) -> Result<()> {
    for name in ["dev", "proc", "sys"] {
        if root.join(name).symlink_metadata().is_ok_and(|meta| meta.is_symlink()) {
            return Err(Refusal::new("root.path", format!("/{name} is a symbolic link in the image")));
        }
    }
    Ok(())
}

fn refuse_in_linux(linux: &Linux) -> Result<()> {
    for (present, field) in [
        (linux.mount_label().as_ref().is_some_and(|l| !l.is_empty()), "linux.mountLabel"),
        (linux.intel_rdt().is_some(), "linux.intelRdt"),
        (linux.net_devices().as_ref().is_some_and(|d| !d.is_empty()), "linux.netDevices"),
    ] {
        refuse_if(present, field, UNSUPPORTED)?;
    }
    Ok(())
}

fn namespace(typ: LinuxNamespaceType) -> Result<LinuxNamespace> {
    LinuxNamespaceBuilder::default()
        .typ(typ)
        .build()
        .map_err(|e| Refusal::new("linux.namespaces", e.to_string()))
}

fn joins(namespaces: &[LinuxNamespace], typ: LinuxNamespaceType) -> bool {
    namespaces.iter().any(|n| n.typ() == typ && n.path().is_some())
}

fn namespaces(linux: &Linux) -> Result<Vec<LinuxNamespace>> {
    let mut all: Vec<LinuxNamespace> = Vec::new();
    for asked in linux.namespaces().iter().flatten() {
        // As config.json writes it; Display has the names of /proc/PID/ns.
        let name = serde_json::to_value(asked.typ()).ok().and_then(|v| v.as_str().map(str::to_owned));
        let field = format!("linux.namespaces.{}", name.unwrap_or_default());
        refuse_if(all.iter().any(|n| n.typ() == asked.typ()), &field, "twice")?;
        if let Some(path) = asked.path() {
            refuse_if(asked.typ() == LinuxNamespaceType::Mount, &field, "joining one is not supported")?;
            check_namespace(path, asked.typ(), &field)?;
        }
        all.push(asked.clone());
    }
    // Without one of its own libcontainer would mount and make devices in the host's.
    if !all.iter().any(|n| n.typ() == LinuxNamespaceType::Mount) {
        all.push(namespace(LinuxNamespaceType::Mount)?);
    }
    Ok(all)
}

fn check_namespace(path: &Path, typ: LinuxNamespaceType, field: &str) -> Result<()> {
    let failed = |e: std::io::Error| Refusal::new(field, format!("{}: {e}", path.display()));
    let expected = match typ {
        LinuxNamespaceType::Mount => libc::CLONE_NEWNS,
        LinuxNamespaceType::Cgroup => libc::CLONE_NEWCGROUP,
        LinuxNamespaceType::Uts => libc::CLONE_NEWUTS,
        LinuxNamespaceType::Ipc => libc::CLONE_NEWIPC,
        LinuxNamespaceType::User => libc::CLONE_NEWUSER,
        LinuxNamespaceType::Pid => libc::CLONE_NEWPID,
        LinuxNamespaceType::Network => libc::CLONE_NEWNET,
        LinuxNamespaceType::Time => libc::CLONE_NEWTIME,
    };
    refuse_if(!path.is_absolute(), field, &format!("{} is not absolute", path.display()))?;
    let file = std::fs::File::open(path).map_err(failed)?;
    match sys::namespace_type(file.as_fd()) {
        Ok(found) if found == expected => Ok(()),
        Ok(_) => Err(Refusal::new(field, format!("{} is a namespace of another type", path.display()))),
        Err(_) => Err(Refusal::new(field, format!("{} is not a namespace", path.display()))),
    }
}

/// The mounts in libcontainer's form, the propagation of all of them, and whether there is a cgroup mount.
fn mounts(spec: &Spec, linux: &Linux, cgroup_v2: bool) -> Result<(Vec<Mount>, &'static str, bool)> {
    let mut wanted = Propagations::default();
    if let Some(root) = linux.rootfs_propagation().as_deref().filter(|p| !p.is_empty()) {
        let kind = propagation(root)
            .ok_or_else(|| Refusal::new("linux.rootfsPropagation", format!("{root} is not a propagation")))?;
        wanted.note(kind, "linux.rootfsPropagation")?;
    }
    let mut all = Vec::new();
    let mut cgroup_mount = false;
    for (index, asked) in spec.mounts().iter().flatten().enumerate() {
        let field = format!("mounts[{index}]");
        let mut mount = asked.clone();
        let idmapped = mount.uid_mappings().is_some() || mount.gid_mappings().is_some();
        refuse_if(idmapped, &field, "id-mapped mounts are not supported")?;
        let clean = |p: &Path| p.is_absolute() && !p.components().any(|c| c == Component::ParentDir);
        refuse_if(!clean(mount.destination()), &field, "destination must be absolute and without ..")?;
        refuse_if(mount.destination() == Path::new("/"), &field, "a mount on / is not supported")?;
        // libcontainer would make its device nodes and links in the source, and delete `ptmx` there.
        let on_dev = mount.destination() == Path::new("/dev") && is_bind(&mount);
        refuse_if(on_dev, &field, "a bind mount on /dev is not supported")?;
        let mut options = Vec::new();
        for option in mount.options().iter().flatten() {
            match option.as_str() {
                "idmap" | "ridmap" => return Err(Refusal::new(&field, "id-mapped mounts are not supported")),
                "tmpcopyup" => return Err(Refusal::new(&field, "tmpcopyup is not supported")),
                other => match propagation(other) {
                    // libcontainer ignores it here: the propagation of the whole tree decides.
                    Some(kind) => wanted.note(kind, &field)?,
                    None => options.push(other.to_owned()),
                },
            }
        }
        if matches!(mount.typ().as_deref(), Some("cgroup" | "cgroup2")) {
            if !cgroup_v2 {
                continue; // v1 hierarchies would be writable whatever the options say
            }
            cgroup_mount = true;
            // Not "cgroup", for which libcontainer goes by what it sees of the host's mounts.
            mount.set_typ(Some("cgroup2".into())).set_source(Some(PathBuf::from("cgroup2")));
            if !options.iter().any(|o| o == "rw") && !options.iter().any(|o| o == "ro") {
                options.push("ro".into());
            }
        }
        mount.set_options(Some(options));
        all.push(mount);
    }
    kernel_file_systems_last(&mut all)?;
    Ok((all, wanted.decide(), cgroup_mount))
}

/// A destination that is a link in the image (`/data -> /dev`) is followed inside the container's root, so that a volume
/// may come to lie on `/dev`, and libcontainer's device nodes in the volume. What is meant to be there comes on top.
fn kernel_file_systems_last(mounts: &mut [Mount]) -> Result<()> {
    mounts.sort_by_key(|mount| ["/dev", "/proc", "/sys"].iter().any(|place| mount.destination().starts_with(place)));
    // The same below a volume that lies there itself.
    for (index, outer) in mounts.iter().enumerate() {
        let place = outer.destination();
        let nested = is_bind(outer) && place.starts_with("/dev") && mounts[index + 1..].iter().any(|inner| inner.destination().starts_with(place));
        refuse_if(nested, "mounts", &format!("a mount below the bind mount {} is not supported", place.display()))?;
    }
    Ok(())
}

fn is_bind(mount: &Mount) -> bool {
    mount.options().iter().flatten().any(|o| o == "bind" || o == "rbind") || mount.typ().as_deref() == Some("bind")
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Propagation {
    Private,
    Slave,
    Shared,
    Unbindable,
}

fn propagation(option: &str) -> Option<Propagation> {
    Some(match option {
        "private" | "rprivate" => Propagation::Private,
        "slave" | "rslave" => Propagation::Slave,
        "shared" | "rshared" => Propagation::Shared,
        "unbindable" | "runbindable" => Propagation::Unbindable,
        _ => return None,
    })
}

/// One propagation serves all mounts: the strongest that any asks for.
#[derive(Default)]
struct Propagations {
    slave: bool,
    shared: bool,
    unbindable: bool,
}

impl Propagations {
    fn note(&mut self, kind: Propagation, field: &str) -> Result<()> {
        match kind {
            Propagation::Private => {}
            Propagation::Slave => self.slave = true,
            Propagation::Shared => self.shared = true,
            Propagation::Unbindable => self.unbindable = true,
        }
        let different = [self.slave, self.shared, self.unbindable].into_iter().filter(|set| *set).count();
        refuse_if(different > 1, field, "mixes mount propagations, which is not supported")
    }

    fn decide(&self) -> &'static str {
        match self {
            Self { shared: true, .. } => "shared",
            Self { slave: true, .. } => "slave",
            Self { unbindable: true, .. } => "unbindable",
            _ => "private",
        }
    }
}

/// Whether a bind mount's source holds or lies in the host's cgroup mounts.
fn shows_cgroups(mount: &Mount) -> bool {
    const CGROUPS: &str = "/sys/fs/cgroup";
    let Some(source) = mount.source().as_ref().filter(|_| is_bind(mount)) else { return false };
    let source = source.canonicalize().unwrap_or_else(|_| source.clone());
    Path::new(CGROUPS).starts_with(&source) || source.starts_with(CGROUPS)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn rootfs() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    fn spec_json(root: &Path) -> Value {
        json!({
            "ociVersion": "1.1.0",
            "root": { "path": root },
            "process": { "user": { "uid": 1000, "gid": 1000 }, "args": ["sh"], "cwd": "/" },
            "linux": { "namespaces": [{ "type": "mount" }] }
        })
    }

    fn run(json: Value) -> Result<Sanitised> {
        let context = Context { bundle: Path::new("/"), cgroup_path: "/minipod/a", cgroup_v2: false };
        sanitise(&serde_json::from_value(json).unwrap(), &context)
    }

    fn patched(root: &Path, pointer: &str, key: &str, value: Value) -> Value {
        let mut json = spec_json(root);
        json.pointer_mut(pointer).unwrap().as_object_mut().unwrap().insert(key.into(), value);
        json
    }

    #[test]
    fn libcontainer_sees_a_privileged_root_and_we_keep_the_rest() {
        let root = rootfs();
        let done = run(spec_json(root.path())).unwrap();
        let process = done.spec.process().as_ref().unwrap();
        assert_eq!((0, 0), (process.user().uid(), process.user().gid()));
        assert!(process.capabilities().is_none() && process.no_new_privileges().is_none());
        let env = process.env().as_ref().unwrap();
        assert!(env.iter().any(|e| e == "HOME=/") && env.iter().any(|e| e.starts_with("PATH=/")));
        assert_eq!((1000, 1000), (done.settings.uid, done.settings.gid));
        assert_eq!(Capabilities::default(), done.settings.capabilities, "none asked for, none given");
        assert!(done.settings.env.is_empty(), "nothing is added to what the container sees");
        let linux = done.spec.linux().as_ref().unwrap();
        assert_eq!(Some(Path::new("/minipod/a")), linux.cgroups_path().as_deref());
        assert_eq!(Some("private"), linux.rootfs_propagation().as_deref());
        assert!(done.hide_cgroups);
    }

    #[test]
    fn a_mount_namespace_is_always_there() {
        let root = rootfs();
        let done = run(patched(root.path(), "/linux", "namespaces", json!([]))).unwrap();
        let namespaces = done.spec.linux().as_ref().unwrap().namespaces().clone().unwrap();
        assert!(namespaces.iter().any(|n| n.typ() == LinuxNamespaceType::Mount && n.path().is_none()));
    }

    #[test]
    fn what_would_be_ignored_is_refused_by_name() {
        let root = rootfs();
        let mount = |option: &str| json!([{ "destination": "/a", "type": "bind", "source": "/", "options": [option] }]);
        let ns = |typ: &str, path: &str| json!([{ "type": typ, "path": path }]);
        for (pointer, key, value, named) in [
            ("/process", "selinuxLabel", json!("a:b:c"), "process.selinuxLabel"),
            ("/process", "args", json!([]), "process.args"),
            ("/process", "args", json!(["a\u{0}b"]), "process.args"),
            ("/process", "cwd", json!("tmp"), "process.cwd"),
            ("/linux", "mountLabel", json!("a"), "linux.mountLabel"),
            ("/linux", "rootfsPropagation", json!("sideways"), "linux.rootfsPropagation"),
            ("/linux", "namespaces", ns("network", "/proc/self/ns/uts"), "linux.namespaces.network"),
            ("/linux", "namespaces", ns("network", "/nonexistent"), "linux.namespaces.network"),
            ("/linux", "namespaces", ns("network", "/dev/null"), "linux.namespaces.network"),
            ("/linux", "namespaces", ns("mount", "/proc/self/ns/mnt"), "linux.namespaces.mount"),
            ("", "mounts", mount("idmap"), "mounts[0]"),
            ("", "mounts", mount("tmpcopyup"), "mounts[0]"),
            ("", "mounts", json!([{ "destination": "/a/../..", "type": "tmpfs" }]), "mounts[0]"),
            ("", "root", json!({ "path": "/nonexistent" }), "root.path"),
            ("", "root", json!({ "path": "/" }), "root.path"),
            ("", "hooks", json!({ "poststop": [{ "path": "/bin/true" }] }), "hooks.poststop"),
            ("", "ociVersion", json!("2.0.0"), "ociVersion"),
        ] {
            let refusal = run(patched(root.path(), pointer, key, value)).unwrap_err();
            assert_eq!(named, refusal.field, "{refusal}");
        }
    }

    #[test]
    fn links_in_the_image_that_lead_out_are_refused() {
        for name in ["dev", "proc", "sys"] {
            let root = rootfs();
            std::os::unix::fs::symlink("/tmp", root.path().join(name)).unwrap();
            let refusal = run(spec_json(root.path())).unwrap_err();
            assert!(refusal.reason.contains(name), "{refusal}");
        }
    }

    #[test]
    fn propagation_of_one_mount_becomes_that_of_all() {
        let root = rootfs();
        let mounts = |options: &[&str]| {
            let list: Vec<Value> = options
                .iter()
                .map(|o| json!({ "destination": "/a", "type": "bind", "source": "/tmp", "options": ["bind", o] }))
                .collect();
            patched(root.path(), "", "mounts", json!(list))
        };
        for (options, expected) in [
            (&["rprivate"][..], "private"),
            (&["rprivate", "rslave"], "slave"),
            (&["rshared"], "shared"),
        ] {
            let done = run(mounts(options)).unwrap();
            assert_eq!(Some(expected), done.spec.linux().as_ref().unwrap().rootfs_propagation().as_deref());
            let left = done.spec.mounts().as_ref().unwrap()[0].options().clone().unwrap();
            assert_eq!(vec!["bind"], left);
        }
        assert!(run(mounts(&["rslave", "rshared"])).unwrap_err().reason.contains("mixes"));
    }

    #[test]
    fn a_hostpath_of_sys_keeps_the_cgroup_mounts() {
        let root = rootfs();
        for (source, hidden) in
            [("/", false), ("/sys", false), ("/sys/fs/cgroup/pids", false), ("/tmp", true), ("/sys/kernel", true)]
        {
            let mounts = json!([{ "destination": "/a", "type": "bind", "source": source, "options": ["rbind"] }]);
            assert_eq!(hidden, run(patched(root.path(), "", "mounts", mounts)).unwrap().hide_cgroups, "{source}");
        }
    }

    #[test]
    fn the_cgroup_mount_is_dropped_on_v1_and_namespaced_on_v2() {
        let root = rootfs();
        let mounts = json!([{ "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup" }]);
        let json = patched(root.path(), "", "mounts", mounts);
        assert!(run(json.clone()).unwrap().spec.mounts().as_ref().unwrap().is_empty());

        let context = Context { bundle: Path::new("/"), cgroup_path: "/minipod/a", cgroup_v2: true };
        let done = sanitise(&serde_json::from_value(json).unwrap(), &context).unwrap();
        let mount = &done.spec.mounts().as_ref().unwrap()[0];
        assert_eq!((Some("cgroup2"), Some(vec!["ro".to_owned()])), (mount.typ().as_deref(), mount.options().clone()));
        let namespaces = done.spec.linux().as_ref().unwrap().namespaces().clone().unwrap();
        assert!(namespaces.iter().any(|n| n.typ() == LinuxNamespaceType::Cgroup));
    }
}
