//! Where a job's stages run.

use std::ops::Range;

use bace_netem::{LinkId, RegionId};
use serde::{Deserialize, Serialize};

use crate::StageIndex;

/// GPUs that a placement takes in one region.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegionGpus {
    /// The region.
    pub region: RegionId,
    /// GPUs there, at least 1; each runs one stage.
    pub gpus: u32,
}

/// A pipeline's place: stages 0.. go to the first region of the path, the next ones to the second, and so on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// Regions in pipeline order, each at most once.
    pub path: Vec<RegionGpus>,
    /// Layers of each stage, each at least 1; as many entries as GPUs on the path.
    pub layers: Vec<u32>,
}

/// What lies between a stage and the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Boundary {
    /// Both stages are in this region: its fabric, never shared.
    Fabric(RegionId),
    /// The stages are in two regions; activations take this link, gradients its reverse.
    Link(LinkId),
}

impl Placement {
    /// Stages of the pipeline, K.
    pub fn stages(&self) -> u32 {
        self.path.iter().map(|part| part.gpus).sum()
    }

    /// The region of every stage, in stage order.
    pub fn stage_regions(&self) -> Vec<RegionId> {
        self.path
            .iter()
            .flat_map(|part| std::iter::repeat_n(part.region, part.gpus as usize))
            .collect()
    }

    /// The boundaries between successive stages, K − 1 of them.
    pub fn boundaries(&self) -> Vec<Boundary> {
        self.stage_regions()
            .windows(2)
            .map(|pair| {
                if pair[0] == pair[1] {
                    Boundary::Fabric(pair[0])
                } else {
                    Boundary::Link(LinkId::new(pair[0], pair[1]))
                }
            })
            .collect()
    }

    /// The inter-region links that activations take, in path order; gradients take the reverse of each.
    pub fn links(&self) -> impl Iterator<Item = LinkId> + '_ {
        self.path
            .windows(2)
            .map(|pair| LinkId::new(pair[0].region, pair[1].region))
    }

    /// The model's layers that `stage` holds.
    pub fn layers_of(&self, stage: StageIndex) -> Range<u32> {
        let first: u32 = self.layers[..stage.index()].iter().sum();
        first..first + self.layers[stage.index()]
    }
}
