//! What a connection over a link has to hold: its round trip, its windows, the queue it meets.

use serde::{Deserialize, Serialize};

use crate::{Delay, LinkSpec};

/// The shortest round trip that windows and queues are made for. On a link without delay a host's own timers and tasks are
/// the round trip, and a window of bandwidth x 0 would carry nothing.
const SHORTEST_ROUND_TRIP_S: f64 = 0.010;
/// Bandwidth x round-trip products in the queue of a link that gives none.
const QUEUE_PRODUCTS: f64 = 2.0;
/// Bandwidth x round-trip products in a flow-control window: fewer leave the link idle while a lost datagram is repeated.
const WINDOW_PRODUCTS: f64 = 2.0;
/// What a queue holds at least: 64 datagrams of Ethernet's size, a sender's burst.
const LEAST_QUEUE_BYTES: u64 = 64 * 1500;
const BITS_PER_BYTE: f64 = 8.0;

/// How a QUIC connection finds its sending rate where datagrams can be lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Congestion {
    /// By the measured bandwidth and round trip; loss alone does not slow it down.
    #[default]
    Bbr,
    /// By loss: halves its window whenever a datagram is lost, as most TCP does.
    Cubic,
    /// Not at all: one window for ever, as large as the link and half of its queue.
    Fixed,
}

/// A connection's way over two directed links.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Route {
    /// The link to the peer.
    pub there: LinkSpec,
    /// The link back.
    pub back: LinkSpec,
}

impl Route {
    /// The route as it is where something behind it adds the delays: no bytes are under way, and windows are as short as
    /// those of the shortest round trip, so that several fit into one queue.
    pub fn without_delay(mut self) -> Self {
        for link in [&mut self.there, &mut self.back] {
            link.delay = Delay::ZERO;
            link.queue_bytes = Some(0);
        }
        self
    }

    /// Both delays, s; never less than a host itself takes.
    pub fn round_trip(&self) -> Delay {
        let seconds = self.there.delay.seconds() + self.back.delay.seconds();
        Delay::from_seconds(seconds.max(SHORTEST_ROUND_TRIP_S)).unwrap_or(self.there.delay)
    }

    /// Bytes in the queue of the link to the peer while it gives `bits_per_second`.
    pub fn queue_bytes(&self, bits_per_second: u64) -> u64 {
        let product = QUEUE_PRODUCTS * self.product_bytes(bits_per_second);
        let queue = self.there.queue_bytes.unwrap_or(product as u64);
        queue.max(LEAST_QUEUE_BYTES)
    }

    /// Bytes that may be unacknowledged where nothing is congested: what the link and half of its queue hold.
    pub fn fixed_window_bytes(&self) -> u64 {
        let rate = self.there.rate.whole_bps();
        self.product_bytes(rate) as u64 + self.queue_bytes(rate) / 2
    }

    /// Bytes that the sender to the peer may keep until they are acknowledged.
    pub fn send_window_bytes(&self) -> u64 {
        (WINDOW_PRODUCTS * self.product_bytes(self.there.rate.whole_bps())) as u64
    }

    /// Bytes that the peer may send before they are read here.
    pub fn receive_window_bytes(&self) -> u64 {
        (WINDOW_PRODUCTS * self.product_bytes(self.back.rate.whole_bps())) as u64
    }

    /// Bytes of the link to the peer that one sender holds at most: those queued and those under way.
    pub fn held_bytes(&self) -> u64 {
        let rate = self.there.rate.whole_bps();
        let way_s = self.there.delay.seconds() + self.there.jitter.most().seconds();
        let under_way = rate as f64 / BITS_PER_BYTE * way_s;
        self.queue_bytes(rate).saturating_add(under_way as u64)
    }

    fn product_bytes(&self, bits_per_second: u64) -> f64 {
        bits_per_second as f64 / BITS_PER_BYTE * self.round_trip().seconds()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BitRate;

    fn route(mbps: f64, there_ms: f64, back_ms: f64) -> Route {
        let link = |mbps: f64, delay_ms: f64| {
            LinkSpec::new(
                BitRate::from_bps(mbps * 1e6).unwrap(),
                Delay::from_seconds(delay_ms / 1e3).unwrap(),
            )
        };
        Route {
            there: link(mbps, there_ms),
            back: link(mbps / 10.0, back_ms),
        }
    }

    #[test]
    fn windows_hold_two_bandwidth_round_trip_products() {
        // 1 Gbit/s x 200 ms are 25 MB.
        let route = route(1_000.0, 150.0, 50.0);
        assert_eq!(route.send_window_bytes(), 50_000_000);
        assert_eq!(route.receive_window_bytes(), 5_000_000);
        assert_eq!(route.queue_bytes(1_000_000_000), 50_000_000);
        assert_eq!(route.fixed_window_bytes(), 50_000_000);
        assert_eq!(route.held_bytes(), 50_000_000 + 18_750_000);
    }

    #[test]
    fn a_link_without_delay_still_has_a_round_trip_and_a_slow_one_a_queue() {
        assert_eq!(route(1_000.0, 0.0, 0.0).send_window_bytes(), 2_500_000);
        let slow = route(1.0, 0.0, 0.0);
        assert_eq!(slow.queue_bytes(1_000_000), 96_000);
        assert_eq!(slow.queue_bytes(0), 96_000);
    }

    #[test]
    fn a_queue_that_is_given_is_kept_whatever_the_rate() {
        let mut route = route(1_000.0, 10.0, 10.0);
        route.there.queue_bytes = Some(300_000);
        assert_eq!(route.queue_bytes(1_000_000_000), 300_000);
        assert_eq!(route.queue_bytes(0), 300_000);
        assert_eq!(route.fixed_window_bytes(), 2_500_000 + 150_000);
    }
}
