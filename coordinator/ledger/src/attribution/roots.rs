//! Waits followed to their causes, over all stages of a start.

use super::sums::Sums;
use super::timeline::{Doing, Timeline};
use super::transit::Direction;
use super::{Cause, LinkName};

/// Stage-seconds of each stage by cause.
///
/// A stage that waits for another's work waits for whatever that one does at the time. Waits go to a neighbour only, so those
/// that hang together are stages in a row, and each end of a doing changes the roots of its row alone: the time taken grows
/// with the number of doings and the length of such rows, and with nothing else.
pub(super) fn sums(timelines: &[Timeline], directions: &[Direction]) -> Vec<Sums> {
    let ends = timelines.iter().enumerate().flat_map(|(stage, line)| {
        let ends = line.doings.iter();
        ends.map(move |&(end_s, _)| (end_s, stage))
    });
    let mut ends: Vec<(f64, usize)> = ends.collect();
    ends.sort_by(|one, other| one.0.total_cmp(&other.0));
    let mut sweep = Sweep::begin(timelines, directions);
    for (at_s, stage) in ends {
        sweep.end(stage, at_s);
    }
    sweep.sums
}

/// All stages at one instant.
struct Sweep<'a> {
    timelines: &'a [Timeline],
    directions: &'a [Direction],
    /// Place of what each stage does.
    places: Vec<usize>,
    /// What it does comes to.
    roots: Vec<Doing>,
    /// Since when that is so and was not counted.
    since_s: Vec<f64>,
    sums: Vec<Sums>,
}

impl<'a> Sweep<'a> {
    fn begin(timelines: &'a [Timeline], directions: &'a [Direction]) -> Self {
        let stages = timelines.len();
        let mut sweep = Self {
            timelines,
            directions,
            places: vec![0; stages],
            roots: vec![Doing::Own(Cause::Bubble); stages],
            since_s: timelines.iter().map(|line| line.from_s).collect(),
            sums: vec![Sums::default(); stages],
        };
        for stage in 0..stages {
            sweep.roots[stage] = sweep.root(stage);
        }
        sweep
    }

    /// What `stage` did comes to its end.
    fn end(&mut self, stage: usize, at_s: f64) {
        let row = self.row(stage);
        for waiting in row.clone() {
            self.count(waiting, at_s);
        }
        self.places[stage] += 1;
        for waiting in row {
            self.roots[waiting] = self.root(waiting);
        }
    }

    /// What a stage does; absent behind its end.
    fn doing(&self, stage: usize) -> Option<Doing> {
        let doings = &self.timelines.get(stage)?.doings;
        doings.get(self.places[stage]).map(|&(_, doing)| doing)
    }

    fn awaited(&self, stage: usize) -> Option<usize> {
        match self.doing(stage) {
            Some(Doing::Awaits(other)) => Some(other),
            _ => None,
        }
    }

    /// The stage and those that wait for it, or for one that does.
    fn row(&self, stage: usize) -> std::ops::RangeInclusive<usize> {
        let (mut first, mut last) = (stage, stage);
        while first > 0 && self.awaited(first - 1) == Some(first) {
            first -= 1;
        }
        while self.awaited(last + 1) == Some(last) {
            last += 1;
        }
        first..=last
    }

    /// What `stage` waits for in the end, or what it does.
    ///
    /// Two stages that wait for each other wait for nobody: clocks of two hosts may make it seem so for a moment, else the ledger is
    /// damaged. Their time is a bubble, as it is behind the other's end.
    fn root(&self, stage: usize) -> Doing {
        let bubble = Doing::Own(Cause::Bubble);
        let (mut before, mut at) = (stage, stage);
        while let Some(other) = self.awaited(at) {
            if other == before {
                return bubble;
            }
            (before, at) = (at, other);
        }
        match self.doing(at) {
            Some(Doing::Own(cause)) if at != stage && cause.is_compute() => bubble,
            Some(doing) => doing,
            None => bubble,
        }
    }

    /// Counts the time up to `at_s`.
    fn count(&mut self, stage: usize, at_s: f64) {
        let seconds = at_s - self.since_s[stage];
        self.since_s[stage] = at_s;
        let link = |direction: usize| -> Option<&'a LinkName> {
            self.directions.get(direction).map(|one| &one.link)
        };
        let sums = &mut self.sums[stage];
        match self.roots[stage] {
            Doing::Own(cause) => sums.add(cause, None, seconds),
            Doing::Link { cause, direction } => sums.add(cause, link(direction), seconds),
            Doing::Carried {
                direction,
                queued_share,
            } => {
                let queued_s = seconds * queued_share;
                sums.add(Cause::Queued, link(direction), queued_s);
                sums.add(
                    Cause::LinkSerialisation,
                    link(direction),
                    seconds - queued_s,
                );
            }
            // A root waits for no stage.
            Doing::Awaits(_) => sums.add(Cause::Bubble, None, seconds),
        }
    }
}
