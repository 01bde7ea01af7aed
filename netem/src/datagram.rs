//! What a link does to one sender's datagrams, as arithmetic on the slots that the link's clock gives: loss, the end of the
//! queue, delay without reordering.
//!
//! A datagram is drawn for loss before it enters the queue, as `netem` does it, so that what is lost takes nothing of the
//! link's rate.

use crate::{Draws, Route, duration_ns};

/// Link time of datagrams that are queued and released together, ns: a wake-up for each would cost more than the transfer.
const BATCH_NS: u64 = 500_000;
/// Parts of a queue that are dropped at once, at least: a batch never fills more of it than this share.
const BATCHES_IN_A_QUEUE: u64 = 8;

/// One sender's datagrams on one directed link.
#[derive(Debug, Clone)]
pub struct DatagramLine {
    route: Route,
    draws: Draws,
    last_delivery_ns: u64,
}

impl DatagramLine {
    /// A line on which nothing is under way.
    pub fn new(route: Route, draws: Draws) -> Self {
        Self {
            route,
            draws,
            last_delivery_ns: 0,
        }
    }

    /// Whether the next datagram survives.
    pub fn survives(&mut self) -> bool {
        let share = self.route.there.loss.share;
        share <= 0.0 || !self.draws.happens(share)
    }

    /// Bytes that the link charges for `datagrams` which have `udp_payload_bytes` together.
    pub fn charged_bytes(&self, udp_payload_bytes: u64, datagrams: u64) -> u64 {
        let accounting = self.route.there.accounting;
        let headers = accounting.datagram_bytes(0).saturating_mul(datagrams);
        udp_payload_bytes.saturating_add(headers)
    }

    /// Datagrams of `udp_payload_bytes` each that are kept together at `bits_per_second`; at least one.
    pub fn batch(&self, udp_payload_bytes: u64, bits_per_second: u64) -> usize {
        let charged = self.charged_bytes(udp_payload_bytes, 1).max(1);
        let queue = self.route.queue_bytes(bits_per_second) / BATCHES_IN_A_QUEUE / charged;
        let together =
            duration_ns(charged, bits_per_second).map_or(queue, |one_ns| BATCH_NS / one_ns.max(1));
        together.min(queue).max(1) as usize
    }

    /// The latest start of a slot for `charged_bytes` more that fit into the queue at `now_ns`: what would have to wait
    /// longer finds it full. An idle link takes them whatever their size. At rate 0 none ever starts. Where the link has
    /// burst credit, its queue is taken to drain at the sustained rate.
    pub fn latest_start_ns(&self, charged_bytes: u64, now_ns: u64, bits_per_second: u64) -> u64 {
        let before = self
            .route
            .queue_bytes(bits_per_second)
            .saturating_sub(charged_bytes);
        let drains = self.route.there.burst.map_or(bits_per_second, |burst| {
            bits_per_second.min(burst.sustained.whole_bps())
        });
        let wait_ns = duration_ns(before, drains).unwrap_or(0);
        now_ns.saturating_add(wait_ns)
    }

    /// Whether a link that is down, with `held_bytes` in its queue, has room for `charged_bytes` more.
    pub fn has_room(&self, held_bytes: u64, charged_bytes: u64) -> bool {
        held_bytes.saturating_add(charged_bytes)
            <= self.route.queue_bytes(self.route.there.rate.whole_bps())
    }

    /// When what has left the link at `departed_ns` arrives, ns: after `delay_ns` and a draw of jitter, and never before
    /// what left earlier.
    pub fn deliver_at_ns(&mut self, departed_ns: u64, delay_ns: u64) -> u64 {
        let jitter_ns = self.route.there.jitter.draw_ns(&mut self.draws);
        let due_ns = departed_ns
            .saturating_add(delay_ns)
            .saturating_add(jitter_ns);
        self.last_delivery_ns = self.last_delivery_ns.max(due_ns);
        self.last_delivery_ns
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        Accounting, BitRate, Delay, FlowKey, Jitter, LinkClock, LinkId, LinkSpec, LinkState, Loss,
        LossModel, RegionId,
    };

    fn rate(mbps: f64) -> BitRate {
        BitRate::from_bps(mbps * 1e6).unwrap()
    }

    fn ms(ms: f64) -> Delay {
        Delay::from_seconds(ms / 1e3).unwrap()
    }

