//! Jobs walked action by action, with contention on the links they share: docs/scheduling.md section 8.
//!
//! `stage` walks a list, `flow` is a job's queue on a link with `chunks` where the link draws lots, `link` divides a link among
//! flows, `run` is one job, and [`EventModel`] is all jobs on all links.

mod chunks;
mod flow;
mod link;
mod road;
mod run;
mod spans;
mod stage;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use bace_api::{ActionsRecord, Attempt, Iteration, IterationRecord, JobId, Record, StageIndex};
use bace_engine::{Detail, Input, Rates, Scenario, Start, pipeline};
use bace_netem::{BitRate, Delay, LinkId};

use crate::driver::{Executor, Instant, Reports};
use link::{Claim, SharedLink};
use run::Run;
use stage::StageIteration;

/// How an [`EventModel`] works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventSettings {
    /// Whether iterations that nothing disturbs are repeated by arithmetic instead of walked. Changes no result beyond
    /// rounding; off, a run takes as long as it has actions.
    pub repeat_steady: bool,
    /// Whether every iteration of every stage becomes a record. A ledger wants them; a comparison is faster without.
    pub iteration_records: bool,
    /// Whether each of these records is followed by one of the iteration's actions; without them it has no effect. A ledger
    /// with actions is many times as large.
    pub action_records: bool,
}

impl EventSettings {
    /// What `detail` asks for: an engine that tells outcomes alone is not accompanied by iterations.
    pub fn for_detail(detail: Detail) -> Self {
        let is_full = detail == Detail::Full;
        Self {
            iteration_records: is_full,
            action_records: is_full,
            ..Self::default()
        }
    }
}

impl Default for EventSettings {
    fn default() -> Self {
        Self {
            repeat_steady: true,
            iteration_records: true,
            action_records: true,
        }
    }
}

/// The event iteration model.
///
/// A job's transfers on a directed link are served first come, first served; at every instant the link's capacity is divided
/// equally among the jobs with a transfer in progress, or, where flows share it, among all transfers. A flow that the Mathis
/// model holds below its part leaves the rest to the others. Queues have no bound, so a send never waits. The engine's shares
/// decide how deep a program starts, and nothing else here.
///
/// Capacity is a fluid: where chunks take turns on a real link, all get their parts at once, so that times differ by up to a
/// chunk's. What a link draws for each chunk or message is the very draw of the real sender.
#[derive(Debug)]
pub struct EventModel {
    scenario: Arc<Scenario>,
    settings: EventSettings,
    links: BTreeMap<LinkId, SharedLink>,
    /// Those with burst credit.
    bursting: Vec<LinkId>,
    runs: BTreeMap<JobId, Run>,
    /// Told where nobody listened; handed over with the next reports.
    held: Reports,
    /// When the latest of it was told.
    held_s: f64,
}

/// Where something can happen.
#[derive(Debug, Clone, Copy)]
enum Place {
    /// In a job.
    Job(JobId),
    /// On a link whose burst credit is used up.
    Link(LinkId),
}

impl EventModel {
    /// An executor of `scenario`'s jobs.
    pub fn new(scenario: Arc<Scenario>, settings: EventSettings) -> Self {
        let links = scenario.links.iter();
        let bursting = links.clone().filter(|(_, spec)| spec.burst.is_some());
        Self {
            bursting: bursting.map(|(&id, _)| id).collect(),
            links: links
                .map(|(&id, spec)| (id, SharedLink::new(spec)))
                .collect(),
            runs: BTreeMap::new(),
            held: Reports::default(),
            held_s: 0.0,
            scenario,
            settings,
        }
    }

    /// Where something happens next, and when; in jobs before links.
    fn earliest(&self) -> Option<(Place, f64)> {
        let jobs = self.runs.iter();
        let jobs = jobs.map(|(&job, run)| (Place::Job(job), run.next_s()));
        let links = self.bursting.iter();
        let links = links.map(|&link| (Place::Link(link), self.links[&link].empty_s()));
        jobs.chain(links)
            .filter(|(_, at_s)| at_s.is_finite())
            .min_by(|a, b| a.1.total_cmp(&b.1))
    }

    /// Lets the next thing happen in a job, at `at_s`.
    fn step(&mut self, job: JobId, at_s: f64, reports: &mut Reports) {
        let Some(run) = self.runs.get_mut(&job) else {
            return;
        };
        if !run.is_done() {
            run.step();
        }
        let touched = std::mem::take(&mut run.touched);
        let ended = std::mem::take(&mut run.ended);
        for link in touched {
            self.rebalance(link, at_s);
        }
        self.tell_ended(job, &ended, reports);
        self.leave_pause(job);
        if self.runs[&job].is_done() {
            self.finish(job, at_s, reports);
        }
    }

