//! A `Localhost` profile: a JSON file below the profile root, in the runtime spec's form or in docker's, whose rules may
//! depend on architecture, kernel and capabilities.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::str::FromStr;

use oci_spec::runtime::{Capabilities, Capability, LinuxSeccomp};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use serde_json::{Map, Value};

use super::super::SpecError;

/// Longest profile read, in bytes; docker's default has 17 KiB.
const LARGEST: u64 = 4 << 20;

/// Reads a profile. The path cannot lead out of the root, by `..` or by a link.
pub(super) fn read(container: &str, root: &Path, path: &Path, granted: &Capabilities) -> Result<LinuxSeccomp, SpecError> {
    let text = text(root, path).map_err(|source| SpecError::SeccompRead {
        container: container.to_owned(),
        path: path.to_owned(),
        root: root.to_owned(),
        source,
    })?;
    parse(&text, granted).map_err(|source| SpecError::SeccompParse {
        container: container.to_owned(),
        path: path.to_owned(),
        source,
    })
}

fn text(root: &Path, path: &Path) -> io::Result<String> {
    let root = rustix::fs::openat(CWD, root, OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::PATH, Mode::empty())?;
    let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let file = rustix::fs::openat2(&root, path, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK, Mode::empty(), beneath)?;
    let file = File::from(file);
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    let mut text = String::new();
    if file.take(LARGEST + 1).read_to_string(&mut text)? as u64 > LARGEST {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "a profile has at most 4 MiB"));
    }
    Ok(text)
}

fn parse(text: &str, granted: &Capabilities) -> Result<LinuxSeccomp, serde_json::Error> {
    let mut profile: Map<String, Value> = serde_json::from_str(text)?;
    if let Some(Value::Array(rules)) = profile.get_mut("syscalls") {
        rules.retain(|rule| applies(rule, granted));
        for rule in rules.iter_mut().filter_map(Value::as_object_mut) {
            // docker also has a single `name`.
            if let Some(name) = rule.remove("name").filter(Value::is_string) {
                rule.insert("names".to_owned(), Value::Array(vec![name]));
            }
            if rule.get("args").is_some_and(Value::is_null) {
                rule.remove("args");
            }
        }
    }
    if profile.contains_key("archMap") {
        profile.insert("architectures".to_owned(), serde_json::to_value([super::native()])?);
    }
    serde_json::from_value(Value::Object(profile))
}

/// docker's `includes` and `excludes`: lists of capabilities and architectures, and a least kernel.
fn applies(rule: &Value, granted: &Capabilities) -> bool {
    let listed = |side: &str, what: &str| -> Vec<String> {
        let list = rule.get(side).and_then(|side| side.get(what)).and_then(Value::as_array);
        list.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let has = |name: &String| {
        Capability::from_str(name.strip_prefix("CAP_").unwrap_or(name)).is_ok_and(|capability| granted.contains(&capability))
    };
    let arch = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };
    let is_native = |name: &String| name == arch;
    let includes = listed("includes", "arches");
    let kernel = rule.get("includes").and_then(|side| side.get("minKernel")).and_then(Value::as_str);
    listed("includes", "caps").iter().all(has)
        && (includes.is_empty() || includes.iter().any(is_native))
        && kernel.is_none_or(|least| version(least) <= version(&rustix::system::uname().release().to_string_lossy()))
        && !listed("excludes", "caps").iter().any(has)
        && !listed("excludes", "arches").iter().any(is_native)
}

/// `6.1.0-rc1` as (6, 1).
fn version(text: &str) -> (u32, u32) {
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dockers_conditions_are_weighed() {
        let text = r#"{"defaultAction":"SCMP_ACT_ERRNO","archMap":[{"architecture":"SCMP_ARCH_X86_64","subArchitectures":[]}],
            "syscalls":[
            {"names":["read"],"action":"SCMP_ACT_ALLOW","args":null,"includes":{},"excludes":{}},
            {"name":"write","action":"SCMP_ACT_ALLOW"},
            {"names":["mount"],"action":"SCMP_ACT_ALLOW","includes":{"caps":["CAP_SYS_ADMIN"]}},
            {"names":["clone3"],"action":"SCMP_ACT_ERRNO","errnoRet":38,"excludes":{"caps":["CAP_SYS_ADMIN"]}},
            {"names":["sync_s390"],"action":"SCMP_ACT_ALLOW","includes":{"arches":["s390x"]}},
            {"names":["ptrace"],"action":"SCMP_ACT_ALLOW","includes":{"minKernel":"4.8"}},
            {"names":["later"],"action":"SCMP_ACT_ALLOW","includes":{"minKernel":"999.0"}}]}"#;
        let names = |granted: Capabilities| -> Vec<String> {
            let profile = parse(text, &granted).expect("a profile");
            profile.syscalls().iter().flatten().flat_map(|rule| rule.names().clone()).collect()
        };
        assert_eq!(names(Capabilities::new()), ["read", "write", "clone3", "ptrace"]);
        assert_eq!(names([Capability::SysAdmin].into_iter().collect()), ["read", "write", "mount", "ptrace"]);
    }

    #[test]
    fn a_profile_outside_the_root_is_not_read() {
        let dir = tempfile::tempdir().expect("a directory");
        let root = dir.path().join("profiles");
        std::fs::create_dir(&root).expect("profiles");
        std::fs::write(dir.path().join("outside.json"), r#"{"defaultAction":"SCMP_ACT_ALLOW"}"#).expect("outside");
        std::fs::write(root.join("inside.json"), r#"{"defaultAction":"SCMP_ACT_ALLOW"}"#).expect("inside");
        std::os::unix::fs::symlink("../outside.json", root.join("link.json")).expect("link");
        let none = Capabilities::new();
        assert!(read("c", &root, Path::new("inside.json"), &none).is_ok());
        for path in ["../outside.json", "link.json", "absent.json", "."] {
            assert!(matches!(read("c", &root, Path::new(path), &none), Err(SpecError::SeccompRead { .. })), "{path}");
        }
    }
}
