//! Runs of one scenario side by side: policies, seeds, points of a sweep.

use serde_json::{Map, Value, json};

use crate::{Figure, JobStatus, RunEnd, Summary, Totals};

/// The policy whose savings a comparison is about.
const OURS: &str = "bace-pipe";

/// One run of a comparison.
#[derive(Debug, Clone)]
pub struct Case {
    /// The point of the sweep, such as `gpus = 0.5`; empty without a sweep.
    pub point: String,
    /// The policy.
    pub policy: String,
    /// The seed.
    pub seed: u64,
    /// Whether it ran for real.
    pub measured: bool,
    /// What came of it.
    pub outcome: Outcome,
}

/// What a comparison keeps of a run.
#[derive(Debug, Clone)]
pub struct Outcome {
    jobs: usize,
    finished: usize,
    /// In the order of [`MEASURES`].
    figures: Vec<Figure>,
    /// A sentence for the first job that did not finish.
    unfinished: Option<String>,
    /// A sentence that says why its links were not those of the scenario.
    invalid: Option<String>,
}

/// Runs of one scenario.
#[derive(Debug, Clone)]
pub struct Comparison {
    /// The scenario's name.
    pub scenario: String,
    /// Iteration model of the simulated runs.
    pub iteration_model: String,
    /// The profile that gave the simulated runs their times of compute; absent where the GPU types did.
    pub profile: Option<String>,
    /// Which models' set-up that profile does not know, and what measures it; words that follow a colon. Absent where there is
    /// nothing to say.
    pub lacks_set_up: Option<String>,
    /// Whether two seeds can differ in what is simulated.
    pub varies: bool,
    /// All runs: point by point, in each policy by policy.
    pub cases: Vec<Case>,
}

/// A number that runs are compared by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measure {
    /// Its key in JSON; the unit is the number's.
    pub key: &'static str,
    pub heading: &'static str,
    pub kind: Kind,
    pick: fn(&Totals) -> &Figure,
}

/// What a measure counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Time,
    Dollars,
    Energy,
    Share,
}

pub(crate) const MEAN_JCT: usize = 0;
const MAKESPAN: usize = 2;
pub(crate) const COST: usize = 3;

pub(crate) const MEASURES: [Measure; 6] = [
    Measure {
        key: "mean_jct_s",
        heading: "mean JCT",
        kind: Kind::Time,
        pick: |totals| &totals.mean_jct_s,
    },
    Measure {
        key: "p95_jct_s",
        heading: "p95 JCT",
        kind: Kind::Time,
        pick: |totals| &totals.p95_jct_s,
    },
    Measure {
        key: "makespan_s",
        heading: "makespan",
        kind: Kind::Time,
        pick: |totals| &totals.makespan_s,
    },
    Measure {
        key: "cost_usd",
        heading: "cost",
        kind: Kind::Dollars,
        pick: |totals| &totals.cost_usd,
    },
    Measure {
        key: "energy_j",
        heading: "energy",
        kind: Kind::Energy,
        pick: |totals| &totals.energy_j,
    },
    Measure {
        key: "gpu_utilisation",
        heading: "GPUs busy",
        kind: Kind::Share,
        pick: |totals| &totals.gpu_utilisation,
    },
];

/// A mean over seeds and how sure it is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// The mean.
    pub mean: f64,
    /// Half of the two-sided 95 % confidence interval by Student's t; absent for fewer than two values.
    pub half_width: Option<f64>,
    /// Values.
    pub count: usize,
}

/// All runs of one policy at one point.
#[derive(Debug, Clone)]
pub(crate) struct Row<'a> {
    pub policy: &'a str,
    pub measured: bool,
    pub finished: usize,
    pub jobs: usize,
    /// In the order of [`MEASURES`]; absent where no run knows it.
    pub samples: Vec<Option<Sample>>,
    /// BACE-Pipe's saving of mean JCT and of cost against this policy, shares of this policy's.
    pub savings: [Option<Sample>; 2],
    pub unfinished: Option<&'a str>,
    pub invalid: Option<&'a str>,
}

