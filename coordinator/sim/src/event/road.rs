//! What carries one direction of a stage boundary.

use std::collections::VecDeque;

use bace_api::MessageTimes;
use bace_netem::Delay;

/// One direction of a stage boundary, and what it carries.
#[derive(Debug)]
pub(super) struct Channel {
    /// Tensors that were handed over.
    pub messages: u64,
    /// Those that have left and not arrived, oldest first; none overtakes another.
    pub under_way: VecDeque<MessageTimes>,
    pub road: Road,
}

#[derive(Debug)]
pub(super) enum Road {
    /// A region's fabric, one for each boundary and direction.
    Fabric(Fabric),
    /// Index into the job's flows.
    Flow(usize),
}

/// A link that nobody shares: tensors leave one after the other.
#[derive(Debug)]
pub(super) struct Fabric {
    transfer_s: f64,
    delay_s: f64,
    /// When it has carried all that it was given.
    free_s: f64,
}

impl Channel {
    /// An idle one.
    pub fn new(road: Road) -> Self {
        Self {
            messages: 0,
            under_way: VecDeque::new(),
            road,
        }
    }

    /// The origin of times moves. Everything has arrived.
    pub fn rebase(&mut self) {
        if let Road::Fabric(fabric) = &mut self.road {
            fabric.free_s = 0.0;
        }
    }
}

impl Fabric {
    /// An idle one on which a tensor takes `transfer_s` and then `delay`.
    pub fn new(transfer_s: f64, delay: Delay) -> Self {
        Self {
            transfer_s,
            delay_s: delay.seconds(),
            free_s: 0.0,
        }
    }

    /// Takes a tensor that is ready at `ready_s`; how it comes to its receiver.
    pub fn carry(&mut self, ready_s: f64) -> MessageTimes {
        self.free_s = self.free_s.max(ready_s) + self.transfer_s;
        MessageTimes {
            ready_s,
            left_s: Some(self.free_s),
            queued_s: Some(0.0),
            due_s: self.free_s + self.delay_s,
            late_until_s: None,
        }
    }
}
