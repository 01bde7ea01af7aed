//! Jobs that links hold only at some times, docs/scheduling.md section 3.

#![expect(clippy::unwrap_used, reason = "a test's panic is its report")]

use std::sync::Arc;

use bace_api::Record;
use bace_engine::{Engine, Replay, Scenario, policy_by_name};
use bace_sim::{IterationModel, simulate};

/// Two regions of two GPUs. The job needs three: 341.3 bit/s between the regions, and 512 bit/s for its best, four.
fn scenario(link: &str, arrival_s: f64, more: &str) -> Arc<Scenario> {
    let text = format!(
        r#"
        name = "changing links"
        [gpu.small]
        peak_tflops = 1.4784e-7
        mfu = 1.0
        memory_gb = 0.001
        busy_w = 300
        idle_w = 100
        [model.seven]
        layers = 7
        hidden = 64
        heads = 1
        kv_heads = 1
        head_size = 64
        feed_forward = 64
        gated = false
        vocabulary = 1
        [[region]]
        name = "a"
        gpus = 2
        gpu = "small"
        price_usd_per_kwh = 0.1
        [[region]]
        name = "b"
        gpus = 2
        gpu = "small"
        price_usd_per_kwh = 0.1
        [[link]]
        between = ["a", "b"]
        one_way_delay_ms = 500
        {link}
        [[job]]
        name = "wide"
        model = "seven"
        arrival_s = {arrival_s}
        iterations = 3
        micro_batches = 4
        micro_batch = 1
        sequence = 1
        {more}
        "#
    );
    let none = |path: &str| Err(format!("there is no {path}"));
    Arc::new(Scenario::parse(&text, "changing-links.toml", &none).unwrap())
}

/// The records of a simulation, which a replay finds again.
fn records_of(scenario: &Arc<Scenario>) -> Vec<Record> {
    let policy = || policy_by_name("bace-pipe").unwrap();
    let mut records = Vec::new();
    simulate(scenario, policy(), IterationModel::Event, |record| {
        records.push(record)
    });
    let mut replay = Replay::new(Engine::new(scenario.clone(), policy()));
    for record in &records {
        replay.take(record).unwrap();
    }
    replay.finish(false).unwrap();
    records
}

/// What was decided about jobs, a line each.
fn story(scenario: &Arc<Scenario>) -> Vec<String> {
    let told = records_of(scenario)
        .into_iter()
        .filter_map(|record| match record {
            Record::Refused { at_s, job, reason } => {
                Some(format!("{at_s}: {job} refused: {reason}"))
            }
            Record::PassedOver { at_s, job, why, .. } => {
                Some(format!("{at_s}: {job} waits: {why}"))
            }
            Record::Placed { at_s, job, k, .. } => Some(format!("{at_s}: {job} on {k}")),
            Record::JobFinished { job, .. } => Some(format!("{job} finished")),
            Record::RunEnded { waiting, .. } if !waiting.is_empty() => {
                Some(format!("left waiting: {}", waiting.join(", ")))
            }
            _ => None,
        });
    told.collect()
}

#[test]
fn a_link_that_came_up_before_the_job_holds_it() {
    for before in ["0.0001", "0"] {
        let link =
            format!("bandwidth_mbps = {before}\ntrace = [{{ at_s = 1, bandwidth_mbps = 0.001 }}]");
        assert_eq!(
            story(&scenario(&link, 5.0, "")),
            ["5: wide on 4", "wide finished"]
        );
    }
}

#[test]
fn a_job_waits_for_a_link_that_comes_up_and_tells_so() {
    let link = "bandwidth_mbps = 0\n\
                trace = [{ at_s = 8, bandwidth_mbps = 0.0002 }, { at_s = 20, bandwidth_mbps = 0.001 }]";
    assert_eq!(
        story(&scenario(link, 5.0, "")),
        [
            "5: wide waits: between a and b it needs 341.3 bit/s and 0.0 bit/s are left",
            "20: wide on 4",
            "wide finished"
        ]
    );
}

#[test]
fn a_job_that_no_state_of_the_links_holds_is_refused_at_once() {
    let refused = |at_s: u32, best: &str| {
        format!(
            "{at_s}: wide refused: no path over the idle cluster gives it the 3 GPUs it needs: \
             between a and b it needs 341.3 bit/s and {best} bit/s are left"
        )
    };
    let never = "bandwidth_mbps = 0.0001\ntrace = [{ at_s = 10, bandwidth_mbps = 0.0002 }]";
    assert_eq!(story(&scenario(never, 5.0, "")), [refused(5, "200.0")]);
    let no_more = "bandwidth_mbps = 0.001\ntrace = [{ at_s = 1, bandwidth_mbps = 0.0001 }]";
    assert_eq!(story(&scenario(no_more, 5.0, "")), [refused(5, "100.0")]);
}

#[test]
fn a_waiting_job_takes_what_the_changed_link_holds() {
    let link = "bandwidth_mbps = 0\n\
                trace = [{ at_s = 8, bandwidth_mbps = 0.0004 }, { at_s = 20, bandwidth_mbps = 0.001 }]";
    assert_eq!(
        story(&scenario(link, 5.0, "")),
        [
            "5: wide waits: between a and b it needs 341.3 bit/s and 0.0 bit/s are left",
            "8: wide on 3",
            "wide finished"
        ]
    );
}

#[test]
fn a_job_that_lost_its_gpus_while_the_link_is_down_is_not_forgotten() {
    let link = "bandwidth_mbps = 0.001\n\
                trace = [{ at_s = 2, bandwidth_mbps = 0 }, { at_s = 9, bandwidth_mbps = 0.001 }]";
    let gpus = "[[gpu_change]]\nat_s = 3\nregion = \"a\"\ngpus = 1\n\
                [[gpu_change]]\nat_s = 4\nregion = \"a\"\ngpus = 2";
    assert_eq!(
        story(&scenario(link, 0.0, gpus)),
        [
            "0: wide on 4",
            "3: wide waits: between b and a it needs 341.3 bit/s and 0.0 bit/s are left",
            "4: wide waits: between a and b it needs 341.3 bit/s and 0.0 bit/s are left",
            "9: wide on 4",
            "wide finished"
        ]
    );
}

#[test]
fn a_job_for_which_links_were_at_their_best_too_early_is_left_waiting() {
    // The first job holds the GPUs until the link is down for ever.
    let link = "bandwidth_mbps = 0.001\ntrace = [{ at_s = 6, bandwidth_mbps = 0 }]";
    let late = "[[job]]\nname = \"late\"\nmodel = \"seven\"\narrival_s = 5\niterations = 1\n\
                micro_batches = 4\nmicro_batch = 1\nsequence = 1";
    let story = story(&scenario(link, 0.0, late));
    assert_eq!(story[0], "0: wide on 4");
    assert_eq!(
        story.last().unwrap(),
        "left waiting: late",
        "what was accepted is not refused later: {story:?}"
    );
}
