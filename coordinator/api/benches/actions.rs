//! What it costs to tell of every action: at the worker, which reports an iteration, and at the coordinator, which reads the
//! report and writes it to the ledger.

use std::hint::black_box;

use bace_api::{
    Action, ActionReport, ActionsRecord, Attempt, CONTROL_LIMIT, FromWorker, Iteration,
    IterationReport, JobId, MicroBatch, Record, StageIndex, StageTimes, decode, encode,
};
use bace_netem::{Departure, TimeScale, Timing};
use criterion::{Criterion, Throughput};

/// Micro-batches of the iteration.
const MICRO_BATCHES: u32 = 16;
/// When it begins: a host that has run for twelve days.
const BEGIN_NS: u64 = 1 << 50;
const ACTION_NS: u64 = 1_234_567;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let spans = spans();
    println!("{} actions: bytes of one", spans.len());
    let each = |bytes: usize| bytes as f64 / spans.len() as f64;
    let (told, silent) = (report(spans.clone()), report(Vec::new()));
    let bytes = |message| encode::<CONTROL_LIMIT>(message).expect("it fits").len();
    println!("  report  {:.1}", each(bytes(&told) - bytes(&silent)));
    let record = record(&spans);
    let line = serde_json::to_vec(&record).expect("a record is JSON");
    println!("  ledger  {:.1}", each(line.len()));

    let mut group = criterion.benchmark_group("one iteration");
    group.throughput(Throughput::Elements(spans.len() as u64));
    group.bench_function("worker: record", |bench| {
        bench.iter(|| {
            let mut recorded = Vec::new();
            for span in black_box(&spans) {
                recorded.push(span.clone());
            }
            recorded
        });
    });
    group.bench_function("worker: encode", |bench| {
        bench.iter(|| encode::<CONTROL_LIMIT>(black_box(&told)).expect("it fits"));
    });
    let encoded = encode::<CONTROL_LIMIT>(&told).expect("it fits");
    group.bench_function("coordinator: decode", |bench| {
        bench.iter(|| decode::<CONTROL_LIMIT, FromWorker>(black_box(&encoded)).expect("a report"));
    });
    group.bench_function("coordinator: translate and write", |bench| {
        let mut line = Vec::new();
        bench.iter(|| {
            line.clear();
            serde_json::to_writer(&mut line, &self::record(black_box(&spans))).expect("JSON");
        });
    });
    group.finish();
    criterion.final_summary();
}

/// What a stage in the middle of a pipeline does.
fn spans() -> Vec<ActionReport> {
    let actions = (0..MICRO_BATCHES).map(MicroBatch).flat_map(|m| {
        [
            Action::ReceiveActivation(m),
            Action::Forward(m),
            Action::SendActivation(m),
            Action::ReceiveGradient(m),
            Action::Backward(m),
            Action::SendGradient(m),
        ]
    });
    let actions = actions.chain([Action::Step]).zip(0..);
    let spans = actions.map(|(action, place)| {
        let from_ns = BEGIN_NS + place * ACTION_NS;
        let message = Timing {
            ready_ns: from_ns - 30_000_000,
            departure: Some(Departure {
                left_ns: from_ns - 10_000_000,
                queued_ns: 0,
            }),
            deliver_at_ns: from_ns - 1,
            arrived_ns: from_ns - 500_000,
            delivered_ns: from_ns,
        };
        let receives = matches!(
            action,
            Action::ReceiveActivation(_) | Action::ReceiveGradient(_)
        );
        ActionReport {
            action,
            from_ns,
            to_ns: from_ns + ACTION_NS,
            lease_wait_ns: None,
            excess_ns: None,
            message: receives.then_some(message),
        }
    });
    spans.collect()
}

fn report(spans: Vec<ActionReport>) -> FromWorker {
    FromWorker::Iteration(IterationReport {
        job: JobId(0),
        attempt: Attempt(0),
        stage: StageIndex(1),
        is_last_stage: false,
        iteration: Iteration(40),
        begin_ns: BEGIN_NS,
        end_ns: BEGIN_NS + spans.len() as u64 * ACTION_NS,
        times: StageTimes::default(),
        spans,
        loss: None,
        device_s: None,
        lease_wait_s: None,
        actions: Some(2 * MICRO_BATCHES),
        overruns: 0,
        worst_overrun_s: 0.0,
        overrun_s: 0.0,
        scale_without_overrun: None,
    })
}

/// As the driver makes it, of a run that began ten minutes ago.
fn record(spans: &[ActionReport]) -> Record {
    let origin_ns = BEGIN_NS - 600_000_000_000;
    let seconds = |ns: u64| (ns - origin_ns) as f64 / 1e9;
    let spans = spans
        .iter()
        .map(|span| span.emulated(TimeScale::ONE, seconds));
    Record::Actions(ActionsRecord {
        job: "job".to_owned(),
        attempt: Attempt(0),
        stage: StageIndex(1),
        iteration: Iteration(40),
        spans: spans.collect(),
    })
}
