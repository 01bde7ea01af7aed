//! The clock of a peer on another host, kept known by probes over a connection to it.
//!
//! ```text
//! probe   flags u8 | sent_ns u64 | received_ns u64      (17 bytes, little-endian)
//! ```
//! One side asks and the other answers. Each probe tells when it was sent and when the probe before it was received, so that
//! both sides learn what [`ClockBounds`] wants to know. A last probe that wants no answer tells the answering side of the
//! last answer. A first burst is part of the hello; a shorter one follows every second, since clocks drift.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bace_netem::{ClockBounds, ClockEstimate};
use bytes::{Buf, BufMut};
use tokio::task::AbortHandle;

use crate::SocketError;
use crate::control::{MessageReader, MessageWriter};
use crate::timer::now_ns;

/// An offset known no better than this, ns, is not good enough to release messages by.
pub const MAX_UNCERTAINTY_NS: u64 = 500_000;
/// Round trips of a hello: enough that one finds idle queues on a busy host, and 1.6 s on a path of 100 ms.
const FIRST_PROBES: u32 = 16;
/// Round trips of every later burst.
const LATER_PROBES: u32 = 4;
/// Between bursts; clocks may drift apart by 0.1 ms meanwhile, a fifth of [`MAX_UNCERTAINTY_NS`].
const BURST_EVERY: Duration = Duration::from_secs(1);

const PROBE_BYTES: usize = 17;
const WANTS_ANSWER: u8 = 1;
const HAS_RECEIVED: u8 = 2;

/// What is known of a peer's clock; clones know the same. Probing ends with the last of them.
#[derive(Debug, Clone)]
pub struct PeerClock(Arc<Kept>);

#[derive(Debug)]
struct Kept {
    knowledge: Arc<Mutex<Knowledge>>,
    probing: AbortHandle,
}

#[derive(Debug)]
struct Knowledge {
    bounds: ClockBounds,
    /// The latest estimate; serves for clocks that have just drifted more than they may, until the next probe.
    last: ClockEstimate,
}

/// Who of two peers sends probes of its own accord.
#[derive(Debug, Clone, Copy)]
enum Side {
    Asks,
    Answers,
}

impl Drop for Kept {
    fn drop(&mut self) {
        // The task holds the stream, which keeps the connection open.
        self.probing.abort();
    }
}

impl PeerClock {
    /// Probes the peer, which [`answer`](Self::answer)s on the other end of these halves, and goes on to probe it within the
    /// current tokio runtime.
    ///
    /// # Errors
    /// When the peer is gone or sends what is no probe.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn ask(writer: MessageWriter, reader: MessageReader) -> Result<Self, SocketError> {
        Self::start(Exchange::new(writer, reader, now_ns), Side::Asks).await
    }

    /// Answers the probes of the peer, which [`ask`](Self::ask)s on the other end of these halves; returns once the first
    /// burst has been answered, and goes on to answer within the current tokio runtime.
    ///
    /// # Errors
    /// When the peer is gone or sends what is no probe.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn answer(writer: MessageWriter, reader: MessageReader) -> Result<Self, SocketError> {
        Self::start(Exchange::new(writer, reader, now_ns), Side::Answers).await
    }

    /// A clock of this offset and at this distance, ns, that cannot be probed: its uncertainty is unknown.
    #[cfg(test)]
    pub(crate) fn guessed(offset_ns: i64, latency_ns: u64) -> Self {
        let mut knowledge = Knowledge::new();
        knowledge.last.offset_ns = offset_ns;
        knowledge.last.latency_ns = latency_ns;
        Self(Arc::new(Kept {
            knowledge: Arc::new(Mutex::new(knowledge)),
            probing: tokio::spawn(async {}).abort_handle(),
        }))
    }

    async fn start(mut exchange: Exchange, side: Side) -> Result<Self, SocketError> {
        match side {
            Side::Asks => exchange.ask(FIRST_PROBES).await?,
            Side::Answers => exchange.answer_burst().await?,
        }
        let knowledge = Arc::clone(&exchange.knowledge);
        let probing = tokio::spawn(async move {
            let error = exchange.go_on(side).await;
            tracing::debug!("a clock is no longer probed: failed to {error}");
        });
        Ok(Self(Arc::new(Kept {
            knowledge,
            probing: probing.abort_handle(),
        })))
    }

    /// What is known now. Clocks that have just drifted more than any should have the latest offset, of unknown
    /// uncertainty, until the next probe.
    pub fn estimate(&self) -> ClockEstimate {
        lock(&self.0.knowledge).estimate(now_ns())
    }

    /// The reading of this host's clock at which the peer's read `their_ns`.
    pub fn to_own(&self, their_ns: u64) -> u64 {
        self.estimate().to_own(their_ns)
    }

    /// What a message needs to the peer, ns, where its clock is not known well enough for it to release messages: then
    /// whoever sends to it holds them back for so much less than the link's delay.
    pub fn held_latency_ns(&self) -> Option<u64> {
        let estimate = self.estimate();
        (estimate.uncertainty_ns > MAX_UNCERTAINTY_NS).then_some(estimate.latency_ns)
    }
}

