//! The held-out scenarios: whether they are what docs/validation.md says of them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use bace_api::{Record, Schedule};
use bace_engine::{Engine, Scenario, policies, policy_by_name};
use bace_netem::{Jitter, LinkId, LinkSpec, LossModel, Sharing};
use bace_sim::{IterationModel, simulate_engine};

/// Emulated seconds that a scenario may take: long enough to be measured, short enough to be run for real again and again.
const LENGTH_S: std::ops::RangeInclusive<f64> = 8.0..=45.0;
/// What two ordinary cores compute beside everything else, flop/s: the GPUs of a scenario, all busy.
const MOST_FLOPS: f64 = 24.5e9;

/// A held-out scenario and what its own policies make of it.
struct HeldOut {
    name: String,
    text: String,
    scenario: Arc<Scenario>,
    /// Of each of its policies.
    runs: BTreeMap<String, Vec<Record>>,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/held-out")
}

/// All of them, simulated.
fn all() -> Vec<HeldOut> {
    let files = std::fs::read_dir(folder()).expect("the folder is there");
    let mut paths: Vec<PathBuf> = files
        .map(|file| file.expect("a readable folder").path())
        .collect();
    paths.sort();
    paths.iter().map(|path| HeldOut::read(path)).collect()
}

impl HeldOut {
    fn read(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).expect("a readable file");
        let none = |csv: &str| Err(format!("{csv} is not part of it"));
        let name = path.file_stem().and_then(|name| name.to_str());
        let name = name.expect("a name").to_owned();
        let scenario = Scenario::parse(&text, &name, &none).unwrap_or_else(|e| panic!("{e}"));
        let scenario = Arc::new(scenario);
        let runs = policies_of(&name, &text).into_iter().map(|policy| {
            let mut records = Vec::new();
            let decides = policy_by_name(&policy).unwrap_or_else(|e| panic!("{name}: {e}"));
            let engine = Engine::new(scenario.clone(), decides);
            simulate_engine(engine, IterationModel::Event, |record| records.push(record));
            (policy, records)
        });
        Self {
            runs: runs.collect(),
            name,
            text,
            scenario,
        }
    }

    fn records(&self) -> impl Iterator<Item = &Record> {
        self.runs.values().flatten()
    }

    /// Links that its pipelines cross, in both directions.
    fn crossed(&self) -> BTreeMap<LinkId, LinkSpec> {
        let region = |name: &str| {
            let mut regions = self.scenario.regions.iter();
            let index = regions.position(|region| region.name == name);
            bace_netem::RegionId::new(index.expect("a known region") as u16)
        };
        let transfers = self.records().filter_map(|record| match record {
            Record::Transfer { from, to, .. } if from != to => {
                Some(LinkId::new(region(from), region(to)))
            }
            _ => None,
        });
        transfers
            .map(|link| (link, self.scenario.links[&link]))
            .collect()
    }

    /// Stages and layers of every placement.
    fn placements(&self) -> impl Iterator<Item = (u32, &[u32])> {
        self.records().filter_map(|record| match record {
            Record::Placed { k, layers, .. } => Some((*k, layers.as_slice())),
            _ => None,
        })
    }

    /// The longest that a message waited while its link served other jobs, seconds.
    fn most_queued_s(&self) -> f64 {
        let spans = self.records().filter_map(|record| match record {
            Record::Actions(actions) => Some(&actions.spans),
            _ => None,
        });
        let messages = spans.flatten().filter_map(|span| span.message);
        messages
            .filter_map(|message| message.queued_s)
            .fold(0.0, f64::max)
    }
}

/// Those that the head of the file names.
fn policies_of(name: &str, text: &str) -> Vec<String> {
    let named = text
        .lines()
        .take_while(|line| line.starts_with('#'))
        .find_map(|line| line.strip_prefix("# Policies: "));
    let named = named.unwrap_or_else(|| panic!("{name}: no line says which policies it is for"));
    let (named, _) = named
        .split_once([';', '.'])
        .unwrap_or_else(|| panic!("{name}: its policies end with a full stop or a semicolon"));
    if named == "all" {
        return policies().iter().map(|it| it.name.to_owned()).collect();
    }
    named.split(" and ").map(str::to_owned).collect()
}

