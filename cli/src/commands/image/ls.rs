//! `minipod image ls`.

use bundles::image::{Image, ImageStore};
use clap::Args;
use jiff::Timestamp;

use crate::duration::human;
use crate::error::{Error, print};
use crate::output::{self, DocumentFormat, ListFormat, Table, size};

/// List images
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  minipod image ls
  minipod image ls -o json | jq -r '.[].names[]'")]
pub(crate) struct Ls {
    /// How to print
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t = ListFormat::Table)]
    output: ListFormat,
    /// Ids only
    #[arg(short, long, conflicts_with = "output")]
    quiet: bool,
}

impl Ls {
    pub(crate) fn run(&self, store: &ImageStore) -> Result<(), Error> {
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

/// Whether ids are shown whole, and digests.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Width {
    Short,
    Full,
}

fn table(images: &[Image], width: Width) -> Table {
    let now = Timestamp::now();
    let mut table = match width {
        Width::Short => Table::new(["NAME", "ID", "ARCH", "SIZE", "CREATED"]),
        Width::Full => Table::new(["NAME", "ID", "ARCH", "SIZE", "CREATED", "DIGEST"]),
    };
    for image in images {
        let id = image.id.strip_prefix("sha256:").unwrap_or(&image.id);
        let id = if width == Width::Full { id } else { id.get(..12).unwrap_or(id) };
        let created = image.created.as_deref().and_then(|time| time.parse::<Timestamp>().ok());
        let created = created.map(|time| format!("{} ago", human(now.duration_since(time)))).unwrap_or_default();
        let names = if image.names.is_empty() { &[String::new()][..] } else { &image.names[..] };
        for name in names {
            let cells = [name.clone(), id.to_owned(), image.architecture.clone(), size(image.size), created.clone()];
            table.row(cells.into_iter().chain((width == Width::Full).then(|| image.digest.clone())));
        }
    }
    table
}
