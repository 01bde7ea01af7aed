//! Jobs walked action by action, with contention on the links they share: docs/scheduling.md section 8.
//!
//! `stage` walks a list and `spans` note what it did, `flow` is a job's queue on a link with `turns` where others use it too, `link`
//! is the link's clock, in the nanoseconds of `machine_time`, `road` what carries a boundary, `set_up` what comes before a job trains,
//! `run` is one job, and [`EventModel`] is all
//! jobs on all links, which looks up in an `agenda` whose turn it is.

mod agenda;
mod flow;
mod link;
mod machine_time;
mod road;
mod run;
mod set_up;
mod spans;
mod stage;
#[cfg(test)]
mod tests;
mod turns;

use std::collections::BTreeMap;
use std::sync::Arc;

use bace_api::{
    ActionsRecord, Attempt, Iteration, IterationRecord, JobId, Program, Record, StageIndex,
};
use bace_engine::{Detail, Input, Rates, Scenario, Start, pipeline};
use bace_netem::{BitRate, Delay, LinkId};

use crate::driver::{Executor, Instant, Reports};
use agenda::{Agenda, At};
use link::SharedLink;
use machine_time::MachineTime;
use run::Run;
use set_up::{Crews, SettingUp};
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
/// A job's transfers on a directed link are served first come, first served; jobs that share a link take turns, chunk by chunk as
/// their senders do, or all transfers do where flows share it. A job alone on a link of rate and delay alone is not walked by chunks,
/// since it comes to the same. Queues have no bound, so a send never waits. Where messages are flows of their own, 32 of a job's are under way at
/// once. The engine's shares decide how deep a program starts, and nothing else here.
///
/// What a link draws for each chunk or message is the very draw of the real sender, at the scenario's time scale: chunks follow the
/// rate on the machine. Where a chunk would be less than a sixty-fourth of the smallest tensor on a shared link, a turn is that part,
/// so that a walk does not grow with the size of tensors. Who computes on an emulated GPU waits for no other worker: devices and their
/// leases are the machine's. A job begins once the last of its stages is set up, where that was measured to take time.
#[derive(Debug)]
pub struct EventModel {
    scenario: Arc<Scenario>,
    settings: EventSettings,
    links: BTreeMap<LinkId, SharedLink>,
    /// Jobs that hold their GPUs and do not train yet.
    setting_up: Vec<SettingUp>,
    crews: Crews,
    runs: BTreeMap<JobId, Run>,
    /// When something happens next in each of them.
    due: Agenda<JobId, At>,
    /// Told where nobody listened; handed over with the next reports.
    held: Reports,
    /// When the latest of it was told.
    held_s: f64,
}

impl EventModel {
    /// An executor of `scenario`'s jobs.
    pub fn new(scenario: Arc<Scenario>, settings: EventSettings) -> Self {
        let time = MachineTime {
            scale: scenario.compute.time_scale,
        };
        let links = scenario.links.iter().map(|(&id, spec)| {
            let changes = scenario.link_changes.iter();
            let changes = changes.filter(|change| change.link == id);
            let changes = changes.map(|change| change.at_s);
            let losses = scenario.gpu_changes.iter().map(|change| change.at_s);
            let link = SharedLink::new(spec, time, changes.chain(losses));
            (id, link)
        });
        Self {
            links: links.collect(),
            setting_up: Vec::new(),
            crews: Crews::of(scenario.clone()),
            runs: BTreeMap::new(),
            due: Agenda::new(),
            held: Reports::default(),
            held_s: 0.0,
            scenario,
            settings,
        }
    }

    /// In which job something happens next, and when.
    fn earliest(&self) -> Option<(JobId, f64)> {
        let (At(at_s), job) = self.due.first()?;
        debug_assert_eq!(at_s, self.runs[&job].next_s(), "job {job:?} is rescheduled");
        Some((job, at_s))
    }

