//! Contenders that take turns at the same work, and what it costs each.

use testkit::Cmd;

use crate::measure::Cost;
use crate::series::{Series, ratio, table};

/// One of them.
pub(crate) struct Contender<'a> {
    pub(crate) who: &'static str,
    /// Does the work once.
    pub(crate) work: &'a dyn Fn() -> Cost,
    /// Undoes it, so that the next time is like the first.
    pub(crate) undo: &'a dyn Fn(),
}

/// Wall clock, processor and peak memory of all, and how many times as much the others need as the first; the aim for that.
pub(crate) fn race(runs: usize, contenders: &[Contender<'_>], aim: &str) {
    let mut all: Vec<[Series; 3]> = contenders.iter().map(|one| [(); 3].map(|()| Series::new(one.who))).collect();
    for run in 0..=runs {
        for (Contender { work, undo, .. }, [wall, cpu, peak]) in contenders.iter().zip(&mut all) {
            // What one has written must not keep the next waiting.
            let _said = Cmd::new("sync").run().ok();
            let cost = work();
            undo();
            // The first is not counted: caches are cold.
            if run > 0 {
                wall.note(cost.wall);
                cpu.note(cost.cpu);
                peak.note(cost.peak);
            }
        }
    }
    for (n, (what, unit)) in [("wall clock", "ms"), ("processor", "ms"), ("peak memory", "MiB")].into_iter().enumerate() {
        let of: Vec<&Series> = all.iter().map(|series| &series[n]).collect();
        table(what, unit, &of);
        of[1..].iter().for_each(|other| ratio(other, of[0], if n == 0 { aim } else { "" }));
    }
}
