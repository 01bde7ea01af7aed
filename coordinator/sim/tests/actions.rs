//! What holds of every action that the event model tells, on smooth links and on rough ones.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use bace_api::{
    Action, ActionSpan, ActionsRecord, Attempt, IterationRecord, JobId, MessageTimes, Program,
    Record, StageTimes,
};
use bace_engine::{Detail, Engine, Rates, Scenario, Start, pipeline, policy_by_name};
use bace_models::StageSeconds;
use bace_netem::{BitRate, Delay, LinkId};
use bace_sim::{
    EventModel, EventSettings, Executor, Instant, IterationModel, Reports, drive, simulate_engine,
};
use proptest::prelude::*;

/// Times this close are one, seconds.
const SAME_S: f64 = 1e-9;

/// Everything that a link may have besides rate and delay.
const KEYS: [&str; 8] = [
    "",
    "",
    "jitter_ms = 4",
    "loss = 0.002",
    "loss = 1e-3\nloss_model = \"mathis\"",
    "loss = 1e-3\nloss_model = \"mathis\"\nsharing = \"per_flow\"",
    "sharing = \"per_flow\"\naccounting = \"ip\"",
    "burst_credit_mb = 0.2\nsustained_mbps = 2",
];

/// A job of a scenario.
#[derive(Debug, Clone)]
struct Job {
    arrival_s: f64,
    layers: u32,
    iterations: u32,
    micro_batches: u32,
    sequence: u32,
    schedule: &'static str,
}

fn jobs() -> impl Strategy<Value = Vec<Job>> {
    let schedule = prop::sample::select(&["eager-1f1b", "1f1b", "gpipe"][..]);
    let job = (0.0..2.0, 2u32..7, 1u32..90, 1u32..8, 8u32..64, schedule);
    let job = job.prop_map(
        |(arrival_s, layers, iterations, micro_batches, sequence, schedule)| Job {
            arrival_s,
            layers,
            iterations,
            micro_batches,
            sequence,
            schedule,
        },
    );
    prop::collection::vec(job, 1..7)
}

/// Three regions with a fabric of their own, one link of which goes down and up again, and a region that loses GPUs.
fn scenario(jobs: &[Job], change_s: f64, keys: &[usize; 3]) -> Arc<Scenario> {
    let mut text = "name = \"actions\"\n[gpu.g]\npeak_tflops = 0.001\nmfu = 1\nmemory_gb = 0.002\nbusy_w = 100\nidle_w = 10\n"
        .to_owned();
    for layers in 2..7 {
        let model = format!("[model.m{layers}]\nlayers = {layers}\nhidden = 32\nheads = 2\n");
        text += &(model + "feed_forward = 64\ngated = true\nvocabulary = 64\n");
    }
    for (name, price) in [("a", 0.1), ("b", 0.3), ("c", 0.2)] {
        text += &format!(
            "[[region]]\nname = \"{name}\"\ngpus = 3\ngpu = \"g\"\nfabric_gbps = 0.1\nfabric_delay_ms = 0.2\nprice_usd_per_kwh = {price}\n"
        );
    }
    let ends = ["[\"a\", \"b\"]", "[\"b\", \"c\"]", "[\"a\", \"c\"]"];
    for (ends, &keys) in ends.iter().zip(keys) {
        let keys = KEYS[keys];
        text += &format!(
            "[[link]]\nbetween = {ends}\nbandwidth_mbps = 20\none_way_delay_ms = 3\n{keys}\n"
        );
    }
    for (at, mbps) in [(1.0, 0), (1.4, 7), (3.0, 30)] {
        let (at_s, ends) = (at * change_s, ends[0]);
        text +=
            &format!("[[link_change]]\nat_s = {at_s}\nbetween = {ends}\nbandwidth_mbps = {mbps}\n");
    }
    for (at, gpus) in [(1.7, 1), (2.3, 3)] {
        let at_s = at * change_s;
        text += &format!("[[gpu_change]]\nat_s = {at_s}\nregion = \"c\"\ngpus = {gpus}\n");
    }
    for (index, job) in jobs.iter().enumerate() {
        let Job {
            arrival_s,
            layers,
            iterations,
            micro_batches,
            sequence,
            schedule,
        } = job;
        writeln!(
            text,
            "[[job]]\nname = \"j{index}\"\nmodel = \"m{layers}\"\narrival_s = {arrival_s}\niterations = {iterations}\n\
             micro_batches = {micro_batches}\nmicro_batch = 1\nsequence = {sequence}\nschedule = \"{schedule}\""
        )
        .expect("text takes all");
    }
    parse(&text)
}

