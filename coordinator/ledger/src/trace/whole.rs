//! A whole trace, written event by event.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::Write;

use bace_api::{ClockKind, ComputeRung, NetworkRung};
use serde::ser::{SerializeSeq, SerializeStruct};
use serde::{Serialize, Serializer};

use super::event::{Event, Place};
use super::gpus::OfGpu;
use super::links::{Road, Seated, road, roads};
use super::nanos::Nanos;
use super::out::{Moved, Out, Window};
use super::{RegionFacts, counters, gpus, instants};
use crate::seats::Seats;
use crate::starts::starts;
use crate::{Predicted, RunLog};

/// A run as a trace: the JSON object that viewers open, one event at a time.
///
/// Every region is a process whose threads are its GPUs and its fabric; scheduler and links are processes of their own. The
/// predicted run stands below the other one, in processes whose names say so.
#[derive(Debug, Clone)]
pub struct Trace<'a> {
    /// The ledger.
    pub log: &'a RunLog,
    /// The prediction that belongs to it; absent where there is none, and where the ledger is itself a prediction.
    pub predicted: Option<Predicted<&'a RunLog>>,
    /// What the scenario says of its regions; empty where it is not at hand, and then there are no prices and no power.
    pub facts: &'a [RegionFacts],
    /// What of it to show.
    pub cut: TraceCut,
}

/// A part of a run.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TraceCut {
    /// From this emulated second on; absent for the begin.
    pub from_s: Option<f64>,
    /// Up to this emulated second; absent for the end.
    pub to_s: Option<f64>,
    /// Only what this job did, and what was decided of it; quantities are everybody's. Absent for all jobs.
    pub job: Option<String>,
}

/// Which run a part of the trace is of.
#[derive(Debug, Serialize)]
struct Origin<'a> {
    scenario: &'a str,
    scenario_hash: &'a str,
    policy: &'a str,
    seed: u64,
    version: &'a str,
    clock: ClockKind,
    compute: ComputeRung,
    network: NetworkRung,
    #[serde(skip_serializing_if = "Option::is_none")]
    iteration_model: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    time_scale: Option<f64>,
}

#[derive(Debug, Serialize)]
struct Origins<'a> {
    unit: &'static str,
    ledger: Origin<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    predicted: Option<Origin<'a>>,
}

/// A trace on its way into a file.
struct Written<'a> {
    trace: &'a Trace<'a>,
    /// What the events were, once they are written.
    moved: &'a Cell<Moved>,
}

struct Events<'a>(&'a Written<'a>);

impl Serialize for Written<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let origins = Origins {
            unit: "emulated time",
            ledger: Origin::of(self.trace.log),
            predicted: self.trace.predicted.map(|Predicted(log)| Origin::of(log)),
        };
        let mut object = to.serialize_struct("Trace", 3)?;
        object.serialize_field("displayTimeUnit", "ms")?;
        object.serialize_field("otherData", &origins)?;
        object.serialize_field("traceEvents", &Events(self))?;
        object.end()
    }
}

impl Serialize for Events<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut events = to.serialize_seq(None)?;
        let mut sink = |event: &Event<'_>| events.serialize_element(event);
        let moved = self.0.trace.each(&mut sink)?;
        self.0.moved.set(moved);
        events.end()
    }
}

