//! How fast emulated time may pass here: the largest round time_scale at which a scenario keeps to its times.

use std::collections::BTreeMap;

use bace_api::Record;
use bace_engine::{Scenario, policy_by_name};
use bace_netem::{LATE_TOLERANCE_S, TimeScale};
use bace_sim::{IterationModel, simulate};
use serde_json::{Value, json};

use super::capacity::{COMPUTE_SHARE, Capacity, operations_per_s, trains_scale_models};
use crate::run::{MOST_WORKERS, can_be_carried, workers};

/// Who places the jobs whose messages are counted.
const POLICY: &str = "bace-pipe";
/// Share of what links may carry that messages take on average: they come in bursts, and each is to be in time.
const MEAN_SHARE: f64 = 0.25;
/// What a choice is rounded down to, times a power of ten.
const ROUND: [f64; 3] = [5.0, 2.0, 1.0];

/// What this machine can keep up with.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// On which rung.
    pub rung: &'static str,
    /// The largest round scale within all bounds; absent where none is, or a bound is not known.
    pub scale: Option<TimeScale>,
    /// All bounds, the lowest first; those that are not known last.
    pub bounds: Vec<Bound>,
}

/// A largest scale and what it follows from.
#[derive(Debug, Clone, PartialEq)]
pub struct Bound {
    /// What binds.
    pub what: &'static str,
    /// The largest scale for it; infinite where nothing is asked of it, absent where that could not be measured.
    pub largest: Option<f64>,
    /// What is needed at scale 1 and what there is.
    pub why: String,
}

/// What a placed job sends while it runs.
#[derive(Debug, Clone, Default)]
struct Traffic {
    from_s: f64,
    to_s: f64,
    /// Each second, both directions of all boundaries.
    bits: f64,
    messages: f64,
    /// Bytes of a message.
    message_bytes: f64,
    /// Rates on links between regions at which its bytes can be sent at once, bit/s: a micro-batch is in one place at a time.
    at_once: Vec<f64>,
}

/// The largest scale for each rung on which emulated GPUs take their time.
pub fn choose(scenario: &Scenario, capacity: &Capacity) -> Vec<Choice> {
    let traffic = traffic(scenario);
    let shared = [
        processes(scenario),
        admitted(scenario),
        on_average(&traffic, capacity),
        at_once(&traffic, capacity),
        messages(&traffic, capacity),
    ];
    let paced = shared.iter().cloned().chain([compute(scenario, capacity)]);
    vec![
        Choice::of("paced", paced.collect()),
        Choice::of("modelled", shared.to_vec()),
    ]
}

impl Choice {
    fn of(rung: &'static str, mut bounds: Vec<Bound>) -> Self {
        bounds.sort_by(|a, b| {
            let order = |bound: &Bound| bound.largest.unwrap_or(f64::MAX);
            order(a).total_cmp(&order(b))
        });
        let known: Option<Vec<f64>> = bounds.iter().map(|bound| bound.largest).collect();
        let lowest = known.map(|all| all.into_iter().fold(f64::INFINITY, f64::min));
        Self {
            rung,
            scale: lowest.and_then(round_down),
            bounds,
        }
    }

    /// What decides, in words.
    pub fn line(&self) -> String {
        let rung = self.rung;
        let unknown = self.bounds.iter().find(|bound| bound.largest.is_none());
        match (self.scale, unknown, self.bounds.first()) {
            (Some(scale), _, Some(bound)) => {
                format!(
                    "{rung}: time_scale {scale}, for the {}: {}",
                    bound.what, bound.why
                )
            }
            (None, Some(bound), _) => {
                format!("{rung}: not known, for the {}: {}", bound.what, bound.why)
            }
            (_, _, Some(bound)) => {
                format!(
                    "{rung}: no time_scale, for the {}: {}",
                    bound.what, bound.why
                )
            }
            (_, _, None) => unreachable!("every rung has bounds"),
        }
    }

    /// As `bace doctor --json` prints it.
    pub fn json(&self) -> Value {
        let bound = |bound: &Bound| {
            json!({
                "what": bound.what,
                // Nothing is asked of it where no scale is too large.
                "largest": bound.largest.filter(|largest| largest.is_finite()),
                "known": bound.largest.is_some(),
                "why": bound.why,
            })
        };
        json!({
            "rung": self.rung,
            "time_scale": self.scale,
            "binds": self.bounds.first().map(|bound| bound.what),
            "bounds": self.bounds.iter().map(bound).collect::<Vec<_>>(),
        })
    }
}

