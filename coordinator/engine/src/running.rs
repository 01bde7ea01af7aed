//! A placed job.

use bace_api::{Attempt, Boundary, JobId, Placement};
use bace_models::StageSeconds;

use crate::accounts::Accounts;
use crate::estimate::PipelineTimes;
use crate::{Cluster, Rates, Scenario, Start};

/// A job between its start and its end.
#[derive(Debug, Clone)]
pub(crate) struct Running {
    pub attempt: Attempt,
    pub placement: Placement,
    pub stage_seconds: Vec<StageSeconds>,
    pub times: PipelineTimes,
    /// T at the present shares.
    pub iteration_s: f64,
    /// Place among all starts of the run, to tell the latest.
    pub order: u64,
    /// Iterations done when it started.
    pub first_iteration: u32,
    /// Iterations done since the job's first start, as far as reported.
    pub progress: f64,
    pub accounts: Accounts,
}

impl Running {
    /// T at the cluster's present shares and delays.
    pub fn iteration_s_now(&mut self, scenario: &Scenario, cluster: &Cluster, job: JobId) -> f64 {
        let path = &self.placement.path;
        self.times.set_delays(scenario, cluster, path);
        self.times.iteration_s(cluster.share(job, path))
    }

    /// Bits per second of each boundary at the cluster's present shares.
    fn rates(&self, scenario: &Scenario, cluster: &Cluster, job: JobId) -> Vec<f64> {
        self.placement
            .boundaries()
            .into_iter()
            .map(|boundary| match boundary {
                Boundary::Fabric(region) => scenario.regions[region.index()].fabric.rate.bps(),
                Boundary::Link(link) => cluster
                    .share_on(job, link)
                    .min(cluster.share_on(job, link.reversed())),
            })
            .collect()
    }

    /// Seconds of each boundary's delay at present, as activations travel.
    fn delays_s(&self, scenario: &Scenario, cluster: &Cluster) -> Vec<f64> {
        let boundaries = self.placement.boundaries().into_iter();
        let delays = boundaries.map(|boundary| match boundary {
            Boundary::Fabric(region) => scenario.regions[region.index()].fabric.delay.seconds(),
            Boundary::Link(link) => cluster.delay_s(link),
        });
        delays.collect()
    }

    pub fn start(&self, scenario: &Scenario, cluster: &Cluster, job: JobId) -> Start {
        Start {
            job,
            attempt: self.attempt,
            placement: self.placement.clone(),
            stage_seconds: self.stage_seconds.clone(),
            first_iteration: self.first_iteration,
            iteration_s: self.iteration_s,
            rates: self.rates(scenario, cluster, job),
            delays_s: self.delays_s(scenario, cluster),
        }
    }

    pub fn changed_rates(&self, scenario: &Scenario, cluster: &Cluster, job: JobId) -> Rates {
        Rates {
            job,
            attempt: self.attempt,
            iteration_s: self.iteration_s,
            rates: self.rates(scenario, cluster, job),
        }
    }
}