impl Outcome {
    /// What a comparison keeps of `summary`.
    pub fn of(summary: &Summary) -> Self {
        let unfinished = summary.jobs.iter().find_map(|job| {
            let why = match &job.status {
                JobStatus::Finished => return None,
                JobStatus::Failed(reason) | JobStatus::Refused(reason) => format!(": {reason}"),
                _ => String::new(),
            };
            Some(format!("{} {}{why}", job.name, job.status.word()))
        });
        Self {
            jobs: summary.jobs.len(),
            finished: summary.totals.finished,
            figures: MEASURES
                .iter()
                .map(|measure| (measure.pick)(&summary.totals).clone())
                .collect(),
            unfinished: match &summary.end {
                RunEnd::Stopped(reason) => Some(format!("the run stopped: {reason}")),
                _ => unfinished,
            },
            invalid: summary.emulation.faults.first().cloned(),
        }
    }

    /// What a comparison keeps of a run of `jobs` jobs that came to no end, and why; a phrase that fits after "the run".
    pub fn failed(jobs: usize, why: &str) -> Self {
        let unknown = Figure::Unknown(format!("the run {why}").into());
        Self {
            jobs,
            finished: 0,
            figures: vec![unknown; MEASURES.len()],
            unfinished: Some(format!("the run {why}")),
            invalid: None,
        }
    }

    /// Seconds of the scenario until the last job ended; absent where none did.
    pub fn makespan_s(&self) -> Option<f64> {
        self.figures[MAKESPAN].known().copied()
    }

    /// Whether every job finished, over links as the scenario says.
    pub fn succeeded(&self) -> bool {
        self.finished == self.jobs && self.unfinished.is_none() && self.invalid.is_none()
    }
}

impl Sample {
    /// The mean of `values` with its interval; `None` without values.
    pub fn of(values: &[f64]) -> Option<Self> {
        let count = values.len();
        let mean = values.iter().sum::<f64>() / count as f64;
        let half_width = (count > 1).then(|| {
            let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
            let deviation = (squares / (count - 1) as f64).sqrt();
            students_t(count - 1) * deviation / (count as f64).sqrt()
        });
        (count > 0).then_some(Self {
            mean,
            half_width,
            count,
        })
    }

    pub(crate) fn to_json(self) -> Value {
        json!({ "mean": self.mean, "half_width_95": self.half_width, "count": self.count })
    }
}

impl Comparison {
    /// Whether every job of every run finished.
    pub fn succeeded(&self) -> bool {
        self.cases.iter().all(|case| case.outcome.succeeded())
    }

    /// The points of the sweep, in order.
    pub(crate) fn points(&self) -> Vec<&str> {
        let mut points: Vec<&str> = Vec::new();
        for case in &self.cases {
            if !points.contains(&case.point.as_str()) {
                points.push(&case.point);
            }
        }
        points
    }

    /// The seeds, in order.
    pub(crate) fn seeds(&self) -> Vec<u64> {
        let mut seeds: Vec<u64> = self.cases.iter().map(|case| case.seed).collect();
        seeds.sort_unstable();
        seeds.dedup();
        seeds
    }

    /// The rows of a point, in order.
    pub(crate) fn rows(&self, point: &str) -> Vec<Row<'_>> {
        let cases: Vec<&Case> = self
            .cases
            .iter()
            .filter(|case| case.point == point)
            .collect();
        let mut keys: Vec<(&str, bool)> = Vec::new();
        for case in &cases {
            let key = (case.policy.as_str(), case.measured);
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        keys.iter().map(|&key| row(&cases, key)).collect()
    }

    /// The comparison as one JSON object.
    pub fn to_json(&self) -> Value {
        let points = self.points().into_iter().map(|point| {
            let rows = self.rows(point).into_iter().map(|row| row.to_json());
            json!({ "point": point, "rows": rows.collect::<Vec<_>>() })
        });
        let mut json = json!({
            "scenario": self.scenario,
            "iteration_model": self.iteration_model,
            "profile": self.profile,
            "seeds": self.seeds(),
            "seeds_differ": self.varies,
            "points": points.collect::<Vec<_>>(),
        });
        if let Some(lack) = &self.lacks_set_up {
            json["lacks_set_up"] = json!(lack);
        }
        json
    }
}

