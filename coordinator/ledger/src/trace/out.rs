//! Where events go: numbered, and cut to a window.

use super::event::{
    Args, Async, Counter, Event, Flow, Instant, Kind, Local, Meaning, Metadata, Place, Quantity,
    Slice,
};
use super::nanos::Nanos;

/// From when to when a trace shows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    pub from: Nanos,
    pub to: Nanos,
}

impl Window {
    /// The part of a span that shows; absent if none does. What has no length has no part: viewers would put it into whatever
    /// begins where it stands.
    pub fn clip(self, (from, to): (Nanos, Nanos)) -> Option<(Nanos, Nanos)> {
        let part = (from.max(self.from), to.min(self.to));
        (part.0 < part.1).then_some(part)
    }

    /// Whether a span, or its edge, lies in it.
    pub fn touches(self, (from, to): (Nanos, Nanos)) -> bool {
        from <= self.to && to >= self.from
    }

    /// Whether an instant shows.
    pub fn holds(self, at: Nanos) -> bool {
        (self.from..=self.to).contains(&at)
    }
}

/// Takes a trace's events one by one, and hands them on at once.
pub(super) struct Out<'s, E> {
    sink: &'s mut dyn FnMut(&Event<'_>) -> Result<(), E>,
    pub window: Window,
    /// Only this job's.
    pub job: Option<&'s str>,
    /// Processes and threads so far: one row of numbers, since viewers take a thread of its process's number for its main one.
    named: u32,
    ids: u64,
    pub moved: Moved,
}

/// Slices that a trace shows later than their ledger says, since another one of their GPU reached into them. Clocks of several
/// hosts are known to some microseconds only, so that a job may begin before the one before it has ended.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Moved {
    /// How many slices.
    pub slices: u64,
    /// By how much at most, emulated seconds.
    pub most_s: f64,
}

/// Something with a begin and an end.
pub(super) struct Span<'a> {
    pub kind: Kind,
    pub from: Nanos,
    pub to: Nanos,
    pub args: Args<'a>,
}

/// A point of an arrow.
pub(super) type Stop = (Place, Nanos);

impl<'s, E> Out<'s, E> {
    pub fn new(
        window: Window,
        job: Option<&'s str>,
        sink: &'s mut dyn FnMut(&Event<'_>) -> Result<(), E>,
    ) -> Self {
        Self {
            sink,
            window,
            job,
            named: 0,
            ids: 0,
            moved: Moved::default(),
        }
    }

    /// Whether a job's events are asked for.
    pub fn wants(&self, job: &str) -> bool {
        self.job.is_none_or(|only| only == job)
    }

    /// Where a span shows on a thread that is free from `free` on.
    pub fn behind(&mut self, free: Nanos, (from, to): (Nanos, Nanos)) -> (Nanos, Nanos) {
        if from < free && self.window.touches((from, to)) {
            self.moved.slices += 1;
            self.moved.most_s = self.moved.most_s.max((free - from).seconds());
        }
        (from.max(free), to.max(free))
    }

    /// Names a process, below those before it; its number.
    pub fn process(&mut self, name: &str) -> Result<u32, E> {
        self.named += 1;
        let pid = self.named;
        self.name(["process_name", "process_sort_index"], (pid, None), name)?;
        Ok(pid)
    }

    /// Names a thread, below those before it.
    pub fn thread(&mut self, pid: u32, name: &str) -> Result<Place, E> {
        self.named += 1;
        let place = Place {
            pid,
            tid: self.named,
        };
        let words = ["thread_name", "thread_sort_index"];
        self.name(words, (pid, Some(place.tid)), name)?;
        Ok(place)
    }

    fn name(
        &mut self,
        [name, sort_index]: [&'static str; 2],
        (pid, tid): (u32, Option<u32>),
        called: &str,
    ) -> Result<(), E> {
        let place = self.named;
        for (name, args) in [
            (name, Meaning::Name(called)),
            (sort_index, Meaning::SortIndex(place)),
        ] {
            let metadata = Metadata {
                name,
                pid,
                tid,
                args,
            };
            (self.sink)(&Event::Metadata(metadata))?;
        }
        Ok(())
    }

    /// What shows of a span on a thread.
    pub fn slice(&mut self, place: Place, name: &str, span: Span<'_>) -> Result<(), E> {
        let Some((from, to)) = self.window.clip((span.from, span.to)) else {
            return Ok(());
        };
        (self.sink)(&Event::Slice(Slice {
            name: name.into(),
            cat: span.kind,
            place,
            ts: from,
            dur: to - from,
            cname: span.kind.colour(),
            args: span.args,
        }))
    }

    /// What shows of a span that may overlap others called `name` in its process.
    pub fn overlapping(&mut self, place: Place, name: &str, span: Span<'_>) -> Result<(), E> {
        let Some((from, to)) = self.window.clip((span.from, span.to)) else {
            return Ok(());
        };
        self.ids += 1;
        let end = |ts, args| Async {
            name,
            cat: span.kind,
            id2: Local { local: self.ids },
            place,
            ts,
            cname: span.kind.colour(),
            args,
        };
        (self.sink)(&Event::AsyncBegin(end(from, span.args)))?;
        (self.sink)(&Event::AsyncEnd(end(to, Args::default())))
    }

    /// An arrow through the slices that are open at its stops; none where one of them does not show.
    pub fn arrow(&mut self, name: &'static str, stops: &[Stop]) -> Result<(), E> {
        if stops.iter().any(|&(_, at)| !self.window.holds(at)) {
            return Ok(());
        }
        self.ids += 1;
        for (index, &(place, ts)) in stops.iter().enumerate() {
            let is_last = index + 1 == stops.len();
            let flow = Flow {
                name,
                cat: "tensor",
                id: self.ids,
                place,
                ts,
                bp: is_last.then_some("e"),
            };
            (self.sink)(&match index {
                0 => Event::FlowBegin(flow),
                _ if is_last => Event::FlowEnd(flow),
                _ => Event::FlowStep(flow),
            })?;
        }
        Ok(())
    }

    /// A quantity over time, by the instants from which it has a value; those before the window count at its begin.
    pub fn counter(
        &mut self,
        pid: u32,
        (name, unit): (&str, &str),
        steps: impl IntoIterator<Item = (Nanos, f64)>,
    ) -> Result<(), E> {
        let mut before = None;
        let mut last = None;
        for (at, value) in steps {
            if at > self.window.to {
                break;
            }
            if at <= self.window.from {
                before = Some(value);
                continue;
            }
            if let Some(value) = before.take() {
                self.count(pid, (name, unit), (self.window.from, value))?;
                last = Some(value);
            }
            if last != Some(value) {
                self.count(pid, (name, unit), (at, value))?;
                last = Some(value);
            }
        }
        match before {
            Some(value) => self.count(pid, (name, unit), (self.window.from, value)),
            None => Ok(()),
        }
    }

    fn count(
        &mut self,
        pid: u32,
        (name, unit): (&str, &str),
        (ts, value): (Nanos, f64),
    ) -> Result<(), E> {
        (self.sink)(&Event::Counter(Counter {
            name,
            pid,
            ts,
            args: Quantity { unit, value },
        }))
    }

    /// Something without length.
    pub fn instant(
        &mut self,
        place: Place,
        name: &str,
        (kind, at): (Kind, Nanos),
        args: Args<'_>,
    ) -> Result<(), E> {
        if !self.window.holds(at) {
            return Ok(());
        }
        (self.sink)(&Event::Instant(Instant {
            name: name.into(),
            cat: kind,
            place,
            ts: at,
            s: "t",
            args,
        }))
    }
}
