//! The guest's kernel and its modules.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use crate::require::{skip, skip_declared};
use crate::snapshot::walk;

/// A kernel package, unpacked.
#[derive(Debug)]
pub struct Kernel {
    /// What `uname -r` says there.
    pub release: String,
    /// The image to boot.
    pub(super) image: PathBuf,
    modules: BTreeMap<String, PathBuf>,
}

impl Kernel {
    /// The one in `MINIPOD_GUEST_KERNEL` (a directory with `boot/` and `lib/modules/`), else the one that `scripts/setup --tests` has
    /// put into the target directory. `None`: skip the test.
    ///
    /// # Panics
    /// Without one, or without qemu, when `CI` or `REQUIRE_ROOT` is set.
    #[must_use]
    pub fn find() -> Option<Self> {
        let given = env::var_os("MINIPOD_GUEST_KERNEL").map(PathBuf::from);
        let dir = given.unwrap_or_else(|| super::suite::target_dir().join("guest-kernel"));
        if dir.with_extension("none").exists() {
            skip_declared("this distribution has no kernel for it");
            return None;
        }
        let found = Self::in_dir(&dir);
        if found.is_none() {
            skip(&format!("it needs a kernel in {} (scripts/test fetches it)", dir.display()));
        }
        super::machine::PROGRAMS.iter().all(|program| crate::installed(program).is_some()).then_some(found?)
    }

    fn in_dir(dir: &Path) -> Option<Self> {
        let entries = fs::read_dir(dir.join("boot")).ok()?;
        let images = entries.filter_map(|entry| Some(entry.ok()?.path()));
        let image = images.filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz-"))).max()?;
        let release = image.file_name()?.to_str()?.strip_prefix("vmlinuz-")?.to_owned();
        let mut modules = BTreeMap::new();
        walk(&dir.join("lib/modules").join(&release), &mut |path| {
            if let Some(name) = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".ko")) {
                modules.insert(canonical(name), path.to_owned());
            }
        });
        Some(Self { release, image, modules })
    }

    /// The files of these modules and of those they depend on, in the order in which they must be loaded.
    ///
    /// # Panics
    /// When the package has no such module.
    #[must_use]
    pub fn modules(&self, names: &[&str]) -> Vec<PathBuf> {
        let mut ordered = Vec::new();
        for name in names {
            self.with_dependencies(name, &mut ordered);
        }
        ordered
    }

    fn with_dependencies(&self, name: &str, ordered: &mut Vec<PathBuf>) {
        let file = self.modules.get(name).unwrap_or_else(|| panic!("kernel {} has no module {name}", self.release));
        if ordered.contains(file) {
            return;
        }
        let module = fs::read(file).unwrap_or_else(|e| panic!("read {}: {e}", file.display()));
        for dependency in dependencies(&module) {
            self.with_dependencies(&dependency, ordered);
        }
        ordered.push(file.clone());
    }
}

/// modprobe(8) takes `-` for `_`.
fn canonical(name: &str) -> String {
    name.replace('-', "_")
}

/// A module says itself what it needs (section `.modinfo`, NUL-terminated `key=value`); modules.dep is made of that, but by depmod(8)
/// when a kernel is installed.
fn dependencies(module: &[u8]) -> Vec<String> {
    let key = b"\0depends=";
    let Some(start) = module.windows(key.len()).position(|window| window == key) else { return Vec::new() };
    let value = module[start + key.len()..].split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(value).split(',').filter(|name| !name.is_empty()).map(canonical).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module(dir: &Path, name: &str, needs: &str) {
        let path = dir.join(format!("lib/modules/6.0-x/kernel/{name}.ko"));
        fs::create_dir_all(path.parent().expect("a directory")).expect("make a directory");
        fs::write(path, format!("\x7fELF\0license=GPL\0depends={needs}\0name={name}\0")).expect("write a module");
    }

    #[test]
    fn what_is_needed_stands_first_and_once() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::create_dir_all(dir.path().join("boot")).expect("make a directory");
        fs::write(dir.path().join("boot/vmlinuz-6.0-x"), "").expect("write an image");
        for (name, needs) in [("a", "b-b,c"), ("b-b", "c"), ("c", ""), ("unused", "")] {
            module(dir.path(), name, needs);
        }
        let kernel = Kernel::in_dir(dir.path()).expect("a kernel");
        assert_eq!(kernel.release, "6.0-x");
        let ordered: Vec<String> = kernel.modules(&["a", "c"]).iter().map(|path| path.file_stem().expect("a name").to_string_lossy().into_owned()).collect();
        assert_eq!(ordered, ["c", "b-b", "a"]);
    }
}
