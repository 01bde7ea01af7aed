//! Energy, money and carbon of a running job: docs/scheduling.md section 6.
//!
//! Joules are counted at the GPU. Dollars and grams also pay for the region's PUE and follow its series exactly:
//! `idle_w` over the whole hold, and busy_w − idle_w evenly over each span in which a stage reports busy seconds.

use bace_api::{Attempt, EnergyUse, StageIndex};
use bace_models::JOULES_PER_KWH;
use bace_netem::RegionId;

use crate::{Region, Scenario, Series};

/// The accounts of one start of a job.
#[derive(Debug, Clone)]
pub(crate) struct Accounts {
    from_s: f64,
    stages: Vec<StageAccount>,
    /// The span asked for last; a region's stages report the same one after another.
    last: Option<(RegionId, f64, f64, Rates)>,
}

#[derive(Debug, Clone)]
struct StageAccount {
    region: RegionId,
    busy_s: f64,
    busy: Rates,
}

/// A series' integral, or its integral over busy seconds: price, carbon.
#[derive(Debug, Clone, Copy, Default)]
struct Rates {
    price: f64,
    carbon: f64,
}

impl Accounts {
    /// Opens the accounts of stages in these regions at `from_s`.
    pub fn open(from_s: f64, stage_regions: Vec<RegionId>) -> Self {
        let stages = stage_regions.into_iter().map(|region| StageAccount {
            region,
            busy_s: 0.0,
            busy: Rates::default(),
        });
        Self {
            from_s,
            stages: stages.collect(),
            last: None,
        }
    }

    /// `stage` computed for `busy_s` between `from_s` and `to_s`; a stage that there is not is ignored.
    pub fn compute(
        &mut self,
        scenario: &Scenario,
        stage: StageIndex,
        from_s: f64,
        to_s: f64,
        busy_s: f64,
    ) {
        let Some(region) = self.stages.get(stage.index()).map(|stage| stage.region) else {
            return;
        };
        let mean = if to_s > from_s {
            let whole = self.integrals(scenario, region, from_s, to_s);
            Rates {
                price: whole.price / (to_s - from_s),
                carbon: whole.carbon / (to_s - from_s),
            }
        } else {
            let region = &scenario.regions[region.index()];
            Rates {
                price: region.price.at(from_s),
                carbon: region
                    .carbon
                    .as_ref()
                    .map_or(0.0, |carbon| carbon.at(from_s)),
            }
        };
        let account = &mut self.stages[stage.index()];
        account.busy_s += busy_s;
        account.busy.price += busy_s * mean.price;
        account.busy.carbon += busy_s * mean.carbon;
    }

    /// Closes the accounts at `to_s`: one entry a stage.
    pub fn close(
        mut self,
        scenario: &Scenario,
        to_s: f64,
        job: &str,
        attempt: Attempt,
    ) -> Vec<EnergyUse> {
        let stages = std::mem::take(&mut self.stages);
        let held_s = to_s - self.from_s;
        let mut uses = Vec::with_capacity(stages.len());
        for (stage, account) in (0..).map(StageIndex).zip(stages) {
            let hold = self.integrals(scenario, account.region, self.from_s, to_s);
            let region = &scenario.regions[account.region.index()];
            let weigh = |hold: f64, busy: f64| {
                let watts = region.gpu.idle_w * hold + region.gpu.extra_w() * busy;
                watts * region.pue / JOULES_PER_KWH
            };
            uses.push(EnergyUse {
                job: job.to_owned(),
                attempt,
                stage,
                region: region.name.clone(),
                held_s,
                busy_s: account.busy_s,
                energy_j: region.gpu.joules(held_s, account.busy_s),
                cost_usd: weigh(hold.price, account.busy.price),
                carbon_g: region
                    .carbon
                    .is_some()
                    .then(|| weigh(hold.carbon, account.busy.carbon)),
            });
        }
        uses
    }

    fn integrals(
        &mut self,
        scenario: &Scenario,
        region: RegionId,
        from_s: f64,
        to_s: f64,
    ) -> Rates {
        if let Some((known, known_from, known_to, rates)) = self.last
            && (known, known_from, known_to) == (region, from_s, to_s)
        {
            return rates;
        }
        let Region { price, carbon, .. } = &scenario.regions[region.index()];
        let integral = |series: &Series| series.integral(from_s, to_s);
        let rates = Rates {
            price: integral(price),
            carbon: carbon.as_ref().map_or(0.0, integral),
        };
        self.last = Some((region, from_s, to_s, rates));
        rates
    }
}
