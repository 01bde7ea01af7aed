//! What links did: tensors from the stage that made them to the one that used them.

use std::collections::BTreeMap;

use bace_api::{Action, Iteration, MessageTimes, TensorKind};

use super::counters;
use super::event::{Args, Kind, Place};
use super::gpus::by_micro_batch;
use super::nanos::Nanos;
use super::out::{Out, Span};
use crate::RunLog;
use crate::starts::Start;

/// What carries one direction of a stage boundary.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Road<'a> {
    /// A directed link between regions, which jobs share.
    Link(&'a str, &'a str),
    /// A region's fabric, each boundary its own.
    Fabric(&'a str),
}

/// A start of a job with the GPUs of its stages.
#[derive(Debug, Clone)]
pub(super) struct Seated<'a> {
    pub start: Start<'a>,
    pub places: Vec<Place>,
}

/// One direction of a stage boundary.
#[derive(Debug, Clone, Copy)]
pub(super) struct Direction<'a> {
    seated: &'a Seated<'a>,
    from_stage: usize,
    to_stage: usize,
}

/// A tensor on its way.
#[derive(Debug)]
struct Crossing<'a> {
    of: Direction<'a>,
    iteration: Iteration,
    kind: TensorKind,
    micro_batch: u32,
    message: &'a MessageTimes,
    /// While the link carried it; absent where nothing clocked that.
    carried: Option<(Nanos, Nanos)>,
    /// The action that made it.
    made: Option<(Nanos, Nanos)>,
    /// The action that used it.
    used: Option<(Nanos, Nanos)>,
}

/// All roads that jobs took, with who took them: links in the header's order, then fabrics in that of regions.
pub(super) fn roads<'a>(
    log: &'a RunLog,
    seated: &'a [Seated<'a>],
) -> Vec<(Road<'a>, Vec<Direction<'a>>)> {
    let mut taken: BTreeMap<Road<'a>, Vec<Direction<'a>>> = BTreeMap::new();
    for seated in seated {
        let stages = &seated.start.attempt.stages;
        for upper in 0..stages.len().saturating_sub(1) {
            for (from_stage, to_stage) in [(upper, upper + 1), (upper + 1, upper)] {
                let (from, to) = (&stages[from_stage].region, &stages[to_stage].region);
                let road = match from == to {
                    true => Road::Fabric(from),
                    false => Road::Link(from, to),
                };
                let direction = Direction {
                    seated,
                    from_stage,
                    to_stage,
                };
                taken.entry(road).or_default().push(direction);
            }
        }
    }
    let header = &log.header;
    let rank = |road: &Road<'_>| match road {
        Road::Link(from, to) => {
            let is = |link: &&bace_api::HeaderLink| link.from == *from && link.to == *to;
            let known = header.links.iter().position(|link| is(&link));
            (0, known.unwrap_or(usize::MAX))
        }
        Road::Fabric(region) => {
            let known = header.regions.iter().position(|name| name == region);
            (1, known.unwrap_or(usize::MAX))
        }
    };
    let mut roads: Vec<_> = taken.into_iter().collect();
    roads.sort_by_key(|(road, _)| rank(road));
    roads
}

/// Writes what one road carried, in threads of the process `pid` that it names, as many as it carried tensors at once.
pub(super) fn road<E>(
    out: &mut Out<'_, E>,
    pid: u32,
    road: &Road<'_>,
    directions: &[Direction<'_>],
) -> Result<(), E> {
    let name = road.name();
    let mut crossings: Vec<Crossing<'_>> = Vec::new();
    for direction in directions {
        direction.crossings(&mut crossings);
    }
    if let Road::Link(..) = road {
        let carried = crossings.iter().map(|crossing| crossing.carried);
        counters::link_use(out, pid, &name, carried)?;
    }
    crossings.retain(|crossing| {
        let whole = (crossing.begin(), crossing.usable());
        out.wants(crossing.job()) && out.window.touches(whole)
    });
    if crossings.is_empty() {
        return Ok(());
    }
    crossings.sort_by_key(Crossing::begin);
    let mut lanes: Vec<(Place, Nanos)> = Vec::new();
    let first = out.thread(pid, &name)?;
    for crossing in &crossings {
        let lane = match crossing.carried {
            None => first,
            Some((from, to)) => match lanes.iter_mut().find(|(_, free)| *free <= from) {
                Some((place, free)) => {
                    *free = to;
                    *place
                }
                None => {
                    let place = match lanes.len() {
                        0 => first,
                        number => out.thread(pid, &format!("{name}, at once {}", number + 1))?,
                    };
                    lanes.push((place, to));
                    place
                }
            },
        };
        crossing.show(out, lane, &name)?;
    }
    Ok(())
}

impl Road<'_> {
    /// As a thread is called.
    fn name(&self) -> String {
        match self {
            Self::Link(from, to) => format!("{from} → {to}"),
            Self::Fabric(_) => "fabric".to_owned(),
        }
    }
}