/// The largest of 1, 2 and 5 times a power of ten that is a time scale and no more than `value`.
fn round_down(value: f64) -> Option<TimeScale> {
    let value = value.min(TimeScale::MOST);
    if value < TimeScale::LEAST {
        return None;
    }
    let exponent = value.log10().floor() as i32;
    let candidates = [exponent, exponent - 1].into_iter().flat_map(|exponent| {
        // Divided, since powers of ten below 1 are not exact.
        let power = 10_f64.powi(exponent.abs());
        ROUND.map(|digit| {
            if exponent < 0 {
                digit / power
            } else {
                digit * power
            }
        })
    });
    let mut fitting = candidates.filter(|&candidate| candidate <= value);
    fitting.next().and_then(TimeScale::new)
}

/// What placed jobs send, by a simulation.
fn traffic(scenario: &Scenario) -> Vec<Traffic> {
    if workers(scenario) > MOST_WORKERS {
        return Vec::new();
    }
    let policy = policy_by_name(POLICY).expect("it is in the registry");
    let mut running: BTreeMap<String, Traffic> = BTreeMap::new();
    let mut all = Vec::new();
    let shared = std::sync::Arc::new(scenario.clone());
    simulate(
        &shared,
        policy,
        IterationModel::Analytic,
        |record| match record {
            Record::Placed {
                at_s, job, path, ..
            } => {
                let path = path.iter().map(|part| (part.region.as_str(), part.gpus));
                let placed = placed(scenario, &job, path.collect(), at_s);
                running.insert(job, placed);
            }
            Record::JobFinished { at_s, job } => {
                all.extend(running.remove(&job).map(|traffic| traffic.ended(at_s)));
            }
            Record::JobFailed { job, .. } => {
                running.remove(&job);
            }
            _ => {}
        },
    );
    all
}

/// A job from its placement on; counts are those of the whole job until [`Traffic::ended`].
fn placed(scenario: &Scenario, name: &str, path: Vec<(&str, u32)>, at_s: f64) -> Traffic {
    let Some(job) = scenario.jobs.iter().find(|job| job.name == name) else {
        return Traffic::default();
    };
    let region = |name: &str| {
        let mut regions = scenario.regions.iter();
        regions.position(|region| region.name == name)
    };
    let stages: Vec<usize> = path
        .iter()
        .flat_map(|&(name, gpus)| std::iter::repeat_n(region(name), gpus as usize))
        .flatten()
        .collect();
    let mut rates = Vec::new();
    for pair in stages.windows(2) {
        // Lateness on a fabric is judged by nobody.
        if pair[0] != pair[1] {
            rates.push(rate_between(scenario, pair[0], pair[1]));
            rates.push(rate_between(scenario, pair[1], pair[0]));
        }
    }
    let boundaries = 2.0 * stages.len().saturating_sub(1) as f64;
    let each = f64::from(job.iterations) * f64::from(job.micro_batches);
    // A stage tells of each iteration.
    let told = f64::from(job.iterations) * stages.len() as f64;
    let message_bytes = job.trained().boundary_bytes() as f64;
    // A link takes a small tensor as slowly as the one it stands for.
    let stands_for = job.boundary_bytes() as f64 / message_bytes;
    rates.iter_mut().for_each(|rate| *rate /= stands_for);
    rates.sort_by(|a, b| b.total_cmp(a));
    rates.truncate(job.micro_batches as usize);
    Traffic {
        from_s: at_s,
        to_s: f64::INFINITY,
        bits: boundaries * each * message_bytes * 8.0,
        messages: boundaries * each + told,
        message_bytes,
        at_once: rates,
    }
}

/// The highest rate from one region to another, bit/s.
fn rate_between(scenario: &Scenario, from: usize, to: usize) -> f64 {
    let states = scenario.link_states();
    let rates = states.filter(|(link, _)| (link.from.index(), link.to.index()) == (from, to));
    rates.map(|(_, spec)| spec.rate.bps()).fold(0.0, f64::max)
}

impl Traffic {
    fn ended(self, at_s: f64) -> Self {
        let seconds = at_s - self.from_s;
        Self {
            to_s: at_s,
            bits: self.bits / seconds,
            messages: self.messages / seconds,
            ..self
        }
    }
}

/// The jobs that run together, at each instant at which one begins.
fn together(traffic: &[Traffic]) -> impl Iterator<Item = Vec<&Traffic>> {
    traffic.iter().map(|begins| {
        let runs = |job: &&Traffic| job.from_s <= begins.from_s && begins.from_s < job.to_s;
        traffic.iter().filter(runs).collect()
    })
}

fn most(traffic: &[Traffic], of: impl Fn(&Traffic) -> f64) -> f64 {
    let sums = together(traffic).map(|jobs| jobs.into_iter().map(&of).sum());
    sums.fold(0.0, f64::max)
}

