//! A validation for people, at most 100 columns wide.

use super::cells::{HOLDER, Kind, WITHIN, error, figure, percent, range, sides, statistics};
use super::part_tables::worst;
use super::{Check, Difference, Ranking, Validation};
use crate::Figure;
use crate::table::{Columns, GLUE, UNKNOWN, glued, paragraph, plain, rung, wrapped};

/// Sentences, and differences with their states, of one sort that still serve a person.
const MAX_TOLD: usize = 12;

/// The title of what predictions have no term for.
const OVERHEADS: &str = "Jobs that took longer than predicted, more than half of it for what the prediction has no term for (s)";

impl Validation {
    /// Tables for people, and the verdict; ends with a line break.
    pub fn render(&self) -> String {
        let mut text = String::new();
        paragraph(&mut text, &self.head());
        paragraph(&mut text, &self.verdict());
        paragraph(&mut text, &self.differences());
        if !self.policies.is_empty() {
            paragraph(&mut text, &legend());
            paragraph(
                &mut text,
                &titled("Errors by policy (%)", self.policy_errors()),
            );
            paragraph(&mut text, &titled("Runs", self.totals()));
            paragraph(
                &mut text,
                &titled(
                    "Ranking of policies, predicted against measured",
                    self.rankings(),
                ),
            );
            paragraph(&mut text, &titled("Jobs", self.jobs()));
            let overheads = self.overheads();
            if !overheads.is_empty() {
                paragraph(&mut text, &titled(OVERHEADS, overheads));
            }
            paragraph(&mut text, &titled("Messages by link", self.links()));
            paragraph(&mut text, &titled("Actions by kind", self.kinds()));
            paragraph(
                &mut text,
                &titled("Stages that are farthest off, an iteration", self.stages()),
            );
            paragraph(
                &mut text,
                &titled("Worst iterations", worst(&self.worst_iterations)),
            );
            paragraph(
                &mut text,
                &titled("Worst job completion times", worst(&self.worst_jcts)),
            );
        }
        paragraph(&mut text, &told("", &self.remarks));
        plain(&text)
    }

    fn head(&self) -> String {
        let Some(subject) = &self.subject else {
            return "Validation of nothing".to_owned();
        };
        let header = &subject.predicted;
        let hash: String = header.scenario_hash.chars().take(12).collect();
        let repeats: Vec<usize> = self.policies.iter().map(|policy| policy.repeats).collect();
        let repeats = match (repeats.iter().min(), repeats.iter().max()) {
            (Some(1), Some(1)) => "1 repeat".to_owned(),
            (Some(least), Some(most)) if least == most => format!("{most} repeats"),
            (Some(least), Some(most)) => format!("{least} to {most} repeats"),
            _ => "no repeats".to_owned(),
        };
        let count = self.policies.len();
        let policies = if count == 1 { "policy" } else { "policies" };
        let mut lines = vec![
            format!(
                "{}, scenario {hash}, seed {}, bace {}: {count} {policies}, {repeats} of each",
                header.scenario, header.seed, header.version
            ),
            format!("predicted: {}", rung(header)),
        ];
        if let Some(measured) = &subject.measured {
            lines.push(format!("measured:  {}", rung(measured)));
            lines.push(format!("on:        {}", measured.machine));
        }
        lines.join("\n")
    }

