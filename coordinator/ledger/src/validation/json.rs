//! A validation for programs: units in the names of keys, numbers that are not known null with their reasons beside.

use serde_json::{Value, json};

use super::difference::{Difference, Moment};
use super::state::State;
use super::{
    Accuracy, Check, Compared, ErrorStatistics, JobCompared, KindAccuracy, LinkAccuracy, Overheads,
    PolicyValidation, Ranking, StageAccuracy, Subject, TotalsCompared, Validation, Whereabouts,
    Worst,
};
use crate::Figure;
use crate::json::Object;

impl Validation {
    /// All of it as one JSON object. Numbers that are not known are `null`, and the object beside them called `unknown` says why.
    pub fn to_json(&self) -> Value {
        let bounds = &self.tolerances;
        json!({
            "passed": self.passed(),
            "subject": self.subject.as_ref().map(subject),
            "tolerances": {
                "iteration_mean_share": bounds.iteration_mean,
                "iteration_max_share": bounds.iteration_max,
                "jct_mean_share": bounds.jct_mean,
                "jct_max_share": bounds.jct_max,
            },
            "faults": self.faults,
            "reservations": self.reservations(),
            "remarks": self.remarks,
            "checks": self.checks.iter().map(check).collect::<Vec<_>>(),
            "iterations": accuracy(&self.iterations, Suffix::Share),
            "jcts": accuracy(&self.jcts, Suffix::Share),
            "policies": self.policies.iter().map(policy).collect::<Vec<_>>(),
            "rankings": self.rankings.iter().map(ranking).collect::<Vec<_>>(),
            "worst_iterations": self.worst_iterations.iter().map(worst).collect::<Vec<_>>(),
            "worst_jcts": self.worst_jcts.iter().map(worst).collect::<Vec<_>>(),
        })
    }
}

/// The unit in which a figure's keys end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Suffix {
    Share,
    Seconds,
    Dollars,
    Joules,
}

impl Suffix {
    fn of(self, name: &str) -> String {
        let unit = match self {
            Self::Share => "share",
            Self::Seconds => "s",
            Self::Dollars => "usd",
            Self::Joules => "j",
        };
        format!("{name}_{unit}")
    }
}

fn subject(subject: &Subject) -> Value {
    let header = &subject.predicted;
    let measured = subject.measured.as_ref();
    json!({
        "scenario": header.scenario,
        "scenario_hash": header.scenario_hash,
        "seed": header.seed,
        "version": header.version,
        "predicted_rung": {
            "clock": header.clock,
            "compute": header.compute,
            "network": header.network,
            "iteration_model": header.iteration_model,
        },
        "measured_rung": measured.map(|header| json!({
            "clock": header.clock,
            "compute": header.compute,
            "network": header.network,
            "time_scale": header.time_scale.unwrap_or(1.0),
        })),
        "machine": measured.map(|header| &header.machine),
        "profile": header.profile,
    })
}

fn check(check: &Check) -> Value {
    let mut object = Object::from(json!({
        "policy": check.policy,
        "what": check.what,
        "bound_share": check.bound,
        "passed": check.passed(),
        "is_drowned_in_noise": check.is_drowned(),
    }));
    object
        .figure("error_share", &check.error)
        .figure("noise_share", &check.noise);
    object.into_value()
}

fn statistics(statistics: &ErrorStatistics, suffix: Suffix) -> Value {
    let figures = [
        ("mean", statistics.mean),
        ("median", statistics.median),
        ("p95", statistics.p95),
        ("max", statistics.max),
        ("bias", statistics.bias),
    ];
    let mut object = Object::from(json!({"count": statistics.count}));
    for (name, value) in figures {
        object.put(&suffix.of(name), value.into());
    }
    object.into_value()
}

fn accuracy(accuracy: &Accuracy, suffix: Suffix) -> Value {
    let json = |figure: &Figure<ErrorStatistics>| figure.clone().map(|it| statistics(&it, suffix));
    let within = accuracy.within_noise().map(|within| {
        json!({
            "mean": within.mean,
            "median": within.median,
            "p95": within.p95,
            "max": within.max,
            "bias": within.bias,
        })
    });
    let mut object = Object::from(json!({"within_noise": within}));
    object
        .figure("errors", &json(&accuracy.errors))
        .figure("noise", &json(&accuracy.noise));
    object.into_value()
}

fn compared(compared: &Compared, suffix: Suffix) -> Value {
    let repeats: Vec<Option<f64>> = compared
        .repeats
        .iter()
        .map(|it| it.map(|it| it.0))
        .collect();
    let mut object = Object::from(json!({
        "shares": accuracy(&compared.shares, Suffix::Share),
        "differences": accuracy(&compared.differences, suffix),
    }));
    object.put(&suffix.of("repeats"), repeats.into());
    object
        .figure(
            &suffix.of("predicted"),
            &compared.predicted.clone().map(|it| it.0),
        )
        .figure(
            &suffix.of("measured"),
            &compared.measured.clone().map(|it| it.0),
        );
    object.into_value()
}