/// As many times as `needed` fits into `available`.
fn times(available: Option<f64>, needed: f64) -> Option<f64> {
    available.map(|available| available / needed)
}

fn amount(value: Option<f64>, unit: &str) -> String {
    value.map_or_else(
        || "unknown".to_owned(),
        |value| format!("{value:.2} {unit}"),
    )
}

fn processes(scenario: &Scenario) -> Bound {
    let workers = workers(scenario);
    Bound {
        what: "number of worker processes",
        largest: Some(if workers <= MOST_WORKERS {
            f64::INFINITY
        } else {
            0.0
        }),
        why: format!("{workers}, and a run has at most {MOST_WORKERS}"),
    }
}

fn admitted(scenario: &Scenario) -> Bound {
    let largest = TimeScale::largest(|scale| can_be_carried(scenario, scale));
    Bound {
        what: "bytes in flight on links",
        largest: Some(match largest {
            Some(scale) if scale.get() >= TimeScale::MOST => f64::INFINITY,
            Some(scale) => scale.get(),
            None => 0.0,
        }),
        why: "what this machine's memory and a sender hold".to_owned(),
    }
}

fn on_average(traffic: &[Traffic], capacity: &Capacity) -> Bound {
    let needed = most(traffic, |job| job.bits) / 1e9;
    let available = capacity.links_gbps.map(|gbps| MEAN_SHARE * gbps);
    Bound {
        what: "bytes of messages",
        largest: times(available, needed),
        why: format!(
            "jobs that run together send {needed:.2} Gbit/s on average, and a quarter of what links may carry is {}",
            amount(available, "Gbit/s")
        ),
    }
}

/// Messages that leave at the same moment, one for each micro-batch, all have to be there a millisecond after their links
/// deliver them.
fn at_once(traffic: &[Traffic], capacity: &Capacity) -> Bound {
    let mut lowest = f64::INFINITY;
    let mut why = "no two messages are under way at once".to_owned();
    let available = capacity.links_gbps;
    for jobs in together(traffic) {
        let bits = |job: &Traffic| job.at_once.len() as f64 * job.message_bytes * 8.0;
        let all: f64 = jobs.iter().map(|job| bits(job)).sum();
        let takes_s = all / (available.unwrap_or(f64::INFINITY) * 1e9);
        let count: usize = jobs.iter().map(|job| job.at_once.len()).sum();
        for job in jobs {
            let fastest = job.at_once.iter().copied().fold(0.0, f64::max);
            let largest =
                job.message_bytes * 8.0 / (fastest * (takes_s - LATE_TOLERANCE_S).max(0.0));
            if fastest > 0.0 && largest < lowest {
                lowest = largest;
                why = format!(
                    "{count} can be under way at once with {:.1} MB, which take {:.1} ms here; {:.1} MB of one are due after {:.1} ms",
                    all / 8e6,
                    takes_s * 1e3,
                    job.message_bytes / 1e6,
                    job.message_bytes * 8e3 / fastest
                );
            }
        }
    }
    Bound {
        what: "messages at one moment",
        largest: available.map(|_| lowest),
        why,
    }
}

fn messages(traffic: &[Traffic], capacity: &Capacity) -> Bound {
    let needed = most(traffic, |job| job.messages);
    let available = capacity.messages_per_s;
    Bound {
        what: "number of messages",
        largest: times(available, needed),
        why: format!(
            "jobs that run together send {needed:.1} a second, and the cores handle {}",
            amount(available, "a second")
        ),
    }
}