fn row<'a>(cases: &[&'a Case], (policy, measured): (&'a str, bool)) -> Row<'a> {
    let of = |policy: &str| -> Vec<&'a Case> {
        let same = |case: &&&Case| case.policy == policy && case.measured == measured;
        cases.iter().filter(same).copied().collect()
    };
    let (own, ours) = (of(policy), of(OURS));
    let sample = |measure: usize| {
        let figures = own
            .iter()
            .filter_map(|case| case.outcome.figures[measure].known());
        Sample::of(&figures.copied().collect::<Vec<f64>>())
    };
    Row {
        policy,
        measured,
        finished: own.iter().map(|case| case.outcome.finished).sum(),
        jobs: own.iter().map(|case| case.outcome.jobs).sum(),
        samples: (0..MEASURES.len()).map(sample).collect(),
        savings: [MEAN_JCT, COST].map(|measure| {
            let saved = (policy != OURS).then(|| savings(&own, &ours, measure))?;
            Sample::of(&saved)
        }),
        unfinished: own
            .iter()
            .find_map(|case| case.outcome.unfinished.as_deref()),
        invalid: own.iter().find_map(|case| case.outcome.invalid.as_deref()),
    }
}

/// Savings seed by seed: the same draws under both policies. A seed with an unfinished job or untrue links on either side would
/// compare means over different jobs, and is left out.
fn savings(own: &[&Case], ours: &[&Case], measure: usize) -> Vec<f64> {
    let known = |case: &Case| match case.outcome.succeeded() {
        true => case.outcome.figures[measure].known().copied(),
        false => None,
    };
    own.iter()
        .filter_map(|theirs| {
            let our = ours.iter().find(|case| case.seed == theirs.seed)?;
            let (our, theirs) = (known(our)?, known(theirs)?);
            (theirs > 0.0).then_some(1.0 - our / theirs)
        })
        .collect()
}

impl Row<'_> {
    fn to_json(&self) -> Value {
        let json = |sample: &Option<Sample>| sample.map_or(Value::Null, Sample::to_json);
        let mut object = Map::new();
        object.insert("policy".into(), self.policy.into());
        object.insert("measured".into(), self.measured.into());
        object.insert("jobs".into(), self.jobs.into());
        object.insert("finished".into(), self.finished.into());
        for (measure, sample) in MEASURES.iter().zip(&self.samples) {
            object.insert(measure.key.into(), json(sample));
        }
        let [jct, cost] = &self.savings;
        object.insert("bace_pipe_saves_jct_share".into(), json(jct));
        object.insert("bace_pipe_saves_cost_share".into(), json(cost));
        object.insert("unfinished".into(), self.unfinished.into());
        object.insert("invalid".into(), self.invalid.into());
        Value::Object(object)
    }
}