    fn line(spec: LinkSpec, seed: u64) -> DatagramLine {
        let key = FlowKey {
            seed,
            link: LinkId::new(RegionId::new(0), RegionId::new(1)),
            job: 0,
            from_stage: 0,
            to_stage: 1,
        };
        let back = LinkSpec::new(spec.rate, spec.delay);
        DatagramLine::new(Route { there: spec, back }, key.chunk(0, 0))
    }

    #[test]
    fn batches_are_half_a_millisecond_of_the_link_and_never_nothing() {
        let spec = LinkSpec::new(rate(100.0), ms(20.0));
        let line = line(spec, 1);
        // 1452 bytes take 116 us at 100 Mbit/s.
        let batches = [0, 1, 10, 100, 1_000].map(|mbps| line.batch(1_452, mbps * 1_000_000));
        assert_eq!(batches, [8, 1, 1, 4, 43]);
    }

    #[test]
    fn headers_count_where_the_link_counts_them() {
        let charged =
            [Accounting::Payload, Accounting::Ip, Accounting::Ethernet].map(|accounting| {
                let mut spec = LinkSpec::new(rate(100.0), ms(20.0));
                spec.accounting = accounting;
                line(spec, 1).charged_bytes(3 * 1_452, 3)
            });
        assert_eq!(charged, [4_356, 4_440, 4_482]);
    }

    #[test]
    fn loss_is_its_share_and_the_same_for_a_seed() {
        let mut spec = LinkSpec::new(rate(100.0), ms(20.0));
        spec.loss = Loss {
            share: 0.01,
            model: LossModel::Goodput,
        };
        let lost = |seed| {
            let mut line = line(spec, seed);
            (0..100_000)
                .filter(|_| !line.survives())
                .collect::<Vec<_>>()
        };
        assert_eq!(lost(7), lost(7));
        assert_ne!(lost(7), lost(8));
        // Four standard deviations.
        assert!(lost(7).len().abs_diff(1_000) < 126, "{}", lost(7).len());
    }

    #[test]
    fn a_full_queue_takes_no_more_and_an_idle_link_always_does() {
        let mut spec = LinkSpec::new(rate(8.0), ms(20.0));
        spec.queue_bytes = Some(100_000);
        let line = line(spec, 1);
        // A byte a microsecond.
        assert_eq!(line.latest_start_ns(1_000, 5, 8_000_000), 5 + 99_000_000);
        assert_eq!(line.latest_start_ns(200_000, 5, 8_000_000), 5);
        assert!(line.has_room(99_000, 1_000) && !line.has_room(99_001, 1_000));
    }

    proptest! {
        #[test]
        fn what_a_line_takes_departs_in_order_within_its_queue_and_arrives_in_order(
            mbps in 1.0f64..10_000.0,
            delay_ms in 0.0f64..300.0,
            jitter_ms in 0.0f64..50.0,
            normal: bool,
            queue_bytes in prop::option::of(1u64..10_000_000),
            sent in prop::collection::vec((1u64..15_000, 0u64..3_000_000), 1..200),
        ) {
            let mut spec = LinkSpec::new(rate(mbps), ms(delay_ms));
            spec.queue_bytes = queue_bytes;
            spec.jitter = if normal { Jitter::Normal(ms(jitter_ms)) } else { Jitter::Uniform(ms(jitter_ms)) };
            let mut line = line(spec, 3);
            let mut clock = LinkClock::new(LinkState::from(&spec));
            let (mut now_ns, mut last_ns) = (0, 0);
            let bps = spec.rate.whole_bps();
            let limit = line.route.queue_bytes(bps);
            for (bytes, after_ns) in sent {
                now_ns += after_ns;
                let start_ns = clock.free_at_ns().max(now_ns);
                if start_ns > line.latest_start_ns(bytes, now_ns, bps) {
                    // Dropped, since it would not have fitted.
                    let queued = (start_ns - now_ns) as f64 * mbps / 8e3;
                    prop_assert!(queued + bytes as f64 >= limit as f64 - 2.0);
                    continue;
                }
                let slot = clock.reserve(bytes, now_ns).unwrap();
                let queued = (slot.end_ns - now_ns) as f64 * mbps / 8e3;
                prop_assert!(queued <= (limit.max(bytes) + 2) as f64, "{queued} of {limit}");
                let due_ns = line.deliver_at_ns(slot.end_ns, spec.delay.nanos());
                prop_assert!(due_ns >= last_ns && due_ns >= slot.end_ns + spec.delay.nanos());
                let most_ns = slot.end_ns + spec.delay.nanos() + spec.jitter.most().nanos();
                prop_assert!(due_ns <= most_ns.max(last_ns));
                last_ns = due_ns;
            }
        }
    }
}
