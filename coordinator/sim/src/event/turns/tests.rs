//! Turns of the model beside senders, each of which is written down as the loop that it runs.

use bace_api::JobId;
use bace_netem::{
    Accounting, BitRate, Chunk, CreditBucket, Delay, Departure, Jitter, LinkClock, LinkId,
    LinkState, LossModel, Message, RegionId, Sharing, TimeScale,
};
use proptest::prelude::*;

use super::*;

/// How a message left its link and when it was delivered, ns.
type Fate = (Departure, u64);

/// What a job sends: when each message is ready, ns of the machine and ascending, and its bytes.
type Schedule = Vec<(u64, u64)>;

/// What happens on a link.
#[derive(Debug, Clone)]
struct Case {
    /// In emulated time.
    spec: LinkSpec,
    scale: TimeScale,
    /// Of each job.
    schedules: Vec<Schedule>,
    /// When, ns of the machine, and what the link gives then; ascending.
    changes: Vec<(u64, BitRate, Delay)>,
}

impl Case {
    fn time(&self) -> MachineTime {
        MachineTime { scale: self.scale }
    }

    fn key(&self, job: usize) -> FlowKey {
        FlowKey {
            seed: 11,
            link: LinkId::new(RegionId::new(0), RegionId::new(1)),
            job: job as u32,
            from_stage: 0,
            to_stage: 1,
        }
    }

    /// The spec in the machine's time, and what it gives after each change.
    fn machine(&self) -> (LinkSpec, Vec<(u64, LinkSpec)>) {
        let changes = self.changes.iter().map(|&(at_ns, rate, delay)| {
            let mut changed = self.spec;
            (changed.rate, changed.delay) = (rate, delay);
            (at_ns, self.scale.wall_link(changed))
        });
        (self.scale.wall_link(self.spec), changes.collect())
    }
}

/// The fates of all messages by the model, job by job; turns are chunks, or as long as the smallest message allows.
fn modelled(case: &Case, by_chunk: bool) -> Vec<Vec<Fate>> {
    let time = case.time();
    let known = case.changes.iter().map(|change| time.seconds(change.0));
    let mut link = SharedLink::new(&case.spec, time, known);
    let flows = 0..case.schedules.len();
    link.users = flows.clone().map(|job| (JobId(job as u32), 0)).collect();
    let new = |job| Turns::new(&case.spec, case.key(job), time);
    let mut turns: Vec<Turns> = flows.map(new).collect();
    let least_bytes = case.schedules.iter().flatten().map(|message| message.1);
    let least_bytes = least_bytes.min().unwrap_or_default();
    let mut ready: Vec<(u64, usize, u64)> = Vec::new();
    for (job, schedule) in case.schedules.iter().enumerate() {
        ready.extend(schedule.iter().map(|&(at_ns, bytes)| (at_ns, job, bytes)));
    }
    ready.sort_by_key(|&(at_ns, job, _)| (at_ns, job));
    let (mut ready, mut changes) = (ready.into_iter().peekable(), case.changes.iter().peekable());
    loop {
        for turns in &mut turns {
            turns.set_company(&link, least_bytes, by_chunk);
        }
        let asking = turns.iter().enumerate();
        let asking = asking.filter_map(|(job, turns)| Some((turns.asks_ns()?, job)));
        let first = asking.min().filter(|_| !link.is_down());
        let asks_ns = first.map_or(u64::MAX, |(asks_ns, _)| asks_ns);
        let ready_ns = ready.peek().map_or(u64::MAX, |message| message.0);
        let change_ns = changes.peek().map_or(u64::MAX, |change| change.0);
        if ready_ns <= asks_ns.min(change_ns) && ready_ns < u64::MAX {
            let (at_ns, job, bytes) = ready.next().unwrap();
            turns[job].enqueue(bytes, time.seconds(at_ns));
        } else if change_ns < asks_ns {
            let &(at_ns, rate, delay) = changes.next().unwrap();
            link.set(rate, delay, time.seconds(at_ns));
        } else if let Some((_, job)) = first {
            turns[job].serve(&mut link);
        } else {
            break;
        }
    }
    let fate = |turn: &Turn| (turn.sending.message().departure(), turn.delivered_ns);
    let fates = turns
        .iter()
        .map(|turns| turns.queue.iter().map(fate).collect());
    fates.collect()
}

