//! `minipod system`.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use clap::{Args, Subcommand, ValueEnum};
use runtime::store::{Stage, Store};
use serde::Serialize;

use crate::args::Global;
use crate::error::{Error, print};
use crate::images::{self, Pods};
use crate::output::{self, DocumentFormat, Table, size};

/// About this installation as a whole
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  minipod system df")]
pub(crate) struct System {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    Df(Df),
}

/// Show what takes how much of the disk
///
/// Images: the files of their layers, shared ones counted once; reclaimable by `image prune -a` is what no pod uses. Pods: what
/// containers wrote, and volumes. Logs: reclaimable are those of pods that are stopped.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  minipod system df
  minipod system df -o json")]
struct Df {
    /// How to print
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t = Format::Table)]
    output: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    Table,
    /// A list of objects.
    Json,
    /// The same in YAML.
    Yaml,
}

/// One kind of thing. Sizes are bytes.
#[derive(Debug, Serialize)]
struct Line {
    #[serde(rename = "type")]
    kind: &'static str,
    total: usize,
    active: usize,
    size: u64,
    reclaimable: u64,
}

impl System {
    pub(crate) fn run(self, global: &Global) -> Result<u8, Error> {
        let Action::Df(df) = self.action;
        let lines = lines(&global.store())?;
        match df.output {
            Format::Json => output::document(&lines, DocumentFormat::Json)?,
            Format::Yaml => output::document(&lines, DocumentFormat::Yaml)?,
            Format::Table => {
                let mut table = Table::new(["TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE"]);
                for line in lines {
                    table.row([line.kind.to_owned(), line.total.to_string(), line.active.to_string(), size(line.size), size(line.reclaimable)]);
                }
                print(&table.render())?;
            }
        }
        Ok(0)
    }
}

fn lines(store: &Store) -> Result<Vec<Line>, Error> {
    let images = images::store(&store.layout)?.disk_use(&Pods::of(store))?;
    let mut pods = Line { kind: "Pods", total: 0, active: 0, size: 0, reclaimable: 0 };
    let mut logs = Line { kind: "Logs", total: 0, active: 0, size: 0, reclaimable: 0 };
    for (_, record) in store.list()? {
        let running = record.stage != Stage::Stopped;
        let (own, written) = (taken(&store.layout.pod_lib(&record.uid))?, taken(&store.layout.pod_logs(&record.namespace, &record.name, &record.uid))?);
        for (line, bytes) in [(&mut pods, own), (&mut logs, written)] {
            line.total += 1;
            line.active += usize::from(running);
            line.size += bytes;
            line.reclaimable += if running { 0 } else { bytes };
        }
    }
    let images = Line { kind: "Images", total: images.images, active: images.active, size: images.bytes, reclaimable: images.reclaimable };
    Ok(vec![images, pods, logs])
}

/// Bytes on disk of all below a directory, on its own file system: not of what is mounted there. What goes meanwhile takes nothing.
fn taken(dir: &Path) -> Result<u64, Error> {
    let gone = |e: &io::Error| e.kind() == io::ErrorKind::NotFound;
    let device = match fs::symlink_metadata(dir) {
        Err(e) if gone(&e) => return Ok(0),
        other => other.map_err(Error::file("look at", dir))?.dev(),
    };
    let (mut sum, mut waiting) = (0, vec![dir.to_owned()]);
    while let Some(dir) = waiting.pop() {
        let entries = match fs::read_dir(&dir) {
            Err(e) if gone(&e) => continue,
            other => other.map_err(Error::file("read", &dir))?,
        };
        for entry in entries {
            let path = entry.map_err(Error::file("read", &dir))?.path();
            let stat = match fs::symlink_metadata(&path) {
                Err(e) if gone(&e) => continue,
                other => other.map_err(Error::file("look at", &path))?,
            };
            if stat.dev() != device {
                continue;
            }
            sum += stat.blocks() * 512;
            if stat.is_dir() {
                waiting.push(path);
            }
        }
    }
    Ok(sum)
}
