//! Numbers of one contender, and how they are shown.

use std::time::Duration;

/// The numbers of one contender.
#[derive(Debug)]
pub(crate) struct Series {
    who: String,
    values: Vec<f64>,
}

impl Series {
    pub(crate) fn new(who: &str) -> Self {
        Self { who: who.to_owned(), values: Vec::new() }
    }

    pub(crate) fn note(&mut self, value: f64) {
        self.values.push(value);
    }

    /// In milliseconds.
    pub(crate) fn took(&mut self, time: Duration) {
        self.note(time.as_secs_f64() * 1000.0);
    }

    pub(crate) fn min(&self) -> f64 {
        self.values.iter().copied().fold(f64::INFINITY, f64::min)
    }

    pub(crate) fn median(&self) -> f64 {
        let mut sorted = self.values.clone();
        sorted.sort_by(f64::total_cmp);
        sorted[sorted.len() / 2]
    }
}

/// Shows contenders below each other.
pub(crate) fn table(what: &str, unit: &str, all: &[&Series]) {
    println!("{:40} {:>10} {:>10}  {unit}, {} runs", what, "min", "median", all.first().map_or(0, |series| series.values.len()));
    for series in all {
        println!("  {:38} {:10.2} {:10.2}", series.who, series.min(), series.median());
    }
}

/// Shows how many times as much the first is, and what it should be.
pub(crate) fn ratio(a: &Series, b: &Series, aim: &str) {
    let aim = if aim.is_empty() { String::new() } else { format!("   aim: {aim}") };
    println!("  {:38} {:10.2} {:10.2}  times{aim}", format!("{} : {}", a.who, b.who), a.min() / b.min(), a.median() / b.median());
}