    /// Lets a job that stands between two iterations go on, or sleep if all to come is known.
    fn leave_pause(&mut self, job: JobId) {
        let alone = self.is_alone(job);
        let Some(run) = self.runs.get_mut(&job) else {
            return;
        };
        match run.pausing() {
            None => {}
            Some(true) if alone && self.settings.repeat_steady => run.sleep(),
            Some(_) => {
                run.go_on();
                if !alone {
                    run.disturb();
                }
            }
        }
    }

    /// Whether no other job may use the job's links.
    fn is_alone(&self, job: JobId) -> bool {
        self.runs.get(&job).is_some_and(|run| {
            let mut links = run.flows.iter().map(|flow| &self.links[&flow.link()]);
            links.all(|link| link.users.len() == 1)
        })
    }

    /// Divides a link anew among the flows with something under way.
    fn rebalance(&mut self, link: LinkId, at_s: f64) {
        let Some(link) = self.links.get_mut(&link) else {
            return;
        };
        let claims = link.users.iter().filter_map(|&(job, index)| {
            let flow = &self.runs[&job].flows[index];
            (!flow.is_idle()).then(|| Claim {
                job,
                flow: index,
                parts: flow.under_way(),
                cap_bps: flow.cap_bps(),
            })
        });
        let claims: Vec<Claim> = claims.collect();
        let shares = link.divide(at_s, &claims);
        for (place, claim) in claims.iter().enumerate() {
            if let Some(run) = self.runs.get_mut(&claim.job) {
                run.set_rate(claim.flow, at_s, shares.of(place, claim));
            }
        }
    }

    /// Brings the users of a link up to `now`, since what they share is about to change.
    fn disturb(&mut self, link: LinkId, now: Instant) {
        for job in self.users(link) {
            self.catch_up(job, now);
            if let Some(run) = self.runs.get_mut(&job) {
                run.disturb();
            }
        }
    }

    fn users(&self, link: LinkId) -> Vec<JobId> {
        let users = self.links.get(&link).map(|link| link.users.iter());
        users.into_iter().flatten().map(|&(job, _)| job).collect()
    }

    /// Walks a sleeping job up to `now`. While it slept its links were its own, so that this changes nothing for others.
    fn catch_up(&mut self, job: JobId, now: Instant) {
        let Some(run) = self.runs.get_mut(&job) else {
            return;
        };
        run.wake(now.at_s());
        let slept = std::mem::take(&mut run.ended);
        let mut held = std::mem::take(&mut self.held);
        self.tell_ended(job, &slept, &mut held);
        while let Some(next_s) = self.runs.get(&job).map(Run::next_s)
            && now.includes(next_s)
        {
            self.step(job, next_s, &mut held);
        }
        self.held = held;
        self.held_s = now.at_s();
    }

    /// Takes a job off its links. Those that shared them were awake, since they were not alone.
    fn remove(&mut self, job: JobId, at_s: f64) -> Option<Run> {
        let run = self.runs.remove(&job)?;
        for flow in &run.flows {
            if let Some(link) = self.links.get_mut(&flow.link()) {
                link.users.retain(|(user, _)| *user != job);
            }
        }
        for flow in &run.flows {
            for user in self.users(flow.link()) {
                if let Some(user) = self.runs.get_mut(&user) {
                    user.disturb();
                }
            }
            self.rebalance(flow.link(), at_s);
        }
        Some(run)
    }

    fn finish(&mut self, job: JobId, at_s: f64, reports: &mut Reports) {
        if let Some(mut run) = self.remove(job, at_s) {
            self.tell_transfers(&run, at_s, reports);
            tell_usage(&mut run, at_s, reports);
            reports.inputs.push(Input::Finished(job));
        }
    }

    fn tell_ended(&self, job: JobId, ended: &[StageIteration], reports: &mut Reports) {
        let Some(run) = self.runs.get(&job) else {
            return;
        };
        let facts = &self.scenario.jobs[job.index()];
        let records = ended.iter().flat_map(|ended| {
            let iteration = Iteration(run.first_iteration + ended.iteration.0);
            let actions = ended.spans.as_ref().map(|spans| {
                Record::Actions(ActionsRecord {
                    job: facts.name.clone(),
                    attempt: run.attempt,
                    stage: ended.stage,
                    iteration,
                    spans: spans.to_vec(),
                })
            });
            let last = ended.stage == run.last_stage();
            let record = Record::Iteration(IterationRecord {
                job: facts.name.clone(),
                attempt: run.attempt,
                stage: ended.stage,
                iteration,
                from_s: ended.from_s,
                to_s: ended.to_s,
                times: ended.times,
                loss: None,
                tokens: last.then(|| facts.iteration_tokens()),
                device_s: None,
                lease_wait_s: None,
                actions: None,
                overruns: 0,
                worst_overrun_s: 0.0,
                overrun_s: None,
                scale_without_overrun: None,
            });
            std::iter::once(record).chain(actions)
        });
        reports.records.extend(records);
    }