fn compute(scenario: &Scenario, capacity: &Capacity) -> Bound {
    if trains_scale_models(scenario) {
        return Bound {
            what: "emulated GPUs' speeds",
            largest: None,
            why: "scale models are too small for the speed that was measured; a run tells the scale at which it had no overruns".to_owned(),
        };
    }
    let needed = operations_per_s(scenario) / 1e9;
    let available = capacity.compute_gops;
    Bound {
        what: "emulated GPUs' speeds",
        largest: times(available, needed),
        why: format!(
            "they add up to {needed:.2} Gop/s, and the cores train at {}, {:.0} % of their speed",
            amount(available, "Gop/s"),
            COMPUTE_SHARE * 1e2
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOMY: Capacity = Capacity {
        links_gbps: Some(6.0),
        workers: Some(20),
        memory_bytes: Some(8e9),
        worker_bytes: Some(400_000_000),
        compute_gops: Some(12.0),
        messages_per_s: Some(5_000.0),
    };

    fn scenario(text: &str) -> Scenario {
        Scenario::parse(text, "test", &|_| unreachable!("no file named")).expect("a scenario")
    }

    fn three_regions() -> Scenario {
        scenario(include_str!("../../scenarios/three-regions.toml"))
    }

    fn sixty_four() -> Scenario {
        scenario(include_str!("../../../tests/scenarios/sixty-four.toml"))
    }

    fn largest(choice: &Choice, what: &str) -> Option<f64> {
        let bound = choice.bounds.iter().find(|bound| bound.what == what);
        bound.expect("a bound").largest
    }

    #[test]
    fn scales_are_round_and_never_above_their_bound() {
        for (value, round) in [
            (0.54, Some(0.5)),
            (0.5, Some(0.5)),
            (0.4999, Some(0.2)),
            (1.0, Some(1.0)),
            (19.9, Some(10.0)),
            (0.0011, Some(0.001)),
            (0.0009, None),
            (f64::INFINITY, Some(1e5)),
        ] {
            assert_eq!(round_down(value).map(TimeScale::get), round, "{value}");
        }
    }

    #[test]
    fn the_emulated_gpus_bind_where_they_are_faster_than_the_cores() {
        // 24 Gop/s of emulated GPUs, and half as much here.
        let [paced, modelled] = <[Choice; 2]>::try_from(choose(&three_regions(), &ROOMY)).unwrap();
        assert_eq!((paced.rung, modelled.rung), ("paced", "modelled"));
        assert_eq!(paced.scale, TimeScale::new(0.5));
        assert_eq!(paced.bounds[0].what, "emulated GPUs' speeds");
        assert!(
            paced
                .line()
                .starts_with("paced: time_scale 0.5, for the emulated GPUs' speeds: ")
        );
        assert!(modelled.scale > paced.scale, "{modelled:#?}");
    }

    #[test]
    fn bytes_bind_where_nothing_is_computed() {
        let modelled = &choose(&sixty_four(), &ROOMY)[1];
        assert_eq!(modelled.bounds[0].what, "bytes of messages");
        assert_eq!(modelled.scale, TimeScale::new(0.2), "{modelled:#?}");
        // Two links' worth of 64 MiB and two of 29 MB through 6 Gbit/s, 257 ms; a link of 0.4 Gbit/s takes 587 for its own 29 MB.
        let at_once = largest(modelled, "messages at one moment").expect("it is known");
        assert!((2.0..2.5).contains(&at_once), "{modelled:#?}");
        let halved = Capacity {
            links_gbps: Some(3.0),
            ..ROOMY
        };
        let slower = &choose(&sixty_four(), &halved)[1];
        assert_eq!(slower.scale, TimeScale::new(0.1), "{slower:#?}");
    }

    #[test]
    fn fabrics_bind_nothing_at_one_moment() {
        let slow = Capacity {
            links_gbps: Some(3.0),
            ..ROOMY
        };
        let [paced, modelled] = <[Choice; 2]>::try_from(choose(&three_regions(), &slow)).unwrap();
        assert_eq!(paced.scale, TimeScale::new(0.5), "{paced:#?}");
        assert!(
            largest(&modelled, "messages at one moment") >= Some(1.0),
            "{modelled:#?}"
        );
    }

    #[test]
    fn scale_models_count_for_what_crosses_and_their_compute_is_not_known() {
        let scenario = scenario(include_str!("../../scenarios/paper-scale.toml"));
        let [paced, modelled] = <[Choice; 2]>::try_from(choose(&scenario, &ROOMY)).unwrap();
        assert_eq!(paced.scale, None);
        assert_eq!(largest(&paced, "emulated GPUs' speeds"), None);
        assert!(modelled.scale >= TimeScale::new(1.0), "{modelled:#?}");
        let roomier = Capacity {
            memory_bytes: Some(16e9),
            ..ROOMY
        };
        let demands = roomier.demands(&scenario);
        let all_fit = demands.iter().all(|demand| demand.fits() == Some(true));
        assert!(all_fit, "{demands:?}");
    }

    #[test]
    fn what_was_not_measured_chooses_nothing() {
        let unknown = Capacity {
            links_gbps: None,
            ..ROOMY
        };
        for choice in choose(&three_regions(), &unknown) {
            assert_eq!(choice.scale, None);
            assert_eq!(largest(&choice, "bytes of messages"), None);
            assert!(choice.line().contains("not known"), "{}", choice.line());
            assert_eq!(choice.json()["time_scale"], Value::Null);
        }
    }

    #[test]
    fn more_processes_than_a_run_has_fit_at_no_scale() {
        let text = include_str!("../../scenarios/paper.toml");
        let choice = &choose(&scenario(text), &ROOMY)[1];
        assert_eq!(choice.scale, None);
        assert!(
            choice
                .line()
                .contains("no time_scale, for the number of worker processes")
        );
    }
}
