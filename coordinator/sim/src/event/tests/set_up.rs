//! What comes before a job trains.

use bace_engine::Rates;
use bace_netem::{BitRate, Delay, LinkId};

use super::*;

/// A stage of 3 s for a micro-batch that is set up in `set_up_s`, and in 10 s more by a fresh process.
fn with_set_up(set_up_s: f64) -> StageSeconds {
    StageSeconds {
        set_up_s,
        fresh_s: 10.0,
        ..StageSeconds::by_formula(3.0)
    }
}

/// The start of a job whose stages are each set up in 1 s, and in 11 s by fresh processes.
fn set_up_start(job: u32, gpus: [u32; 2]) -> Start {
    let mut start = start(job, gpus, 3.0);
    start.stage_seconds.fill(with_set_up(1.0));
    start
}

/// Checks when jobs end that are started at these times.
fn ends_are(scenario: &Arc<Scenario>, starts: &[(f64, Start)], expected: &[(u32, f64)]) {
    let (ends, _) = run(scenario, starts);
    for (job, end_s) in expected {
        assert!(close(ends[job], *end_s), "{ends:?}");
    }
}

#[test]
fn a_job_trains_once_its_slowest_stage_is_set_up() {
    let scenario = two_regions(1, 5, 4, "1f1b");
    let mut one = start(0, [2, 0], 3.0);
    let without_s = end_of_one(&scenario, one.clone());
    one.stage_seconds = vec![with_set_up(1.5), with_set_up(4.0)];
    let (ends, records) = run(&scenario, &[(7.0, one)]);
    assert!(close(ends[&0], 7.0 + 14.0 + without_s), "{ends:?}");
    let mut begins = records.iter().filter_map(|record| match record {
        Record::Iteration(iteration) if iteration.stage.0 == 0 => Some(iteration.from_s),
        _ => None,
    });
    assert_eq!(begins.next(), Some(21.0));
}

#[test]
fn a_set_up_is_a_later_begin_for_all_who_share_links() {
    let scenario = two_regions(2, 40, 4, "1f1b");
    let late = [
        (0.0, set_up_start(0, [1, 1])),
        (50.0, set_up_start(1, [1, 1])),
    ];
    let begun = [(11.0, start(0, [1, 1], 3.0)), (61.0, start(1, [1, 1], 3.0))];
    let (late, begun) = (run(&scenario, &late).0, run(&scenario, &begun).0);
    assert!(
        close(late[&0], begun[&0]) && close(late[&1], begun[&1]),
        "{late:?} {begun:?}"
    );
}

#[test]
fn what_is_left_after_a_loss_is_set_up_again() {
    let scenario = two_regions(1, 5, 4, "1f1b");
    let mut again = set_up_start(0, [1, 0]);
    again.attempt = Attempt(1);
    again.first_iteration = 3;
    let (ends, records) = run(&scenario, &[(2.0, again)]);
    assert!(close(ends[&0], 2.0 + 11.0 + 2.0 * 12.0), "{ends:?}");
    let iterations = records.iter().filter_map(|record| match record {
        Record::Iteration(iteration) => Some(iteration.iteration.0),
        _ => None,
    });
    assert_eq!(iterations.collect::<Vec<_>>(), [3, 4]);
}

#[test]
fn a_link_that_changes_meanwhile_is_found_changed() {
    let scenario = two_regions(1, 5, 4, "1f1b");
    let link = LinkId::new(RegionId::new(0), RegionId::new(1));
    let changed = |mut model: EventModel| {
        for link in [link, link.reversed()] {
            let (rate, delay) = (
                BitRate::from_bps(64.0).unwrap(),
                Delay::from_seconds(0.25).unwrap(),
            );
            model.link_changed(Instant::new(0.0), link, rate, delay);
        }
        model
    };
    let model = || EventModel::new(scenario.clone(), EventSettings::default());
    let (expected, _) = run_on(changed(model()), &[(11.0, start(0, [1, 1], 3.0))]);
    let mut late = model();
    late.start(Instant::new(0.0), &set_up_start(0, [1, 1]));
    let (found, _) = run_on(changed(late), &[]);
    assert!(close(found[&0], expected[&0]), "{found:?} {expected:?}");
    let (unchanged, _) = run_on(model(), &[(11.0, start(0, [1, 1], 3.0))]);
    assert!(unchanged[&0] > expected[&0] + 1.0, "{unchanged:?}");
}

#[test]
fn processes_are_fresh_once() {
    let scenario = two_regions(4, 1, 4, "1f1b");
    // One stage trains for 12 s. Jobs 0 and 1 overlap, so that each makes a process of the first region hold its first stage; 2 and 3
    // find these idle.
    let starts = [
        (0.0, set_up_start(0, [1, 0])),
        (20.0, set_up_start(1, [1, 0])),
        (100.0, set_up_start(2, [1, 0])),
        (101.0, set_up_start(3, [1, 0])),
    ];
    ends_are(
        &scenario,
        &starts,
        &[(0, 23.0), (1, 43.0), (2, 113.0), (3, 114.0)],
    );
    let mut together = starts[2..].to_vec();
    together[1].0 = 100.0;
    ends_are(&scenario, &together, &[(2, 123.0), (3, 123.0)]);
}