/// One task of a sender, and the message that it carries.
struct Carrier {
    job: usize,
    number: usize,
    message: Message,
    /// It waits until then, ns.
    until_ns: u64,
    /// What it then reserves, where it is known already.
    chunk: Option<Chunk>,
}

/// The fates of all messages by their senders, job by job.
fn sent(case: &Case) -> Vec<Vec<Fate>> {
    let (spec, changes) = case.machine();
    let mut clock = LinkClock::new((&spec).into());
    let burst = spec.burst.zip(spec.credit_depth_bytes());
    let mut credit = burst.map(|(burst, bytes)| CreditBucket::new(burst, bytes));
    let (mut flows, mut waiting, mut carriers) = (Vec::new(), Vec::new(), Vec::new());
    for (job, schedule) in case.schedules.iter().enumerate() {
        let mut flow = Flow::new(&spec, case.key(job));
        let numbered = schedule.iter().enumerate();
        let carrier = numbered.map(|(number, &(ready_ns, bytes))| Carrier {
            job,
            number,
            message: flow.message(bytes, ready_ns),
            until_ns: ready_ns,
            chunk: None,
        });
        let mut messages: VecDeque<Carrier> = carrier.collect();
        let at_once = messages.len().min(spec.sharing.most_at_once());
        carriers.extend(messages.drain(..at_once));
        waiting.push(messages);
        flows.push(flow);
    }
    let schedules = case.schedules.iter();
    let none = (Departure::default(), 0);
    let mut fates: Vec<Vec<Fate>> = schedules.map(|s| vec![none; s.len()]).collect();
    let (mut changes, mut up_at_ns) = (changes.into_iter().peekable(), 0);
    loop {
        let is_down = clock.state().bits_per_second == 0;
        let next = carriers.iter().enumerate().filter(|_| !is_down);
        let next = next.min_by_key(|(_, carrier)| (carrier.until_ns, carrier.job, carrier.number));
        let next = next.map(|(index, carrier)| (index, carrier.until_ns));
        let now_ns = next.map_or(u64::MAX, |(_, until_ns)| until_ns);
        if let Some((at_ns, changed)) = changes.next_if(|change| change.0 < now_ns) {
            clock.set((&changed).into(), at_ns);
            if is_down && changed.rate.bps() > 0.0 {
                up_at_ns = at_ns;
            }
            continue;
        }
        let Some((index, _)) = next else {
            return fates;
        };
        let Carrier {
            job,
            number,
            message,
            until_ns,
            chunk: known,
        } = &mut carriers[index];
        let (flow, state): (_, LinkState) = (&mut flows[*job], clock.state());
        let size = chunk_bytes(state.rate()).into();
        let mut chunk = known
            .take()
            .unwrap_or_else(|| flow.next_chunk(message, size, state));
        if chunk.ready_ns > now_ns {
            (*until_ns, *known) = (chunk.ready_ns, Some(chunk));
            continue;
        }
        if let Some(credit) = &mut credit {
            chunk.ready_ns = credit.take(chunk.charged_bytes, chunk.ready_ns).unwrap();
        }
        let slot = clock.reserve(chunk.charged_bytes, chunk.ready_ns).unwrap();
        chunk.ready_ns = chunk.ready_ns.max(up_at_ns);
        let delivered_ns = flow.delivered_ns(message, chunk, slot, state);
        // It writes the chunk 2 ms before its slot.
        *until_ns = now_ns.max(slot.start_ns.saturating_sub(2_000_000));
        if message.left_bytes() == 0 {
            fates[*job][*number] = (message.departure(), delivered_ns);
            let free_ns = *until_ns;
            match waiting[*job].pop_front() {
                Some(mut next) => {
                    next.until_ns = next.until_ns.max(free_ns);
                    carriers[index] = next;
                }
                None => drop(carriers.remove(index)),
            }
        }
    }
}

