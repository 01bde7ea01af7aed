//! Takes in the runs of one policy after another.

use serde_json::{Value, json};

use super::{Check, PolicyRuns, Tolerances};
use crate::notes::sentence;
use crate::{Figure, Measured};

/// Compares policy by policy, so that only one policy's ledgers have to be in memory.
#[derive(Debug, Clone)]
pub struct Validator {
    tolerances: Tolerances,
    policies: Vec<PolicyValidation>,
}

/// How far the predictions of a scenario are from what was measured.
#[derive(Debug, Clone)]
pub struct Validation {
    /// What the errors are held against.
    pub tolerances: Tolerances,
    /// Policy by policy, as they were added.
    pub policies: Vec<PolicyValidation>,
    /// Why the predictions cannot count as right whatever their errors are, a sentence each.
    pub faults: Vec<String>,
    /// Errors held against their bounds.
    pub checks: Vec<Check>,
}

/// How far the prediction of a policy's run is from its repeats.
#[derive(Debug, Clone)]
pub struct PolicyValidation {
    /// The policy.
    pub policy: String,
    /// Real runs that came to their end.
    pub repeats: usize,
    /// Why its runs cannot be taken for what the scenario says, or did not end, a sentence each.
    pub faults: Vec<String>,
    /// What is not known of them, a sentence each.
    pub remarks: Vec<String>,
}

impl Validator {
    /// No runs yet.
    pub fn new(tolerances: Tolerances) -> Self {
        Self {
            tolerances,
            policies: Vec::new(),
        }
    }

    /// Compares the runs of a policy, which is not added twice.
    pub fn add(&mut self, runs: &PolicyRuns) {
        let mut faults: Vec<String> = Vec::new();
        let mut remarks = Vec::new();
        for failed in &runs.failed {
            faults.push(sentence(&format!("{}, {failed}", runs.policy)));
        }
        for (Measured(log), number) in runs.measured.iter().zip(1..) {
            let emulation = &log.summary.emulation;
            let whose = format!("{}, repeat {number}: ", runs.policy);
            faults.extend(emulation.faults.iter().map(|why| format!("{whose}{why}")));
            if let Figure::Unknown(why) = &emulation.valid {
                let unknown = "whether it emulated what the scenario says is not known";
                remarks.push(sentence(&format!("{whose}{unknown}: {why}")));
            }
        }
        self.policies.push(PolicyValidation {
            policy: runs.policy.clone(),
            repeats: runs.measured.len(),
            faults,
            remarks,
        });
    }

    /// The verdict over all policies.
    pub fn finish(self) -> Validation {
        let faults = self.policies.iter().flat_map(|policy| &policy.faults);
        Validation {
            faults: faults.cloned().collect(),
            tolerances: self.tolerances,
            policies: self.policies,
            checks: Vec::new(),
        }
    }
}

impl Validation {
    /// Whether there was something to compare, nothing was at fault and every error is within its bound.
    pub fn passed(&self) -> bool {
        !self.checks.is_empty() && self.faults.is_empty() && self.checks.iter().all(Check::passed)
    }

    /// Tables for people, and the verdict.
    pub fn render(&self) -> String {
        let verdict = if self.passed() { "passed" } else { "failed" };
        let faults = self.faults.iter().map(|fault| format!("! {fault}\n"));
        format!("{verdict}\n{}", faults.collect::<String>())
    }

    /// All of it as one JSON object.
    pub fn to_json(&self) -> Value {
        json!({"passed": self.passed(), "faults": self.faults})
    }
}
