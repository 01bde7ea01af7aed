//! `bace plan`: where jobs are placed, why, and what their pipelines look like.

use bace_api::{Attempt, JobId, PathOutcome, PathReason, PlacedRegion, PlacementReason, Record};
use bace_engine::{Engine, Rates, Scenario, Start, pipeline, policy_by_name};
use bace_ledger::path_text;
use bace_netem::{BitRate, Delay, LinkId};
use bace_sim::{Analytic, Executor, Instant, Reports, drive};

use crate::cli::PlanArgs;
use crate::output::say;
use crate::profile::ChosenProfile;
use crate::scenarios;
use crate::wrong_input::{OrWrongInput, WrongInput};

/// Columns of a grid: what fits a terminal of the usual width.
const COLUMNS: usize = 100;

/// Follows the scenario by formula and explains every placement; whether all jobs finish.
pub fn plan(args: &PlanArgs) -> anyhow::Result<bool> {
    let loaded = scenarios::load(&args.scenario.scenario, args.scenario.seed)?;
    let scenario = &loaded.scenario;
    if let Some(name) = &args.job
        && !scenario.jobs.iter().any(|job| job.name == *name)
    {
        let names: Vec<_> = scenario.jobs.iter().map(|job| job.name.as_str()).collect();
        return Err(WrongInput::error(format!(
            "find a job `{name}`: there are {}",
            names.join(", ")
        )));
    }
    let policy = policy_by_name(&args.scenario.policy).or_wrong_input()?;
    let asked = args.predict.asked(&args.scenario, &loaded.scenario);
    let profile = ChosenProfile::asked_for(&asked)?;
    let engine = Engine::new(scenario.clone(), policy);
    let engine = asked.give(profile.as_ref(), engine)?;
    let mut watched = Watched {
        inner: Analytic::new(scenario.clone()),
        starts: Vec::new(),
    };
    let mut records = Vec::new();
    drive(engine, &mut watched, |record| records.push(record));
    let times = match &profile {
        Some(profile) => format!(", times of compute from {}", profile.path.display()),
        None => String::new(),
    };
    say!(
        "{} under {}, iterations by formula{times}\n",
        scenario.name,
        args.scenario.policy
    );
    let mut starts = watched.starts.iter();
    for record in &records {
        // Every placement has its start, in the same order.
        let start = matches!(record, Record::Placed { .. })
            .then(|| starts.next())
            .flatten();
        if is_asked_for(record, args) {
            print(scenario, record, start);
        }
        if let Record::RunEnded { at_s, waiting, .. } = record {
            let waiting = waiting.iter().filter(|job| concerns(args, *at_s, job));
            waiting.for_each(|job| {
                say!("{at_s:>10.3} s  {job}: never placed; nothing runs or arrives any more")
            });
        }
    }
    Ok(!records.iter().any(fails))
}

/// Whether a job does not finish, or not all of them.
fn fails(record: &Record) -> bool {
    match record {
        Record::Refused { .. } | Record::JobFailed { .. } => true,
        Record::RunEnded {
            waiting, stopped, ..
        } => !waiting.is_empty() || stopped.is_some(),
        _ => false,
    }
}

/// Keeps what an executor is told to start.
struct Watched {
    inner: Analytic,
    starts: Vec<Start>,
}

impl Executor for Watched {
    fn start(&mut self, now: Instant, start: &Start) {
        self.starts.push(start.clone());
        self.inner.start(now, start);
    }

    fn rates(&mut self, now: Instant, rates: &Rates) {
        self.inner.rates(now, rates);
    }

    fn cancel(&mut self, now: Instant, job: JobId, attempt: Attempt) {
        self.inner.cancel(now, job, attempt);
    }

    fn link_changed(&mut self, now: Instant, link: LinkId, rate: BitRate, delay: Delay) {
        self.inner.link_changed(now, link, rate, delay);
    }

    fn next_s(&mut self) -> Option<f64> {
        self.inner.next_s()
    }

    fn advance(&mut self, now: Instant, reports: &mut Reports) {
        self.inner.advance(now, reports);
    }

    fn report(&mut self, now: Instant, reports: &mut Reports) {
        self.inner.report(now, reports);
    }
}