#[test]
fn the_script_reads_the_same_policies() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/held-out");
    let listed = Command::new(script)
        .arg("--list")
        .output()
        .expect("bash starts");
    let listed = String::from_utf8(listed.stdout).expect("text");
    let own = all().into_iter().map(|HeldOut { name, text, .. }| {
        let named = policies_of(&name, &text);
        let is_all = named.len() == policies().len();
        let named = if is_all {
            "all".to_owned()
        } else {
            named.join(",")
        };
        format!("{name} {named}\n")
    });
    assert_eq!(listed, own.collect::<String>());
}

#[test]
fn held_out_scenarios_are_short_and_end() {
    let all = all();
    assert!((8..=12).contains(&all.len()), "{} files", all.len());
    for held in &all {
        assert_eq!(held.name, held.scenario.name);
        assert!(held.text.starts_with("# "), "{}: says nothing", held.name);
        let regions = held.scenario.regions.iter();
        let flops: f64 = regions
            .map(|region| f64::from(region.gpus) * region.gpu.flops * region.gpu.mfu)
            .sum();
        assert!(flops <= MOST_FLOPS, "{}: {flops} flop/s", held.name);
        for (policy, records) in &held.runs {
            let finished = records
                .iter()
                .filter(|record| matches!(record, Record::JobFinished { .. }));
            assert_eq!(
                finished.count(),
                held.scenario.jobs.len(),
                "{} under {policy}",
                held.name
            );
            let Some(Record::RunEnded { at_s, .. }) = records.last() else {
                panic!("{} under {policy} has no end", held.name);
            };
            assert!(
                LENGTH_S.contains(at_s),
                "{} under {policy} takes {at_s} s",
                held.name
            );
        }
    }
}

#[test]
fn together_they_cover_what_is_promised() {
    let all = all();
    let stages: BTreeSet<u32> = all
        .iter()
        .flat_map(HeldOut::placements)
        .map(|(k, _)| k)
        .collect();
    assert!(stages.is_superset(&(2..=6).collect()), "{stages:?}");
    let is_even = |layers: &[u32]| layers.iter().all(|&of| of == layers[0]);
    let splits: BTreeSet<bool> = all
        .iter()
        .flat_map(HeldOut::placements)
        .filter(|(k, _)| *k > 1)
        .map(|(_, layers)| is_even(layers))
        .collect();
    assert_eq!(splits, [false, true].into(), "even and uneven splits");
    let jobs = all.iter().flat_map(|held| &held.scenario.jobs);
    let schedules: BTreeSet<&str> = jobs.map(|job| word(job.schedule)).collect();
    assert_eq!(schedules, ["1f1b", "eager-1f1b", "gpipe"].into());
    let under: BTreeSet<&String> = all.iter().flat_map(|held| held.runs.keys()).collect();
    assert_eq!(under.len(), policies().len(), "{under:?}");
    let several = all.iter().filter(|held| held.scenario.jobs.len() > 1);
    assert!(several.count() >= 2, "queues");
}

#[test]
fn their_pipelines_cross_links_of_every_kind() {
    let all = all();
    let crossed: Vec<LinkSpec> = all
        .iter()
        .flat_map(|held| held.crossed().into_values())
        .collect();
    let ends = |of: fn(&LinkSpec) -> f64| {
        let values: Vec<f64> = crossed.iter().map(of).collect();
        let least = values.iter().copied().fold(f64::INFINITY, f64::min);
        (least, values.into_iter().fold(0.0, f64::max))
    };
    assert_eq!(ends(|spec| spec.rate.bps() / 1e6), (20.0, 1000.0));
    assert_eq!(ends(|spec| spec.delay.seconds()), (0.0, 0.15));
    let shared = all.iter().filter(|held| held.most_queued_s() > 1e-3);
    assert!(shared.count() >= 1, "no link is shared");
    assert!(crossed.iter().any(|spec| spec.jitter != Jitter::None));
    let flows = |spec: &&LinkSpec| {
        spec.loss.model == LossModel::Mathis
            && spec.loss.share > 0.0
            && spec.sharing == Sharing::PerFlow
    };
    assert!(
        crossed.iter().any(|spec| flows(&spec)),
        "loss that holds flows"
    );
    let goes_down = all.iter().any(|held| {
        let links = held.crossed();
        let mut changes = held.scenario.link_changes.iter();
        changes.any(|change| links.contains_key(&change.link) && change.rate.bps() == 0.0)
    });
    assert!(goes_down, "no link goes down");
}

fn word(schedule: Schedule) -> &'static str {
    match schedule {
        Schedule::GPipe => "gpipe",
        Schedule::OneFOneB => "1f1b",
        Schedule::Eager1F1B => "eager-1f1b",
    }
}
