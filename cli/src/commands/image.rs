//! `minipod image`.

use std::fs::{DirBuilder, File};
use std::io::{IsTerminal as _, Read};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use bundles::image::{ImageStore, LoadProgress, Removed};
use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use jiff::Timestamp;

use crate::args::Global;
use crate::duration::human;
use crate::error::{Error, print};
use crate::images;
use crate::output::{self, DocumentFormat, ListFormat, Table, line, size};

/// Manage images
///
/// `toolbox`, the image inside minipod, is always there: a shell, the everyday utilities and network tools, for labs.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  docker save nginx | minipod image load -
  minipod image ls
  minipod image rm nginx")]
pub(crate) struct Image {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    Load(Load),
    #[command(visible_alias = "list")]
    Ls(Ls),
    Inspect(Inspect),
    Rm(Rm),
    Tag(Tag),
    Prune(Prune),
}

/// Load images from an archive or a directory
///
/// Takes docker-archives (`docker save`), oci-archives and OCI layout directories, plain or compressed with gzip or zstd.
/// Every digest is verified. All images of the archive are loaded, or none.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  minipod image load nginx.tar.gz
  minipod image load oci-layout/
  docker save nginx | minipod image load -")]
struct Load {
    /// An archive, an OCI layout directory, or `-` for an archive from standard input
    #[arg(value_name = "FILE|DIR|-")]
    path: PathBuf,
}

/// List images
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  minipod image ls
  minipod image ls -o json | jq -r '.[].names[]'")]
struct Ls {
    /// How to print
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t = ListFormat::Table)]
    output: ListFormat,
    /// Ids only
    #[arg(short, long, conflicts_with = "output")]
    quiet: bool,
}

/// Show one image whole
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  minipod image inspect toolbox
  minipod image inspect nginx -o yaml")]
struct Inspect {
    /// How to print
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t = DocumentFormat::Json)]
    output: DocumentFormat,
    /// A name, an id, a prefix of an id (6 digits or more) or a digest
    #[arg(value_name = "REF")]
    image: String,
}

/// Remove images
///
/// By name: that name, and the image with its last name. By id or digest: the image with all its names. Layers that a pod
/// uses stay until `gc`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  minipod image rm nginx
  minipod image rm 3f57d9401f8d localhost/app:1")]
struct Rm {
    /// Names, ids, prefixes of ids (6 digits or more) or digests
    #[arg(required = true, value_name = "REF")]
    images: Vec<String>,
}

/// Give an image one more name
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  minipod image tag nginx:1.27 localhost/web:1")]
struct Tag {
    /// The image
    #[arg(value_name = "REF")]
    image: String,
    /// Its new name
    #[arg(value_name = "NAME")]
    name: String,
}

/// Remove images without a name, and content that no image needs
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  minipod image prune")]
struct Prune {}

impl Image {
    pub(crate) fn run(self, global: &Global) -> Result<u8, Error> {
        let pods = global.store();
        let store = images::store(&pods.layout)?;
        match self.action {
            Action::Load(load) => load.run(&store, &pods.layout.lib)?,
            Action::Ls(ls) => ls.run(&store)?,
            Action::Inspect(inspect) => output::document(&store.find(&inspect.image)?, inspect.output)?,
            Action::Tag(tag) => store.tag(&tag.image, &tag.name)?,
            Action::Rm(rm) => {
                let in_use = images::in_use(&pods);
                for image in &rm.images {
                    tell(&store.remove(image, &in_use)?)?;
                }
            }
            Action::Prune(Prune {}) => {
                let in_use = images::in_use(&pods);
                tell(&store.prune(&in_use)?)?;
            }
        }
        Ok(0)
    }
}

/// Says what went.
fn tell(removed: &Removed) -> Result<(), Error> {
    let mut text = String::new();
    for name in &removed.untagged {
        line(&mut text, format_args!("untagged {name}"));
    }
    for id in &removed.deleted {
        line(&mut text, format_args!("deleted {id}"));
    }
    if removed.bytes > 0 {
        line(&mut text, format_args!("freed {}", size(removed.bytes)));
    }
    if removed.kept > 0 {
        output::note(&format!("{} layers are used by pods and stay until `minipod gc`", removed.kept));
    }
    print(&text)
}

