//! A directed link and who shares it.

use bace_api::JobId;
use bace_netem::{
    BitRate, Chunk, CreditBucket, Delay, LinkClock, LinkSpec, LinkState, Slot, chunk_bytes,
    duration_ns,
};

use super::agenda::Agenda;
use super::machine_time::MachineTime;

/// A link between regions and the flows that may use it.
#[derive(Debug)]
pub(super) struct SharedLink {
    /// As it is at present.
    pub spec: LinkSpec,
    /// Job and index of its flow.
    pub users: Vec<(JobId, usize)>,
    /// When each of them asks for a turn, ns of the machine.
    pub asking: Agenda<(JobId, usize), u64>,
    time: MachineTime,
    /// In the machine's time, as all that follows.
    clock: LinkClock,
    /// When the link last came up, ns; 0 if it was never down.
    up_at_ns: u64,
    credit: Option<CreditBucket>,
    /// When the link changes, or a job on it may end before its time, ns; ascending.
    changes_ns: Vec<u64>,
}

impl SharedLink {
    /// The idle link of `spec`, its bucket of credit full if it has one. `changes_s` are the times at which it is known to change, or
    /// jobs to end before their time.
    pub fn new(spec: &LinkSpec, time: MachineTime, changes_s: impl Iterator<Item = f64>) -> Self {
        let machine = time.scale.wall_link(*spec);
        // As for senders, a bucket that nothing fills is none.
        let burst = machine
            .burst
            .filter(|burst| burst.sustained.whole_bps() > 0);
        let burst = burst.zip(machine.credit_depth_bytes());
        let mut changes_ns: Vec<u64> = changes_s.map(|at_s| time.nanos(at_s)).collect();
        changes_ns.sort_unstable();
        Self {
            spec: *spec,
            users: Vec::new(),
            asking: Agenda::new(),
            time,
            clock: LinkClock::new((&machine).into()),
            up_at_ns: 0,
            credit: burst.map(|(burst, depth_bytes)| CreditBucket::new(burst, depth_bytes)),
            changes_ns,
        }
    }

    /// What the link gives from `now_s` on, besides all else that its spec says.
    pub fn set(&mut self, rate: BitRate, delay: Delay, now_s: f64) {
        let (was_down, now_ns) = (self.is_down(), self.time.nanos(now_s));
        (self.spec.rate, self.spec.delay) = (rate, delay);
        let machine = self.time.scale.wall_link(self.spec);
        self.clock.set((&machine).into(), now_ns);
        if was_down && !self.is_down() {
            self.up_at_ns = now_ns;
        }
    }

    /// Whether it gives nothing at present.
    pub fn is_down(&self) -> bool {
        self.state().bits_per_second == 0
    }

    /// When it is free of all slots given so far, ns.
    pub fn free_at_ns(&self) -> u64 {
        self.clock.free_at_ns()
    }

    /// Payload of its chunks.
    pub fn chunk_bytes(&self) -> u64 {
        chunk_bytes(self.state().rate()).into()
    }

    /// Payload of a turn that asks at `asks_ns`: `turn_bytes`, or a chunk where that would not be over by `change_ns` and by the next
    /// change that is known.
    pub fn turn_bytes(&self, turn_bytes: u64, asks_ns: u64, change_ns: u64) -> u64 {
        let chunk_bytes = self.chunk_bytes();
        if turn_bytes <= chunk_bytes {
            return turn_bytes;
        }
        let known = self.changes_ns.partition_point(|&at_ns| at_ns < asks_ns);
        let change_ns = self
            .changes_ns
            .get(known)
            .map_or(change_ns, |&at_ns| change_ns.min(at_ns));
        let charged = self.spec.charged_bytes(turn_bytes);
        let takes_ns = duration_ns(charged, self.state().bits_per_second).unwrap_or(u64::MAX);
        let begins_ns = self.clock.free_at_ns().max(asks_ns);
        if begins_ns.saturating_add(takes_ns) <= change_ns {
            turn_bytes
        } else {
            chunk_bytes
        }
    }

    /// What it gives at present, in the machine's time.
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