fn lock(knowledge: &Mutex<Knowledge>) -> MutexGuard<'_, Knowledge> {
    // It is whole after every assignment.
    knowledge.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Knowledge {
    fn new() -> Self {
        Self {
            bounds: ClockBounds::default(),
            last: ClockEstimate {
                offset_ns: 0,
                uncertainty_ns: u64::MAX,
                latency_ns: 0,
            },
        }
    }

    fn estimate(&mut self, now_ns: u64) -> ClockEstimate {
        self.last = self.bounds.estimate(now_ns).unwrap_or(ClockEstimate {
            uncertainty_ns: u64::MAX,
            ..self.last
        });
        self.last
    }
}

/// Probes back and forth on one stream, one at a time.
#[derive(Debug)]
struct Exchange {
    writer: MessageWriter,
    reader: MessageReader,
    knowledge: Arc<Mutex<Knowledge>>,
    now_ns: fn() -> u64,
    /// When the latest own probe was sent.
    sent_ns: Option<u64>,
    /// When the latest probe of the peer was here.
    received_ns: Option<u64>,
}

impl Exchange {
    fn new(writer: MessageWriter, reader: MessageReader, now_ns: fn() -> u64) -> Self {
        writer.go_first();
        Self {
            writer,
            reader,
            knowledge: Arc::new(Mutex::new(Knowledge::new())),
            now_ns,
            sent_ns: None,
            received_ns: None,
        }
    }

    /// Probes until the peer is gone; why it is.
    async fn go_on(mut self, side: Side) -> SocketError {
        loop {
            let done = match side {
                Side::Asks => {
                    tokio::time::sleep(BURST_EVERY).await;
                    self.ask(LATER_PROBES).await
                }
                Side::Answers => self.answer_burst().await,
            };
            if let Err(error) = done {
                return error;
            }
        }
    }

    async fn ask(&mut self, probes: u32) -> Result<(), SocketError> {
        for _ in 0..probes {
            self.send(true).await?;
            self.receive().await?;
        }
        self.send(false).await
    }

    /// Answers until the last probe of a burst.
    async fn answer_burst(&mut self) -> Result<(), SocketError> {
        while self.receive().await? {
            self.send(false).await?;
        }
        Ok(())
    }

    async fn send(&mut self, wants_answer: bool) -> Result<(), SocketError> {
        let sent_ns = (self.now_ns)();
        let probe = Probe {
            wants_answer,
            sent_ns,
            received_ns: self.received_ns,
        };
        self.sent_ns = Some(sent_ns);
        self.writer.send(&probe.encode()).await
    }