    fn verdict(&self) -> String {
        let reservations = self.reservations().join("; ");
        let verdict = match (self.passed(), reservations.as_str()) {
            (true, "") => "PASSED: predictions within tolerance of what was measured".to_owned(),
            (true, but) => {
                format!("PASSED, but {but}; predictions within tolerance of what was measured")
            }
            (false, "") => "FAILED: the predictions do not count as right".to_owned(),
            (false, also) => format!("FAILED: the predictions do not count as right; {also}"),
        };
        let mut text = wrapped("", &verdict);
        let faults: Vec<String> = self.faults.clone();
        let faults = told("! ", &faults);
        if !faults.is_empty() {
            text = format!("{text}\n{faults}");
        }
        let mut table = Columns::new(&[
            "largest allowed, and found (%)",
            "iteration mean",
            "iteration max",
            "JCT mean",
            "JCT max",
        ])
        .rest_in(HOLDER);
        let bounds = &self.tolerances;
        let bounds = [
            bounds.iteration_mean,
            bounds.iteration_max,
            bounds.jct_mean,
            bounds.jct_max,
        ];
        table.row([vec!["allowed".to_owned()], bounds.map(percent).to_vec()].concat());
        for checks in self.checks.chunk_by(|one, two| one.policy == two.policy) {
            let policy = checks[0].policy.as_deref().unwrap_or("all policies");
            let cells = checks.iter().map(checked).collect();
            table.row([vec![policy.to_owned()], cells].concat());
        }
        text = format!("{text}\n\n{}", table.finish("checks"));
        let missing = self
            .checks
            .iter()
            .filter_map(|check| Some((check, check.error.reason()?)));
        let missing: Vec<String> = missing
            .map(|(check, why)| format!("{} is unknown: {why}.", whose(check)))
            .collect();
        let drowned = self.checks.iter().filter(|check| check.is_drowned());
        let drowned: Vec<String> = drowned
            .map(|check| format!("{}: the repeats alone are farther apart than the bound; this machine is too noisy to tell.", whose(check)))
            .collect();
        for sentences in [missing, drowned] {
            if !sentences.is_empty() {
                text = format!("{text}\n{}", told("! ", &sentences));
            }
        }
        text
    }

    /// What differs, with what led to it; what differs alike in several repeats is shown once.
    fn differences(&self) -> String {
        let mut groups: Vec<Vec<&Difference>> = Vec::new();
        for difference in self.policies.iter().flat_map(|policy| &policy.differences) {
            match groups.iter_mut().find(|group| group[0].is_like(difference)) {
                Some(group) => group.push(difference),
                None => groups.push(vec![difference]),
            }
        }
        let mut lines = Vec::new();
        for group in groups.iter().take(MAX_TOLD) {
            let mut told = group[0].lines().into_iter();
            lines.extend(told.next());
            lines.extend(told.map(|line| wrapped("  ", &line)));
            let others: Vec<String> = group[1..]
                .iter()
                .map(|other| other.place.repeat.to_string())
                .collect();
            if !others.is_empty() {
                lines.push(format!("  likewise in repeat {}", others.join(", ")));
            }
        }
        if groups.len() > MAX_TOLD {
            lines.push(format!(
                "{} more differences; {HOLDER} holds all",
                groups.len() - MAX_TOLD
            ));
        }
        lines.join("\n")
    }

    fn policy_errors(&self) -> String {
        let mut table = Columns::new(&[
            "policy",
            "of",
            "count",
            "mean",
            "median",
            "p95",
            "max",
            "bias",
            "floor:\nmean",
            "\nmax",
        ])
        .rest_in(HOLDER);
        let all = [("all", &self.iterations, &self.jcts)];
        let each = self
            .policies
            .iter()
            .map(|policy| (policy.policy.as_str(), &policy.iterations, &policy.jcts));
        for (policy, iterations, jcts) in all.into_iter().chain(each) {
            for (what, accuracy) in [("iterations", iterations), ("JCTs", jcts)] {
                table.row(
                    [
                        vec![policy.to_owned(), what.to_owned()],
                        statistics(accuracy),
                    ]
                    .concat(),
                );
            }
        }
        table.finish("lines")
    }