fn is_asked_for(record: &Record, args: &PlanArgs) -> bool {
    let (at_s, job) = match record {
        Record::Placed { at_s, job, .. }
        | Record::PassedOver { at_s, job, .. }
        | Record::Refused { at_s, job, .. }
        | Record::JobFailed { at_s, job, .. }
        | Record::JobFinished { at_s, job } => (*at_s, job),
        _ => return false,
    };
    concerns(args, at_s, job)
}

fn concerns(args: &PlanArgs, at_s: f64, job: &str) -> bool {
    args.at.is_none_or(|until| at_s <= until) && args.job.as_ref().is_none_or(|name| name == job)
}

fn print(scenario: &Scenario, record: &Record, start: Option<&Start>) {
    match record {
        Record::Placed {
            at_s,
            job,
            k,
            k_star,
            path,
            layers,
            iteration_s,
            reason,
            ..
        } => {
            let reason = serde_json::from_value::<PlacementReason>(reason.clone());
            let k_full = reason.as_ref().ok().and_then(|reason| reason.k_full);
            let k_full = k_full.map_or_else(String::new, |k_full| format!(", K° = {k_full}"));
            say!(
                "{at_s:>10.3} s  {job}: placed on {} (K = {k}, K* = {k_star}{k_full}), T = {iteration_s:.3} s",
                arrows(path)
            );
            say!("              layers a stage: {}", joined(layers));
            match reason {
                Ok(reason) => print_reason(&reason),
                Err(error) => say!("              its reason cannot be read: {error}"),
            }
            if let Some(start) = start {
                print_pipeline(scenario, start);
            }
        }
        Record::PassedOver { at_s, job, why, .. } => {
            say!("{at_s:>10.3} s  {job}: waits; {why}");
        }
        Record::Refused { at_s, job, reason } => {
            say!("{at_s:>10.3} s  {job}: refused; {reason}")
        }
        Record::JobFailed { at_s, job, reason } => {
            say!("{at_s:>10.3} s  {job}: failed; {reason}")
        }
        Record::JobFinished { at_s, job } => say!("{at_s:>10.3} s  {job}: finished"),
        _ => {}
    }
}

fn print_reason(reason: &PlacementReason) {
    if let Some(terms) = &reason.priority {
        say!(
            "              priority {:.4}: alpha {:.3}, intensity {:.3}, sensitivity {:.3}, aging {:.3}",
            terms.priority,
            terms.alpha,
            terms.intensity,
            terms.sensitivity,
            terms.aging
        );
    }
    for path in &reason.paths {
        say!("              {}", describe(path));
    }
}

/// One path that was looked at and what became of it.
fn describe(path: &PathReason) -> String {
    let regions = path.regions.iter();
    let mut text = path_text(regions.map(|(name, gpus)| (name.as_str(), *gpus)));
    if let Some(bps) = path.bottleneck_bps {
        text.push_str(&format!(", {:.1} Mbit/s free", bps / 1e6));
    }
    if let Some(iteration_s) = path.iteration_s {
        text.push_str(&format!(", T = {iteration_s:.3} s"));
    }
    if let Some(usd) = path.cost_usd {
        text.push_str(&format!(", ${usd:.6}"));
    }
    text + &match &path.outcome {
        PathOutcome::Chosen => ": chosen".to_owned(),
        PathOutcome::TooSlow { limit_s } => format!(": slower than {limit_s:.3} s"),
        PathOutcome::Dearer => ": dearer".to_owned(),
        PathOutcome::Tied => ": no better than the chosen one, which was found first".to_owned(),
        PathOutcome::Stopped { shortfall } => format!(": {shortfall}"),
    }
}

fn print_pipeline(scenario: &Scenario, start: &Start) {
    let plan = pipeline::plan(scenario, start);
    let timeline = pipeline::timeline(&plan.program, &start.stage_seconds, &plan.boundaries);
    say!(
        "              one iteration at its share of the links: {:.3} s, bubble {:.1} %, forwards before the first backward: {}",
        timeline.duration_s,
        timeline.bubble() * 100.0,
        joined(&plan.depths)
    );
    for cut in &plan.cuts {
        say!("              {cut}");
    }
    say!("\n{}", timeline.grid(COLUMNS));
}

fn arrows(path: &[PlacedRegion]) -> String {
    path_text(path.iter().map(|part| (part.region.as_str(), part.gpus)))
}

fn joined(numbers: &[u32]) -> String {
    let texts: Vec<_> = numbers.iter().map(u32::to_string).collect();
    texts.join(", ")
}
