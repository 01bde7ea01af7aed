//! One start of the job: where, how cut, how it trained.

use std::collections::{BTreeMap, BTreeSet};

use bace_api::{
    ClockKind, ComputeRung, Iteration, PathOutcome, PathReason, PlacementReason, Record, StageSetUp,
};
use bace_ledger::{AttemptLog, Attributed, Figure, path_text, percent};

use super::story::Told;
use super::words::{
    compared, count, dollars, duration, list, numbers, path, rate, seconds, sentence,
};

/// Paths given up that still serve a person.
const MAX_PATHS: usize = 6;

/// A part of a stage's set-up of less than this share of it is not told.
const LEAST_SET_UP_SHARE: f64 = 0.01;

/// Where it was placed and why.
pub fn placement(start: &AttemptLog, place: usize) -> Vec<String> {
    let again = match place {
        0 => String::new(),
        again => format!(" again, for start {},", again + 1),
    };
    let mut sentences = vec![format!(
        "At {} it was placed{again} on {}: {}, where {} would be fastest on an unlimited cluster (K*).",
        seconds(start.placed_s),
        path(&start.path),
        count(start.k().into(), "stage"),
        start.k_star
    )];
    match serde_json::from_value::<PlacementReason>(start.reason.clone()) {
        Ok(reason) => sentences.extend(reasons(&reason)),
        Err(_) => sentences.push(
            "Why there, its ledger says in a form that this program does not read.".to_owned(),
        ),
    }
    sentences
}

fn reasons(reason: &PlacementReason) -> Vec<String> {
    let mut sentences = Vec::new();
    if let Some(k_full) = reason.k_full {
        sentences.push(format!(
            "On the idle cluster it could get {k_full} at most (K°)."
        ));
    }
    if let Some(terms) = &reason.priority {
        let aging = match terms.aging {
            0.0 => String::new(),
            aging => format!(", and waiting had gained it {aging:.3}"),
        };
        sentences.push(format!(
            "Its priority was {:.3} (the highest goes first): its compute was {:.3} and its bandwidth {:.3} of the largest among those \
             that waited, itself included; {} of the capacity of links was in use{aging}.",
            terms.priority,
            terms.intensity,
            terms.sensitivity,
            percent(terms.alpha)
        ));
    }
    let is_chosen = |path: &&PathReason| path.outcome == PathOutcome::Chosen;
    if let Some(chosen) = reason.paths.iter().find(is_chosen) {
        sentences.push(format!("Its path promised {}.", promise(chosen)));
    }
    let given_up: Vec<&PathReason> = reason
        .paths
        .iter()
        .filter(|path| !is_chosen(path))
        .collect();
    if given_up.is_empty() {
        sentences.push("No other path was looked at.".to_owned());
        return sentences;
    }
    let shown = given_up.iter().take(MAX_PATHS).map(|path| fate(path));
    let shown: Vec<String> = shown.collect();
    sentences.push(format!("Given up: {}.", shown.join("; ")));
    if given_up.len() > MAX_PATHS {
        let more = (given_up.len() - MAX_PATHS) as u64;
        sentences.push(format!("So were {}.", count(more, "more path")));
    }
    sentences
}

