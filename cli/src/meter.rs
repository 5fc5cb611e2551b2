//! Shows how images come in: a bar an image on a terminal, lines elsewhere. Moves only when something happens; has no thread.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::sync::{Mutex, PoisonError};

use bundles::image::Progress;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output;

/// The bars of all images.
#[derive(Debug)]
pub(crate) struct Meter {
    bars: MultiProgress,
    form: Form,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Bars,
    Lines,
    Nothing,
}

/// The bar of one image.
#[derive(Debug)]
pub(crate) struct Bar {
    bar: ProgressBar,
    layers: Mutex<BTreeMap<usize, Layer>>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Layer {
    done: u64,
    total: u64,
    whole: bool,
}

/// Whether to show anything but failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shown {
    /// Bars on a terminal, lines elsewhere.
    All,
    /// Nothing.
    Nothing,
}

impl Meter {
    /// No bar yet.
    pub(crate) fn new(shown: Shown) -> Self {
        let form = match shown {
            Shown::Nothing => Form::Nothing,
            Shown::All if std::io::stderr().is_terminal() => Form::Bars,
            Shown::All => Form::Lines,
        };
        let target = if form == Form::Bars { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        Self { bars: MultiProgress::with_draw_target(target), form }
    }

    /// A bar for one more image.
    pub(crate) fn bar(&self, image: &str) -> Bar {
        let bar = self.bars.add(ProgressBar::new(0));
        if let Ok(style) = ProgressStyle::with_template("{prefix} {bar:24} {bytes}/{total_bytes}  {msg}") {
            bar.set_style(style);
        }
        bar.set_prefix(image.to_owned());
        Bar { bar, layers: Mutex::default() }
    }

    /// A line for the user, above the bars.
    pub(crate) fn note(&self, line: &str) {
        if self.form == Form::Bars { self.bars.suspend(|| output::note(line)) } else { output::note(line) }
    }

    /// Whether a line has to say what a bar would show.
    pub(crate) fn tells_lines(&self) -> bool {
        self.form == Form::Lines
    }
}

impl Bar {
    /// Moves the bar.
    pub(crate) fn show(&self, progress: &Progress<'_>) {
        let mut layers = self.layers.lock().unwrap_or_else(PoisonError::into_inner);
        let (number, count) = match *progress {
            Progress::Decompressing { bytes } => {
                self.bar.set_message("decompressing");
                self.bar.set_position(bytes);
                return;
            }
            Progress::Layer { number, count, done, total, .. } => {
                let layer = layers.entry(number).or_default();
                (layer.done, layer.total) = (done, total);
                (number, count)
            }
            Progress::LayerWaits { number, count, .. } => (number, count),
            Progress::LayerExists { number, count, .. } | Progress::LayerDone { number, count, .. } => {
                layers.entry(number).or_default().whole = true;
                (number, count)
            }
        };
        let whole = layers.values().filter(|layer| layer.whole).count();
        self.bar.set_length(layers.values().map(|layer| layer.total).sum());
        self.bar.set_position(layers.values().map(|layer| layer.done).sum());
        self.bar.set_message(match progress {
            Progress::LayerWaits { .. } => format!("layer {number} is being unpacked by somebody else"),
            _ => format!("{whole} of {count} layers"),
        });
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