fn rate(bps: f64) -> BitRate {
    BitRate::from_bps(bps).unwrap()
}

fn delay(ns: u64) -> Delay {
    Delay::from_nanos(ns)
}

/// Ascending times, of which every fourth or so is the one before.
fn schedule(most_bytes: u64) -> impl Strategy<Value = Schedule> {
    let gap = prop_oneof![1 => Just(0_u64), 3 => 0..80_000_000_u64];
    prop::collection::vec((gap, 0..most_bytes), 1..9).prop_map(|messages| {
        let mut at_ns = 0;
        let mut after = |(gap_ns, bytes)| {
            at_ns += gap_ns;
            (at_ns, bytes)
        };
        messages.into_iter().map(&mut after).collect()
    })
}

/// Links slow, ordinary and fast in the machine's time, so that chunks have each of their sizes.
fn machine_rate() -> impl Strategy<Value = f64> {
    prop_oneof![2e6..20e6, 20e6..900e6, 9e9..20e9]
}

fn link() -> impl Strategy<Value = LinkSpec> {
    let accounting = prop::sample::select(vec![
        Accounting::Payload,
        Accounting::Ip,
        Accounting::Ethernet,
    ]);
    let sharing = prop::sample::select(vec![Sharing::PerJob, Sharing::PerJob, Sharing::PerFlow]);
    let loss = (prop::sample::select(vec![0.0, 1e-4, 0.003]), any::<bool>());
    let credit = prop::option::of((100_000_u64..2_000_000, 0.05..0.9));
    let jitter_ns = prop_oneof![Just(0_u64), 0..20_000_000_u64];
    let rough = (accounting, sharing, loss, credit, jitter_ns);
    (machine_rate(), 0..60_000_000_u64, rough).prop_map(|(bps, delay_ns, rough)| {
        let (accounting, sharing, (share, holds), credit, jitter_ns) = rough;
        let mut spec = LinkSpec::new(rate(bps), delay(delay_ns));
        (spec.accounting, spec.sharing) = (accounting, sharing);
        spec.loss.share = share;
        if holds {
            spec.loss.model = LossModel::Mathis;
        }
        spec.burst = credit.map(|(bytes, part)| bace_netem::BurstCredit {
            bytes,
            sustained: rate(bps * part),
        });
        if jitter_ns > 0 {
            spec.jitter = Jitter::Uniform(delay(jitter_ns));
        }
        spec
    })
}

fn changes() -> impl Strategy<Value = Vec<(u64, BitRate, Delay)>> {
    let bps = prop_oneof![1 => Just(0.0), 4 => machine_rate()];
    let change = (0..600_000_000_u64, bps, 0..90_000_000_u64);
    prop::collection::vec(change, 0..4).prop_map(|mut changes| {
        changes.sort_by_key(|change| change.0);
        let last = changes.last().map_or(0, |change| change.0);
        // It comes up at last.
        changes.push((last + 7, 50e6, 3_000_000));
        let told = changes.into_iter();
        told.map(|(at_ns, bps, delay_ns)| (at_ns, rate(bps), delay(delay_ns)))
            .collect()
    })
}

