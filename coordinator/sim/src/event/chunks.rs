//! The chunks of a flow on a link that draws: the sender's own arithmetic, at the times that the event model finds.

use std::collections::VecDeque;

use bace_netem::{
    Chunk, Flow, FlowKey, Jitter, LinkSpec, LinkState, LossModel, Message, Slot, chunk_bytes,
};

const BITS_PER_BYTE: f64 = 8.0;
const NANOS_PER_SECOND: f64 = 1e9;

/// A flow's chunks, walked one by one as their last bits leave.
#[derive(Debug)]
pub(super) struct Chunks {
    flow: Flow,
    link: LinkState,
    /// Payload of a whole chunk.
    chunk_bytes: u64,
    /// Messages that have not left, oldest first.
    queue: VecDeque<UnderWay>,
    /// Where times count from, seconds from the start of the simulation.
    origin_s: f64,
}

#[derive(Debug)]
struct UnderWay {
    message: Message,
    /// The chunk whose bits leave at present; absent before the first and behind the last.
    current: Option<Current>,
    delivered_ns: u64,
}

#[derive(Debug, Clone, Copy)]
struct Current {
    chunk: Chunk,
    /// What the link gave when the chunk began.
    link: LinkState,
    left_bits: f64,
}

impl Chunks {
    /// Whether a link of `spec` draws anything.
    pub fn draws(spec: &LinkSpec) -> bool {
        let recovers = spec.loss.share > 0.0 && spec.loss.model == LossModel::Goodput;
        spec.jitter != Jitter::None || recovers
    }

    /// Those of the idle flow of `key` over a link of `spec`.
    pub fn new(spec: &LinkSpec, key: FlowKey) -> Self {
        Self {
            flow: Flow::new(spec, key),
            link: spec.into(),
            chunk_bytes: chunk_bytes(spec.rate).into(),
            queue: VecDeque::new(),
            origin_s: 0.0,
        }
    }

    /// Adds a message that is ready at `now_s`.
    pub fn enqueue(&mut self, bytes: u64, now_s: f64) {
        let message = self.flow.message(bytes, self.nanos(now_s));
        self.queue.push_back(UnderWay {
            message,
            current: None,
            delivered_ns: 0,
        });
    }

    /// The oldest `messages` were given `rate_bps` each for `passed_s` from `from_s` on.
    pub fn pass(&mut self, messages: usize, from_s: f64, passed_s: f64, rate_bps: f64) {
        for index in 0..messages {
            let (mut at_s, mut bits) = (from_s, passed_s * rate_bps);
            while let Some(left_bits) = self.begin(index) {
                if left_bits > bits {
                    if let Some(current) = &mut self.queue[index].current {
                        current.left_bits -= bits;
                    }
                    break;
                }
                bits -= left_bits;
                at_s += left_bits / rate_bps;
                self.end(index, at_s);
            }
        }
    }

    /// The oldest message has left; when it is delivered, seconds.
    pub fn complete(&mut self, now_s: f64) -> f64 {
        // Rounding may have kept bits of its last chunk.
        while self.begin(0).is_some() {
            self.end(0, now_s);
        }
        let delivered_ns = self.queue.pop_front().map_or(0, |whole| whole.delivered_ns);
        delivered_ns as f64 / NANOS_PER_SECOND - self.origin_s
    }

    /// What the link gives the chunks to come.
    pub fn set_link(&mut self, spec: &LinkSpec) {
        self.link = spec.into();
        self.chunk_bytes = chunk_bytes(spec.rate).into();
    }

    /// Moves the origin of times to `origin_s`.
    pub fn rebase(&mut self, origin_s: f64) {
        self.origin_s += origin_s;
    }

    /// Bits left of a message's present chunk, which begins now if none has; `None` behind the last.
    fn begin(&mut self, index: usize) -> Option<f64> {
        let under_way = self.queue.get_mut(index)?;
        if let Some(current) = &under_way.current {
            return Some(current.left_bits);
        }
        if under_way.message.left_bytes() == 0 {
            return None;
        }
        let (link, flow) = (self.link, &mut self.flow);
        let chunk = flow.next_chunk(&mut under_way.message, self.chunk_bytes, link);
        let left_bits = BITS_PER_BYTE * chunk.charged_bytes as f64;
        under_way.current = Some(Current {
            chunk,
            link,
            left_bits,
        });
        Some(left_bits)
    }

    /// The last bit of a message's present chunk has left.
    fn end(&mut self, index: usize, at_s: f64) {
        let end_ns = self.nanos(at_s);
        let under_way = &mut self.queue[index];
        let Some(Current { chunk, link, .. }) = under_way.current.take() else {
            return;
        };
        // Deliveries follow from ends alone.
        let slot = Slot {
            start_ns: end_ns,
            end_ns,
        };
        let flow = &mut self.flow;
        under_way.delivered_ns = flow.delivered_ns(&mut under_way.message, chunk, slot, link);
    }

    fn nanos(&self, at_s: f64) -> u64 {
        ((self.origin_s + at_s) * NANOS_PER_SECOND).round() as u64
    }
}
