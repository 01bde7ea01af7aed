//! Takes in the runs of one policy after another.

use std::collections::BTreeSet;

use super::difference::Difference;
use super::errors::{Errors, Scale};
use super::join::{IterationKey, JobJoin, NO_ITERATIONS, Side, join};
use super::parts::{NO_ACTIONS, Parts};
use super::subject::{Findings, Subject};
use super::verdict::checks;
use super::{
    Accuracy, Check, Compared, KindAccuracy, LinkAccuracy, Overheads, PolicyRuns, Ranking,
    StageAccuracy, Tolerances, Whereabouts, Worst, actions, decisions, worst,
};
use crate::notes::sentence;
use crate::{Attribution, Figure, JobSummary, Measured, RunLog, Totals, attribute};

/// Compares policy by policy, so that only one policy's ledgers have to be in memory.
#[derive(Debug, Clone)]
pub struct Validator {
    tolerances: Tolerances,
    subject: Option<Subject>,
    policies: Vec<PolicyValidation>,
}

/// How far the predictions of a scenario are from what was measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Validation {
    /// What the errors are held against.
    pub tolerances: Tolerances,
    /// What runs these are; absent where there are none.
    pub subject: Option<Subject>,
    /// Policy by policy, as they were added.
    pub policies: Vec<PolicyValidation>,
    /// Errors of iteration times, all policies together.
    pub iterations: Accuracy,
    /// Errors of job completion times, all policies together.
    pub jcts: Accuracy,
    /// How the policies rank by mean JCT, makespan and cost.
    pub rankings: Vec<Ranking>,
    /// Iterations that are farthest off, the worst first.
    pub worst_iterations: Vec<Worst>,
    /// Job completion times that are farthest off, the worst first.
    pub worst_jcts: Vec<Worst>,
    /// Why the predictions cannot count as right whatever their errors are, a sentence each.
    pub faults: Vec<String>,
    /// What else a reader has to know, a sentence each.
    pub remarks: Vec<String>,
    /// Errors held against their bounds.
    pub checks: Vec<Check>,
}

/// How far the prediction of a policy's run is from its repeats.
#[derive(Debug, Clone, PartialEq)]
pub struct PolicyValidation {
    /// The policy.
    pub policy: String,
    /// Real runs that came to their end.
    pub repeats: usize,
    /// Why its runs cannot be taken for what the scenario says, did not end, or went another way, a sentence each.
    pub faults: Vec<String>,
    /// What is not known of them, a sentence each.
    pub remarks: Vec<String>,
    /// Where real runs went another way: of each repeat the first decision, the first event and the first of each job.
    pub differences: Vec<Difference>,
    /// Jobs that do not join since what was decided about them differs.
    pub left_out: Vec<LeftOut>,
    /// Iterations of jobs that join which one side alone has, all repeats together.
    pub unjoined_iterations: usize,
    /// Errors of iteration times.
    pub iterations: Accuracy,
    /// Errors of job completion times.
    pub jcts: Accuracy,
    /// The run as a whole.
    pub totals: TotalsCompared,
    /// Every job of the scenario.
    pub jobs: Vec<JobCompared>,
    /// Durations by kind of action.
    pub kinds: Vec<KindAccuracy>,
    /// Messages by directed link.
    pub links: Vec<LinkAccuracy>,
    /// Stages by job.
    pub stages: Vec<StageAccuracy>,
    worst_iterations: Vec<Worst>,
    worst_jcts: Vec<Worst>,
    iteration_errors: Errors,
    jct_errors: Errors,
}

/// A job that does not join in a repeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// The repeat, from 1.
    pub repeat: usize,
    /// The job.
    pub job: String,
    /// What differs.
    pub why: String,
}

/// Sums of a run on both sides, over all its jobs, whether or not they join.
#[derive(Debug, Clone, PartialEq)]
pub struct TotalsCompared {
    /// Mean JCT, seconds.
    pub mean_jct_s: Compared,
    /// Finish of the last job, seconds.
    pub makespan_s: Compared,
    /// Mean time in which jobs waited for GPUs, seconds.
    pub mean_queueing_s: Compared,
    /// Dollars.
    pub cost_usd: Compared,
    /// Joules at the emulated GPUs.
    pub energy_j: Compared,
}