fn parse(text: &str) -> Arc<Scenario> {
    let none = |_: &str| Err("no files".to_owned());
    Arc::new(Scenario::parse(text, "actions.toml", &none).expect("a valid scenario"))
}

/// The event model, and the program of every start.
struct Watched {
    inner: EventModel,
    scenario: Arc<Scenario>,
    programs: BTreeMap<(String, Attempt), Program>,
}

impl Executor for Watched {
    fn start(&mut self, now: Instant, start: &Start) {
        let job = self.scenario.jobs[start.job.index()].name.clone();
        let program = pipeline::plan(&self.scenario, start).program;
        self.programs.insert((job, start.attempt), program);
        self.inner.start(now, start);
    }

    fn rates(&mut self, now: Instant, rates: &Rates) {
        self.inner.rates(now, rates);
    }

    fn cancel(&mut self, now: Instant, job: JobId, attempt: Attempt) {
        self.inner.cancel(now, job, attempt);
    }

    fn link_changed(&mut self, now: Instant, link: LinkId, rate: BitRate, delay: Delay) {
        self.inner.link_changed(now, link, rate, delay);
    }

    fn next_s(&mut self) -> Option<f64> {
        self.inner.next_s()
    }

    fn advance(&mut self, now: Instant, reports: &mut Reports) {
        self.inner.advance(now, reports);
    }

    fn report(&mut self, now: Instant, reports: &mut Reports) {
        self.inner.report(now, reports);
    }
}

type Programs = BTreeMap<(String, Attempt), Program>;

/// All records of a simulation with these `settings`, and what its stages were given to do.
fn run(scenario: &Arc<Scenario>, policy: &str, settings: EventSettings) -> (Vec<Record>, Programs) {
    let engine = Engine::new(
        scenario.clone(),
        policy_by_name(policy).expect("a known policy"),
    );
    let mut watched = Watched {
        inner: EventModel::new(scenario.clone(), settings),
        scenario: scenario.clone(),
        programs: BTreeMap::new(),
    };
    let mut records = Vec::new();
    drive(engine, &mut watched, |record| records.push(record));
    (records, watched.programs)
}

fn repeating(repeat_steady: bool) -> EventSettings {
    EventSettings {
        repeat_steady,
        ..EventSettings::default()
    }
}

/// Every iteration and the actions behind it.
fn told(records: &[Record]) -> Vec<(&IterationRecord, &ActionsRecord)> {
    let mut told = Vec::new();
    for (index, record) in records.iter().enumerate() {
        match record {
            Record::Iteration(iteration) => {
                let Some(Record::Actions(actions)) = records.get(index + 1) else {
                    panic!("no actions follow {iteration:?}");
                };
                told.push((iteration, actions));
            }
            Record::Actions(actions) => assert!(
                matches!(records[index - 1], Record::Iteration(_)),
                "no iteration before {actions:?}"
            ),
            _ => {}
        }
    }
    told
}

fn same(a: f64, b: f64) -> bool {
    (a - b).abs() <= SAME_S * b.abs().max(1.0)
}

/// What each law says of one iteration; `Err` names the one that is broken.
fn check(iteration: &IterationRecord, spans: &[ActionSpan]) -> Result<(), String> {
    let law = |holds: bool, law: &str| {
        if holds {
            Ok(())
        } else {
            Err(format!("{law}: {iteration:?} {spans:?}"))
        }
    };
    let (first, last) = (&spans[0], &spans[spans.len() - 1]);
    let covered = same(first.from_s, iteration.from_s) && same(last.to_s, iteration.to_s);
    law(covered, "spans cover their iteration")?;
    let contiguous = spans.windows(2).all(|pair| pair[0].to_s == pair[1].from_s);
    law(contiguous, "each span begins where the one before ended")?;
    let sums = sums(spans);
    let times = iteration.times;
    let add_up = same(sums.forward_s, times.forward_s)
        && same(sums.backward_s, times.backward_s)
        && same(sums.step_s, times.step_s)
        && same(sums.stall_s, times.stall_s)
        && sums.send_wait_s == 0.0;
    law(add_up, "spans add up to the iteration's times")?;
    for span in spans {
        law(span.to_s >= span.from_s, "time does not go back")?;
        let receives = span.action.receives().is_some();
        law(receives == span.message.is_some(), "receives have messages")?;
        let plain = span.lease_wait_s.is_none() && span.excess_s.is_none();
        law(plain, "nothing of a simulation is the host's doing")?;
        if let Some(message) = span.message {
            let arrived = same(span.to_s, message.usable_s().max(span.from_s));
            law(arrived, "a receive ends when its tensor is there")?;
        }
    }
    Ok(())
}