#[test]
fn who_begins_as_another_ends_takes_processes_that_were_idle_before() {
    let scenario = two_regions(3, 1, 4, "1f1b");
    // Seven of eight idle processes are fresh, and taken before the one that is only just let go.
    let starts = [
        (0.0, set_up_start(0, [1, 0])),
        (23.0, set_up_start(1, [1, 0])),
        (100.0, set_up_start(2, [1, 0])),
    ];
    let expected = [(0, 23.0), (1, 23.0 + 11.0 + 12.0), (2, 113.0)];
    ends_are(&scenario, &starts, &expected);
    // Where no other is there, it does.
    let whole = start(0, [8, 0], 3.0);
    let mut first = set_up_start(0, [8, 0]);
    let train_s = end_of_one(&scenario, whole);
    first.job = JobId(0);
    let next = (11.0 + train_s, set_up_start(1, [8, 0]));
    let (ends, _) = run(&scenario, &[(0.0, first), next.clone()]);
    assert!(close(ends[&1], next.0 + 1.0 + train_s), "{ends:?}");
}

#[test]
fn a_job_that_loses_its_gpus_before_it_trains_leaves_nothing_behind() {
    let scenario = two_regions(1, 5, 4, "1f1b");
    let mut one = start(0, [1, 1], 3.0);
    one.stage_seconds = vec![with_set_up(5.0); 2];
    let mut model = EventModel::new(scenario, EventSettings::default());
    model.start(Instant::new(0.0), &one);
    let mut reports = Reports::default();
    model.advance(Instant::new(0.0), &mut reports);
    assert_eq!(model.next_s(), Some(15.0));
    model.report(Instant::new(8.0), &mut reports);
    model.cancel(Instant::new(8.0), JobId(0), Attempt(0));
    assert_eq!(model.next_s(), None);
    assert!(reports.inputs.is_empty(), "{reports:?}");
}

/// The event model where every stage is set up in `set_up_s`, and in half as much more by fresh processes.
struct SetUp {
    model: EventModel,
    set_up_s: f64,
}

impl Executor for SetUp {
    fn start(&mut self, now: Instant, start: &Start) {
        let mut start = start.clone();
        for takes in &mut start.stage_seconds {
            takes.set_up_s = self.set_up_s;
            takes.fresh_s = self.set_up_s / 2.0;
        }
        self.model.start(now, &start);
    }

    fn rates(&mut self, now: Instant, rates: &Rates) {
        self.model.rates(now, rates);
    }

    fn cancel(&mut self, now: Instant, job: JobId, attempt: Attempt) {
        self.model.cancel(now, job, attempt);
    }

    fn link_changed(&mut self, now: Instant, link: LinkId, rate: BitRate, delay: Delay) {
        self.model.link_changed(now, link, rate, delay);
    }

    fn next_s(&mut self) -> Option<f64> {
        self.model.next_s()
    }

    fn advance(&mut self, now: Instant, reports: &mut Reports) {
        self.model.advance(now, reports);
    }

    fn report(&mut self, now: Instant, reports: &mut Reports) {
        self.model.report(now, reports);
    }
}

fn simulated(
    scenario: &Arc<Scenario>,
    policy: &str,
    repeat_steady: bool,
    set_up_s: f64,
) -> Vec<Record> {
    let settings = EventSettings {
        repeat_steady,
        ..EventSettings::default()
    };
    let model = EventModel::new(scenario.clone(), settings);
    simulate_with(scenario, policy, &mut SetUp { model, set_up_s })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn repeating_what_is_steady_changes_nothing_where_jobs_are_set_up(
        jobs in eventful_jobs(),
        change_s in 0.2..6.0,
        set_up_s in 0.01..2.0,
        policy in prop::sample::select(&["bace-pipe", "cr-ldf", "cr-lcf", "ldf"][..]),
    ) {
        let scenario = eventful(&jobs, change_s);
        let [walked, repeated] =
            [false, true].map(|repeat_steady| simulated(&scenario, policy, repeat_steady, set_up_s));
        same_outcome(&walked, &repeated)?;
    }

    #[test]
    fn gpus_are_held_and_idle_while_a_job_is_set_up(
        iterations in 1u32..50,
        set_up_s in 0.01..2.0,
    ) {
        // One job, and nothing that changes while it runs.
        let scenario = eventful(&[(0.5, 4, iterations, 3, 16)], 1e6);
        let energy = |set_up_s: f64| {
            let records = simulated(&scenario, "cr-ldf", true, set_up_s);
            let used = records.iter().filter_map(|record| match record {
                Record::Energy(used) => Some([used.held_s, used.busy_s, used.energy_j]),
                _ => None,
            });
            used.collect::<Vec<_>>()
        };
        let (without, with) = (energy(0.0), energy(set_up_s));
        prop_assert!(!without.is_empty());
        prop_assert_eq!(without.len(), with.len());
        for (without, with) in without.iter().zip(&with) {
            prop_assert!(close(with[0], without[0] + 1.5 * set_up_s), "{without:?} {with:?}");
            prop_assert!(close(with[1], without[1]), "{without:?} {with:?}");
            // Idle GPUs draw 10 W.
            prop_assert!(close(with[2], without[2] + 15.0 * set_up_s), "{without:?} {with:?}");
        }
    }
}
