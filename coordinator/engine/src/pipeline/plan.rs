//! The program of a placed job.

use bace_api::{Program, Record};
use bace_models::StageMemory;
use bace_netem::BitRate;

use super::depth::{DepthCut, StageRoom, depths};
use super::generate;
use crate::{Scenario, Start};

/// What one tensor takes over a stage boundary, in either direction.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BoundaryTime {
    /// From its first bit leaving to its last bit leaving, seconds; infinite on a dead link.
    pub transfer_s: f64,
    /// From a bit's leaving to its arrival, seconds.
    pub delay_s: f64,
}

/// A placed job's program and where it comes from.
#[derive(Debug, Clone, PartialEq)]
pub struct PipelinePlan {
    /// What every stage does in every iteration.
    pub program: Program,
    /// Forwards of each stage before its first backward.
    pub depths: Vec<u32>,
    /// Where memory did not allow the depth that the links ask for.
    pub cuts: Vec<DepthCut>,
    /// Times of the boundaries that the depths were made for, K − 1 of them.
    pub boundaries: Vec<BoundaryTime>,
}

/// The program of a job that is about to start.
pub fn plan(scenario: &Scenario, start: &Start) -> PipelinePlan {
    let job = &scenario.jobs[start.job.index()];
    let placement = &start.placement;
    let bytes = job.boundary_bytes();
    let boundaries: Vec<BoundaryTime> = start
        .rates
        .iter()
        .zip(&start.delays_s)
        .map(|(&rate, &delay_s)| BoundaryTime {
            transfer_s: BitRate::from_bps(rate)
                .unwrap_or(BitRate::ZERO)
                .seconds_for(bytes),
            delay_s,
        })
        .collect();
    let rooms: Vec<StageRoom> = placement
        .stage_regions()
        .iter()
        .enumerate()
        .map(|(stage, region)| StageRoom {
            memory: StageMemory::of(&job.model, &job.shape, &placement.layers, stage),
            memory_bytes: scenario.regions[region.index()].gpu.memory_bytes,
        })
        .collect();
    let stages = start.stage_seconds.iter();
    let largest_s = stages.map(|stage| stage.micro_batch_s).fold(0.0, f64::max);
    let found = depths(
        job.schedule,
        job.micro_batches,
        largest_s,
        &boundaries,
        &rooms,
    );
    PipelinePlan {
        program: generate(job.micro_batches, &found.depths),
        depths: found.depths,
        cuts: found.cuts,
        boundaries,
    }
}

impl PipelinePlan {
    /// The ledger's record of the plan for `start` at `at_s`.
    pub fn record(&self, scenario: &Scenario, start: &Start, at_s: f64) -> Record {
        let job = &scenario.jobs[start.job.index()];
        Record::Pipeline {
            at_s,
            job: job.name.clone(),
            attempt: start.attempt,
            schedule: job.schedule,
            depths: self.depths.clone(),
            cuts: self.cuts.iter().map(DepthCut::to_string).collect(),
        }
    }
}
