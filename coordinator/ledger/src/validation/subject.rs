//! What was predicted and measured, and whether one can stand for the other.

use std::collections::BTreeMap;

use bace_api::{ClockKind, ComputeRung, Header, ProfileUse};

use super::PolicyRuns;
use crate::table::rung;
use crate::{Measured, RunEnd, RunLog};

/// The runs that a validation is about, by the headers of the first policy.
#[derive(Debug, Clone, PartialEq)]
pub struct Subject {
    /// Of its prediction.
    pub predicted: Header,
    /// Of its first repeat; absent where none came to its end.
    pub measured: Option<Header>,
}

/// Why runs cannot be compared, or not without saying so.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// Sentences without an end.
    pub faults: Vec<String>,
    /// Likewise; nothing is wrong with these.
    pub remarks: Vec<String>,
}

impl Subject {
    pub(super) fn of(runs: &PolicyRuns) -> Self {
        Self {
            predicted: runs.predicted.0.header.clone(),
            measured: runs.measured.first().map(|log| log.0.header.clone()),
        }
    }

    /// What speaks against comparing `runs`, and against setting them beside the runs of the first policy.
    pub(super) fn findings(&self, runs: &PolicyRuns) -> Findings {
        let mut findings = Findings::default();
        let prediction = &runs.predicted.0;
        let whose = format!("{}, prediction", runs.policy);
        findings.of_end(&whose, prediction);
        findings.of_prediction(&whose, &prediction.header);
        findings.of_same(&whose, &runs.policy, [&self.predicted, &prediction.header]);
        for (Measured(log), repeat) in runs.measured.iter().zip(1..) {
            let whose = format!("{}, repeat {repeat}", runs.policy);
            findings.of_end(&whose, log);
            findings.of_same(&whose, &runs.policy, [&self.predicted, &log.header]);
            if log.header.clock != ClockKind::Wall {
                findings.fault(&whose, "it was simulated, not measured");
            }
            findings.of_profile(&whose, [&prediction.header, &log.header]);
            if let Some(first) = &self.measured {
                findings.of_rung(&whose, [first, &log.header]);
            }
            findings.of_emulation(&whose, log);
        }
        findings
    }
}

impl Findings {
    fn fault(&mut self, whose: &str, fault: impl AsRef<str>) {
        self.faults.push(format!("{whose}: {}", fault.as_ref()));
    }

    fn remark(&mut self, whose: &str, remark: impl AsRef<str>) {
        self.remarks.push(format!("{whose}: {}", remark.as_ref()));
    }

    fn of_prediction(&mut self, whose: &str, header: &Header) {
        if header.clock != ClockKind::Virtual {
            self.fault(whose, "it was measured, not simulated");
        } else if header.iteration_model.as_deref() != Some("event") {
            let model = header
                .iteration_model
                .as_deref()
                .unwrap_or("none that it names");
            self.fault(
                whose,
                format!("its iteration model is {model}, and event alone walks iterations"),
            );
        }
    }

    fn of_end(&mut self, whose: &str, log: &RunLog) {
        match &log.summary.end {
            RunEnd::Complete => {}
            RunEnd::Stopped(reason) => self.fault(whose, format!("it was stopped: {reason}")),
            RunEnd::CutOff { last_s } => {
                self.fault(whose, format!("its ledger is cut off at {last_s:.1} s"))
            }
        }
        if let Some(unknown) = log.omissions.unknown() {
            self.remark(whose, unknown);
        }
    }

    /// Whether a run is of the scenario, seed and policy that the others are of.
    fn of_same(&mut self, whose: &str, policy: &str, [reference, header]: [&Header; 2]) {
        if header.policy != policy {
            self.fault(whose, format!("it ran under {}", header.policy));
        }
        if header.scenario_hash != reference.scenario_hash {
            self.fault(
                whose,
                format!(
                    "its scenario is {} with the hash {}, the first prediction's {} with {}",
                    header.scenario,
                    header.scenario_hash,
                    reference.scenario,
                    reference.scenario_hash
                ),
            );
        }
        let [now, before] = [header, reference].map(|header| &header.sources);
        let mut names = now.keys().chain(before.keys());
        let other = names.find(|name| now.get(*name) != before.get(*name));
        if let Some(name) = other {
            let hash = |sources: &BTreeMap<String, String>| {
                sources
                    .get(name)
                    .map_or("not named", String::as_str)
                    .to_owned()
            };
            self.fault(
                whose,
                format!(
                    "{name}, which its scenario reads, is {}, the first prediction's {}",
                    hash(now),
                    hash(before)
                ),
            );
        }
        if header.seed != reference.seed {
            self.fault(
                whose,
                format!(
                    "its seed is {}, the first prediction's {}: they draw other lots",
                    header.seed, reference.seed
                ),
            );
        }
        if header.version != reference.version {
            self.fault(
                whose,
                format!(
                    "it is by version {}, the first prediction by {}",
                    header.version, reference.version
                ),
            );
        }
    }

    /// Whether a real run stands on the rung on which the first does.
    fn of_rung(&mut self, whose: &str, [first, header]: [&Header; 2]) {
        let rungs = [first, header].map(rung);
        if rungs[0] != rungs[1] {
            self.fault(
                whose,
                format!(
                    "its rung is {}, that of the first real run {}",
                    rungs[1], rungs[0]
                ),
            );
        }
        if header.machine != first.machine {
            self.fault(
                whose,
                format!(
                    "it ran on {}, the first real run on {}",
                    header.machine, first.machine
                ),
            );
        }
    }

    /// Whether the prediction takes compute from the same profile as a real run, and from one at all where compute is native.
    fn of_profile(&mut self, whose: &str, [prediction, header]: [&Header; 2]) {
        let hashes = [prediction, header].map(|header| match header.profile.as_deref() {
            Some(ProfileUse::Used { hash, .. }) => Some(hash.as_str()),
            Some(ProfileUse::Absent { .. }) | None => None,
        });
        let named = |hash: Option<&str>| hash.unwrap_or("none").to_owned();
        if hashes[0] != hashes[1] {
            self.fault(
                whose,
                format!(
                    "its profile is {}, the prediction's {}",
                    named(hashes[1]),
                    named(hashes[0])
                ),
            );
        } else if hashes[0].is_none() && header.compute == ComputeRung::Native {
            self.remark(
                whose,
                "compute is native and no profile of it was measured, so the GPU types' formula predicts it",
            );
        }
    }

    fn of_emulation(&mut self, whose: &str, log: &RunLog) {
        let emulation = &log.summary.emulation;
        if let Some(first) = emulation.faults.first() {
            let rest = match emulation.faults.len() - 1 {
                0 => String::new(),
                1 => ", and 1 more reason".to_owned(),
                more => format!(", and {more} more reasons"),
            };
            self.fault(whose, format!("emulation not valid: {}{rest}", gist(first)));
        }
        if let Some(why) = emulation.valid.reason() {
            self.remark(
                whose,
                format!("whether it emulated what the scenario says is not known: {why}"),
            );
        }
    }
}

/// The first clause of a reason.
fn gist(reason: &str) -> &str {
    let ends = ["; ", ". "].map(|end| reason.find(end));
    let end = ends.into_iter().flatten().min();
    reason[..end.unwrap_or(reason.len())].trim_end_matches('.')
}
