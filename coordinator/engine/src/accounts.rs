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

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_S: f64 = 3600.0;
    const DAY_S: f64 = 86_400.0;

    /// One region with a GPU of 300 W and 20 W, PUE 1.5, whose price and carbon change at different times.
    fn scenario(price: &str, carbon: &str) -> Scenario {
        let text = format!(
            r#"
name = "prices"
[gpu.unit]
peak_tflops = 1
mfu = 1.0
memory_gb = 48
busy_w = 300
idle_w = 20
[[region]]
name = "only"
gpus = 1
gpu = "unit"
pue = 1.5
price_usd_per_kwh = {price}
{carbon}
[[job]]
name = "a"
model = "gpt2"
arrival_s = 0
iterations = 1
micro_batches = 1
micro_batch = 1
sequence = 16
"#
        );
        Scenario::parse(&text, "prices", &|_| unreachable!("no file named")).unwrap()
    }

    /// The account of one GPU that was held from `from_s` to `to_s` and used as told: from, to, busy.
    fn account(scenario: &Scenario, [from_s, to_s]: [f64; 2], usage: &[[f64; 3]]) -> EnergyUse {
        let mut accounts = Accounts::open(from_s, vec![RegionId::new(0)]);
        for &[from_s, to_s, busy_s] in usage {
            accounts.compute(scenario, StageIndex(0), from_s, to_s, busy_s);
        }
        let mut uses = accounts.close(scenario, to_s, "a", Attempt(0));
        assert_eq!(uses.len(), 1);
        uses.remove(0)
    }

    /// Dollars, or grams, of watts over seconds at a value per kWh, at the region's PUE.
    fn of(watts: f64, seconds: f64, value: f64) -> f64 {
        1.5 * watts * seconds * value / 3.6e6
    }

    #[track_caller]
    fn assert_close(found: f64, expected: f64) {
        assert!((found / expected - 1.0).abs() < 1e-12, "{found} {expected}");
    }

    const PRICE: &str = "[{ from_s = 0, usd_per_kwh = 0.1 }, { from_s = 100, usd_per_kwh = 0.4 }]";
    const CARBON: &str =
        "carbon_g_per_kwh = [{ from_s = 0, g_per_kwh = 200 }, { from_s = 160, g_per_kwh = 50 }]";

    #[test]
    fn a_step_within_a_span_of_usage_splits_it_where_it_falls() {
        let scenario = scenario(PRICE, CARBON);
        // Half of a span from 80 s to 180 s was busy, evenly: the price changes after 20 % of it, carbon after 80 %.
        let used = account(&scenario, [60.0, 200.0], &[[80.0, 180.0, 50.0]]);
        assert_eq!((used.held_s, used.busy_s), (140.0, 50.0));
        assert_close(used.energy_j, 20.0 * 140.0 + 280.0 * 50.0);
        let idle = of(20.0, 40.0, 0.1) + of(20.0, 100.0, 0.4);
        let busy = of(280.0, 10.0, 0.1) + of(280.0, 40.0, 0.4);
        assert_close(used.cost_usd, idle + busy);
        let idle = of(20.0, 100.0, 200.0) + of(20.0, 40.0, 50.0);
        let busy = of(280.0, 40.0, 200.0) + of(280.0, 10.0, 50.0);
        assert_close(used.carbon_g.unwrap(), idle + busy);
    }

    #[test]
    fn one_span_costs_what_its_parts_cost() {
        let scenario = scenario(PRICE, CARBON);
        let whole = account(&scenario, [0.0, 300.0], &[[0.0, 300.0, 150.0]]);
        let parts: Vec<[f64; 3]> = (0..100)
            .map(|part| f64::from(3 * part))
            .map(|from_s| [from_s, from_s + 3.0, 1.5])
            .collect();
        let parts = account(&scenario, [0.0, 300.0], &parts);
        assert_close(parts.cost_usd, whole.cost_usd);
        assert_close(parts.carbon_g.unwrap(), whole.carbon_g.unwrap());
        assert_close(parts.energy_j, whole.energy_j);
    }

    #[test]
    fn a_day_repeats_over_midnight_and_over_many_days() {
        let price = "[{ from_s = 0, usd_per_kwh = 0.1, daily = true }, { from_s = 28800, usd_per_kwh = 0.4, daily = true }]";
        let carbon = "carbon_g_per_kwh = [{ from_s = 0, g_per_kwh = 100, daily = true }, \
                      { from_s = 72000, g_per_kwh = 300, daily = true }]";
        let scenario = scenario(price, carbon);
        // From 22:00 to 02:00, all of it busy: two hours at the day's price, two at the night's.
        let span = [22.0 * HOUR_S, 26.0 * HOUR_S];
        let night = account(&scenario, span, &[[span[0], span[1], 4.0 * HOUR_S]]);
        let two_hours = |value| of(300.0, 2.0 * HOUR_S, value);
        assert_close(night.cost_usd, two_hours(0.4) + two_hours(0.1));
        assert_close(night.carbon_g.unwrap(), two_hours(300.0) + two_hours(100.0));
        // From 06:00 of the first day to 06:00 of the eleventh, half of it busy: ten whole days.
        let span = [6.0 * HOUR_S, 6.0 * HOUR_S + 10.0 * DAY_S];
        let days = account(&scenario, span, &[[span[0], span[1], 5.0 * DAY_S]]);
        let hours = |hours: f64, value| 10.0 * of(160.0, hours * HOUR_S, value);
        assert_close(days.cost_usd, hours(8.0, 0.1) + hours(16.0, 0.4));
        assert_close(
            days.carbon_g.unwrap(),
            hours(20.0, 100.0) + hours(4.0, 300.0),
        );
    }

    #[test]
    fn without_a_carbon_series_grams_are_absent() {
        let used = account(&scenario("0.2", ""), [0.0, 10.0], &[[0.0, 10.0, 10.0]]);
        assert_eq!(used.carbon_g, None);
        assert_close(used.cost_usd, of(300.0, 10.0, 0.2));
    }
}