    /// Which job is set up next, as its place among them, and when.
    fn next_ready(&self) -> Option<(usize, f64)> {
        let ready = self.setting_up.iter().map(|job| job.ready_s).enumerate();
        ready.min_by(|(_, a), (_, b)| a.total_cmp(b))
    }

    /// Lets a job train from `now` on.
    fn begin(&mut self, now: Instant, start: &Start, program: Program) {
        let present = |link| self.links[&link].spec;
        let mut run = Run::new(&self.scenario, present, start, program, now.at_s());
        if self.settings.iteration_records {
            run.keep_ended();
            if self.settings.action_records {
                run.keep_actions();
            }
        }
        for (index, flow) in run.flows.iter().enumerate() {
            self.disturb(flow.link(), now);
            self.unroll(flow.link(), now);
            if let Some(link) = self.links.get_mut(&flow.link()) {
                link.users.push((start.job, index));
            }
        }
        run.begin();
        let links: Vec<LinkId> = run.flows.iter().map(flow::Flow::link).collect();
        self.runs.insert(start.job, run);
        for link in links {
            self.tell_company(link);
        }
        if !self.is_alone(start.job)
            && let Some(run) = self.runs.get_mut(&start.job)
        {
            run.disturb();
        }
        self.reschedule(start.job);
    }

    /// Looks again when something happens in a job and when its tensors ask for turns: needed wherever one of both may have changed.
    fn reschedule(&mut self, job: JobId) {
        let run = self.runs.get(&job);
        let next_s = run.map(Run::next_s).filter(|next_s| next_s.is_finite());
        self.due.set(job, next_s.map(At));
        for (index, flow) in run.iter().flat_map(|run| run.flows.iter().enumerate()) {
            if let Some(link) = self.links.get_mut(&flow.link()) {
                link.asking.set((job, index), flow.asks_ns());
            }
        }
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
        if touched.is_empty() {
            self.reschedule(job);
        }
        // A step that finds a tensor asking has done nothing else.
        for link in touched {
            self.serve(link);
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
            None => return,
            Some(true) if alone && self.settings.repeat_steady => run.sleep(),
            Some(_) => {
                run.go_on();
                if !alone {
                    run.disturb();
                }
            }
        }
        self.reschedule(job);
    }

    /// Whether no other job may use the job's links.
    fn is_alone(&self, job: JobId) -> bool {
        self.runs.get(&job).is_some_and(|run| {
            let mut links = run.flows.iter().map(|flow| &self.links[&flow.link()]);
            links.all(|link| link.users.len() == 1)
        })
    }

    /// Gives who asks first for a turn on a link what it asks for; somebody's time to ask has come.
    fn serve(&mut self, link: LinkId) {
        let Some(link) = self.links.get_mut(&link) else {
            return;
        };
        let Some((_, (job, flow))) = link.asking.first() else {
            return;
        };
        if let Some(run) = self.runs.get_mut(&job) {
            run.flows[flow].serve(link);
        }
        self.reschedule(job);
    }

    /// Looks at what is under way on a link chunk by chunk, since the link is about to change.
    fn unroll(&mut self, link: LinkId, now: Instant) {
        let Some(shared) = self.links.get_mut(&link) else {
            return;
        };
        for (job, flow) in shared.users.clone() {
            if let Some(run) = self.runs.get_mut(&job) {
                run.flows[flow].unroll(shared, now.at_s());
            }
        }
        for job in self.users(link) {
            self.reschedule(job);
        }
    }

