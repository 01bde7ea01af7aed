//! Which runs a validation is made of.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::Path;

use anyhow::Context;
use bace_api::{ComputeRung, NetworkRung};
use bace_engine::Dice;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::cli::{ReceiptsChoice, SetReceiptsChoice, ValidateArgs};
use crate::machine;
use crate::profile::ChosenProfile;
use crate::run::{CheckedRun, WorkerProgram};

/// Version of the format.
pub const FORMAT: u32 = 1;
/// Random numbers for the order, apart from those that draw a scenario.
const ORDER_STREAM: u64 = 0x6f72_6465_7200;

/// What was asked for and with which programs, as `plan.json` keeps it: two validations with the same plan are the same validation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Version of the format.
    pub format: u32,
    /// Version of this program.
    pub version: String,
    /// blake3 of this program's file, hexadecimal; absent in plans of older programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bace_hash: Option<String>,
    /// blake3 of bace-worker's; absent where nothing is computed by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bace_worker_hash: Option<String>,
    /// The machine in words; absent in plans of older programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<String>,
    /// The scenario's name.
    pub scenario: String,
    /// blake3 of its file, hexadecimal.
    pub scenario_hash: String,
    /// blake3 of each file that it reads.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sources: BTreeMap<String, String>,
    /// Seed of weights, batches and draws.
    pub seed: u64,
    /// Policies by name, as they are shown.
    pub policies: Vec<String>,
    /// Real runs of each.
    pub repeats: u32,
    /// Seed of the order.
    pub order_seed: u64,
    /// In which runs links are measured.
    pub receipts: SetReceiptsChoice,
    /// Who takes the time of compute.
    pub compute: ComputeRung,
    /// Who takes the time of transfers.
    pub network: NetworkRung,
    /// blake3 of the profile that predicts compute; absent where the GPU types do.
    pub profile_hash: Option<String>,
    /// How the real runs are done, as the command line said.
    pub emulation: Value,
    /// The real runs in the order in which they are made.
    pub order: Vec<PlannedRun>,
}

/// One real run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedRun {
    /// Its policy.
    pub policy: String,
    /// Which run of this policy, from 1.
    pub repeat: u32,
}

