//! A scenario with one quantity changed: what a sweep asks for.

use bace_netem::{BitRate, Delay};

use super::error::suggestion;
use super::limits;
use super::types::{PolicySettings, Scenario};
use crate::EngineError;

/// A quantity of a scenario that can be changed as a whole.
#[derive(Debug, Clone, Copy)]
pub struct Knob {
    /// What `--sweep` takes.
    pub name: &'static str,
    /// What a value means, in a line.
    pub summary: &'static str,
    turn: fn(&mut Scenario, f64) -> Option<()>,
}

impl Knob {
    /// All knobs.
    pub fn all() -> &'static [Self] {
        KNOBS
    }

    /// The knob of this name; the error suggests the nearest.
    pub fn by_name(name: &str) -> Result<Self, EngineError> {
        let found = KNOBS.iter().find(|knob| knob.name == name);
        found.copied().ok_or_else(|| {
            let names: Vec<&str> = KNOBS.iter().map(|knob| knob.name).collect();
            EngineError::UnknownKnob {
                name: name.to_owned(),
                hint: suggestion(name, &names),
            }
        })
    }

    /// `scenario` with this quantity changed; draws take effect with the next [`Scenario::with_seed`].
    pub fn turned(&self, scenario: &Scenario, value: f64) -> Result<Scenario, EngineError> {
        let mut changed = scenario.clone();
        let turned = (self.turn)(&mut changed, value);
        turned.map(|()| changed).ok_or(EngineError::KnobValue {
            name: self.name,
            value,
            summary: self.summary,
        })
    }
}

const KNOBS: &[Knob] = &[
    Knob {
        name: "bandwidth",
        summary: "factor on the capacity of every link between regions, above 0",
        turn: |scenario, factor| {
            let factor = positive(factor)?;
            for spec in scenario.links.values_mut() {
                spec.rate = scaled(spec.rate, factor)?;
            }
            for change in &mut scenario.link_changes {
                change.rate = scaled(change.rate, factor)?;
            }
            Some(())
        },
    },
    Knob {
        name: "delay",
        summary: "factor on the delay of every link between regions, from 0",
        turn: |scenario, factor| {
            let factor = from_zero(factor)?;
            let scaled = |delay: Delay| Delay::from_seconds(delay.seconds() * factor);
            for spec in scenario.links.values_mut() {
                spec.delay = scaled(spec.delay)?;
            }
            for change in &mut scenario.link_changes {
                change.delay = scaled(change.delay)?;
            }
            Some(())
        },
    },
    Knob {
        name: "gpus",
        summary: "factor on every region's GPUs, above 0; rounded, at least one where there was one",
        turn: |scenario, factor| {
            let factor = positive(factor)?;
            for region in &mut scenario.regions {
                region.gpus = whole(region.gpus, factor)?;
            }
            for change in &mut scenario.gpu_changes {
                change.gpus = whole(change.gpus, factor)?;
            }
            Some(())
        },
    },
    Knob {
        name: "memory",
        summary: "factor on every GPU's memory, above 0",
        turn: |scenario, factor| {
            let factor = positive(factor)?;
            for region in &mut scenario.regions {
                let bytes = (region.gpu.memory_bytes as f64 * factor).round();
                region.gpu.memory_bytes = (bytes <= MOST_BYTES).then_some(bytes.max(1.0) as u64)?;
            }
            Some(())
        },
    },
    Knob {
        name: "gaps",
        summary: "factor on the time between arrivals, from 0",
        turn: |scenario, factor| {
            let factor = from_zero(factor)?;
            for job in &mut scenario.jobs {
                job.arrival_s = second(job.arrival_s * factor)?;
            }
            if let Some(mean_s) = &mut scenario.draw.arrival_gap_s {
                *mean_s = second(*mean_s * factor)?;
            }
            Some(())
        },
    },
    Knob {
        name: "jobs",
        summary: "number of jobs, from 1: the scenario's first ones, or copies drawn from them besides",
        turn: |scenario, count| {
            let known = (1.0..=limits::JOBS as f64).contains(&count) && count.fract() == 0.0;
            scenario.draw.jobs = Some(known.then_some(count as usize)?);
            Some(())
        },
    },
    Knob {
        name: "tokens",
        summary: "tokens that every job trains on, from 1",
        turn: |scenario, count| {
            let known = (1.0..MOST_TOKENS).contains(&count) && count.fract() == 0.0;
            scenario.draw.tokens = vec![known.then_some(count as u64)?];
            Some(())
        },
    },
    Knob {
        name: "min_share",
        summary: "share of its GPUs from which a job may start, above 0 up to 1",
        turn: |scenario, share| {
            policy(scenario, limits::SHARE, share, |policy| {
                &mut policy.min_share
            })
        },
    },
    Knob {
        name: "time_slack",
        summary: "how much slower than the fastest a cheaper path may be, from 0",
        turn: |scenario, slack| {
            policy(scenario, limits::KNOB, slack, |policy| {
                &mut policy.time_slack
            })
        },
    },
    Knob {
        name: "aging_per_hour",
        summary: "priority gained for each hour waited, from 0",
        turn: |scenario, aging| {
            policy(scenario, limits::KNOB, aging, |policy| {
                &mut policy.aging_per_hour
            })
        },
    },
];