impl Trace<'_> {
    /// Writes it, and tells what does not stand where its ledger says.
    ///
    /// # Errors
    /// If `to` does not take it.
    pub fn write(&self, to: impl Write) -> std::io::Result<Moved> {
        let moved = Cell::default();
        let written = Written {
            trace: self,
            moved: &moved,
        };
        serde_json::to_writer(to, &written)?;
        Ok(moved.get())
    }

    /// When the longer of its runs ends, emulated seconds from their starts.
    pub fn end_s(&self) -> f64 {
        self.sides().map(RunLog::end_s).fold(0.0, f64::max)
    }

    fn sides(&self) -> impl Iterator<Item = &RunLog> {
        let predicted = self.predicted.map(|Predicted(log)| log);
        [Some(self.log), predicted].into_iter().flatten()
    }

    fn each<E>(&self, sink: &mut dyn FnMut(&Event<'_>) -> Result<(), E>) -> Result<Moved, E> {
        let end_s = self.end_s();
        let window = Window {
            from: Nanos::of(self.cut.from_s.unwrap_or(0.0)),
            to: Nanos::of(self.cut.to_s.map_or(end_s, |to_s| to_s.min(end_s))),
        };
        let mut out = Out::new(window, self.cut.job.as_deref(), sink);
        for log in self.sides() {
            side(&mut out, log, self.facts)?;
        }
        Ok(out.moved)
    }
}

/// Writes one run.
fn side<E>(out: &mut Out<'_, E>, log: &RunLog, facts: &[RegionFacts]) -> Result<(), E> {
    let prefix = match log.header.clock {
        ClockKind::Virtual => "predicted: ",
        ClockKind::Wall => "",
    };
    let starts = starts(log);
    let log_end_s = log.end_s();
    let seats = Seats::assign(log, &starts, log_end_s);
    let scheduler = out.process(&format!("{prefix}scheduler"))?;
    instants::instants(out, scheduler, log)?;
    let mut pids = Vec::new();
    let mut places: Vec<Vec<Place>> = Vec::new();
    for region in &seats.regions {
        let pid = out.process(&format!("{prefix}{}", region.region))?;
        if let Some(facts) = facts.iter().find(|facts| facts.name == region.region) {
            counters::price(out, pid, facts)?;
            counters::power(out, pid, facts, (log, &starts, log_end_s))?;
        }
        let threads = region.gpus.iter().map(|gpu| out.thread(pid, &gpu.name));
        places.push(threads.collect::<Result<_, E>>()?);
        pids.push(pid);
    }
    let of_starts = starts.iter().zip(&seats.of_starts);
    let seated = of_starts.map(|(&start, own)| {
        let places = own.iter().map(|seat| places[seat.region][seat.gpu]);
        Seated {
            start,
            places: places.collect(),
        }
    });
    let seated: Vec<Seated<'_>> = seated.collect();
    all_gpus(out, (&seats, &seated), log_end_s)?;
    let links = out.process(&format!("{prefix}links"))?;
    for (of, directions) in roads(log, &seated) {
        let region = |name: &str| seats.regions.iter().position(|of| of.region == name);
        let pid = match of {
            Road::Link(..) => Some(links),
            Road::Fabric(name) => region(name).map(|region| pids[region]),
        };
        if let Some(pid) = pid {
            road(out, pid, &of, &directions)?;
        }
    }
    Ok(())
}

fn all_gpus<E>(
    out: &mut Out<'_, E>,
    (seats, seated): (&Seats, &[Seated<'_>]),
    log_end_s: f64,
) -> Result<(), E> {
    let mut free: BTreeMap<Place, Nanos> = BTreeMap::new();
    for (Seated { start, places }, seats) in seated.iter().zip(&seats.of_starts) {
        for (index, (&place, seat)) in places.iter().zip(seats).enumerate() {
            let gpu = OfGpu {
                place,
                free: free.get(&place).copied().unwrap_or_default(),
                is_guess: seat.is_guess,
            };
            let until = gpus::stage(out, *start, (index, gpu), log_end_s)?;
            free.insert(place, until);
        }
    }
    Ok(())
}

impl<'a> Origin<'a> {
    fn of(log: &'a RunLog) -> Self {
        let header = &log.header;
        Self {
            scenario: &header.scenario,
            scenario_hash: &header.scenario_hash,
            policy: &header.policy,
            seed: header.seed,
            version: &header.version,
            clock: header.clock,
            compute: header.compute,
            network: header.network,
            iteration_model: header.iteration_model.as_deref(),
            time_scale: header.time_scale,
        }
    }
}