/// A job on both sides, in the repeats in which it joins.
#[derive(Debug, Clone, PartialEq)]
pub struct JobCompared {
    /// The job.
    pub job: String,
    /// Job completion time, seconds.
    pub jct_s: Compared,
    /// Waiting for GPUs, seconds.
    pub queueing_s: Compared,
    /// From each placement to the begin of the first iteration, seconds.
    pub set_up_s: Compared,
    /// Iteration times, seconds.
    pub iteration_s: Compared,
    /// Dollars.
    pub cost_usd: Compared,
    /// Joules at the emulated GPUs.
    pub energy_j: Compared,
    /// How much longer it took than predicted, and what of that the prediction has no term for.
    pub overheads: Figure<Overheads>,
}

impl Validator {
    /// No runs yet.
    pub fn new(tolerances: Tolerances) -> Self {
        Self {
            tolerances,
            subject: None,
            policies: Vec::new(),
        }
    }

    /// Compares the runs of a policy, which is not added twice.
    pub fn add(&mut self, runs: &PolicyRuns) {
        let subject = self.subject.get_or_insert_with(|| Subject::of(runs));
        if subject.measured.is_none() {
            subject.measured = Subject::of(runs).measured;
        }
        let findings = subject.findings(runs);
        self.policies.push(PolicyValidation::of(runs, findings));
    }

    /// The verdict over all policies.
    pub fn finish(self) -> Validation {
        let policies = self.policies;
        let pooled = |pick: fn(&PolicyValidation) -> &Errors, missing| {
            let mut all = Errors::new(Scale::Share);
            for policy in &policies {
                all.extend(pick(policy));
            }
            all.accuracy(missing)
        };
        let iterations = pooled(|policy| &policy.iteration_errors, NO_ITERATIONS);
        let jcts = pooled(|policy| &policy.jct_errors, NO_JOBS);
        let mut judged: Vec<Check> = checks(None, &self.tolerances, &iterations, &jcts);
        for policy in &policies {
            judged.extend(checks(
                Some(&policy.policy),
                &self.tolerances,
                &policy.iterations,
                &policy.jcts,
            ));
        }
        let mut faults: Vec<String> = policies
            .iter()
            .flat_map(|policy| policy.faults.clone())
            .collect();
        if policies.is_empty() {
            faults.push("There is nothing to compare: no policy was run.".to_owned());
        }
        let worst = |pick: fn(&PolicyValidation) -> &Vec<Worst>| {
            let mut all: Vec<Worst> = policies.iter().flat_map(pick).cloned().collect();
            worst::keep(&mut all);
            all
        };
        Validation {
            tolerances: self.tolerances,
            subject: self.subject,
            iterations,
            jcts,
            rankings: rankings(&policies),
            worst_iterations: worst(|policy| &policy.worst_iterations),
            worst_jcts: worst(|policy| &policy.worst_jcts),
            faults,
            remarks: policies
                .iter()
                .flat_map(|policy| policy.remarks.clone())
                .collect(),
            checks: judged,
            policies,
        }
    }
}

impl Validation {
    /// Whether there was something to compare, nothing was at fault and every error is within its bound.
    pub fn passed(&self) -> bool {
        !self.checks.is_empty() && self.faults.is_empty() && self.checks.iter().all(Check::passed)
    }

    /// What takes from the worth of the verdict though it fails nothing, a clause each.
    pub fn reservations(&self) -> Vec<String> {
        let mut told = Vec::new();
        let of_policy = |check: &&Check| check.policy.is_some();
        let checks = || self.checks.iter().filter(of_policy);
        let drowned = checks().filter(|check| check.is_drowned()).count();
        if drowned > 0 {
            let all = checks().count();
            told.push(format!(
                "the repeats are farther apart than {drowned} of the {all} bounds, so that this machine is too noisy to tell"
            ));
        }
        let mut policies = self.policies.iter();
        if policies.any(|policy| {
            policy.iterations.errors.known().is_some() && policy.iterations.noise.known().is_none()
        }) {
            told.push(
                "a policy has one repeat alone, so that nothing is known of the noise".to_owned(),
            );
        }
        let mut policies = self.policies.iter();
        if policies.any(|policy| policy.repeats > 0 && policy.kinds.is_empty()) {
            told.push("no actions of a policy were compared".to_owned());
        }
        told
    }
}

