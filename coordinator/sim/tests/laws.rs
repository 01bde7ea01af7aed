//! What holds in every simulation, on random scenarios.

#![expect(clippy::unwrap_used, reason = "a test's panic is its report")]

mod dice;

use std::collections::BTreeMap;
use std::sync::Arc;

use bace_api::{Attempt, Boundary, InputRecord, JobId, Placement, Record};
use bace_engine::{Engine, Names, Rates, Scenario, Start, Told, policies, policy_by_name};
use bace_netem::{BitRate, Delay, LinkId};
use bace_sim::{Analytic, Executor, Instant, IterationModel, Reports, drive, simulate};
use dice::{Dice, parse};

const SCENARIOS: u64 = 160;

/// Rounding, and the slack of the bandwidth test.
const SLACK: f64 = 1e-8;

fn cases() -> impl Iterator<Item = (Arc<Scenario>, &'static str)> {
    (0..SCENARIOS).map(|seed| {
        let policy = policies()[seed as usize % policies().len()].name;
        (parse(&Dice(1_000_000 + seed).scenario()), policy)
    })
}

fn records_of(scenario: &Arc<Scenario>, policy: &str) -> Vec<Record> {
    let mut records = Vec::new();
    let policy = policy_by_name(policy).unwrap();
    simulate(scenario, policy, IterationModel::Analytic, |record| {
        records.push(record)
    });
    records
}

#[test]
fn nothing_is_promised_twice() {
    for (scenario, policy) in cases() {
        let mut watched = Watched::new(&scenario);
        let engine = Engine::new(scenario.clone(), policy_by_name(policy).unwrap());
        drive(engine, &mut watched, |_| {});
        let equal = scenario
            .regions
            .windows(2)
            .all(|pair| pair[0].gpu == pair[1].gpu);
        let bace = !policy.contains("cr-") && policy != "lcf" && policy != "ldf";
        if equal && bace && scenario.link_changes.is_empty() {
            assert!(
                !watched.slowed,
                "{policy} slowed a running job: {scenario:?}"
            );
        }
    }
}

#[test]
fn who_came_first_starts_first_under_the_baselines() {
    for (scenario, policy) in cases() {
        if !["lcf", "ldf", "cr-lcf", "cr-ldf"].contains(&policy) {
            continue;
        }
        let arrival = |name: &str| {
            let job = scenario
                .jobs
                .iter()
                .position(|job| job.name == name)
                .unwrap();
            (scenario.jobs[job].arrival_s, job)
        };
        let started: Vec<_> = records_of(&scenario, policy)
            .into_iter()
            .filter_map(|record| match record {
                Record::Placed { job, .. } => Some(arrival(&job)),
                _ => None,
            })
            .collect();
        assert!(started.is_sorted(), "{policy}: {started:?}");
    }
}

#[test]
fn every_job_ends_once_and_in_order() {
    for (scenario, policy) in cases() {
        let mut ends: BTreeMap<String, u32> = BTreeMap::new();
        let mut clock = 0.0;
        let records = records_of(&scenario, policy);
        for record in &records {
            match record {
                Record::JobFinished { job, .. }
                | Record::JobFailed { job, .. }
                | Record::Refused { job, .. } => *ends.entry(job.clone()).or_default() += 1,
                Record::RunEnded { waiting, .. } => {
                    waiting
                        .iter()
                        .for_each(|job| *ends.entry(job.clone()).or_default() += 1);
                }
                Record::Input { at_s, .. } => {
                    assert!(*at_s >= clock, "time went back to {at_s} from {clock}");
                    clock = *at_s;
                }
                _ => {}
            }
        }
        assert_eq!(ends.len(), scenario.jobs.len(), "{policy}");
        assert!(ends.values().all(|&count| count == 1), "{policy}: {ends:?}");
        assert!(matches!(records.last(), Some(Record::RunEnded { .. })));
    }
}

#[test]
fn recorded_inputs_lead_to_the_same_records() {
    for (scenario, policy) in cases() {
        let mut records = records_of(&scenario, policy);
        records.pop();
        let names = Names::of(&scenario);
        let mut engine = Engine::new(scenario.clone(), policy_by_name(policy).unwrap());
        let mut replayed = Vec::new();
        for record in &records {
            if let Record::Input { at_s, input } = through_json(record) {
                match names.told(&input).unwrap() {
                    Told::Input(input) => engine.handle(at_s, input),
                    Told::Settle => engine.settle(at_s),
                }
                replayed.extend(std::iter::from_fn(|| engine.poll_record()));
            }
        }
        assert_eq!(replayed, records, "{policy}");
    }
}

