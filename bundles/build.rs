//! Builds the two programs that are embedded: pause (with rustc alone) and the toolbox (with a cargo of its own).

use std::env;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// A minute of pressing for the last percent is not worth it; 15 is near the best for executables of this size.
const ZSTD_LEVEL: i32 = 15;

fn main() -> Result<()> {
    let build = Build::from_env()?;
    build.pause()?;
    // Fuzzers (--cfg fuzzing) have no use for it, and their flags must not reach it.
    if env::var_os("CARGO_CFG_FUZZING").is_some() { build.no_toolbox() } else { build.toolbox() }
}

/// Where to build, from what, for what.
struct Build {
    /// The directory of this package.
    package: PathBuf,
    out: PathBuf,
    target: String,
    /// The compiler's options of the outer build, separated by 0x1f.
    rustflags: String,
}

impl Build {
    fn from_env() -> Result<Self> {
        println!("cargo::rerun-if-changed=build.rs");
        Ok(Self {
            package: env::var("CARGO_MANIFEST_DIR")?.into(),
            out: env::var("OUT_DIR")?.into(),
            target: env::var("TARGET")?,
            rustflags: static_too(env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default()),
        })
    }

    /// Compiles pause: no crt, no unwinding tables, nothing to relocate.
    fn pause(&self) -> Result<()> {
        let source = self.package.join("pause/pause.rs");
        println!("cargo::rerun-if-changed={}", source.display());
        let mut rustc = Command::new(env::var("RUSTC")?);
        rustc.args(["--edition", "2024", "--crate-type", "bin", "--crate-name", "pause", "--target", &self.target]);
        for option in [
            "panic=abort",
            "opt-level=z",
            "codegen-units=1",
            "strip=symbols",
            "relocation-model=static",
            "target-feature=+crt-static",
            "force-unwind-tables=no",
            "link-arg=-nostartfiles",
            "link-arg=-nostdlib",
            "link-arg=-static",
            "link-arg=-Wl,--build-id=none,--gc-sections,-z,noseparate-code,-z,noexecstack,-z,norelro",
        ] {
            rustc.args(["-C", option]);
        }
        if let Ok(linker) = env::var("RUSTC_LINKER") {
            rustc.args(["-C", &format!("linker={linker}")]);
        }
        run(rustc.arg("-o").arg(self.out.join("pause")).arg(source), "compile pause")
    }

    /// Builds the toolbox and presses it, unless the one pressed before is the same.
    fn toolbox(&self) -> Result<()> {
        let crate_dir = self.package.join("toolbox");
        let workspace = self.package.parent().ok_or("bundles lies in no workspace")?;
        for path in ["src", "Cargo.toml", "applets.txt", "../../Cargo.lock", "../../Cargo.toml"] {
            println!("cargo::rerun-if-changed={}", crate_dir.join(path).display());
        }
        let target_dir = self.toolbox_target_dir(workspace)?;
        watch_uutils_only(workspace, &target_dir)?;
        let mut cargo = Command::new(env::var("CARGO")?);
        cargo
            .args(["build", "--package", "toolbox", "--profile", "toolbox", "--target", &self.target])
            .arg("--manifest-path")
            .arg(crate_dir.join("Cargo.toml"))
            .arg("--target-dir")
            .arg(&target_dir)
            .current_dir(workspace)
            .env("CARGO_ENCODED_RUSTFLAGS", &self.rustflags)
            // uucore embeds the messages of this language beside English.
            .env("LANG", "en_US.UTF-8");
        for (name, _) in env::vars_os() {
            if name.to_str().is_some_and(is_of_the_outer_build) {
                cargo.env_remove(name);
            }
        }
        run(&mut cargo, "build the toolbox")?;
        self.press(&fs::read(target_dir.join(&self.target).join("toolbox/toolbox"))?)?;
        self.applets(&crate_dir.join("applets.txt"))
    }

    fn no_toolbox(&self) -> Result<()> {
        fs::write(self.out.join("toolbox.zst"), "")?;
        fs::write(self.out.join("toolbox_facts.rs"), "pub(super) const DIGEST: &str = \"\";\npub(super) const SIZE: u64 = 0;\n")?;
        Ok(fs::write(self.out.join("toolbox_applets.rs"), "&[]")?)
    }