impl<'a> Direction<'a> {
    fn kind(&self) -> TensorKind {
        match self.to_stage > self.from_stage {
            true => TensorKind::Activation,
            false => TensorKind::Gradient,
        }
    }

    /// Adds all tensors that crossed, in the order in which they left.
    fn crossings(&self, crossings: &mut Vec<Crossing<'a>>) {
        let kind = self.kind();
        let makes = move |action| match (kind, action) {
            (TensorKind::Activation, Action::Forward(m))
            | (TensorKind::Gradient, Action::Backward(m)) => Some(m.0),
            _ => None,
        };
        let stages = &self.seated.start.attempt.stages;
        let (from, to) = (&stages[self.from_stage], &stages[self.to_stage]);
        let mut left = Nanos::of(self.seated.start.attempt.placed_s);
        for (&iteration, received) in &to.iterations {
            // What makes a tensor behind the boundary uses the one that crossed it.
            let made = by_micro_batch(from, iteration, makes);
            let used = by_micro_batch(to, iteration, makes);
            for span in &received.spans {
                let (Some((_, m)), Some(message)) = (span.action.receives(), &span.message) else {
                    continue;
                };
                if span.action.receives().map(|(of, _)| of) != Some(kind) {
                    continue;
                }
                let carried = message.left_s.map(|left_s| {
                    let end = Nanos::of(left_s);
                    let begin = Nanos::of(message.ready_s).max(left).min(end);
                    left = end;
                    (begin, end)
                });
                crossings.push(Crossing {
                    of: *self,
                    iteration,
                    kind,
                    micro_batch: m.0,
                    message,
                    carried,
                    made: made.get(&m.0).copied(),
                    used: used.get(&m.0).copied(),
                });
            }
        }
    }
}

impl<'a> Crossing<'a> {
    fn job(&self) -> &'a str {
        &self.of.seated.start.job.name
    }

    fn begin(&self) -> Nanos {
        let ready = Nanos::of(self.message.ready_s);
        self.carried.map_or(ready, |(begin, _)| begin)
    }

    fn usable(&self) -> Nanos {
        Nanos::of(self.message.usable_s())
    }

    fn word(&self) -> &'static str {
        match self.kind {
            TensorKind::Activation => "activation",
            TensorKind::Gradient => "gradient",
        }
    }

    fn show<E>(&self, out: &mut Out<'_, E>, lane: Place, road: &str) -> Result<(), E> {
        let args = Args {
            job: Some(self.job()),
            attempt: self.of.seated.start.again(),
            iteration: Some(self.iteration.0),
            micro_batch: Some(self.micro_batch),
            stage: Some(self.of.from_stage as u32),
            to_stage: Some(self.of.to_stage as u32),
            ..Args::default()
        };
        let seconds = |(from, to): (Nanos, Nanos)| Some((to - from).seconds());
        if let Some((from, to)) = self.carried {
            let name = format!("{}: {} {}", self.job(), self.word(), self.micro_batch);
            let carried = Span {
                kind: Kind::Carried,
                from,
                to,
                args: Args {
                    seconds: seconds((from, to)),
                    queued_s: self.message.queued_s,
                    ..args.clone()
                },
            };
            out.slice(lane, &name, carried)?;
        }
        let from = self.carried.map_or(self.begin(), |(_, left)| left);
        let to = self.usable().max(from);
        if to > from {
            let late_until_s = self.message.late_until_s;
            let flying = Span {
                kind: Kind::InFlight,
                from,
                to,
                args: Args {
                    seconds: seconds((from, to)),
                    late_s: late_until_s.map(|until_s| until_s - self.message.due_s),
                    ..args
                },
            };
            let word = match self.carried {
                Some(_) => "in flight",
                None => "under way",
            };
            out.overlapping(lane, &format!("{road}, {word}"), flying)?;
        }
        self.arrow(out, lane)
    }

    /// From the end of the action that made the tensor, over the link, to the begin of the one that used it.
    fn arrow<E>(&self, out: &mut Out<'_, E>, lane: Place) -> Result<(), E> {
        let places = &self.of.seated.places;
        let is_drawn = |(begin, end): &(Nanos, Nanos)| begin < end;
        let (made, used) = (self.made.filter(is_drawn), self.used.filter(is_drawn));
        let (Some((_, end)), Some((use_begin, _))) = (made, used) else {
            return Ok(());
        };
        // At its very end a slice is not open any more.
        let mut stops = vec![(places[self.of.from_stage], end - Nanos::ONE)];
        let carried = self.carried.filter(is_drawn);
        stops.extend(carried.map(|(from, _)| (lane, from)));
        stops.push((places[self.of.to_stage], use_begin));
        out.arrow(self.word(), &stops)
    }
}
