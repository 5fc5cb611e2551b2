//! From the arguments `FILE|- ...` to pods.

use std::fs;
use std::io::{self, Read as _};
use std::path::Path;

use bundles::manifest::{self, Manifest, ParseOptions, Problem, Severity, Source};

use crate::args::LogFormat;
use crate::error::{Error, ManifestFailure};
use crate::output;

/// Largest manifest read, in bytes: generous for a List of pods, and a bound for `minipod run /dev/zero`.
const MAX_MANIFEST: u64 = 10 * 1024 * 1024;

/// Reads the texts; `-` is standard input, a directory its `.yaml`, `.yml` and `.json` files in order of their names.
pub(crate) fn read(files: &[String]) -> Result<Vec<Source>, Error> {
    let mut sources = Vec::new();
    for file in files {
        match file.as_str() {
            "-" => sources.push(Source { name: "<stdin>".to_owned(), text: text(io::stdin().lock(), Path::new("<stdin>"))? }),
            path if Path::new(path).is_dir() => {
                for path in directory(Path::new(path))? {
                    sources.push(source(&path)?);
                }
            }
            path => sources.push(source(Path::new(path))?),
        }
    }
    Ok(sources)
}

fn source(path: &Path) -> Result<Source, Error> {
    let file = fs::File::open(path).map_err(Error::file("open manifest", path))?;
    Ok(Source { name: path.display().to_string(), text: text(file, path)? })
}

fn text(from: impl io::Read, path: &Path) -> Result<String, Error> {
    let mut bytes = Vec::new();
    from.take(MAX_MANIFEST + 1).read_to_end(&mut bytes).map_err(Error::file("read manifest", path))?;
    if bytes.len() as u64 > MAX_MANIFEST {
        return Err(Error::Usage(format!("manifest {} is larger than {}", path.display(), output::size(MAX_MANIFEST))));
    }
    String::from_utf8(bytes).map_err(|e| {
        let line = e.as_bytes()[..e.utf8_error().valid_up_to()].iter().filter(|b| **b == b'\n').count() + 1;
        Error::Usage(format!("{}:{line}: the manifest is not UTF-8 text", path.display()))
    })
}

fn directory(path: &Path) -> Result<Vec<std::path::PathBuf>, Error> {
    let mut files = Vec::new();
    for entry in fs::read_dir(path).map_err(Error::file("read", path))? {
        let file = entry.map_err(Error::file("read", path))?.path();
        if file.extension().is_some_and(|e| e == "yaml" || e == "yml" || e == "json") {
            files.push(file);
        }
    }
    files.sort();
    if files.is_empty() {
        return Err(Error::Usage(format!("directory {} holds no .yaml, .yml or .json file", path.display())));
    }
    Ok(files)
}

/// Whether unknown fields are told or refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Strictness {
    /// Warnings.
    Lenient,
    /// Errors.
    Strict,
}

impl From<bool> for Strictness {
    fn from(strict: bool) -> Self {
        if strict { Self::Strict } else { Self::Lenient }
    }
}

/// Parses the texts and tells the warnings on standard error.
pub(crate) fn parse(sources: &[Source], strictness: Strictness, format: LogFormat) -> Result<Manifest, Error> {
    let options = ParseOptions { strict: strictness == Strictness::Strict };
    let manifest = manifest::parse(sources, &options).map_err(|problems| Error::Manifest(ManifestFailure(problems)))?;
    warn(&manifest.warnings, format);
    Ok(manifest)
}

/// Tells warnings, one a line.
pub(crate) fn warn(warnings: &[Problem], format: LogFormat) {
    for problem in warnings {
        match (problem.severity, format) {
            (Severity::Note, LogFormat::Text) => output::note(&format!("note: {problem}")),
            (Severity::Note, LogFormat::Json) => output::message(format, "info", problem),
            _ => output::message(format, "warning", problem),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_its_manifests_in_order() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b.yaml", "a.yml", "c.json", "readme.txt"] {
            fs::write(dir.path().join(name), name).unwrap();
        }
        let sources = read(&[dir.path().display().to_string()]).unwrap();
        let texts: Vec<_> = sources.iter().map(|s| s.text.as_str()).collect();
        assert_eq!(texts, ["a.yml", "b.yaml", "c.json"]);
    }

    #[test]
    fn what_is_no_text_and_what_is_too_much_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let binary = dir.path().join("binary");
        fs::write(&binary, b"a: b\n\xff\xfe").unwrap();
        let error = read(&[binary.display().to_string()]).unwrap_err().to_string();
        assert!(error.contains("binary:2: the manifest is not UTF-8"), "{error}");
        let error = read(&["/dev/zero".to_owned()]).unwrap_err().to_string();
        assert!(error.contains("larger than 10.0 MiB"), "{error}");
        let error = read(&["/nonexistent".to_owned()]).unwrap_err();
        assert_eq!(runtime::error::chain(&error), "open manifest /nonexistent: No such file or directory (os error 2)");
    }
}
