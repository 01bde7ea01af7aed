//! What a scenario says will happen, in order.

use bace_api::JobId;

use crate::{Input, Scenario};

/// An input with its time.
#[derive(Debug, Clone, PartialEq)]
pub struct Scheduled {
    /// Seconds from the start of the run.
    pub at_s: f64,
    /// What happens.
    pub input: Input,
}

/// All arrivals and changes of `scenario` by time; at the same time changes of links, then of GPUs, then arrivals in scenario order.
pub fn agenda(scenario: &Scenario) -> Vec<Scheduled> {
    let links = scenario.link_changes.iter().map(|change| Scheduled {
        at_s: change.at_s,
        input: Input::LinkChanged {
            link: change.link,
            rate: change.rate,
            delay: change.delay,
        },
    });
    let gpus = scenario.gpu_changes.iter().map(|change| Scheduled {
        at_s: change.at_s,
        input: Input::GpusChanged {
            region: change.region,
            gpus: change.gpus,
        },
    });
    let jobs = scenario.jobs.iter().zip(0..).map(|(job, id)| Scheduled {
        at_s: job.arrival_s,
        input: Input::Submitted(JobId(id)),
    });
    let mut agenda: Vec<Scheduled> = links.chain(gpus).chain(jobs).collect();
    agenda.sort_by(|a, b| a.at_s.total_cmp(&b.at_s));
    agenda
}
