//! A directed link and who shares it.

use bace_api::JobId;
use bace_netem::{BitRate, Delay, LinkSpec, max_min_shares};

const BITS_PER_BYTE: f64 = 8.0;

/// A link between regions and the flows that may use it.
#[derive(Debug)]
pub(super) struct SharedLink {
    /// As it is at present.
    pub spec: LinkSpec,
    /// Job and index of its flow.
    pub users: Vec<(JobId, usize)>,
    credit: Option<Credit>,
}

/// A flow with something under way.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Claim {
    pub job: JobId,
    /// Index of the flow among the job's.
    pub flow: usize,
    /// Tensors under way.
    pub parts: usize,
    /// The most that each can take, bit/s; may be infinite.
    pub cap_bps: f64,
}

/// What a link gives to each of its claims.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Shares {
    capacity_bps: f64,
    parts: Parts,
}

/// What each part of a claim gets, bit/s.
#[derive(Debug, Clone, PartialEq)]
enum Parts {
    /// All the same.
    Equal(f64),
    /// By claim.
    Each(Vec<f64>),
}

/// What each tensor under way of a flow gets of its link, bit/s.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct FlowRate {
    /// At present.
    pub given_bps: f64,
    /// If no other job used the link.
    pub alone_bps: f64,
}

impl Shares {
    /// What each part of `claim`, which is at `place`, gets.
    pub fn of(&self, place: usize, claim: &Claim) -> FlowRate {
        FlowRate {
            given_bps: self.parts.of(place),
            alone_bps: claim.cap_bps.min(self.capacity_bps / claim.parts as f64),
        }
    }
}

impl Parts {
    fn of(&self, place: usize) -> f64 {
        match self {
            Self::Equal(share_bps) => *share_bps,
            Self::Each(shares) => shares[place],
        }
    }
}

impl FlowRate {
    /// The share of the time that the link gives to other jobs.
    pub fn share_of_others(self) -> f64 {
        // A dead link serves nobody.
        if self.alone_bps > 0.0 {
            (1.0 - self.given_bps / self.alone_bps).max(0.0)
        } else {
            0.0
        }
    }
}

/// A bucket of burst credit as a fluid: what is sent at more than the sustained rate empties it.
#[derive(Debug, Clone, Copy)]
struct Credit {
    depth_bits: f64,
    left_bits: f64,
    /// At which it fills.
    sustained_bps: f64,
    /// At which it is used.
    used_bps: f64,
    updated_s: f64,
}

impl SharedLink {
    /// The idle link of `spec`, its bucket of credit full if it has one.
    pub fn new(spec: &LinkSpec) -> Self {
        let burst = spec.burst.zip(spec.credit_depth_bytes());
        let credit = burst.map(|(burst, depth_bytes)| Credit {
            depth_bits: BITS_PER_BYTE * depth_bytes as f64,
            left_bits: BITS_PER_BYTE * depth_bytes as f64,
            sustained_bps: burst.sustained.bps(),
            used_bps: 0.0,
            updated_s: 0.0,
        });
        Self {
            spec: *spec,
            users: Vec::new(),
            credit,
        }
    }

    /// What the link gives from now on, besides all else that its spec says.
    pub fn set(&mut self, rate: BitRate, delay: Delay) {
        (self.spec.rate, self.spec.delay) = (rate, delay);
    }

    /// Divides the link among `claims` from `at_s` on.
    ///
    /// All parts get the same, but for those that can take no more than less.
    pub fn divide(&mut self, at_s: f64, claims: &[Claim]) -> Shares {
        let capacity_bps = self.capacity_bps(at_s);
        let parts: usize = claims.iter().map(|claim| claim.parts).sum();
        let equal_bps = capacity_bps / parts as f64;
        let given = if claims.iter().all(|claim| claim.cap_bps >= equal_bps) {
            Parts::Equal(equal_bps)
        } else {
            Parts::Each(capped(capacity_bps, claims))
        };
        if let Some(credit) = &mut self.credit {
            let used = claims.iter().enumerate();
            let used = used.map(|(place, claim)| claim.parts as f64 * given.of(place));
            credit.used_bps = used.sum();
        }
        Shares {
            capacity_bps,
            parts: given,
        }
    }

    /// When the bucket of credit is empty if all stays as it is; infinite if it does not get there.
    pub fn empty_s(&self) -> f64 {
        self.credit.map_or(f64::INFINITY, |credit| credit.empty_s())
    }

    fn capacity_bps(&mut self, at_s: f64) -> f64 {
        let rate_bps = self.spec.rate.bps();
        match &mut self.credit {
            None => rate_bps,
            Some(credit) => {
                credit.pass_to(at_s);
                if credit.left_bits > 0.0 {
                    rate_bps
                } else {
                    rate_bps.min(credit.sustained_bps)
                }
            }
        }
    }
}

impl Credit {
    /// Uses this close to the sustained rate, relative, are it: the bucket stays as full as it is.
    const SAME: f64 = 1e-9;
    /// Less than this is nothing: by so much a bucket may miss its end where times are rounded.
    const EMPTY_BITS: f64 = 64.0;

    fn drain_bps(&self) -> f64 {
        let drain_bps = self.used_bps - self.sustained_bps;
        if drain_bps.abs() <= Self::SAME * self.sustained_bps {
            0.0
        } else {
            drain_bps
        }
    }

    fn pass_to(&mut self, at_s: f64) {
        let passed_s = (at_s - self.updated_s).max(0.0);
        let left_bits = self.left_bits - passed_s * self.drain_bps();
        self.left_bits = if left_bits < Self::EMPTY_BITS {
            0.0
        } else {
            left_bits.min(self.depth_bits)
        };
        self.updated_s = self.updated_s.max(at_s);
    }

    fn empty_s(&self) -> f64 {
        let drain_bps = self.drain_bps();
        if self.left_bits > 0.0 && drain_bps > 0.0 {
            self.updated_s + self.left_bits / drain_bps
        } else {
            f64::INFINITY
        }
    }
}

/// Shares where some parts can take less than an equal one.
fn capped(capacity_bps: f64, claims: &[Claim]) -> Vec<f64> {
    let parts = claims
        .iter()
        .flat_map(|claim| std::iter::repeat_n(claim.cap_bps, claim.parts));
    let demands: Vec<f64> = parts.collect();
    let mut shares = Vec::new();
    max_min_shares(capacity_bps, &demands, &mut shares);
    let firsts = claims.iter().scan(0, |next, claim| {
        let first = *next;
        *next += claim.parts;
        Some(shares[first])
    });
    firsts.collect()
}
