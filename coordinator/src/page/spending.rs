//! What a run spent where and when: a ledger has each stage's dollars, the scenario the prices of every moment.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::ensure;
use bace_api::{InputRecord, Record};
use bace_engine::{Region, Scenario};
use bace_ledger::{RunLog, Spending};
use bace_models::JOULES_PER_KWH;

use crate::recorded::Recorded;

/// How far the parts may be from the ledger's sum, as a share of it: rounding, and nothing else.
const ROUNDING: f64 = 1e-6;

/// The dollars of the run of `dir`, which `log` was read from, in equal spans of time: as the engine accounts, split where spans
/// meet. What jobs have spent that still hold their GPUs when the ledger ends is in no account yet.
///
/// # Errors
/// If the folder has lost the run's scenario, or what follows from it is not what the ledger says.
pub fn spending(dir: &Path, log: &RunLog) -> anyhow::Result<Spending> {
    let loaded = Recorded::new(dir, &log.header).kept_scenario()?;
    let scenario = &loaded.scenario;
    let starts = log.jobs.iter().flat_map(|job| &job.attempts);
    let end_s = starts
        .filter_map(|start| start.released_s)
        .fold(0.0, f64::max);
    let (bin_s, count) = Spending::bins(end_s);
    let mut books = Books {
        scenario,
        bin_s,
        open: BTreeMap::new(),
        regions: vec![vec![0.0; count]; scenario.regions.len()],
        said_usd: 0.0,
    };
    let mut input_s = 0.0;
    for record in &log.records {
        books.add(record, &mut input_s);
    }
    let sum: f64 = books.regions.iter().flatten().sum();
    ensure!(
        (sum - books.said_usd).abs() <= ROUNDING * books.said_usd.abs(),
        "split the dollars of {} by time: prices of its scenario make ${sum}, its ledger says ${}",
        dir.display(),
        books.said_usd
    );
    let names = scenario.regions.iter().map(|region| region.name.clone());
    Ok(Spending {
        bin_s,
        regions: names.zip(books.regions).collect(),
    })
}

struct Books<'a> {
    scenario: &'a Scenario,
    bin_s: f64,
    /// Jobs that hold GPUs.
    open: BTreeMap<String, Open>,
    /// Each region's dollars, span after span.
    regions: Vec<Vec<f64>>,
    /// What the ledger says all that comes to.
    said_usd: f64,
}

/// A start of a job.
struct Open {
    from_s: f64,
    /// Each stage's region, and its dollars for computing by span.
    stages: Vec<(usize, BTreeMap<usize, f64>)>,
}

impl Books<'_> {
    fn add(&mut self, record: &Record, input_s: &mut f64) {
        match record {
            Record::Placed {
                at_s, job, path, ..
            } => {
                let region = |name: &str| {
                    let mut regions = self.scenario.regions.iter();
                    regions.position(|region| region.name == name)
                };
                let gpus = path
                    .iter()
                    .filter_map(|part| Some((region(&part.region)?, part.gpus)));
                let stages = gpus
                    .flat_map(|(region, gpus)| (0..gpus).map(move |_| (region, BTreeMap::new())));
                let open = Open {
                    from_s: *at_s,
                    stages: stages.collect(),
                };
                self.open.insert(job.clone(), open);
            }
            Record::Input { at_s, input } => {
                *input_s = *at_s;
                if let InputRecord::Usage { .. } = input {
                    self.compute(input);
                }
            }
            Record::Energy(used) => {
                self.said_usd += used.cost_usd;
                self.close(&used.job, used.stage.index(), *input_s);
            }
            _ => {}
        }
    }

    /// A stage computed.
    fn compute(&mut self, input: &InputRecord) {
        let InputRecord::Usage {
            job,
            stage,
            from_s,
            to_s,
            busy_s,
        } = input
        else {
            return;
        };
        let stages = self.open.get_mut(job).map(|open| &mut open.stages);
        let Some((region, by_bin)) = stages.and_then(|stages| stages.get_mut(stage.index())) else {
            return;
        };
        let region = &self.scenario.regions[*region];
        let watts = region.gpu.extra_w();
        if to_s > from_s {
            let share = busy_s / (to_s - from_s);
            for (bin, usd) in parts(region, self.bin_s, (*from_s, *to_s)) {
                *by_bin.entry(bin).or_default() += watts * share * usd;
            }
        } else {
            let usd = watts * busy_s * region.price.at(*from_s) * region.pue / JOULES_PER_KWH;
            *by_bin.entry((from_s / self.bin_s) as usize).or_default() += usd;
        }
    }

    /// A stage gave its GPU back.
    fn close(&mut self, job: &str, stage: usize, to_s: f64) {
        let Some(open) = self.open.get(job) else {
            return;
        };
        let Some((region, computing)) = open.stages.get(stage) else {
            return;
        };
        let of = &self.scenario.regions[*region];
        let held = parts(of, self.bin_s, (open.from_s, to_s));
        let held = held.map(|(bin, usd)| (bin, usd * of.gpu.idle_w));
        let by_bin = &mut self.regions[*region];
        let last = by_bin.len() - 1;
        for (bin, usd) in held.chain(computing.iter().map(|(&bin, &usd)| (bin, usd))) {
            by_bin[bin.min(last)] += usd;
        }
    }
}

/// Dollars of a watt between two instants, span by span.
fn parts(
    region: &Region,
    bin_s: f64,
    (from_s, to_s): (f64, f64),
) -> impl Iterator<Item = (usize, f64)> {
    let first = (from_s / bin_s) as usize;
    let last = (to_s / bin_s) as usize;
    (first..=last).filter_map(move |bin| {
        let from_s = from_s.max(bin as f64 * bin_s);
        let to_s = to_s.min((bin + 1) as f64 * bin_s);
        (to_s > from_s).then(|| {
            let price = region.price.integral(from_s, to_s);
            (bin, price * region.pue / JOULES_PER_KWH)
        })
    })
}
