//! A directed link and who shares it.

use bace_api::JobId;
use bace_netem::{BitRate, Chunk, CreditBucket, Delay, LinkClock, LinkSpec, LinkState, Slot};

const NANOS_PER_SECOND: f64 = 1e9;

/// A link between regions and the flows that may use it.
#[derive(Debug)]
pub(super) struct SharedLink {
    /// As it is at present.
    pub spec: LinkSpec,
    /// Job and index of its flow.
    pub users: Vec<(JobId, usize)>,
    clock: LinkClock,
    /// When the link last came up, ns; 0 if it was never down.
    up_at_ns: u64,
    credit: Option<CreditBucket>,
}

impl SharedLink {
    /// The idle link of `spec`, its bucket of credit full if it has one.
    pub fn new(spec: &LinkSpec) -> Self {
        let burst = spec.burst.zip(spec.credit_depth_bytes());
        Self {
            spec: *spec,
            users: Vec::new(),
            clock: LinkClock::new(spec.into()),
            up_at_ns: 0,
            credit: burst.map(|(burst, depth_bytes)| CreditBucket::new(burst, depth_bytes)),
        }
    }

    /// What the link gives from `now_s` on, besides all else that its spec says.
    pub fn set(&mut self, rate: BitRate, delay: Delay, now_s: f64) {
        let (was_down, now_ns) = (self.state().bits_per_second == 0, nanos(now_s));
        (self.spec.rate, self.spec.delay) = (rate, delay);
        self.clock.set((&self.spec).into(), now_ns);
        if was_down && self.state().bits_per_second > 0 {
            self.up_at_ns = now_ns;
        }
    }

    /// What it gives at present.
    pub fn state(&self) -> LinkState {
        self.clock.state()
    }

    /// The next slot, for `chunk`, which is ready no earlier than its credit and the link; `None` while the link is down.
    pub fn reserve(&mut self, chunk: &mut Chunk) -> Option<Slot> {
        if let Some(credit) = &mut self.credit {
            chunk.ready_ns = credit.take(chunk.charged_bytes, chunk.ready_ns)?;
        }
        let slot = self.clock.reserve(chunk.charged_bytes, chunk.ready_ns)?;
        // Whoever waits for a link that is down waits for nobody.
        chunk.ready_ns = chunk.ready_ns.max(self.up_at_ns);
        Some(slot)
    }

    /// Somebody has had the link for himself until `at_ns`.
    pub fn keep_until(&mut self, at_ns: u64) {
        // Nothing at all takes no time, and stands behind what is kept.
        self.clock.reserve(0, at_ns);
    }
}

fn nanos(at_s: f64) -> u64 {
    (at_s * NANOS_PER_SECOND).round() as u64
}
