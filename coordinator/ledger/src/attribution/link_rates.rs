//! What links were to give, over time, and what they had to carry.

use std::collections::BTreeMap;

use bace_api::{Attempt, InputRecord, NetworkRung, Record};

use super::LinkName;
use crate::RunLog;

const BITS_PER_BYTE: f64 = 8.0;

/// Rate and delay of every link between regions, from its header on, and the bytes of messages.
#[derive(Debug)]
pub(super) struct LinkRates {
    links: BTreeMap<LinkName, Vec<Step>>,
    /// Mean bytes of a message of each start, by the place of its direction; empty where clocks time messages.
    messages: BTreeMap<(String, Attempt), BTreeMap<usize, f64>>,
}

/// What a link is to give from an instant on.
#[derive(Debug, Clone, Copy)]
struct Step {
    from_s: f64,
    rate_bps: f64,
    delay_s: f64,
}

impl LinkRates {
    /// Those of a run; none where nobody shaped its links, since nobody gave them what the scenario says.
    pub fn of(log: &RunLog) -> Self {
        let mut links = BTreeMap::new();
        if log.header.network != NetworkRung::None {
            let known = log.header.links.iter().filter_map(|link| {
                let step = Step {
                    from_s: f64::NEG_INFINITY,
                    rate_bps: link.bandwidth_bps,
                    delay_s: link.one_way_delay_s?,
                };
                let (from, to) = (link.from.clone(), link.to.clone());
                Some((LinkName { from, to }, vec![step]))
            });
            links.extend(known);
        }
        let has_unclocked = log.header.network.shapes_datagrams();
        let messages = BTreeMap::new();
        let mut rates = Self { links, messages };
        for record in &log.records {
            match record {
                Record::Input { at_s, input } => rates.change(*at_s, input),
                Record::Transfer { .. } if has_unclocked => rates.carry(record),
                _ => {}
            }
        }
        rates
    }

    /// Mean bytes that links carried for a message of a start, by the places of its directions, as far as the ledger tells.
    pub fn message_bytes(&self, job: &str, attempt: Attempt) -> Option<&BTreeMap<usize, f64>> {
        self.messages.get(&(job.to_owned(), attempt))
    }

    fn carry(&mut self, record: &Record) {
        let Record::Transfer {
            job,
            attempt,
            from_stage,
            to_stage,
            summary,
            carried_bytes,
            ..
        } = record
        else {
            return;
        };
        if summary.messages == 0 {
            return;
        }
        let (from, to) = (from_stage.index(), to_stage.index());
        let place = if from < to { 2 * from } else { 2 * to + 1 };
        let start = self.messages.entry((job.clone(), *attempt)).or_default();
        let all = carried_bytes.unwrap_or(summary.bytes);
        start.insert(place, all as f64 / summary.messages as f64);
    }

    fn change(&mut self, at_s: f64, input: &InputRecord) {
        let InputRecord::LinkChanged {
            from,
            to,
            bandwidth_bps,
            one_way_delay_s,
        } = input
        else {
            return;
        };
        let (from, to) = (from.clone(), to.clone());
        let Some(steps) = self.links.get_mut(&LinkName { from, to }) else {
            return;
        };
        let Some(last) = steps.last().copied() else {
            return;
        };
        steps.push(Step {
            from_s: at_s.max(last.from_s),
            rate_bps: *bandwidth_bps,
            delay_s: one_way_delay_s.unwrap_or(last.delay_s),
        });
    }

    /// When `bytes` that begin to leave at `from_s` would have left, at the rates of the time, and the delay then; absent where the
    /// link's are not known. Infinite where it gives nothing any more.
    pub fn leaves(&self, link: &LinkName, from_s: f64, bytes: f64) -> Option<(f64, f64)> {
        let steps = self.links.get(link)?;
        let mut place = steps
            .partition_point(|step| step.from_s <= from_s)
            .checked_sub(1)?;
        let (mut at_s, mut bits) = (from_s, bytes * BITS_PER_BYTE);
        loop {
            let step = steps[place];
            let done_s = at_s + bits / step.rate_bps.max(0.0);
            match steps.get(place + 1) {
                Some(next) if done_s > next.from_s => {
                    bits -= (next.from_s - at_s) * step.rate_bps.max(0.0);
                    at_s = next.from_s;
                    place += 1;
                }
                _ => return Some((done_s, step.delay_s)),
            }
        }
    }
}