    fn totals(&self) -> String {
        let mut table = Columns::new(&[
            "policy",
            "figure",
            "predicted",
            "measured",
            "lowest",
            "highest",
            "error\n%",
            "floor\n%",
        ])
        .rest_in(HOLDER);
        for policy in &self.policies {
            let totals = &policy.totals;
            let figures = [
                ("mean JCT", &totals.mean_jct_s, Kind::Time),
                ("makespan", &totals.makespan_s, Kind::Time),
                ("mean queueing", &totals.mean_queueing_s, Kind::Time),
                ("cost", &totals.cost_usd, Kind::Money),
                ("energy", &totals.energy_j, Kind::Energy),
            ];
            for (name, compared, kind) in figures {
                let scale = kind.scale(&[compared]);
                let name = format!("{name} ({})", kind.unit(&scale));
                table.row(
                    [
                        vec![policy.policy.clone(), glued(&name)],
                        sides(compared, &scale),
                        range(compared, &scale),
                        error(compared),
                    ]
                    .concat(),
                );
            }
        }
        table.finish("figures")
    }

    fn rankings(&self) -> String {
        if self.policies.len() < 2 {
            return "tau-b unknown: fewer than two policies ran".to_owned();
        }
        let mut lines: Vec<String> = self.rankings.iter().map(ranked).collect();
        for ranking in self
            .rankings
            .iter()
            .filter(|ranking| !ranking.reversed.is_empty())
        {
            let pairs = ranking
                .reversed
                .iter()
                .map(|(predicted, measured)| format!("{predicted} before {measured}"));
            let pairs: Vec<String> = pairs.collect();
            lines.push(format!(
                "by {}, predicted and measured the other way round: {}",
                words(ranking.figure),
                pairs.join(", ")
            ));
        }
        let lines: Vec<String> = lines.iter().map(|line| wrapped("", line)).collect();
        lines.join("\n")
    }
}

fn legend() -> String {
    wrapped(
        "",
        &format!(
            "Errors are (predicted − measured) ÷ measured; positive: the prediction is too long or too dear. The floor is the noise: \
             what the mean of the other repeats would be off as a prediction; of signed errors, half of their 95 % interval over the \
             repeats. {WITHIN} stands behind errors that are within noise, of \
             which nothing can be claimed. {UNKNOWN} is not known."
        ),
    )
}

fn titled(title: &str, content: String) -> String {
    format!("{title}\n{content}")
}

/// Sentences, each on lines of its own.
fn told(mark: &str, sentences: &[String]) -> String {
    let mut lines: Vec<String> = sentences
        .iter()
        .take(MAX_TOLD)
        .map(|sentence| wrapped(mark, sentence))
        .collect();
    if sentences.len() > MAX_TOLD {
        lines.push(format!(
            "{mark}{} more such; {HOLDER} holds all",
            sentences.len() - MAX_TOLD
        ));
    }
    lines.join("\n")
}

fn whose(check: &Check) -> String {
    let policy = check.policy.as_deref().unwrap_or("all policies");
    format!("{policy}, {}", check.what.replace('_', " "))
}

fn checked(check: &Check) -> String {
    let mark = if check.passed() { "ok" } else { "NO" };
    format!("{}{GLUE}{mark}", figure(&check.error, percent))
}

fn words(figure: &str) -> &'static str {
    match figure {
        "mean_jct_s" => "mean JCT",
        "makespan_s" => "makespan",
        _ => "cost",
    }
}

fn ranked(ranking: &Ranking) -> String {
    let tau_b = match &ranking.tau_b {
        Figure::Known(tau_b) => format!("tau-b {tau_b:.2}"),
        Figure::Unknown(why) => format!("tau-b unknown, {why}"),
    };
    let counts = [ranking.agreeing, ranking.reversed.len(), ranking.tied];
    let pairs = match counts {
        [0, 0, 0] => String::new(),
        [agreeing, reversed, tied] => {
            format!("; {agreeing} pairs agree, {reversed} are reversed, {tied} are tied")
        }
    };
    format!(
        "by {}: {tau_b}{pairs}; measured: {}",
        words(ranking.figure),
        ranking.measured.join(", ")
    )
}