/// Largest memory that a factor may lead to, bytes; as in a file.
const MOST_BYTES: f64 = 1e15;
/// From here on not every whole number is an `f64`.
const MOST_TOKENS: f64 = (1_u64 << 53) as f64;

fn policy(
    scenario: &mut Scenario,
    range: limits::Range,
    value: f64,
    pick: fn(&mut PolicySettings) -> &mut f64,
) -> Option<()> {
    *pick(&mut scenario.policy) = range.contains(value).then_some(value)?;
    Some(())
}

fn positive(factor: f64) -> Option<f64> {
    (factor > 0.0 && factor.is_finite()).then_some(factor)
}

fn from_zero(factor: f64) -> Option<f64> {
    (factor >= 0.0 && factor.is_finite()).then_some(factor)
}

fn scaled(rate: BitRate, factor: f64) -> Option<BitRate> {
    BitRate::from_bps(rate.bps() * factor)
}

fn whole(gpus: u32, factor: f64) -> Option<u32> {
    let scaled = (f64::from(gpus) * factor)
        .round()
        .max(f64::from(gpus.min(1)));
    (scaled <= *limits::GPUS.end() as f64).then_some(scaled as u32)
}

fn second(at_s: f64) -> Option<f64> {
    limits::SECONDS.contains(at_s).then_some(at_s)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::LinkChange;
    use crate::testing::World;

    fn world() -> Scenario {
        let world = World::new()
            .region("a", 1, "unit", 0.1)
            .region("b", 3, "unit", 0.1)
            .link("a", "b", 1e6)
            .job("one", 10.0, 3);
        Scenario::clone(&world.scenario())
    }

    fn turned(name: &str, value: f64) -> Scenario {
        Knob::by_name(name)
            .unwrap()
            .turned(&world(), value)
            .unwrap()
    }

    #[test]
    fn each_knob_turns_its_quantity() {
        let link = |scenario: &Scenario| *scenario.links.values().next().unwrap();
        assert_eq!(link(&turned("bandwidth", 0.5)).rate.bps(), 0.5e6);
        assert_eq!(link(&turned("delay", 2.0)).delay.seconds(), 1.0);
        let gpus: Vec<u32> = turned("gpus", 0.4).regions.iter().map(|r| r.gpus).collect();
        assert_eq!(gpus, [1, 1]);
        assert_eq!(
            turned("memory", 0.5).regions[0].gpu.memory_bytes,
            24_000_000_000
        );
        assert_eq!(turned("gaps", 3.0).jobs[0].arrival_s, 30.0);
        assert_eq!(turned("jobs", 5.0).with_seed(0).jobs.len(), 5);
        assert_eq!(turned("tokens", 41.0).with_seed(0).jobs[0].iterations, 11);
        assert_eq!(turned("min_share", 0.5).policy.min_share, 0.5);
        assert_eq!(turned("time_slack", 0.5).policy.time_slack, 0.5);
        assert_eq!(turned("aging_per_hour", 0.5).policy.aging_per_hour, 0.5);
    }

    #[test]
    fn bandwidth_and_delay_leave_everything_else_of_a_link() {
        let mut rough = world();
        let spec = rough.links.values_mut().next().unwrap();
        spec.loss.share = 0.1;
        let spec = *spec;
        rough.link_changes.push(LinkChange {
            at_s: 1.0,
            link: *rough.links.keys().next().unwrap(),
            rate: spec.rate,
            delay: spec.delay,
        });
        for (knob, rate, delay) in [("bandwidth", 2.0, 1.0), ("delay", 1.0, 2.0)] {
            let turned = Knob::by_name(knob).unwrap().turned(&rough, 2.0).unwrap();
            let (link, change) = (
                turned.links.values().next().unwrap(),
                turned.link_changes[0],
            );
            assert_eq!(link.loss, spec.loss);
            assert_eq!(link.rate.bps(), rate * spec.rate.bps());
            assert_eq!(link.delay.seconds(), delay * spec.delay.seconds());
            assert_eq!((change.rate, change.delay), (link.rate, link.delay));
        }
    }

    #[test]
    fn a_factor_of_one_changes_nothing() {
        for name in ["bandwidth", "delay", "gpus", "memory", "gaps"] {
            assert_eq!(turned(name, 1.0), world(), "{name}");
        }
    }

    #[test]
    fn impossible_values_and_names_are_errors() {
        for knob in Knob::all() {
            for value in [-1.0, f64::NAN, f64::INFINITY] {
                assert!(knob.turned(&world(), value).is_err(), "{}", knob.name);
            }
        }
        assert!(
            Knob::by_name("jobs")
                .unwrap()
                .turned(&world(), 1.5)
                .is_err()
        );
        assert_eq!(
            Knob::by_name("bandwith").unwrap_err().to_string(),
            "find the sweep key `bandwith`: did you mean `bandwidth`?"
        );
    }
}