/// The 97.5 % quantile of Student's t distribution with this many degrees of freedom, at least one.
///
/// The first ten from the usual table; above, the Cornish-Fisher expansion, which is right to 2e-4.
fn students_t(freedom: usize) -> f64 {
    const FIRST: [f64; 10] = [
        12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281,
    ];
    if let Some(quantile) = FIRST.get(freedom - 1) {
        return *quantile;
    }
    let (z, n) = (1.959_963_985_f64, freedom as f64);
    let first = (z.powi(3) + z) / 4.0;
    let second = (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / 96.0;
    let third = (3.0 * z.powi(7) + 19.0 * z.powi(5) + 17.0 * z.powi(3) - 15.0 * z) / 384.0;
    z + first / n + second / n.powi(2) + third / n.powi(3)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(policy: &str, seed: u64, jct_s: f64, finished: usize) -> Case {
        let figure = |value| Figure::Known(value);
        let figures = [jct_s, jct_s, jct_s, jct_s * 2.0, 1e6, 0.5];
        Case {
            point: String::new(),
            policy: policy.to_owned(),
            seed,
            measured: false,
            outcome: Outcome {
                jobs: 2,
                finished,
                figures: figures.map(figure).to_vec(),
                unfinished: (finished < 2).then(|| "big refused: too big".to_owned()),
                invalid: None,
            },
        }
    }

    fn comparison(cases: Vec<Case>) -> Comparison {
        Comparison {
            scenario: "s".to_owned(),
            iteration_model: "analytic".to_owned(),
            profile: None,
            lacks_set_up: None,
            varies: true,
            cases,
        }
    }

    #[test]
    fn intervals_are_students() {
        // 97.5 % quantiles from the usual table.
        for (freedom, table) in [
            (1, 12.7062),
            (11, 2.2010),
            (19, 2.0930),
            (30, 2.0423),
            (120, 1.9799),
        ] {
            assert!((students_t(freedom) - table).abs() < 2e-4, "{freedom}");
        }
        let sample = Sample::of(&[1.0, 2.0, 3.0]).unwrap();
        assert_eq!(sample.mean, 2.0);
        assert!((sample.half_width.unwrap() - 4.3027 / 3.0_f64.sqrt()).abs() < 1e-9);
        assert_eq!(Sample::of(&[4.0]).unwrap().half_width, None);
        assert_eq!(Sample::of(&[]), None);
    }

    #[test]
    fn the_profile_that_predicts_is_named() {
        let mut comparison = comparison(vec![case("lcf", 1, 100.0, 2)]);
        assert_eq!(comparison.to_json()["profile"], Value::Null);
        comparison.profile = Some("profiles/cpu.toml".to_owned());
        assert_eq!(comparison.to_json()["profile"], "profiles/cpu.toml");
        let told = comparison.render();
        assert!(
            told.contains("times of compute from profiles/cpu.toml"),
            "{told}"
        );
        assert!(!told.contains("rehearse"), "{told}");
        assert!(comparison.to_json().get("lacks_set_up").is_none());
        comparison.lacks_set_up = Some("`four` has none; measure it".to_owned());
        assert_eq!(
            comparison.to_json()["lacks_set_up"],
            "`four` has none; measure it"
        );
        let told = comparison.render();
        assert!(
            told.ends_with("before they train: `four` has none; measure it.\n"),
            "{told}"
        );
    }

    #[test]
    fn only_what_is_simulated_is_the_same_under_every_seed() {
        let mut measured = case("lcf", 2, 100.0, 2);
        measured.measured = true;
        let mut comparison = comparison(vec![case("lcf", 1, 100.0, 2)]);
        comparison.varies = false;
        let heading =
            |comparison: &Comparison| comparison.render().lines().next().map(str::to_owned);
        let told = heading(&comparison).unwrap();
        assert!(told.ends_with("analytic; the same under every seed, since it has no [draw]"));
        comparison.cases.push(measured);
        let told = heading(&comparison).unwrap();
        assert!(told.contains("2 seeds (1 to 2), mean"), "{told}");
        assert!(
            told.contains("; simulated the same under every seed"),
            "{told}"
        );
    }

    #[test]
    fn a_run_that_came_to_no_end_keeps_its_row_and_its_reason() {
        let mut cases = vec![case("lcf", 1, 100.0, 2), case("ldf", 1, 80.0, 2)];
        cases[0].outcome = Outcome::failed(2, "failed to start the workers: no memory");
        assert_eq!(cases[0].outcome.makespan_s(), None);
        assert_eq!(cases[1].outcome.makespan_s(), Some(80.0));
        let comparison = comparison(cases);
        assert!(!comparison.succeeded());
        let told = comparison.render();
        assert!(
            told.contains("failed to start the workers: no memory"),
            "{told}"
        );
        let rows = &comparison.to_json()["points"][0]["rows"];
        assert_eq!(rows[0]["mean_jct_s"], Value::Null);
        assert_eq!(rows[1]["mean_jct_s"]["mean"], 80.0);
    }

    #[test]
    fn savings_pair_seeds_and_leave_unfinished_runs_out() {
        let comparison = comparison(vec![
            case("bace-pipe", 1, 50.0, 2),
            case("bace-pipe", 2, 90.0, 2),
            case("bace-pipe", 3, 10.0, 2),
            case("lcf", 1, 100.0, 2),
            case("lcf", 2, 100.0, 2),
            case("lcf", 3, 10.0, 1),
        ]);
        let rows = comparison.rows("");
        assert_eq!(rows[0].savings, [None, None]);
        let saving = rows[1].savings[0].unwrap();
        assert!((saving.mean - 0.3).abs() < 1e-12, "{saving:?}");
        assert_eq!(saving.count, 2);
        assert_eq!((rows[1].finished, rows[1].jobs), (5, 6));
        assert_eq!(rows[1].unfinished, Some("big refused: too big"));
        assert!(!comparison.succeeded());
    }
}