    /// Tells the users of a link whether they share it.
    fn tell_company(&mut self, link: LinkId) {
        let Some(link) = self.links.get(&link) else {
            return;
        };
        let bytes = link
            .users
            .iter()
            .map(|&(job, flow)| self.runs[&job].flows[flow].bytes);
        let (is_shared, least_bytes) = (link.users.len() > 1, bytes.min().unwrap_or_default());
        for (job, flow) in &link.users {
            if let Some(run) = self.runs.get_mut(job) {
                run.flows[*flow].set_company(link, is_shared, least_bytes);
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
        self.reschedule(job);
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
    fn remove(&mut self, job: JobId) -> Option<Run> {
        let run = self.runs.remove(&job)?;
        self.reschedule(job);
        for (index, flow) in run.flows.iter().enumerate() {
            if let Some(link) = self.links.get_mut(&flow.link()) {
                link.users.retain(|(user, _)| *user != job);
                link.asking.set((job, index), None);
            }
        }
        for flow in &run.flows {
            for user in self.users(flow.link()) {
                if let Some(user) = self.runs.get_mut(&user) {
                    user.disturb();
                }
            }
            self.tell_company(flow.link());
        }
        Some(run)
    }

    fn finish(&mut self, job: JobId, at_s: f64, reports: &mut Reports) {
        self.crews.leave(at_s, job);
        if let Some(mut run) = self.remove(job) {
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
        let ready_s = now.at_s() + self.crews.take(now, start);
        if now.includes(ready_s) {
            self.begin(now, start, plan.program);
        } else {
            self.setting_up.push(SettingUp {
                ready_s,
                start: start.clone(),
                program: plan.program,
            });
        }
    }

    fn rates(&mut self, _now: Instant, _rates: &Rates) {}

    fn cancel(&mut self, now: Instant, job: JobId, _attempt: Attempt) {
        self.crews.leave(now.at_s(), job);
        self.setting_up.retain(|set_up| set_up.start.job != job);
        // The slots that its senders have by now stay theirs, and no others.
        let flows = self.runs.get(&job).map(|run| run.flows.iter());
        let links: Vec<LinkId> = flows.into_iter().flatten().map(flow::Flow::link).collect();
        for link in links {
            self.unroll(link, now);
        }
        if let Some(run) = self.remove(job) {
            let mut held = std::mem::take(&mut self.held);
            self.tell_transfers(&run, now.at_s(), &mut held);
            self.held = held;
            self.held_s = now.at_s();
        }
    }

    fn link_changed(&mut self, now: Instant, link: LinkId, rate: BitRate, delay: Delay) {
        self.disturb(link, now);
        self.unroll(link, now);
        let Some(shared) = self.links.get_mut(&link) else {
            return;
        };
        shared.set(rate, delay, now.at_s());
        for &(job, flow) in &shared.users {
            if let Some(run) = self.runs.get_mut(&job) {
                run.flows[flow].set_link(&shared.spec);
            }
        }
        // Chunks follow the rate.
        self.tell_company(link);
        for job in self.users(link) {
            self.reschedule(job);
        }
    }

    fn next_s(&mut self) -> Option<f64> {
        if self.held != Reports::default() {
            return Some(self.held_s);
        }
        let inside_s = self.earliest().map(|(_, at_s)| at_s);
        let ready_s = self.next_ready().map(|(_, at_s)| at_s);
        [inside_s, ready_s].into_iter().flatten().reduce(f64::min)
    }

    fn advance(&mut self, now: Instant, reports: &mut Reports) {
        reports.records.append(&mut self.held.records);
        reports.inputs.append(&mut self.held.inputs);
        loop {
            let inside = self.earliest().filter(|(_, at_s)| now.includes(*at_s));
            let ready = self
                .next_ready()
                .filter(|(_, at_s)| now.includes(*at_s))
                .filter(|(_, ready_s)| inside.is_none_or(|(_, at_s)| *ready_s < at_s));
            if let Some((place, at_s)) = ready {
                let SettingUp { start, program, .. } = self.setting_up.remove(place);
                self.begin(Instant::new(at_s), &start, program);
                // What it found out about others belongs to this instant.
                reports.records.append(&mut self.held.records);
                reports.inputs.append(&mut self.held.inputs);
            } else if let Some((job, at_s)) = inside {
                self.step(job, at_s, reports);
            } else {
                return;
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