/// Cases whose figures are the machine's, told in the emulated time of a scale.
fn case() -> impl Strategy<Value = Case> {
    let scale = prop::sample::select(vec![1.0, 0.25, 60.0]);
    let schedules = prop::collection::vec(schedule(400_000), 1..5);
    (link(), schedules, changes(), scale).prop_map(|(machine, schedules, changes, scale)| {
        let back = TimeScale::new(1.0 / scale).unwrap();
        let emulated = |&(at_ns, rate, delay): &(u64, BitRate, Delay)| {
            (at_ns, back.wall_rate(rate), back.wall_delay(delay))
        };
        Case {
            spec: back.wall_link(machine),
            scale: TimeScale::new(scale).unwrap(),
            schedules,
            changes: changes.iter().map(emulated).collect(),
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    /// To the nanosecond, whatever links do to chunks, and whatever they change to.
    #[test]
    fn the_model_takes_turns_as_senders_do(case in case()) {
        prop_assert_eq!(modelled(&case, true), sent(&case));
    }

    /// Longer turns move the end of a message by two of each job that uses the link at most.
    #[test]
    fn long_turns_move_ends_by_two_of_each_user_at_most(
        bps in 50e6..5e9,
        messages in prop::collection::vec((0..200_000_000_u64, 6_400_000_u64..20_000_000), 2..5),
    ) {
        let case = Case {
            spec: LinkSpec::new(rate(bps), delay(5_000_000)),
            scale: TimeScale::ONE,
            schedules: messages.iter().map(|&message| vec![message]).collect(),
            changes: Vec::new(),
        };
        let least_bytes = messages.iter().map(|message| message.1).min().unwrap();
        let turn_bytes = (least_bytes / MOST_TURNS).max(65_536);
        let bytes = 2 * turn_bytes * messages.len() as u64;
        let bound_ns = (rate(bps).seconds_for(bytes) * 1e9) as u64 + AHEAD.lookahead_ns;
        for (long, exact) in modelled(&case, false).iter().zip(&sent(&case)) {
            let off_ns = long[0].0.left_ns.abs_diff(exact[0].0.left_ns);
            prop_assert!(off_ns <= bound_ns, "{off_ns} of {bound_ns}");
        }
    }
}

#[test]
fn flows_beyond_those_that_a_sender_carries_at_once_wait() {
    let mut spec = LinkSpec::new(rate(100e6), delay(5_000_000));
    spec.sharing = Sharing::PerFlow;
    let schedule = |messages: u64, gap_ns: u64| {
        let message = |number| (number * gap_ns, 100_000 + 7_000 * (number % 5));
        (0..messages).map(message).collect()
    };
    let case = Case {
        spec,
        scale: TimeScale::ONE,
        schedules: vec![schedule(50, 0), schedule(40, 3_000_000)],
        changes: Vec::new(),
    };
    assert_eq!(modelled(&case, true), sent(&case));
}

#[test]
fn long_turns_are_chunks_before_a_change() {
    // 64 turns of 1 MB, 10 ms each, until the link is ten times as slow in the middle of one.
    let case = Case {
        spec: LinkSpec::new(rate(800e6), Delay::ZERO),
        scale: TimeScale::ONE,
        schedules: vec![vec![(0, 64_000_000)]; 2],
        changes: vec![(333_000_000, rate(80e6), Delay::ZERO)],
    };
    let end_ns = |fates: Vec<Vec<Fate>>| fates.iter().map(|fates| fates[0].0.left_ns).max();
    let (long_ns, exact_ns) = (end_ns(modelled(&case, false)), end_ns(sent(&case)));
    // Three chunks fill the 2 ms by which they are asked for ahead; a long turn that kept its rate would give away 90 ms.
    let off_ns = long_ns.unwrap().abs_diff(exact_ns.unwrap());
    assert!(off_ns <= 3 * 65_536 * 100, "{off_ns}");
}

#[test]
fn a_link_that_is_down_serves_nobody_and_nothing_spins() {
    let spec = LinkSpec::new(rate(8e6), Delay::ZERO);
    let time = MachineTime {
        scale: TimeScale::ONE,
    };
    let case = Case {
        spec,
        scale: TimeScale::ONE,
        schedules: vec![],
        changes: vec![],
    };
    let mut link = SharedLink::new(&spec, time, std::iter::empty());
    let mut turns = Turns::new(&spec, case.key(0), time);
    turns.enqueue(100_000, 0.0);
    link.set(BitRate::ZERO, Delay::ZERO, 0.0);
    turns.serve(&mut link);
    turns.serve_until(&mut link, 5.0);
    assert_eq!(turns.asks_ns(), Some(0));
    link.set(rate(8e6), Delay::ZERO, 5.0);
    // Six chunks of 16 KiB and a rest, each asked for 2 ms before the one before begins.
    turns.serve_until(&mut link, 5.0);
    assert_eq!(turns.asks_ns(), Some(5_014_384_000));
    turns.serve_until(&mut link, 6.0);
    assert_eq!((turns.asks_ns(), turns.leaves_s()), (None, 5.1));
}