    /// One directory for debug and release builds, with a lock that is not the outer cargo's: `target/toolbox` of the
    /// workspace, or the like under the outer build's own when the sources cannot be written to.
    fn toolbox_target_dir(&self, workspace: &Path) -> Result<PathBuf> {
        let shared = workspace.join("target/toolbox");
        if fs::create_dir_all(&shared).is_ok() {
            return Ok(shared);
        }
        // OUT_DIR is <target dir>/<triple>/<profile>/build/bundles-<hash>/out
        let outer = self.out.ancestors().nth(5).ok_or("OUT_DIR is not in a target directory")?;
        let own = outer.join("toolbox");
        fs::create_dir_all(&own)?;
        Ok(own)
    }

    fn press(&self, program: &[u8]) -> Result<()> {
        let digest = hex(&Sha256::digest(program));
        let facts = format!("pub(super) const DIGEST: &str = {digest:?};\npub(super) const SIZE: u64 = {};\n", program.len());
        let (facts_file, pressed) = (self.out.join("toolbox_facts.rs"), self.out.join("toolbox.zst"));
        if pressed.exists() && fs::read_to_string(&facts_file).is_ok_and(|old| old == facts) {
            return Ok(());
        }
        fs::write(pressed, zstd::bulk::compress(program, ZSTD_LEVEL)?)?;
        Ok(fs::write(facts_file, facts)?)
    }

    fn applets(&self, list: &Path) -> Result<()> {
        let names: Vec<String> = fs::read_to_string(list)?.lines().map(str::to_owned).collect();
        Ok(fs::write(self.out.join("toolbox_applets.rs"), format!("&{names:?}"))?)
    }
}

/// The embedded programs stand alone, whatever the outer build's flags are.
fn static_too(mut flags: String) -> String {
    if !flags.contains("+crt-static") {
        if !flags.is_empty() {
            flags.push('\x1f');
        }
        flags.push_str("-Ctarget-feature=+crt-static");
    }
    flags
}

/// uucore's build script watches the nearest Cargo.lock above its output, and with it all of uutils is compiled anew. This gives
/// it one that has only uutils' packages in it.
fn watch_uutils_only(workspace: &Path, target_dir: &Path) -> Result<()> {
    let lock = fs::read_to_string(workspace.join("Cargo.lock"))?;
    let ours: String = lock
        .split("\n\n")
        .filter(|package| package.contains("\nname = \"uu"))
        .flat_map(|package| [package, "\n\n"])
        .collect();
    let file = target_dir.join("Cargo.lock");
    if !fs::read_to_string(&file).is_ok_and(|old| old == ours) {
        fs::write(file, ours)?;
    }
    Ok(())
}

/// What cargo tells a build script and its nested cargo must not take for its own settings; clippy's wrapper as well.
fn is_of_the_outer_build(name: &str) -> bool {
    matches!(
        name,
        "CARGO_TARGET_DIR"
            | "CARGO_BUILD_TARGET"
            | "CARGO_BUILD_TARGET_DIR"
            | "CARGO_MANIFEST_DIR"
            | "CARGO_MANIFEST_PATH"
            | "CARGO_MANIFEST_LINKS"
            | "CARGO_PRIMARY_PACKAGE"
            | "RUSTC_WORKSPACE_WRAPPER"
            | "RUSTC_LINKER"
            | "RUSTFLAGS"
            | "CLIPPY_ARGS"
            | "TARGET"
            | "HOST"
            | "PROFILE"
            | "OPT_LEVEL"
            | "DEBUG"
            | "NUM_JOBS"
            | "OUT_DIR"
    ) || ["CARGO_PKG_", "CARGO_CFG_", "CARGO_FEATURE_", "DEP_"].iter().any(|prefix| name.starts_with(prefix))
}

fn run(command: &mut Command, what: &str) -> Result<()> {
    let status = command.status().map_err(|error| format!("{what}: start {:?}: {error}", command.get_program()))?;
    if status.success() { Ok(()) } else { Err(format!("{what}: {status}").into()) }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