fn policy(policy: &PolicyValidation) -> Value {
    let left_out = policy
        .left_out
        .iter()
        .map(|out| json!({"repeat": out.repeat, "job": out.job, "why": out.why}));
    json!({
        "policy": policy.policy,
        "repeats": policy.repeats,
        "faults": policy.faults,
        "remarks": policy.remarks,
        "differences": policy.differences.iter().map(difference).collect::<Vec<_>>(),
        "left_out": left_out.collect::<Vec<_>>(),
        "unjoined_iterations": policy.unjoined_iterations,
        "iterations": accuracy(&policy.iterations, Suffix::Share),
        "jcts": accuracy(&policy.jcts, Suffix::Share),
        "totals": totals(&policy.totals),
        "jobs": policy.jobs.iter().map(job).collect::<Vec<_>>(),
        "kinds": policy.kinds.iter().map(kind).collect::<Vec<_>>(),
        "links": policy.links.iter().map(link).collect::<Vec<_>>(),
        "stages": policy.stages.iter().map(stage).collect::<Vec<_>>(),
    })
}

fn totals(totals: &TotalsCompared) -> Value {
    json!({
        "mean_jct": compared(&totals.mean_jct_s, Suffix::Seconds),
        "makespan": compared(&totals.makespan_s, Suffix::Seconds),
        "mean_queueing": compared(&totals.mean_queueing_s, Suffix::Seconds),
        "cost": compared(&totals.cost_usd, Suffix::Dollars),
        "energy": compared(&totals.energy_j, Suffix::Joules),
    })
}

fn job(job: &JobCompared) -> Value {
    let overheads = job.overheads.clone().map(|found| overheads(&found));
    let mut object = Object::from(json!({
        "job": job.job,
        "jct": compared(&job.jct_s, Suffix::Seconds),
        "queueing": compared(&job.queueing_s, Suffix::Seconds),
        "set_up": compared(&job.set_up_s, Suffix::Seconds),
        "iteration": compared(&job.iteration_s, Suffix::Seconds),
        "cost": compared(&job.cost_usd, Suffix::Dollars),
        "energy": compared(&job.energy_j, Suffix::Joules),
    }));
    object.figure("overheads", &overheads);
    object.into_value()
}

fn overheads(found: &Overheads) -> Value {
    let mut object = Object::from(json!({
        "longer_s": found.longer_s,
        "total_s": found.total_s(),
        "are_most_of_it": found.are_most_of_it(),
    }));
    for &(cause, seconds) in &found.by_cause {
        object.put(cause.key(), seconds.into());
    }
    object.into_value()
}

fn kind(of: &KindAccuracy) -> Value {
    json!({
        "kind": of.kind.name().replace(' ', "_"),
        "duration": compared(&of.duration_s, Suffix::Seconds),
    })
}

fn link(of: &LinkAccuracy) -> Value {
    json!({
        "from": of.from,
        "to": of.to,
        "transit": compared(&of.transit_s, Suffix::Seconds),
        "queued": compared(&of.queued_s, Suffix::Seconds),
        "measured_messages": of.late.messages,
        "measured_late": of.late.late,
        "measured_late_total_s": of.late.total_s,
        "measured_late_worst_s": of.late.worst_s,
    })
}

fn stage(of: &StageAccuracy) -> Value {
    json!({
        "job": of.job,
        "stage": of.stage,
        "compute": compared(&of.compute_s, Suffix::Seconds),
        "wait": compared(&of.wait_s, Suffix::Seconds),
    })
}

fn ranking(ranking: &Ranking) -> Value {
    let reversed = ranking.reversed.iter();
    let reversed = reversed.map(
        |(predicted, measured)| json!({"better_predicted": predicted, "better_measured": measured}),
    );
    let mut object = Object::from(json!({
        "by": ranking.figure,
        "predicted": ranking.predicted,
        "measured": ranking.measured,
        "agreeing_pairs": ranking.agreeing,
        "reversed_pairs": reversed.collect::<Vec<_>>(),
        "tied_pairs": ranking.tied,
    }));
    object.figure("tau_b", &ranking.tau_b);
    object.into_value()
}

fn worst(worst: &Worst) -> Value {
    let part = worst.differs_most.clone().map(|it| {
        json!({
            "part": it.part.name().replace([' ', '-'], "_"),
            "stage": it.stage,
            "difference_s": it.difference_s,
        })
    });
    let mut object = Object::from(json!({
        "place": place(&worst.place),
        "predicted_s": worst.predicted_s.0,
        "measured_s": worst.measured_s.0,
        "error_share": worst.error,
    }));
    object.figure("differs_most", &part);
    object.into_value()
}

fn place(place: &Whereabouts) -> Value {
    json!({
        "policy": place.policy,
        "repeat": place.repeat,
        "job": place.job,
        "attempt": place.attempt,
        "iteration": place.iteration,
        "stage": place.stage,
        "action": place.action,
    })
}

fn difference(difference: &Difference) -> Value {
    json!({
        "place": place(&difference.place),
        "what": difference.what,
        "predicted": moment(&difference.predicted),
        "measured": moment(&difference.measured),
    })
}

fn moment(moment: &Moment) -> Value {
    json!({"did": moment.did, "reason": moment.reason, "state": state(&moment.state)})
}

fn state(state: &State) -> Value {
    let running = state
        .running
        .iter()
        .map(|it| json!({"job": it.job, "path": it.path, "iterations": it.iterations}));
    let waiting = state
        .waiting
        .iter()
        .map(|it| json!({"job": it.job, "since_s": it.since_s, "iterations": it.iterations}));
    let free = state
        .free_gpus
        .iter()
        .map(|(region, gpus)| json!({"region": region, "free_gpus": gpus}));
    json!({
        "at_s": state.at_s,
        "running": running.collect::<Vec<_>>(),
        "waiting": waiting.collect::<Vec<_>>(),
        "regions": free.collect::<Vec<_>>(),
    })
}
