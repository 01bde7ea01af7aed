//! Tables of what runs consist of: jobs, messages, actions, stages, and what is farthest off.

use super::cells::{HOLDER, Kind, error, millis, of_mean, shown, sides};
use super::overheads::EMULATIONS_OWN;
use super::{Compared, Validation, Worst};
use crate::Figure;
use crate::table::{Columns, Scale, UNKNOWN, glued};

/// Stages that still serve a person: those whose compute or waits are farthest off.
const MAX_STAGES: usize = 12;

impl Validation {
    pub(super) fn jobs(&self) -> String {
        let mut table = Columns::new(&[
            "policy",
            "job",
            "JCT (s):\npredicted",
            "\nmeasured",
            "error\n%",
            "floor\n%",
            "iteration:\nerror %",
            "floor\n%",
            "queueing:\noff s",
            "cost:\nerror %",
        ])
        .rest_in(HOLDER);
        for policy in &self.policies {
            let jcts: Vec<&Compared> = policy.jobs.iter().map(|job| &job.jct_s).collect();
            let scale = Kind::Time.scale(&jcts);
            for job in &policy.jobs {
                let queueing = job
                    .queueing_s
                    .differences
                    .errors
                    .clone()
                    .map(|errors| errors.bias);
                let queueing_scale = Scale::plain(std::iter::once(&queueing));
                table.row(
                    [
                        vec![policy.policy.clone(), job.job.clone()],
                        sides(&job.jct_s, &scale),
                        error(&job.jct_s),
                        error(&job.iteration_s),
                        vec![
                            queueing_scale.show(&queueing),
                            error(&job.cost_usd).swap_remove(0),
                        ],
                    ]
                    .concat(),
                );
            }
        }
        table.wrap(1);
        table.finish("jobs")
    }

    /// Jobs of whose excess over the prediction more than half is in no prediction, with what it went to; empty where there are none.
    pub(super) fn overheads(&self) -> String {
        let jobs = self.policies.iter().flat_map(|policy| {
            let known = policy.jobs.iter();
            let known = known.filter_map(|job| Some((job, job.overheads.known()?)));
            known.map(move |(job, found)| (&policy.policy, &job.job, found))
        });
        let jobs: Vec<_> = jobs.filter(|(.., found)| found.are_most_of_it()).collect();
        if jobs.is_empty() {
            return String::new();
        }
        let mut causes = EMULATIONS_OWN.to_vec();
        causes.retain(|&cause| {
            jobs.iter()
                .any(|(.., found)| found.seconds(cause).is_some())
        });
        let mut headings = vec!["policy", "job", "longer"];
        headings.extend(causes.iter().map(|cause| cause.name()));
        let mut table = Columns::new(&headings).rest_in(HOLDER);
        for (policy, job, found) in jobs {
            let spent = causes.iter().map(|&cause| found.seconds(cause));
            let seconds = std::iter::once(Some(found.longer_s)).chain(spent);
            let mut row = vec![policy.clone(), job.clone()];
            row.extend(seconds.map(|seconds| {
                seconds.map_or_else(|| UNKNOWN.to_owned(), |seconds| format!("{seconds:.3}"))
            }));
            table.row(row);
        }
        table.wrap(1);
        table.finish("jobs")
    }

    pub(super) fn links(&self) -> String {
        let mut table = Columns::new(&[
            "policy",
            "link",
            "transit (ms):\npredicted",
            "\nmeasured",
            "error\n%",
            "floor\n%",
            "queued (ms):\npredicted",
            "\nmeasured",
            "late",
        ])
        .rest_in(HOLDER);
        for policy in &self.policies {
            for link in &policy.links {
                let name = if link.from == link.to {
                    format!("inside {}", link.from)
                } else {
                    format!("{} → {}", link.from, link.to)
                };
                let late = link.late;
                table.row(
                    [
                        vec![policy.policy.clone(), name],
                        millis(&link.transit_s),
                        of_mean(&link.transit_s),
                        millis(&link.queued_s),
                        vec![format!("{}/{}", late.late, late.messages)],
                    ]
                    .concat(),
                );
            }
        }
        table.wrap(1);
        table.finish("links")
    }

    pub(super) fn kinds(&self) -> String {
        let mut table = Columns::new(&[
            "policy",
            "kind",
            "count",
            "mean (ms):\npredicted",
            "\nmeasured",
            "error\n%",
            "floor\n%",
            "off (ms):\nmean",
            "\nmost",
        ])
        .rest_in(HOLDER);
        for policy in &self.policies {
            for of in &policy.kinds {
                let off = &of.duration_s.differences;
                let count = off.errors.known().map_or(0, |errors| errors.count);
                table.row(
                    [
                        vec![
                            policy.policy.clone(),
                            glued(of.kind.name()),
                            count.to_string(),
                        ],
                        millis(&of.duration_s),
                        of_mean(&of.duration_s),
                        vec![
                            shown(off, |it| it.mean, |ms| format!("{:.2}", ms * 1e3)),
                            shown(off, |it| it.max, |ms| format!("{:.2}", ms * 1e3)),
                        ],
                    ]
                    .concat(),
                );
            }
        }
        table.finish("kinds")
    }

    pub(super) fn stages(&self) -> String {
        let off = |compared: &Compared| {
            compared
                .differences
                .errors
                .known()
                .map_or(0.0, |errors| errors.mean)
        };
        let stages = self
            .policies
            .iter()
            .flat_map(|policy| policy.stages.iter().map(move |stage| (policy, stage)));
        let mut stages: Vec<_> = stages.collect();
        stages.sort_by(|(_, one), (_, two)| {
            let [one, two] = [one, two].map(|stage| off(&stage.compute_s).max(off(&stage.wait_s)));
            two.total_cmp(&one)
        });
        let mut table = Columns::new(&[
            "policy",
            "job",
            "stage",
            "compute (ms):\npredicted",
            "\nmeasured",
            "error\n%",
            "waits (ms):\npredicted",
            "\nmeasured",
            "error\n%",
        ])
        .rest_in(HOLDER);
        for (policy, stage) in stages.into_iter().take(MAX_STAGES) {
            table.row(
                [
                    vec![
                        policy.policy.clone(),
                        stage.job.clone(),
                        stage.stage.to_string(),
                    ],
                    millis(&stage.compute_s),
                    of_mean(&stage.compute_s)[..1].to_vec(),
                    millis(&stage.wait_s),
                    of_mean(&stage.wait_s)[..1].to_vec(),
                ]
                .concat(),
            );
        }
        table.wrap(1);
        table.finish("stages")
    }
}

/// The figures that are farthest off.
pub(super) fn worst(all: &[Worst]) -> String {
    let mut table = Columns::new(&[
        "where",
        "predicted s",
        "measured s",
        "error %",
        "what differs most",
    ])
    .rest_in(HOLDER);
    for worst in all {
        let differs = match &worst.differs_most {
            Figure::Known(part) => part.to_string(),
            Figure::Unknown(why) => format!("unknown: {why}"),
        };
        table.row(vec![
            worst.place.to_string(),
            format!("{:.3}", worst.predicted_s.0),
            format!("{:.3}", worst.measured_s.0),
            format!("{:+.2}", worst.error * 100.0),
            differs,
        ]);
    }
    table.wrap(4);
    table.finish("places")
}