impl Plan {
    /// What `args` ask for, given a run of it that has been checked.
    pub fn new(
        args: &ValidateArgs,
        checked: &CheckedRun,
        policies: &[&'static str],
    ) -> anyhow::Result<Self> {
        let scenario = &checked.loaded.scenario;
        let order_seed = args.order_seed.unwrap_or(scenario.seed);
        let worker = match checked.compute {
            ComputeRung::Modelled => None,
            ComputeRung::Paced | ComputeRung::Native => Some(WorkerProgram::with_libtorch()?.path),
        };
        Ok(Self {
            format: FORMAT,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            bace_hash: Some(program_hash()?),
            bace_worker_hash: worker.map(|path| file_hash(&path)).transpose()?,
            machine: Some(machine::describe()),
            sources: checked.loaded.sources.clone(),
            scenario: scenario.name.clone(),
            scenario_hash: checked.loaded.hash(),
            seed: scenario.seed,
            policies: policies.iter().map(|&name| name.to_owned()).collect(),
            repeats: args.repeats,
            order_seed,
            receipts: args.receipts,
            compute: checked.compute,
            network: checked.network,
            profile_hash: checked.profile().map(ChosenProfile::hash),
            emulation: serde_json::to_value(&args.emulation)?,
            order: order(policies, args.repeats, order_seed),
        })
    }

    /// Whether links are measured in the run at this place of the order.
    pub fn receipts_at(&self, place: usize) -> ReceiptsChoice {
        let is_end = place == 0 || place + 1 == self.order.len();
        match self.receipts {
            SetReceiptsChoice::Each => ReceiptsChoice::Full,
            SetReceiptsChoice::Ends if is_end => ReceiptsChoice::Full,
            SetReceiptsChoice::Ends | SetReceiptsChoice::Off => ReceiptsChoice::Off,
        }
    }

    /// What is not the same as in `other`: a phrase such as "`repeats` was 3 and is 5", that of `other` first.
    pub fn difference_from(&self, other: &Self) -> anyhow::Result<Option<String>> {
        let [now, before] = [self, other].map(|plan| {
            // What was asked for says more than what follows from it.
            serde_json::to_value(Self {
                order: Vec::new(),
                ..plan.clone()
            })
        });
        let told = differing(&now?, &before?);
        let is_reordered = told.is_none() && self.order != other.order;
        Ok(told.or_else(|| is_reordered.then(|| "the order of the runs was another".to_owned())))
    }
}

/// blake3 of this program, hexadecimal.
pub fn program_hash() -> anyhow::Result<String> {
    file_hash(&std::env::current_exe().context("find this program")?)
}

/// blake3 of a file, hexadecimal.
fn file_hash(path: &Path) -> anyhow::Result<String> {
    let mut hasher = blake3::Hasher::new();
    File::open(path)
        .and_then(|file| io::copy(&mut &file, &mut hasher))
        .with_context(|| format!("read {}", path.display()))?;
    Ok(hasher.finalize().to_hex().to_string())
}

/// The first key under which two objects differ, looked for within objects; absent where none does.
fn differing(now: &Value, before: &Value) -> Option<String> {
    let (Some(now), Some(before)) = (now.as_object(), before.as_object()) else {
        return None;
    };
    let keys = now.keys().chain(before.keys());
    let of = |object: &Map<String, Value>, key| object.get(key).cloned().unwrap_or_default();
    let pairs = keys.map(|key| (key, of(now, key), of(before, key)));
    let mut differing_keys = pairs.filter(|(_, now, before)| now != before);
    differing_keys.next().map(|(key, now, before)| {
        let word = |value: &Value| match value {
            Value::Null => "not given".to_owned(),
            value => value.to_string(),
        };
        let told = || format!("`{key}` was {} and is {}", word(&before), word(&now));
        differing(&now, &before).unwrap_or_else(told)
    })
}

impl PlannedRun {
    /// How people call it.
    pub fn label(&self) -> String {
        format!("{}, repeat {}", self.policy, self.repeat)
    }
}

/// The policies in rounds: each round holds every policy once, in an order of its own, so that what drifts over hours favours none.
fn order(policies: &[&'static str], repeats: u32, seed: u64) -> Vec<PlannedRun> {
    let mut dice = Dice::new(seed, ORDER_STREAM);
    let mut order = Vec::new();
    for repeat in 1..=repeats {
        let mut round = policies.to_vec();
        for left in (2..=round.len()).rev() {
            round.swap(left - 1, dice.below(left));
        }
        order.extend(round.into_iter().map(|policy| PlannedRun {
            policy: policy.to_owned(),
            repeat,
        }));
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(policies: &[&'static str], repeats: u32) -> Plan {
        Plan {
            format: FORMAT,
            version: "1".to_owned(),
            bace_hash: Some("b0".to_owned()),
            bace_worker_hash: None,
            machine: Some("m".to_owned()),
            sources: BTreeMap::from([("trace.csv".to_owned(), "aa".to_owned())]),
            scenario: "s".to_owned(),
            scenario_hash: "0".to_owned(),
            seed: 3,
            policies: policies.iter().map(|&name| name.to_owned()).collect(),
            repeats,
            order_seed: 3,
            receipts: SetReceiptsChoice::Ends,
            compute: ComputeRung::Paced,
            network: NetworkRung::Shaped,
            profile_hash: None,
            emulation: serde_json::json!({"device": "cpu", "lease": null}),
            order: order(policies, repeats, 3),
        }
    }

    #[test]
    fn every_round_holds_every_policy_once_in_an_order_that_follows_from_the_seed() {
        let policies = ["a", "b", "c", "d"];
        let all = order(&policies, 20, 7);
        let rounds: Vec<Vec<&str>> = all
            .chunks(4)
            .map(|round| round.iter().map(|run| run.policy.as_str()).collect())
            .collect();
        for (round, number) in rounds.iter().zip(1..) {
            let mut sorted = round.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, policies);
            let place = (number - 1) * 4;
            assert!(
                all[place..place + 4]
                    .iter()
                    .all(|run| run.repeat as usize == number)
            );
        }
        assert!(rounds.iter().any(|round| *round != rounds[0]));
        assert_eq!(all, order(&policies, 20, 7));
        assert_ne!(all, order(&policies, 20, 8));
    }

    #[test]
    fn links_are_measured_at_the_ends_unless_it_is_said() {
        let measured = |receipts| {
            let plan = Plan {
                receipts,
                ..plan(&["a", "b"], 2)
            };
            let places = 0..plan.order.len();
            let at = places.map(|place| plan.receipts_at(place) == ReceiptsChoice::Full);
            at.collect::<Vec<_>>()
        };
        assert_eq!(
            measured(SetReceiptsChoice::Ends),
            [true, false, false, true]
        );
        assert_eq!(measured(SetReceiptsChoice::Each), [true; 4]);
        assert_eq!(measured(SetReceiptsChoice::Off), [false; 4]);
    }

    #[test]
    fn what_differs_is_named() {
        let before = plan(&["a"], 2);
        assert_eq!(before.difference_from(&before).unwrap(), None);
        let told = |change: &dyn Fn(&mut Plan)| {
            let mut now = before.clone();
            change(&mut now);
            now.difference_from(&before).unwrap().unwrap()
        };
        assert_eq!(told(&|plan| plan.seed = 4), "`seed` was 3 and is 4");
        let hash = told(&|plan| plan.profile_hash = Some("9".to_owned()));
        assert_eq!(hash, "`profile_hash` was not given and is \"9\"");
        let lease = told(&|plan| plan.emulation["lease"] = 2.into());
        assert_eq!(lease, "`lease` was not given and is 2");
        let program = told(&|plan| plan.bace_hash = Some("b1".to_owned()));
        assert_eq!(program, "`bace_hash` was \"b0\" and is \"b1\"");
        let source = told(&|plan| {
            plan.sources
                .insert("trace.csv".to_owned(), "bb".to_owned())
                .map_or((), drop)
        });
        assert_eq!(source, "`trace.csv` was \"aa\" and is \"bb\"");
        let more = told(&|plan| *plan = tests::plan(&["a"], 3));
        assert_eq!(more, "`repeats` was 2 and is 3");
        let turned = told(&|plan| plan.order.reverse());
        assert_eq!(turned, "the order of the runs was another");
    }
}
