//! How results and messages look: tables, JSON, YAML, names; lines on standard error.

use std::fmt::{Display, Write as _};
use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use clap::ValueEnum;
use runtime::step::{Timed, Timeline};
use serde::Serialize;
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::EnvFilter;

use crate::args::{Global, LogFormat};
use crate::error::{Error, print};

/// `-o` of commands that list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ListFormat {
    /// For people.
    Table,
    /// For people with wide screens.
    Wide,
    /// One document.
    Json,
    /// One document.
    Yaml,
    /// One name a line.
    Name,
}

/// `-o` of commands that show one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DocumentFormat {
    /// JSON.
    Json,
    /// YAML.
    Yaml,
}

/// Prints one document.
pub(crate) fn document(value: &impl Serialize, format: DocumentFormat) -> Result<(), Error> {
    let mut text = match format {
        DocumentFormat::Json => serde_json::to_string_pretty(value).map_err(|e| told(&e))?,
        DocumentFormat::Yaml => serde_saphyr::to_string(value).map_err(|e| told(&e))?,
    };
    if !text.ends_with('\n') {
        text.push('\n');
    }
    print(&text)
}

fn told(error: &dyn Display) -> Error {
    Error::Told { message: format!("write the result as a document: {error}"), code: crate::exit::OWN }
}

/// Rows of equal length as kubectl aligns them: columns padded to their widest cell, three spaces between.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with its heading.
    pub(crate) fn new<const N: usize>(heading: [&str; N]) -> Self {
        Self { rows: vec![heading.map(str::to_owned).to_vec()] }
    }

    /// Adds a row; an empty cell shows as `<none>`.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let cells = cells.into_iter().map(|cell| if cell.is_empty() { "<none>".to_owned() } else { cell });
        self.rows.push(cells.collect());
    }

    /// The whole as text.
    pub(crate) fn render(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or_default();
        let width = |column: usize| self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
        let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or_default()).collect();
        let mut text = String::new();
        for row in &self.rows {
            for (column, cell) in row.iter().enumerate() {
                text.push_str(cell);
                if column + 1 < row.len() {
                    let padding = widths[column] - cell.chars().count() + 3;
                    text.extend(std::iter::repeat_n(' ', padding));
                }
            }
            text.push('\n');
        }
        text
    }
}

/// A size as people read it: `4.2 MiB`.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    #[allow(clippy::cast_precision_loss)] // three digits are shown
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// A line on standard error. A closed standard error is nobody's failure: there is nobody to tell.
pub(crate) fn note(line: &str) {
    writeln!(io::stderr(), "{line}").ok();
}

/// A message on standard error in the chosen format.
pub(crate) fn message(format: LogFormat, level: &str, text: &dyn Display) {
    match format {
        LogFormat::Text if level == "warning" => note(&format!("warning: {text}")),
        LogFormat::Text => note(&text.to_string()),
        LogFormat::Json => {
            let text = text.to_string();
            let text = text.strip_prefix("minipod: ").unwrap_or(&text);
            let time = format!("{:.3}", jiff::Timestamp::now());
            note(&serde_json::json!({"level": level, "msg": text, "time": time}).to_string());
        }
    }
}

/// Sends the libraries' traces to standard error: warnings, or more with `-v`; and the times of steps to whom wants to see them.
pub(crate) fn init_log(global: &Global) {
    let filter = match global.verbose {
        0 => EnvFilter::new("warn,libcontainer=error,libcgroups=error"),
        1 => EnvFilter::new("info,libcontainer=warn,libcgroups=warn"),
        _ => EnvFilter::new("debug"),
    };
    let not_steps = format!("{}=off", runtime::step::TARGET).parse().map(|off| filter.add_directive(off));
    let filter = not_steps.expect("a directive of ours is one");
    // A trace that cannot be written is lost: telling that on standard error would panic, and with the disk under a shim's log
    // full, the shim would be gone.
    let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr).with_target(false).log_internal_errors(false);
    let lines = match global.log_format {
        LogFormat::Text => lines.without_time().with_ansi(false).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    // A spinner shows steps as well, and takes them from the shim; this command's own are too short to be seen.
    let (verbose, format) = (global.verbose > 0, global.log_format);
    let tell = move |timed: &Timed| if verbose { step(format, "minipod", timed) };
    let steps = (verbose || io::stderr().is_terminal()).then(|| Timeline::new(tell).with_filter(Timeline::filter()));
    tracing_subscriber::registry().with(lines.with_filter(filter)).with(steps).init();
}

/// A line on a step that has ended: when it began, counted from the start of the command, and how long it took.
pub(crate) fn step(format: LogFormat, who: &str, step: &Timed) {
    let ms = |time: Duration| time.as_secs_f64() * 1000.0;
    let of = if step.subject.is_empty() { String::new() } else { format!(" of {}", step.subject) };
    message(format, "info", &format!("{who}: {:7.2} ms + {:6.2} ms  {}{of}", ms(step.began), ms(step.took), step.name));
}

/// Appends a line to a text.
pub(crate) fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    if writeln!(text, "{line}").is_err() {
        unreachable!("a String takes any text");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_the_last_is_not_padded() {
        let mut table = Table::new(["NAME", "IP"]);
        table.row(["web-frontend".into(), "10.0.0.2".into()]);
        table.row(["é".into(), String::new()]);
        assert_eq!(table.render(), "NAME           IP\nweb-frontend   10.0.0.2\né              <none>\n");
    }

    #[test]
    fn sizes_read_well() {
        assert_eq!(size(0), "0 B");
        assert_eq!(size(1023), "1023 B");
        assert_eq!(size(1536), "1.5 KiB");
        assert_eq!(size(3 << 40), "3.0 TiB");
    }
}