impl Load {
    fn run(&self, store: &ImageStore, lib: &Path) -> Result<(), Error> {
        let bar = bar();
        let mut progress = |progress: LoadProgress<'_>| show(&bar, &progress);
        let loaded = if self.path == Path::new("-") {
            // Archives are read back and forth, which standard input cannot.
            let spool = spool(std::io::stdin().lock(), lib)?;
            store.load(Path::new(&format!("/proc/self/fd/{}", spool.as_raw_fd())), &mut progress)
        } else {
            store.load(&self.path, &mut progress)
        };
        bar.finish_and_clear();
        let mut text = String::new();
        for image in loaded? {
            line(&mut text, format_args!("loaded {}", if image.names.is_empty() { image.id } else { image.names.join(", ") }));
        }
        print(&text)
    }
}

/// Puts a stream into a file without a name, which nothing has to remove.
fn spool(mut from: impl Read, lib: &Path) -> Result<File, Error> {
    DirBuilder::new().recursive(true).mode(0o700).create(lib).map_err(Error::file("create", lib))?;
    let mut file = tempfile::tempfile_in(lib).map_err(Error::file("make a temporary file in", lib))?;
    std::io::copy(&mut from, &mut file).map_err(|e| Error::System("copy standard input into a temporary file", e))?;
    Ok(file)
}

/// A bar on a terminal, nothing elsewhere; moved by hand, without a thread.
fn bar() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::no_length();
    match ProgressStyle::with_template("{msg} {bar:30} {bytes}/{total_bytes}") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

fn show(bar: &ProgressBar, progress: &LoadProgress<'_>) {
    match progress {
        LoadProgress::Decompressing { bytes } => {
            bar.set_message("decompress");
            bar.set_position(*bytes);
        }
        LoadProgress::Layer { number, count, done, total, .. } => {
            bar.set_message(format!("layer {number}/{count}"));
            bar.set_length(*total);
            bar.set_position(*done);
        }
        LoadProgress::LayerExists { number, count, .. } => bar.set_message(format!("layer {number}/{count} exists")),
    }
}

impl Ls {
    fn run(&self, store: &ImageStore) -> Result<(), Error> {
        let images = store.list()?;
        if self.quiet {
            return print(&images.iter().map(|image| format!("{}\n", image.id)).collect::<String>());
        }
        match self.output {
            ListFormat::Json => output::document(&images, DocumentFormat::Json),
            ListFormat::Yaml => output::document(&images, DocumentFormat::Yaml),
            ListFormat::Name => print(&images.iter().flat_map(|image| &image.names).map(|name| format!("{name}\n")).collect::<String>()),
            ListFormat::Table => print(&table(&images, Width::Short).render()),
            ListFormat::Wide => print(&table(&images, Width::Full).render()),
        }
    }
}

/// Whether ids are shown whole.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Width {
    Short,
    Full,
}

fn table(images: &[bundles::image::Image], width: Width) -> Table {
    let now = Timestamp::now();
    let mut table = Table::new(["NAME", "ID", "ARCH", "SIZE", "CREATED"]);
    for image in images {
        let id = image.id.strip_prefix("sha256:").unwrap_or(&image.id);
        let id = if width == Width::Full { id } else { id.get(..12).unwrap_or(id) };
        let created = image.created.as_deref().and_then(|time| time.parse::<Timestamp>().ok());
        let created = created.map(|time| format!("{} ago", human(now.duration_since(time)))).unwrap_or_default();
        let names = if image.names.is_empty() { &[String::new()][..] } else { &image.names[..] };
        for name in names {
            table.row([name.clone(), id.to_owned(), image.architecture.clone(), size(image.size), created.clone()]);
        }
    }
    table
}