const NO_JOBS: &str = "no job that finished on both sides joins";

fn rankings(policies: &[PolicyValidation]) -> Vec<Ranking> {
    type Pick = fn(&TotalsCompared) -> &Compared;
    let figures: [(&'static str, Pick); 3] = [
        ("mean_jct_s", |totals| &totals.mean_jct_s),
        ("makespan_s", |totals| &totals.makespan_s),
        ("cost_usd", |totals| &totals.cost_usd),
    ];
    let ranked = figures.map(|(figure, pick)| {
        let entrants = policies
            .iter()
            .map(|policy| (policy.policy.as_str(), pick(&policy.totals)));
        Ranking::of(figure, entrants)
    });
    ranked.into()
}

impl PolicyValidation {
    fn of(runs: &PolicyRuns, findings: Findings) -> Self {
        let (jobs, left_out) = join(runs);
        let repeats = runs.measured.iter().map(|Measured(log)| attribute(log));
        let (predicted, repeats) = (attribute(&runs.predicted.0), repeats.collect::<Vec<_>>());
        let iterations: Vec<_> = jobs
            .iter()
            .flat_map(|job| job.iterations().into_values())
            .collect();
        let iteration_errors = Errors::of(Scale::Share, &iterations);
        let jcts: Vec<_> = jobs
            .iter()
            .filter_map(|job| job.pair(|side| side.job?.jct_s()))
            .collect();
        let jct_errors = Errors::of(Scale::Share, &jcts);
        let Parts {
            kinds,
            links,
            stages,
        } = Parts::of(&jobs);
        let mut policy = Self {
            policy: runs.policy.clone(),
            repeats: runs.measured.len(),
            faults: Vec::new(),
            remarks: Vec::new(),
            differences: differences(runs),
            unjoined_iterations: jobs.iter().map(unjoined).sum(),
            left_out,
            iterations: iteration_errors.accuracy(NO_ITERATIONS),
            jcts: jct_errors.accuracy(NO_JOBS),
            totals: TotalsCompared::of(runs),
            jobs: jobs
                .iter()
                .map(|job| JobCompared::of(job, (&predicted, &repeats)))
                .collect(),
            kinds,
            links,
            stages,
            worst_iterations: worst::iterations(&runs.policy, &jobs),
            worst_jcts: worst::jcts(&runs.policy, &jobs),
            iteration_errors,
            jct_errors,
        };
        policy.judge(runs, findings);
        policy
    }

    /// Says what is wrong, and what is not known.
    fn judge(&mut self, runs: &PolicyRuns, findings: Findings) {
        let name = &self.policy;
        let mut faults = findings.faults;
        faults.extend(runs.failed.iter().map(|failed| format!("{name}, {failed}")));
        if runs.measured.is_empty() {
            faults.push(format!(
                "{name}: there is nothing to compare, no real run came to its end"
            ));
        }
        let differs =
            |difference: &Difference| format!("{}: {} differs", difference.place, difference.what);
        faults.extend(self.differences.iter().map(differs));
        for (errors, what) in [
            (&self.iteration_errors, "iteration times"),
            (&self.jct_errors, "job completion times"),
        ] {
            if errors.incomparable > 0 {
                faults.push(format!(
                    "{name}: {} {what} have no error, since they are not finite or not above 0 s",
                    errors.incomparable
                ));
            }
        }
        let mut remarks = findings.remarks;
        for LeftOut { repeat, job, why } in &self.left_out {
            remarks.push(format!(
                "{name}, repeat {repeat}: job {job} is left out, {why}"
            ));
        }
        if self.unjoined_iterations > 0 {
            remarks.push(format!(
                "{name}: {} iterations are in the prediction or in a repeat alone",
                self.unjoined_iterations
            ));
        }
        if let (Some(_), Some(why)) = (
            self.iterations.errors.known(),
            self.iterations.noise.reason(),
        ) {
            remarks.push(format!(
                "{name}: no noise floor stands beside its errors, {why}"
            ));
        }
        if actions::holds_actions(&runs.predicted.0) && !self.kinds.is_empty() {
            for (Measured(log), repeat) in runs.measured.iter().zip(1..) {
                if !actions::holds_actions(log) {
                    remarks.push(format!(
                        "{name}, repeat {repeat}: its ledger holds no actions, so that what its stages did is compared by iteration alone"
                    ));
                }
            }
        }
        if !runs.measured.is_empty() && self.kinds.is_empty() {
            remarks.push(format!(
                "{name}: {NO_ACTIONS}; errors by kind of action and by link are not known"
            ));
        }
        self.faults = faults.iter().map(|fault| sentence(fault)).collect();
        self.remarks = remarks.iter().map(|remark| sentence(remark)).collect();
    }
}

fn differences(runs: &PolicyRuns) -> Vec<Difference> {
    let predicted = &runs.predicted.0;
    let all = runs
        .measured
        .iter()
        .zip(1..)
        .flat_map(|(Measured(log), repeat)| {
            let of_run = decisions::differences(&runs.policy, repeat, predicted, log);
            let of_jobs = predicted.header.jobs.iter().filter_map(move |name| {
                let place = Whereabouts {
                    policy: runs.policy.clone(),
                    repeat,
                    job: Some(name.clone()),
                    ..Whereabouts::default()
                };
                let (one, two) = (Side::of(predicted, name), Side::of(log, name));
                // Where its placement differs, so does all else, and that has been said.
                let is_alike = decisions::job_differs(one, two).is_none();
                is_alike.then(|| actions::difference(place, one, two))?
            });
            of_run.into_iter().chain(of_jobs)
        });
    all.collect()
}

/// Iterations that the prediction or a repeat alone has.
fn unjoined(job: &JobJoin<'_>) -> usize {
    let keys =
        |side: Side<'_>| -> BTreeSet<IterationKey> { side.iteration_times().into_keys().collect() };
    let predicted = keys(job.predicted.0);
    let repeats = job.measured.iter().flatten();
    repeats
        .map(|side| predicted.symmetric_difference(&keys(side.0)).count())
        .sum()
}

impl TotalsCompared {
    fn of(runs: &PolicyRuns) -> Self {
        let compared = |pick: fn(&Totals) -> &Figure| {
            let figure = |log: &RunLog| pick(&log.summary.totals).known().copied();
            let pairing = figure(&runs.predicted.0).map(|predicted| super::errors::Pairing {
                predicted: crate::Predicted(predicted),
                measured: runs
                    .measured
                    .iter()
                    .map(|log| figure(&log.0).map(Measured))
                    .collect(),
            });
            Compared::of(pairing.as_slice(), "it is not known on both sides")
        };
        Self {
            mean_jct_s: compared(|totals| &totals.mean_jct_s),
            makespan_s: compared(|totals| &totals.makespan_s),
            mean_queueing_s: compared(|totals| &totals.mean_queueing_s),
            cost_usd: compared(|totals| &totals.cost_usd),
            energy_j: compared(|totals| &totals.energy_j),
        }
    }
}

impl JobCompared {
    fn of(job: &JobJoin<'_>, attributions: (&Attribution, &[Attribution])) -> Self {
        let missing = "it is not known on both sides";
        let of_summary = |pick: fn(&JobSummary) -> &Figure| {
            let pairing = job.pair(|side| pick(side.summary()?).known().copied());
            Compared::of(pairing.as_slice(), missing)
        };
        let iterations: Vec<_> = job.iterations().into_values().collect();
        Self {
            job: job.name.to_owned(),
            jct_s: of_summary(|job| &job.jct_s),
            queueing_s: of_summary(|job| &job.queueing_s),
            set_up_s: Compared::of(job.pair(Side::set_up_s).as_slice(), missing),
            iteration_s: Compared::of(&iterations, NO_ITERATIONS),
            cost_usd: of_summary(|job| &job.cost_usd),
            energy_j: of_summary(|job| &job.energy_j),
            overheads: Overheads::of(job, attributions),
        }
    }
}