/// Where the time went, by kind of action.
fn sums(spans: &[ActionSpan]) -> StageTimes {
    let mut sums = StageTimes::default();
    for span in spans {
        *match span.action {
            Action::Forward(_) => &mut sums.forward_s,
            Action::Backward(_) => &mut sums.backward_s,
            Action::Step => &mut sums.step_s,
            Action::ReceiveActivation(_) | Action::ReceiveGradient(_) => &mut sums.stall_s,
            Action::SendActivation(_) | Action::SendGradient(_) => &mut sums.send_wait_s,
        } += span.seconds();
    }
    sums
}

/// The messages of each direction of each boundary, in order: by job, attempt, receiving stage and whether they are gradients.
fn messages<'a>(
    told: &[(&IterationRecord, &'a ActionsRecord)],
) -> BTreeMap<(&'a str, Attempt, u32, bool), Vec<MessageTimes>> {
    let mut messages: BTreeMap<_, Vec<MessageTimes>> = BTreeMap::new();
    for (_, actions) in told {
        for span in &actions.spans {
            let gradient = matches!(span.action, Action::ReceiveGradient(_));
            let key = (
                actions.job.as_str(),
                actions.attempt,
                actions.stage.0,
                gradient,
            );
            messages.entry(key).or_default().extend(span.message);
        }
    }
    messages
}

fn check_messages(messages: &[MessageTimes]) -> Result<(), String> {
    let mut before_s = f64::NEG_INFINITY;
    for message in messages {
        let (Some(left_s), Some(queued_s)) = (message.left_s, message.queued_s) else {
            return Err(format!("the link clocks everything: {message:?}"));
        };
        let turn_s = message.ready_s.max(before_s);
        let holds = message.ready_s <= left_s
            && left_s <= message.due_s
            && before_s <= left_s + SAME_S
            && queued_s >= 0.0
            && queued_s <= left_s - turn_s + SAME_S * left_s.max(1.0)
            && message.late_until_s.is_none();
        if !holds {
            return Err(format!("{message:?} behind what left at {before_s} s"));
        }
        before_s = left_s;
    }
    Ok(())
}

/// All numbers of each span of an iteration.
type SpanNumbers = Vec<(Action, Vec<f64>)>;

/// Those of every iteration, by job, attempt, stage and iteration.
fn numbers(records: &[Record]) -> BTreeMap<(String, u32, u32, u32), SpanNumbers> {
    let of = |span: &ActionSpan| {
        let message = span.message.map(|message| {
            let link = [message.left_s, message.queued_s].map(Option::unwrap_or_default);
            [message.ready_s, link[0], link[1], message.due_s]
        });
        let numbers = [span.from_s, span.to_s];
        let numbers = numbers.into_iter().chain(message.into_iter().flatten());
        (span.action, numbers.collect())
    };
    let keyed = told(records).into_iter().map(|(_, actions)| {
        let ActionsRecord {
            job,
            attempt,
            stage,
            iteration,
            spans,
        } = actions;
        let key = (job.clone(), attempt.0, stage.0, iteration.0);
        (key, spans.iter().map(of).collect())
    });
    keyed.collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn actions_are_the_program_and_fill_their_iterations(
        jobs in jobs(),
        change_s in 0.2..6.0,
        keys in [0..KEYS.len(), 0..KEYS.len(), 0..KEYS.len()],
        policy in prop::sample::select(&["bace-pipe", "cr-ldf", "cr-lcf"][..]),
    ) {
        let scenario = scenario(&jobs, change_s, &keys);
        let (records, programs) = run(&scenario, policy, repeating(true));
        let told = told(&records);
        for (iteration, actions) in &told {
            let id = (&iteration.job, iteration.attempt, iteration.stage, iteration.iteration);
            prop_assert_eq!(id, (&actions.job, actions.attempt, actions.stage, actions.iteration));
            let program = &programs[&(actions.job.clone(), actions.attempt)].stages[actions.stage.index()];
            let done = actions.spans.iter().map(|span| span.action);
            prop_assert!(done.eq(program.iter().copied()), "{:?}: {:?}", program, actions);
            let laws = check(iteration, &actions.spans);
            prop_assert!(laws.is_ok(), "{}", laws.unwrap_err());
        }
        for (boundary, messages) in messages(&told) {
            let laws = check_messages(&messages);
            prop_assert!(laws.is_ok(), "{:?}: {}", boundary, laws.unwrap_err());
        }
    }

    #[test]
    fn repeated_iterations_have_the_actions_of_walked_ones(
        jobs in jobs(),
        change_s in 0.2..6.0,
        keys in [0..KEYS.len(), 0..KEYS.len(), 0..KEYS.len()],
        policy in prop::sample::select(&["bace-pipe", "cr-ldf", "ldf"][..]),
    ) {
        let scenario = scenario(&jobs, change_s, &keys);
        let [walked, repeated] = [false, true].map(|repeat| numbers(&run(&scenario, policy, repeating(repeat)).0));
        prop_assert_eq!(walked.len(), repeated.len());
        for ((key, walked), (other, repeated)) in walked.iter().zip(&repeated) {
            prop_assert_eq!(key, other);
            prop_assert_eq!(walked.len(), repeated.len());
            for (walked, repeated) in walked.iter().zip(repeated) {
                prop_assert_eq!(walked.0, repeated.0);
                let alike = walked.1.iter().zip(&repeated.1).all(|(&a, &b)| same(a, b));
                prop_assert!(alike, "{:?}: {:?} {:?}", key, walked, repeated);
            }
        }
    }

    #[test]
    fn telling_actions_changes_nothing_else(
        jobs in jobs(),
        change_s in 0.2..6.0,
        keys in [0..KEYS.len(), 0..KEYS.len(), 0..KEYS.len()],
    ) {
        let scenario = scenario(&jobs, change_s, &keys);
        let (mut with, _) = run(&scenario, "cr-ldf", EventSettings::default());
        let without = EventSettings { action_records: false, ..EventSettings::default() };
        let (without, _) = run(&scenario, "cr-ldf", without);
        // Repeated iterations are told in smaller groups, so that other jobs' may come in between.
        with.retain(|record| !matches!(record, Record::Actions(_)));
        prop_assert!(sorted(with) == sorted(without), "{:?} {:?}", jobs, keys);
    }
}

fn sorted(records: Vec<Record>) -> Vec<String> {
    let mut lines: Vec<String> = records.iter().map(|record| format!("{record:?}")).collect();
    lines.sort();
    lines
}

#[test]
fn who_wants_outcomes_alone_is_told_no_iterations() {
    let job = Job {
        arrival_s: 0.0,
        layers: 4,
        iterations: 20,
        micro_batches: 4,
        sequence: 16,
        schedule: "1f1b",
    };
    let scenario = scenario(&[job], 1e6, &[0; 3]);
    let kinds = |detail| {
        let policy = policy_by_name("cr-ldf").expect("a known policy");
        let engine = Engine::new(scenario.clone(), policy).with_detail(detail);
        let (mut iterations, mut actions) = (0, 0);
        simulate_engine(engine, IterationModel::Event, |record| match record {
            Record::Iteration(_) => iterations += 1,
            Record::Actions(_) => actions += 1,
            _ => {}
        });
        (iterations, actions)
    };
    assert_eq!(kinds(Detail::Outcomes), (0, 0));
    let (iterations, actions) = kinds(Detail::Full);
    assert!(
        iterations >= 20 && actions == iterations,
        "{iterations} {actions}"
    );
}

/// Two regions, and jobs of tensors that take 2 s on the link between them.
fn two_regions(jobs: u32, iterations: u32) -> Arc<Scenario> {
    let mut text = "name = \"two\"\n[model.dot]\nlayers = 8\nhidden = 2\nheads = 1\nfeed_forward = 1\ngated = false\nvocabulary = 1\n\
        [[link]]\nbetween = [\"a\", \"b\"]\nbandwidth_mbps = 32e-6\none_way_delay_ms = 500\n"
        .to_owned();
    for name in ["a", "b"] {
        text += &format!(
            "[[region]]\nname = \"{name}\"\ngpus = 8\ngpu = \"a6000\"\nprice_usd_per_kwh = 0.1\n"
        );
    }
    for job in 0..jobs {
        text += &format!(
            "[[job]]\nname = \"j{job}\"\nmodel = \"dot\"\narrival_s = 0\niterations = {iterations}\nmicro_batches = 2\n\
             micro_batch = 1\nsequence = 2\nschedule = \"gpipe\"\n"
        );
    }
    parse(&text)
}

/// Starts jobs with one stage in each region at their times, each stage of 3 s and a step of `step_s`.
fn start_all(scenario: &Arc<Scenario>, starts_s: &[f64], step_s: f64) -> Vec<Record> {
    let mut model = EventModel::new(scenario.clone(), EventSettings::default());
    let mut records = Vec::new();
    let mut until = |model: &mut EventModel, limit_s: f64| {
        while let Some(at_s) = model.next_s().filter(|&at_s| at_s <= limit_s) {
            let mut reports = Reports::default();
            model.advance(Instant::new(at_s), &mut reports);
            records.append(&mut reports.records);
        }
    };
    for (job, &at_s) in (0..).zip(starts_s) {
        until(&mut model, at_s);
        let path = [0, 1].map(|region| bace_api::RegionGpus {
            region: bace_netem::RegionId::new(region),
            gpus: 1,
        });
        let takes = StageSeconds {
            step_s,
            ..StageSeconds::by_formula(3.0)
        };
        let start = Start {
            job: JobId(job),
            attempt: Attempt(0),
            placement: bace_api::Placement {
                path: path.to_vec(),
                layers: vec![4, 4],
            },
            stage_seconds: vec![takes; 2],
            first_iteration: 0,
            iteration_s: 1.0,
            rates: vec![32.0],
            delays_s: vec![0.5],
        };
        model.start(Instant::new(at_s), &start);
    }
    until(&mut model, f64::INFINITY);
    records
}

/// The messages that a stage of a job received in its first iteration.
fn received(records: &[Record], job: &str, stage: u32) -> Vec<MessageTimes> {
    let of = |actions: &&ActionsRecord| {
        actions.job == job && actions.stage.0 == stage && actions.iteration.0 == 0
    };
    let told = told(records);
    let mut actions = told.iter().map(|(_, actions)| *actions);
    let actions = actions.find(of).expect("it has ended an iteration");
    actions
        .spans
        .iter()
        .filter_map(|span| span.message)
        .collect()
}

#[test]
fn what_the_link_does_for_others_is_queueing() {
    let times = |ready_s, left_s, queued_s| MessageTimes {
        ready_s,
        left_s: Some(left_s),
        queued_s: Some(queued_s),
        due_s: left_s + 0.5,
        late_until_s: None,
    };
    // Forwards of 1 s: ready at 1 s and 2 s, 2 s each on the link, the second behind the first.
    let alone = start_all(&two_regions(1, 1), &[0.0], 0.0);
    assert_eq!(
        received(&alone, "j0", 1),
        [times(1.0, 3.0, 0.0), times(2.0, 5.0, 0.0)]
    );
    // Two jobs at once take turns: every message but the first waits for one of the other's.
    let two = start_all(&two_regions(2, 1), &[0.0, 0.0], 0.0);
    let of = |job| received(&two, job, 1);
    assert_eq!(of("j0"), [times(1.0, 3.0, 0.0), times(2.0, 7.0, 2.0)]);
    assert_eq!(of("j1"), [times(1.0, 5.0, 2.0), times(2.0, 9.0, 2.0)]);
    // The second half a second later: only from when it is ready does it queue.
    let later = start_all(&two_regions(2, 1), &[0.0, 0.5], 0.0);
    assert_eq!(received(&later, "j1", 1)[0], times(1.5, 5.0, 1.5));
}

#[test]
fn a_step_that_reaches_into_the_next_iteration_is_told_whole() {
    for step_s in [0.5, 4.0, 40.0] {
        for record in told(&start_all(&two_regions(1, 30), &[0.0], step_s)) {
            let (iteration, actions) = record;
            check(iteration, &actions.spans).expect("the laws hold");
            let step = actions.spans.last().expect("a step");
            assert!(step.action == Action::Step && same(step.seconds(), step_s));
        }
    }
}
