//! A job's transfers on one directed link.

use bace_api::TensorKind;
use bace_netem::{LinkId, LinkSpec};

/// One direction of a boundary between regions: equal tensors, first come, first served.
#[derive(Debug)]
pub(super) struct Flow {
    pub link: LinkId,
    /// Stage that receives.
    pub to_stage: usize,
    pub kind: TensorKind,
    delay_s: f64,
    /// When the latest bit so far arrives; none behind it arrives before.
    latest_s: f64,
    bits: f64,
    /// Tensors that have not left yet, the one in progress among them.
    queued: u32,
    /// Bits of the one in progress that had not left at `updated_s`.
    left_bits: f64,
    updated_s: f64,
    rate_bps: f64,
}

impl Flow {
    /// The idle flow of tensors of `bits` over `link`.
    pub fn new(
        link: LinkId,
        spec: &LinkSpec,
        bits: f64,
        to_stage: usize,
        kind: TensorKind,
    ) -> Self {
        Self {
            link,
            to_stage,
            kind,
            delay_s: spec.delay.seconds(),
            latest_s: 0.0,
            bits,
            queued: 0,
            left_bits: 0.0,
            updated_s: 0.0,
            rate_bps: 0.0,
        }
    }

    /// Whether nothing is in progress.
    pub fn is_idle(&self) -> bool {
        self.queued == 0
    }

    /// When the tensor in progress has left; infinite if none is, or the link is dead.
    pub fn done_s(&self) -> f64 {
        if self.is_idle() || self.rate_bps == 0.0 {
            f64::INFINITY
        } else {
            self.updated_s + self.left_bits / self.rate_bps
        }
    }

    /// Adds a tensor.
    pub fn enqueue(&mut self, now_s: f64) {
        if self.is_idle() {
            self.left_bits = self.bits;
            self.updated_s = now_s;
        }
        self.queued += 1;
    }

    /// The tensor in progress has left, and the next one begins; when it arrives.
    pub fn complete(&mut self, now_s: f64) -> f64 {
        self.queued -= 1;
        self.left_bits = self.bits;
        self.updated_s = now_s;
        self.latest_s = self.latest_s.max(now_s + self.delay_s);
        self.latest_s
    }

    /// The delay of what leaves from now on. It overtakes nothing.
    pub fn set_delay(&mut self, now_s: f64, delay_s: f64) {
        if !self.is_idle() {
            // Part of the tensor in progress may have left.
            self.latest_s = self.latest_s.max(now_s + self.delay_s);
        }
        self.delay_s = delay_s;
    }

    /// Everything has arrived, and times count from then on.
    pub fn rebase(&mut self) {
        self.latest_s = 0.0;
    }

    /// The flow's part of its link from now on.
    pub fn set_rate(&mut self, now_s: f64, rate_bps: f64) {
        // An unchanged rate is left alone, so that a link of one's own gives exactly bits over rate.
        if rate_bps != self.rate_bps {
            // An instant gathers events that rounding has parted, so that time may seem to stand back.
            let passed_s = (now_s - self.updated_s).max(0.0);
            self.left_bits = (self.left_bits - passed_s * self.rate_bps).max(0.0);
            self.updated_s = self.updated_s.max(now_s);
            self.rate_bps = rate_bps;
        }
    }
}