    fn tell_transfers(&self, run: &Run, at_s: f64, reports: &mut Reports) {
        let name =
            |region: bace_netem::RegionId| self.scenario.regions[region.index()].name.clone();
        let records = run.transferred().map(|transferred| Record::Transfer {
            at_s,
            job: self.scenario.jobs[run.job.index()].name.clone(),
            attempt: run.attempt,
            from_stage: StageIndex(transferred.from_stage),
            to_stage: StageIndex(transferred.to_stage),
            from: name(transferred.from),
            to: name(transferred.to),
            summary: transferred.summary,
            carried_bytes: None,
            datagrams: None,
        });
        reports.records.extend(records);
    }
}

fn tell_usage(run: &mut Run, at_s: f64, reports: &mut Reports) {
    for (stage, spans) in (0..).map(StageIndex).zip(run.take_spans(at_s)) {
        let computed = spans.into_iter().filter(|span| span.busy_s > 0.0);
        reports.inputs.extend(computed.map(|span| Input::Usage {
            job: run.job,
            stage,
            from_s: span.from_s,
            to_s: span.to_s,
            busy_s: span.busy_s,
        }));
    }
}

impl Executor for EventModel {
    fn start(&mut self, now: Instant, start: &Start) {
        let plan = pipeline::plan(&self.scenario, start);
        let planned = plan.record(&self.scenario, start, now.at_s());
        self.held.records.push(planned);
        self.held_s = now.at_s();
        let present = |link| self.links[&link].spec;
        let mut run = Run::new(&self.scenario, present, start, plan.program, now.at_s());
        if self.settings.iteration_records {
            run.keep_ended();
            if self.settings.action_records {
                run.keep_actions();
            }
        }
        for (index, flow) in run.flows.iter().enumerate() {
            self.disturb(flow.link(), now);
            if let Some(link) = self.links.get_mut(&flow.link()) {
                link.users.push((start.job, index));
            }
        }
        run.begin();
        self.runs.insert(start.job, run);
        if !self.is_alone(start.job)
            && let Some(run) = self.runs.get_mut(&start.job)
        {
            run.disturb();
        }
    }

    fn rates(&mut self, _now: Instant, _rates: &Rates) {}

    fn cancel(&mut self, now: Instant, job: JobId, _attempt: Attempt) {
        if let Some(run) = self.remove(job, now.at_s()) {
            let mut held = std::mem::take(&mut self.held);
            self.tell_transfers(&run, now.at_s(), &mut held);
            self.held = held;
            self.held_s = now.at_s();
        }
    }

    fn link_changed(&mut self, now: Instant, link: LinkId, rate: BitRate, delay: Delay) {
        self.disturb(link, now);
        let Some(shared) = self.links.get_mut(&link) else {
            return;
        };
        shared.set(rate, delay);
        for (job, flow) in &shared.users {
            if let Some(run) = self.runs.get_mut(job) {
                run.set_link(*flow, now.at_s(), &shared.spec);
            }
        }
        self.rebalance(link, now.at_s());
    }

    fn next_s(&mut self) -> Option<f64> {
        if self.held != Reports::default() {
            return Some(self.held_s);
        }
        self.earliest().map(|(_, at_s)| at_s)
    }

    fn advance(&mut self, now: Instant, reports: &mut Reports) {
        reports.records.append(&mut self.held.records);
        reports.inputs.append(&mut self.held.inputs);
        while let Some((place, at_s)) = self.earliest()
            && now.includes(at_s)
        {
            match place {
                Place::Job(job) => self.step(job, at_s, reports),
                Place::Link(link) => self.rebalance(link, at_s),
            }
        }
    }

    fn report(&mut self, now: Instant, reports: &mut Reports) {
        let jobs: Vec<JobId> = self.runs.keys().copied().collect();
        for job in jobs {
            self.catch_up(job, now);
            let Some(run) = self.runs.get_mut(&job) else {
                continue;
            };
            tell_usage(run, now.at_s(), reports);
            // The iteration in progress is told in two parts, unlike those that may be repeated.
            run.disturb();
            reports.inputs.push(Input::Progress {
                job,
                iterations: f64::from(run.first_iteration + run.done()),
            });
        }
        reports.records.append(&mut self.held.records);
        reports.inputs.append(&mut self.held.inputs);
    }
}
