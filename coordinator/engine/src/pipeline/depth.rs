//! How many forwards a stage runs before its first backward.

use std::fmt;

use bace_api::Schedule;
use bace_models::StageMemory;
use serde::Serialize;

use super::plan::BoundaryTime;

/// Round trips shorter than this share of a stage's time need no further micro-batch: what little stalls they cause
/// costs less than the memory.
const ROUND_TRIP_SLACK: f64 = 0.05;

/// Depths of all stages.
#[derive(Debug, Clone, PartialEq)]
pub struct Depths {
    /// Forwards of each stage before its first backward; at least 1, never more than the stage before has.
    pub depths: Vec<u32>,
    /// Where memory did not allow the depth that the links ask for.
    pub cuts: Vec<DepthCut>,
}

/// A depth that was cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct DepthCut {
    /// The stage, from 0.
    pub stage: u32,
    /// What hides the round trips.
    pub wanted: u32,
    /// What the stage runs.
    pub granted: u32,
    /// Micro-batches in flight that its GPU's memory holds; less than `granted` where plain 1F1B needs more.
    pub fits: u64,
}

impl fmt::Display for DepthCut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "stage {} starts with {} forwards instead of {}: its GPU's memory, or that of a stage before it, holds no more \
             (here {} micro-batches in flight)",
            self.stage, self.granted, self.wanted, self.fits
        )
    }
}

/// A stage's memory and the GPU it is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StageRoom {
    /// What the stage needs.
    pub memory: StageMemory,
    /// What its GPU has, bytes.
    pub memory_bytes: u64,
}

/// The depths of `rooms.len()` stages for an iteration of `micro_batches`.
///
/// `stage_s` is the largest stage time; `boundaries` are those between successive stages. Eager 1F1B is cut to what fits
/// into memory, but never below plain 1F1B: K_min, which counts no activations, vouches for that.
/// A cut stage cuts those behind it, which could never get as many activations.
pub fn depths(
    schedule: Schedule,
    micro_batches: u32,
    stage_s: f64,
    boundaries: &[BoundaryTime],
    rooms: &[StageRoom],
) -> Depths {
    let stages = rooms.len() as u32;
    let plain = |stage: u32| (stages - stage).min(micro_batches);
    match schedule {
        Schedule::GPipe => Depths {
            depths: vec![micro_batches; rooms.len()],
            cuts: Vec::new(),
        },
        Schedule::OneFOneB => Depths {
            depths: (0..stages).map(plain).collect(),
            cuts: Vec::new(),
        },
        Schedule::Eager1F1B => {
            let wanted = eager(micro_batches, stage_s, boundaries);
            let mut allowed = u32::MAX;
            let mut found = Depths {
                depths: Vec::with_capacity(rooms.len()),
                cuts: Vec::new(),
            };
            for ((stage, &wanted), room) in (0..stages).zip(&wanted).zip(rooms) {
                let fits = room.memory.most_in_flight(room.memory_bytes);
                let room_for = u32::try_from(fits).unwrap_or(u32::MAX).max(plain(stage));
                allowed = allowed.min(room_for);
                let granted = wanted.min(allowed);
                if granted < wanted {
                    found.cuts.push(DepthCut {
                        stage,
                        wanted,
                        granted,
                        fits,
                    });
                }
                found.depths.push(granted);
            }
            found
        }
    }
}

/// docs/scheduling.md section 10: w_{K−1} = 1, w_i = w_{i+1} + 1 + ceil(max(0, 2·(8·A/β_i + d_i)/t − 0.05)), at most M.
fn eager(micro_batches: u32, stage_s: f64, boundaries: &[BoundaryTime]) -> Vec<u32> {
    let most = f64::from(micro_batches);
    let mut depth = 1.0_f64;
    let mut depths = vec![depth.min(most) as u32];
    for boundary in boundaries.iter().rev() {
        let round_trip = 2.0 * (boundary.transfer_s + boundary.delay_s) / stage_s;
        // A dead link or a stage without work gives infinity or no number at all: as deep as it goes.
        let extra = (round_trip - ROUND_TRIP_SLACK).max(0.0).ceil();
        depth = if round_trip.is_nan() {
            most
        } else {
            (depth + 1.0 + extra).min(most)
        };
        depths.push(depth as u32);
    }
    depths.reverse();
    depths
}