    /// Takes in the peer's next probe; whether it wants an answer.
    async fn receive(&mut self) -> Result<bool, SocketError> {
        let message = self.reader.receive().await?;
        let here_ns = (self.now_ns)();
        let message = message.ok_or_else(|| self.reader.refuse("it probes no more"))?;
        let probe = Probe::decode(&message).ok_or_else(|| {
            let reason = format!("its {} bytes are no clock probe", message.len());
            self.reader.refuse(&reason)
        })?;
        self.received_ns = Some(here_ns);
        let bounds = &mut lock(&self.knowledge).bounds;
        bounds.came(probe.sent_ns, here_ns);
        if let (Some(sent_ns), Some(there_ns)) = (self.sent_ns, probe.received_ns) {
            bounds.went(sent_ns, there_ns);
            // The peer's own time between cancels out.
            let answering_ns = probe.sent_ns.saturating_sub(there_ns);
            let round_trip_ns = here_ns.saturating_sub(sent_ns).saturating_sub(answering_ns);
            bounds.round_trip(here_ns, round_trip_ns);
        }
        if !probe.wants_answer {
            // Before the next probe comes a pause, over which the clocks drift: nothing of this one is told again.
            self.sent_ns = None;
        }
        Ok(probe.wants_answer)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Probe {
    wants_answer: bool,
    /// On the sender's clock.
    sent_ns: u64,
    /// When the other side's probe before this one was here, on the sender's clock; absent if there was none.
    received_ns: Option<u64>,
}

impl Probe {
    fn encode(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(PROBE_BYTES);
        let answer = if self.wants_answer { WANTS_ANSWER } else { 0 };
        let received = self.received_ns.map_or(0, |_| HAS_RECEIVED);
        bytes.put_u8(answer | received);
        bytes.put_u64_le(self.sent_ns);
        bytes.put_u64_le(self.received_ns.unwrap_or_default());
        bytes
    }

    /// `None` where `bytes` are no probe.
    fn decode(mut bytes: &[u8]) -> Option<Self> {
        if bytes.len() != PROBE_BYTES {
            return None;
        }
        let flags = bytes.get_u8();
        let (sent_ns, received_ns) = (bytes.get_u64_le(), bytes.get_u64_le());
        (flags & !(WANTS_ANSWER | HAS_RECEIVED) == 0).then_some(Self {
            wants_answer: flags & WANTS_ANSWER != 0,
            sent_ns,
            received_ns: (flags & HAS_RECEIVED != 0).then_some(received_ns),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Profile;
    use crate::tests::support::{Pair, pair};

    const AHEAD_NS: u64 = 5_000_000_000_000;

    fn ahead_ns() -> u64 {
        now_ns() + AHEAD_NS
    }

    async fn halves(pair: &Pair) -> [(MessageWriter, MessageReader); 2] {
        let (writer, reader) = pair.client.open_messages(64).await.unwrap();
        let mut opening = (writer, reader);
        // The peer sees a stream with its first message.
        opening.0.send(b"probes follow").await.unwrap();
        let mut accepting = pair.server.accept_messages(64).await.unwrap();
        accepting.1.receive().await.unwrap().unwrap();
        [opening, accepting]
    }

    /// An asking side, and an answering one whose clock is ahead.
    async fn both_clocks(pair: &Pair) -> [PeerClock; 2] {
        let [asking, answering] = halves(pair).await;
        let asking = Exchange::new(asking.0, asking.1, now_ns);
        let answering = Exchange::new(answering.0, answering.1, ahead_ns);
        let (asking, answering) = tokio::join!(
            PeerClock::start(asking, Side::Asks),
            PeerClock::start(answering, Side::Answers)
        );
        [asking.unwrap(), answering.unwrap()]
    }

    #[tokio::test]
    async fn both_sides_learn_the_offset_within_its_uncertainty() {
        let pair = pair(Profile::data()).await;
        let [asking, answering] = both_clocks(&pair).await;
        let estimate = asking.estimate();
        let error = estimate.offset_ns.abs_diff(AHEAD_NS as i64);
        assert!(error <= estimate.uncertainty_ns, "{estimate:?}");
        assert!(estimate.latency_ns > 0, "{estimate:?}");
        let theirs = lock(&answering.0.knowledge).estimate(ahead_ns());
        let error = theirs.offset_ns.abs_diff(-(AHEAD_NS as i64));
        assert!(error <= theirs.uncertainty_ns, "{theirs:?}");
    }

    #[tokio::test]
    async fn it_goes_on_to_probe_and_stays_certain() {
        let pair = pair(Profile::data()).await;
        let [asking, _answering] = both_clocks(&pair).await;
        let first = lock(&asking.0.knowledge).bounds;
        // What is known loosens with its age, so that a later probe beats it.
        while lock(&asking.0.knowledge).bounds == first {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    #[tokio::test]
    async fn probing_ends_with_the_last_who_wants_to_know() {
        let pair = pair(Profile::data()).await;
        let [asking, answering] = both_clocks(&pair).await;
        let again = asking.clone();
        drop(asking);
        assert!(!again.0.probing.is_finished());
        let probing = again.0.probing.clone();
        drop(again);
        while !probing.is_finished() {
            tokio::task::yield_now().await;
        }
        // The other side hears that it is over.
        while !answering.0.probing.is_finished() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    #[tokio::test]
    async fn what_is_no_probe_is_refused() {
        let pair = pair(Profile::data()).await;
        let [mut asking, answering] = halves(&pair).await;
        asking.0.send(b"not 17 bytes").await.unwrap();
        let refused = PeerClock::answer(answering.0, answering.1).await;
        assert!(matches!(
            refused.unwrap_err(),
            SocketError::Stream { reason, .. } if reason == "its 12 bytes are no clock probe"
        ));
    }

    #[tokio::test]
    async fn no_round_trip_spans_the_pause_between_two_bursts() {
        let pair = pair(Profile::data()).await;
        let [asking, answering] = halves(&pair).await;
        let mut asking = Exchange::new(asking.0, asking.1, now_ns);
        let mut answering = Exchange::new(answering.0, answering.1, ahead_ns);
        for _ in 0..2 {
            let (asked, answered) = tokio::join!(asking.ask(1), answering.answer_burst());
            asked.unwrap();
            answered.unwrap();
            assert_eq!(answering.sent_ns, None);
        }
    }

    #[test]
    fn a_clock_that_is_not_known_well_has_its_messages_held() {
        let mut knowledge = Knowledge::new();
        assert_eq!(knowledge.estimate(0).uncertainty_ns, u64::MAX);
        knowledge.bounds.went(0, 300);
        knowledge.bounds.came(300, 600);
        knowledge.bounds.round_trip(600, 600);
        assert_eq!(knowledge.estimate(600).offset_ns, 0);
        // A clock that jumps leaves the latest offset, and no trust in it.
        knowledge.bounds.came(1_000_000_700, 700);
        let estimate = knowledge.estimate(700);
        assert_eq!((estimate.offset_ns, estimate.uncertainty_ns), (0, u64::MAX));
    }

    proptest! {
        #[test]
        fn any_bytes_decode_to_what_encodes_to_them_or_to_nothing(
            bytes in prop::collection::vec(any::<u8>(), 0..40),
            mut probe in prop::collection::vec(any::<u8>(), PROBE_BYTES),
        ) {
            prop_assert_eq!(Probe::decode(&bytes).is_some(), bytes.len() == PROBE_BYTES && bytes[0] < 4);
            probe[0] &= WANTS_ANSWER | HAS_RECEIVED;
            if probe[0] & HAS_RECEIVED == 0 {
                probe[9..].fill(0);
            }
            prop_assert_eq!(Probe::decode(&probe).unwrap().encode(), probe);
        }
    }
}