#[test]
fn a_job_alone_takes_its_iterations() {
    for (mut scenario, policy) in cases() {
        let alone = Arc::get_mut(&mut scenario).unwrap();
        alone.jobs.truncate(1);
        alone.link_changes.clear();
        let (job, records) = (scenario.jobs[0].clone(), records_of(&scenario, policy));
        let placed = records.iter().find_map(|record| match record {
            Record::Placed {
                at_s, iteration_s, ..
            } => Some((*at_s, *iteration_s)),
            _ => None,
        });
        let Some((started_s, iteration_s)) = placed else {
            continue;
        };
        assert_eq!(started_s, job.arrival_s);
        let finished_s = records.iter().find_map(|record| match record {
            Record::JobFinished { at_s, .. } => Some(*at_s),
            _ => None,
        });
        let ideal_s = started_s + f64::from(job.iterations) * iteration_s;
        assert_eq!(finished_s, Some(ideal_s), "{policy}");
    }
}

fn through_json(record: &Record) -> Record {
    match record {
        Record::Input { input, .. } if *input == InputRecord::Settle => record.clone(),
        _ => serde_json::from_str(&serde_json::to_string(record).unwrap()).unwrap(),
    }
}

/// The analytic executor under supervision.
struct Watched {
    inner: Analytic,
    scenario: Arc<Scenario>,
    capacity: BTreeMap<LinkId, f64>,
    placed: BTreeMap<JobId, (Placement, Vec<f64>, f64)>,
    slowed: bool,
}

impl Watched {
    fn new(scenario: &Arc<Scenario>) -> Self {
        let links = scenario.links.iter();
        Self {
            inner: Analytic::new(scenario.clone()),
            scenario: scenario.clone(),
            capacity: links.map(|(&link, spec)| (link, spec.rate.bps())).collect(),
            placed: BTreeMap::new(),
            slowed: false,
        }
    }

    fn check(&self) {
        let mut gpus: Vec<u32> = self
            .scenario
            .regions
            .iter()
            .map(|region| region.gpus)
            .collect();
        let mut left = self.capacity.clone();
        for (placement, rates, _) in self.placed.values() {
            for part in &placement.path {
                let free = &mut gpus[part.region.index()];
                *free = free.checked_sub(part.gpus).expect("no GPU is taken twice");
            }
            for (boundary, rate) in placement.boundaries().iter().zip(rates) {
                if let Boundary::Link(link) = boundary {
                    *left.get_mut(link).unwrap() -= rate;
                    *left.get_mut(&link.reversed()).unwrap() -= rate;
                }
            }
        }
        for (link, left) in left {
            assert!(
                left >= -SLACK * self.capacity[&link],
                "{link} is short of {left} bit/s"
            );
        }
    }
}

impl Executor for Watched {
    fn start(&mut self, now: Instant, start: &Start) {
        let placed = (
            start.placement.clone(),
            start.rates.clone(),
            start.iteration_s,
        );
        self.placed.insert(start.job, placed);
        self.inner.start(now, start);
    }

    fn rates(&mut self, now: Instant, rates: &Rates) {
        let placed = self.placed.get_mut(&rates.job).unwrap();
        self.slowed |= rates.iteration_s > placed.2 * (1.0 + SLACK);
        placed.1.clone_from(&rates.rates);
        self.inner.rates(now, rates);
    }

    fn cancel(&mut self, now: Instant, job: JobId, attempt: Attempt) {
        self.placed.remove(&job);
        self.inner.cancel(now, job, attempt);
    }

    fn link_changed(&mut self, now: Instant, link: LinkId, rate: BitRate, delay: Delay) {
        self.capacity.insert(link, rate.bps());
        self.inner.link_changed(now, link, rate, delay);
    }

    fn next_s(&mut self) -> Option<f64> {
        self.check();
        self.inner.next_s()
    }

    fn advance(&mut self, now: Instant, reports: &mut Reports) {
        self.inner.advance(now, reports);
        for input in &reports.inputs {
            if let bace_engine::Input::Finished(job) = input {
                self.placed.remove(job);
            }
        }
    }

    fn report(&mut self, now: Instant, reports: &mut Reports) {
        self.inner.report(now, reports);
    }
}