/// What a candidate would take and cost, as far as it is known.
fn promise(path: &PathReason) -> String {
    let parts = [
        path.iteration_s
            .map(|iteration_s| format!("{} an iteration by formula", seconds(iteration_s))),
        path.cost_usd.map(|usd| {
            format!(
                "{} for the whole job at that instant's prices",
                dollars(usd)
            )
        }),
        path.bottleneck_bps
            .map(|bps| format!("{} left on its fullest link", rate(bps))),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    if parts.is_empty() {
        "nothing that the ledger tells".to_owned()
    } else {
        list(&parts)
    }
}

fn fate(path: &PathReason) -> String {
    let regions = path.regions.iter();
    let name = path_text(regions.map(|(name, gpus)| (name.as_str(), *gpus)));
    let takes = path.iteration_s.map_or_else(String::new, seconds);
    let costs = path.cost_usd.map_or_else(String::new, dollars);
    match &path.outcome {
        PathOutcome::Chosen => format!("{name}, chosen"),
        PathOutcome::TooSlow { limit_s } => format!(
            "{name}, too slow ({takes} an iteration, {} allowed)",
            seconds(*limit_s)
        ),
        PathOutcome::Dearer => format!("{name}, dearer ({costs})"),
        PathOutcome::Tied => format!("{name}, no better and found later"),
        PathOutcome::Stopped { shortfall } => format!("{name}, since {shortfall}"),
    }
}

/// How its pipeline was cut and scheduled.
pub fn pipeline(told: &Told<'_>, start: &AttemptLog) -> Vec<String> {
    let layers: Vec<u32> = start.stages.iter().map(|stage| stage.layers).collect();
    let own = if layers.len() == 1 {
        format!("Its one stage has {}.", count(layers[0].into(), "layer"))
    } else {
        format!("Its stages have {} layers.", numbers(&layers))
    };
    let mut sentences = vec![own];
    if let (Some(of), [_, _, ..]) = (start.schedule, start.depths.as_slice()) {
        sentences.push(format!(
            "Under the schedule {} they begin with {} forwards before their first backward.",
            of.name(),
            numbers(&start.depths)
        ));
    }
    let cuts = told.log.records.iter().filter_map(|record| match record {
        Record::Pipeline {
            job, attempt, cuts, ..
        } if *job == told.summary.name && *attempt == start.attempt => Some(cuts),
        _ => None,
    });
    sentences.extend(cuts.flatten().map(|cut| sentence(cut)));
    sentences
}

/// How training went.
pub fn training(told: &Told<'_>, start: &AttemptLog) -> Vec<String> {
    let mut sentences = Vec::new();
    // Most simulations take no time for it.
    if let Some(training_s) = start.training_s.filter(|at_s| *at_s > start.placed_s) {
        sentences.push(format!(
            "Its start-up took {}; training began at {}.",
            seconds(training_s - start.placed_s),
            seconds(training_s)
        ));
        sentences.extend(slowest_set_up(start));
    }
    let Some(rhythm) = Rhythm::of(start, |_| true) else {
        sentences.push("The ledger holds no iteration that all of its stages ended.".to_owned());
        return sentences;
    };
    let mean_s = rhythm.mean_s();
    let each = if rhythm.count() > 1 {
        " each on average"
    } else {
        ""
    };
    sentences.push(format!(
        "{} took {}{each}, from {} to {}.",
        count(rhythm.count(), "iteration"),
        seconds(mean_s),
        seconds(rhythm.from_s),
        seconds(rhythm.to_s)
    ));
    let against = |other_s: f64| {
        let off = compared(other_s, mean_s);
        let off = off.map_or_else(String::new, |off| format!(" ({off})"));
        format!("{}{off}", seconds(other_s))
    };
    sentences.push(format!(
        "By the scheduler's formula at its placement, which knows no order of work, one takes {}.",
        against(start.iteration_s)
    ));
    let by_events = predicted(told, start, &rhythm).map(|by_events| match by_events {
        Figure::Known(other_s) => format!("By the event model one takes {}.", against(other_s)),
        Figure::Unknown(reason) => format!(
            "What one takes by the event model is unknown: {}.",
            reason.trim_end_matches('.')
        ),
    });
    sentences.extend(by_events);
    sentences.extend(loss(told, start));
    sentences
}

/// What the stage that needed longest to be ready spent that time on.
fn slowest_set_up(start: &AttemptLog) -> Option<String> {
    let told = start.stages.iter().map(|stage| stage.set_up);
    // The slowest may be one that did not tell.
    let told: Vec<StageSetUp> = told.collect::<Option<_>>()?;
    let (stage, set_up) = told
        .iter()
        .enumerate()
        .max_by(|one, other| one.1.seconds().total_cmp(&other.1.seconds()))?;
    let parts = [
        (Some(set_up.connect_s), "connect"),
        (Some(set_up.load_s), "load"),
        (set_up.lease_wait_s, "get its turn on its device"),
        (Some(set_up.rehearse_s), "rehearse"),
    ];
    let least_s = LEAST_SET_UP_SHARE * set_up.seconds();
    let parts = parts
        .into_iter()
        .filter_map(|(took_s, to)| Some((took_s.filter(|&took_s| took_s > least_s)?, to)));
    let parts: Vec<String> = parts
        .map(|(took_s, to)| format!("{} to {to}", duration(took_s)))
        .collect();
    let whose = match start.stages.len() {
        1 => "its one stage".to_owned(),
        _ => format!("stage {stage}, the slowest,"),
    };
    (!parts.is_empty()).then(|| format!("Of it, {whose} took {}.", list(&parts)))
}

/// Mean seconds of the same iterations of the same start in the run's simulation, or why it has none; absent beside a simulation.
fn predicted(told: &Told<'_>, start: &AttemptLog, own: &Rhythm) -> Option<Figure> {
    let simulated = match (told.attributed, told.predicted) {
        (Attributed::Simulated(_), _) => return None,
        (_, Some(simulated)) => simulated,
        (Attributed::Real { predicted, .. }, None) => {
            let reason = predicted.reason().unwrap_or("the run has no simulation");
            return Some(Figure::Unknown(reason.to_owned().into()));
        }
    };
    let unknown = |reason: String| Some(Figure::Unknown(reason.into()));
    let mut starts = simulated
        .job(&told.summary.name)
        .into_iter()
        .flat_map(|job| &job.attempts);
    let Some(same) = starts.find(|of| of.attempt == start.attempt) else {
        return unknown("its simulation has no such start".to_owned());
    };
    if same.path != start.path {
        return unknown(format!(
            "its simulation has this start on {}",
            path(&same.path)
        ));
    }
    match Rhythm::of(same, |iteration| own.iterations.contains(&iteration)) {
        Some(same) if same.iterations == own.iterations => Some(Figure::real(same.mean_s())),
        same => unknown(format!(
            "its simulation has {} of these {} iterations in this start",
            same.map_or(0, |same| same.count()),
            own.count()
        )),
    }
}

fn loss(told: &Told<'_>, start: &AttemptLog) -> Option<String> {
    let header = &told.log.header;
    if header.clock == ClockKind::Virtual {
        return None;
    }
    if header.compute == ComputeRung::Modelled {
        return Some("Nothing was computed, so that there is no loss.".to_owned());
    }
    let last = start.stages.last()?.iterations.values();
    let mut losses = last.filter_map(|done| done.record.loss);
    let first = losses.next()?;
    let whose = if header.scale_models.contains(&told.summary.name) {
        "The loss of the scale model that was trained in its place"
    } else {
        "Its loss"
    };
    Some(match losses.next_back() {
        Some(last) => format!("{whose} went from {first:.3} to {last:.3} nats a token."),
        None => format!("{whose} was {first:.3} nats a token."),
    })
}

/// Iterations that all stages ended.
struct Rhythm {
    iterations: BTreeSet<Iteration>,
    from_s: f64,
    to_s: f64,
}

impl Rhythm {
    /// Those of them that `counts`.
    fn of(start: &AttemptLog, counts: impl Fn(Iteration) -> bool) -> Option<Self> {
        let mut ended: BTreeMap<Iteration, (usize, f64, f64)> = BTreeMap::new();
        let stages = start.stages.iter();
        let all = stages.flat_map(|stage| &stage.iterations);
        for (&iteration, done) in all.filter(|(iteration, _)| counts(**iteration)) {
            let none = (0, f64::INFINITY, f64::NEG_INFINITY);
            let (stages, from_s, to_s) = ended.entry(iteration).or_insert(none);
            *stages += 1;
            *from_s = from_s.min(done.record.from_s);
            *to_s = to_s.max(done.record.to_s);
        }
        ended.retain(|_, (stages, ..)| *stages == start.stages.len());
        let from_s = ended.values().map(|(_, from_s, _)| *from_s);
        let to_s = ended.values().map(|(.., to_s)| *to_s);
        let (from_s, to_s) = (
            from_s.fold(f64::INFINITY, f64::min),
            to_s.fold(f64::NEG_INFINITY, f64::max),
        );
        (!ended.is_empty()).then(|| Self {
            iterations: ended.into_keys().collect(),
            from_s,
            to_s,
        })
    }

    fn count(&self) -> u64 {
        self.iterations.len() as u64
    }

    fn mean_s(&self) -> f64 {
        (self.to_s - self.from_s) / self.count() as f64
    }
}
