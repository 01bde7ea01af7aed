//! Folds over records that no frozen ledger holds: simulations, restarts, many jobs.

use bace_api::{Header, Record};
use bace_ledger::{JobStatus, RunEnd, Summary, render};
use serde_json::{Value, json};

fn header(jobs: &[&str]) -> Header {
    header_with(json!({"jobs": jobs}))
}

/// A simulation's header, changed by some keys.
fn header_with(changes: Value) -> Header {
    let mut header = json!({
        "format": 1, "scenario": "s", "scenario_hash": "00", "policy": "bace-pipe", "seed": 1,
        "version": "0.1.0", "machine": "m", "clock": "virtual", "compute": "modelled",
        "network": "modelled", "iteration_model": "analytic", "regions": ["x", "y"],
        "gpus": [1, 1], "jobs": [],
    });
    for (key, value) in changes.as_object().expect("an object") {
        header[key] = value.clone();
    }
    serde_json::from_value(header).expect("a header")
}

fn records(lines: impl IntoIterator<Item = Value>) -> Vec<Record> {
    let records = lines.into_iter().map(serde_json::from_value);
    records.map(|record| record.expect("a record")).collect()
}

fn submitted(job: &str, at_s: f64) -> Value {
    json!({"kind": "input", "input": "submitted", "at_s": at_s, "job": job})
}

fn placed(job: &str, at_s: f64, attempt: u32, path: &[&str]) -> Value {
    let path: Vec<Value> = path
        .iter()
        .map(|region| json!({"region": region, "gpus": 1}))
        .collect();
    json!({"kind": "placed", "at_s": at_s, "job": job, "attempt": attempt, "k": path.len(), "k_star": 2,
           "path": path, "layers": [1], "iteration_s": 1.0, "reason": null})
}

fn energy(job: &str, attempt: u32, stage: u32, region: &str, joules: f64) -> Value {
    json!({"kind": "energy", "job": job, "attempt": attempt, "stage": stage, "region": region,
           "held_s": 2.0, "busy_s": 1.0, "energy_j": joules, "cost_usd": joules / 1000.0})
}

fn finished(job: &str, at_s: f64) -> Value {
    json!({"kind": "job_finished", "at_s": at_s, "job": job})
}

fn ended(at_s: f64, waiting: &[&str]) -> Value {
    json!({"kind": "run_ended", "at_s": at_s, "waiting": waiting})
}

#[test]
fn statistics_of_four_jobs() {
    let jobs = ["a", "b", "c", "d"];
    let lines = jobs
        .iter()
        .zip([1.0, 2.0, 3.0, 10.0])
        .flat_map(|(job, jct_s)| {
            [
                submitted(job, 5.0),
                placed(job, 5.5, 0, &["x"]),
                energy(job, 0, 0, "x", 10.0),
                finished(job, 5.0 + jct_s),
            ]
        });
    let summary = Summary::from_records(&header(&jobs), &records(lines.chain([ended(15.0, &[])])));
    let totals = &summary.totals;
    assert_eq!(totals.mean_jct_s.known(), Some(&4.0));
    assert_eq!(totals.median_jct_s.known(), Some(&2.5));
    assert!((totals.p95_jct_s.known().unwrap() - 8.95).abs() < 1e-9);
    assert_eq!(totals.max_jct_s.known(), Some(&10.0));
    assert_eq!(totals.mean_queueing_s.known(), Some(&0.5));
    assert_eq!(totals.makespan_s.known(), Some(&15.0));
    assert_eq!(totals.energy_j.known(), Some(&40.0));
    assert_eq!(totals.gpu_busy_share.known(), Some(&0.5));
    assert!((totals.gpu_utilisation.known().unwrap() - 4.0 / 30.0).abs() < 1e-12);
    assert_eq!(
        totals.carbon_g.reason(),
        Some("job a: region x has no carbon series")
    );
    assert!(summary.succeeded());

    let json = summary.to_json();
    assert_eq!(json["refused"], json!([]));
    assert_eq!(json["waiting"], json!([]));
    let job = &json["jobs"][0];
    let fixed = [
        "name", "k", "k_star", "path", "gpus", "start_s", "finish_s", "jct_s", "energy_j",
        "cost_usd",
    ];
    assert!(fixed.iter().all(|key| !job[key].is_null()), "{job}");
    for key in [
        "policy",
        "scenario",
        "mean_jct_s",
        "makespan_s",
        "energy_j",
        "cost_usd",
    ] {
        assert!(!json[key].is_null(), "{json}");
    }
    // Nothing was trained, and no one has to be told.
    let report = render(&summary);
    assert!(
        !report.contains("loss") && !report.contains('!'),
        "{report}"
    );
    assert!(
        report
            .contains("clock virtual × compute modelled × network modelled × iterations analytic")
    );
}

#[test]
fn links_count_what_they_carried_and_not_what_was_sent_for_it() {
    let transfer = |from: &str, to: &str, carried: Value| {
        let mut record = json!({
            "kind": "transfer", "at_s": 9.0, "job": "a", "attempt": 0, "from_stage": 0, "to_stage": 1, "from": from,
            "to": to, "messages": 2, "bytes": 10, "late_arrivals": 0, "worst_late_s": 0.0,
        });
        if !carried.is_null() {
            record["carried_bytes"] = carried;
        }
        record
    };
    let link = |from: &str, to: &str| json!({"from": from, "to": to, "bandwidth_bps": 8e3});
    let changes = json!({
        "jobs": ["a", "b"], "clock": "wall", "compute": "paced", "network": "shaped", "iteration_model": null,
        "links": [link("x", "y"), link("y", "x")], "scale_models": ["a"],
    });
    let lines = [
        submitted("a", 0.0),
        placed("a", 0.0, 0, &["x", "y"]),
        transfer("x", "y", json!(5_000)),
        transfer("y", "x", Value::Null),
        energy("a", 0, 0, "x", 1.0),
        energy("a", 0, 1, "y", 1.0),
        finished("a", 10.0),
        ended(10.0, &[]),
    ];
    let summary = Summary::from_records(&header_with(changes), &records(lines));
    assert_eq!(summary.jobs[0].link_bytes.known(), Some(&5_010));
    let [there, back] = summary.links.as_slice() else {
        panic!("two links, {} summaries", summary.links.len());
    };
    // Of 10 kB that each could have carried.
    assert_eq!(there.utilisation.known(), Some(&0.5));
    assert_eq!(back.utilisation.known(), Some(&0.001));
    let report = render(&summary);
    assert!(report.contains("Job a trained a scale model"), "{report}");
}

#[test]
fn a_restarted_job_sums_its_attempts_and_waits_once() {
    let mut lines = vec![
        submitted("a", 0.0),
        placed("a", 1.0, 0, &["x", "y"]),
        json!({"kind": "input", "input": "gpus_changed", "at_s": 2.5, "region": "x", "gpus": 0}),
        energy("a", 0, 0, "x", 10.0),
        energy("a", 0, 1, "y", 20.0),
        placed("a", 4.0, 1, &["y"]),
    ];
    let open = Summary::from_records(&header(&["a"]), &records(lines.clone()));
    assert_eq!(open.jobs[0].status, JobStatus::Unfinished);
    assert_eq!(open.jobs[0].energy_j.known(), None);
    assert_eq!(open.end, RunEnd::CutOff { last_s: 4.0 });

    lines.extend([
        energy("a", 1, 0, "y", 5.0),
        finished("a", 9.0),
        ended(9.0, &[]),
    ]);
    let summary = Summary::from_records(&header(&["a"]), &records(lines));
    let job = &summary.jobs[0];
    assert_eq!(job.energy_j.known(), Some(&35.0));
    // From 0 to 1 s, and from 2.5 to 4 s.
    assert_eq!(job.queueing_s.known(), Some(&2.5));
    let note = "Job a lost its GPUs 1 time; its queueing is all its waits.";
    assert!(render(&summary).contains(note));
    let placement = job.placed.as_ref().unwrap();
    assert_eq!((placement.k, placement.starts), (1, 2));
    assert_eq!(summary.regions[1].energy_j.known(), Some(&25.0));
}

/// Iteration 0 of a start's stage.
fn iteration(attempt: u32, stage: u32, from_s: f64) -> Value {
    json!({"kind": "iteration", "job": "a", "attempt": attempt, "stage": stage, "iteration": 0, "from_s": from_s, "to_s": from_s + 1.0,
           "times": {"forward_s": 1.0, "backward_s": 0.0, "step_s": 0.0, "stall_s": 0.0, "send_wait_s": 0.0}})
}

#[test]
fn a_simulated_job_trains_from_its_first_iteration_on() {
    let starts = [
        submitted("a", 0.0),
        placed("a", 1.0, 0, &["x", "y"]),
        // Where the first stage begins counts; its second begins later.
        iteration(0, 1, 3.75),
        iteration(0, 0, 3.5),
        energy("a", 0, 0, "x", 1.0),
        energy("a", 0, 1, "y", 1.0),
        placed("a", 8.0, 1, &["x", "y"]),
    ];
    let again = [iteration(1, 0, 9.0)];
    let profile = json!({"used": {"path": "p", "hash": "aa", "device": "d"}});
    let event = header_with(json!({"jobs": ["a"], "iteration_model": "event", "profile": profile}));
    let both = records(starts.iter().chain(&again).cloned());
    let job = &Summary::from_records(&event, &both).jobs[0];
    assert_eq!(job.training_s.known(), Some(&9.0));
    assert_eq!(job.iterates_s.known(), Some(&9.0));
    assert_eq!(job.set_up_s.known(), Some(&3.5));
    // By the GPU types' formula nothing is predicted of it.
    let formula = header_with(json!({"jobs": ["a"], "iteration_model": "event"}));
    let job = &Summary::from_records(&formula, &both).jobs[0];
    assert_eq!(job.training_s.known(), Some(&9.0));
    assert_eq!(
        job.set_up_s.reason(),
        Some("the prediction knows no set-up")
    );
    // The second start has not trained: nobody knows when it began an iteration.
    let first = records(starts.iter().cloned());
    let job = &Summary::from_records(&event, &first).jobs[0];
    assert_eq!(
        (job.training_s.known(), job.set_up_s.known()),
        (Some(&3.5), Some(&2.5))
    );
    assert_eq!(job.iterates_s.known(), None);
    // A real run tells of it itself.
    let wall = header_with(json!({"jobs": ["a"], "clock": "wall", "iteration_model": null}));
    let job = &Summary::from_records(&wall, &both).jobs[0];
    assert_eq!(
        job.training_s.reason(),
        Some("no begin of training is recorded")
    );
    let formula = Summary::from_records(&header(&["a"]), &records(starts[..2].to_vec()));
    assert!(formula.jobs[0].set_up_s.reason().is_some());
}

#[test]
fn jobs_that_never_ran_are_told_apart() {
    let lines = [
        submitted("a", 0.0),
        json!({"kind": "refused", "at_s": 0.0, "job": "a", "reason": "no type can hold it"}),
        submitted("b", 0.0),
        json!({"kind": "passed_over", "at_s": 0.0, "job": "b", "reason": {}, "why": "it needs more"}),
        ended(0.0, &["b"]),
    ];
    let summary = Summary::from_records(&header(&["a", "b", "c"]), &records(lines));
    let words: Vec<_> = summary.jobs.iter().map(|job| job.status.word()).collect();
    assert_eq!(words, ["refused", "waiting", "not submitted"]);
    assert!(!summary.succeeded());
    let json = summary.to_json();
    assert_eq!(json["jobs"], json!([]));
    assert_eq!(json["refused"], json!(["a"]));
    assert_eq!(json["refused_reasons"]["a"], "no type can hold it");
    assert_eq!(json["waiting"], json!(["b"]));
    assert_eq!(json["waiting_reasons"], json!({"b": "it needs more"}));
    assert!(render(&summary).contains("Job b still waits for a place: it needs more."));
    assert_eq!(json["not_submitted"], json!(["c"]));
    // No job ran: the energy is known, the times are not.
    assert_eq!(json["energy_j"], 0.0);
    assert_eq!(json["unknown"]["mean_jct_s"], "no job finished");
}

#[test]
fn a_header_that_names_no_gpus_leaves_utilisation_unknown() {
    let lines = [
        submitted("a", 0.0),
        placed("a", 0.0, 0, &["x"]),
        energy("a", 0, 0, "x", 1.0),
        finished("a", 2.0),
        ended(2.0, &[]),
    ];
    let header = header_with(json!({"jobs": ["a"], "gpus": []}));
    let summary = Summary::from_records(&header, &records(lines));
    assert!(summary.totals.gpu_utilisation.reason().is_some());
    assert_eq!(summary.totals.gpu_busy_share.known(), Some(&0.5));
    assert!(render(&summary).contains("computed 50.0 % of the time jobs held them"));
}

#[test]
fn long_tables_are_cut_for_people_alone() {
    let names: Vec<String> = (0..300).map(|place| format!("job-{place}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let lines = names.iter().map(|name| submitted(name, 0.0));
    let summary = Summary::from_records(&header(&names), &records(lines));
    let report = render(&summary);
    assert!(report.lines().count() < 150, "{report}");
    assert!(report.contains("60 of 300 jobs are shown"));
    assert!(report.contains("280 more jobs did not finish"));
    assert_eq!(summary.to_json()["waiting"].as_array().unwrap().len(), 300);
}

#[test]
fn a_report_fits_100_columns_with_long_names() {
    let long = "a-region-with-a-name-as-long-as-people-give-them";
    let other = "another-region-of-that-sort";
    let job = "fine-tune-of-the-second-large-model";
    let lines = [
        submitted(job, 0.0),
        placed(job, 0.0, 0, &[long, other, "x"]),
        json!({"kind": "job_failed", "at_s": 2.0, "job": job, "reason": "word ".repeat(60)}),
        ended(2.0, &[]),
    ];
    let header =
        header_with(json!({"jobs": [job], "regions": [long, other, "x"], "compute": "native"}));
    let report = render(&Summary::from_records(&header, &records(lines)));
    for line in report.lines() {
        assert!(line.chars().count() <= 100, "{report}");
    }
    assert!(report.contains("→ x×1"), "{report}");
}

/// What a report says of the network that the record `network` tells of.
fn report_of(network: Value) -> String {
    let lines = [network, ended(0.0, &[])];
    render(&Summary::from_records(
        &header_with(json!({"network": "kernel"})),
        &records(lines),
    ))
}

#[test]
fn a_report_tells_what_the_kernel_shaped_and_what_nobody_did() {
    let lacking = report_of(
        json!({"kind": "network", "at_s": 0.0, "qdisc": "htb", "netem": false,
        "delay": "receiver", "jitter": "nobody", "loss": "nobody", "user_namespace": true}),
    );
    for line in [
        "links     kernel with htb and no netem; delay held by receiving workers; no jitter; no loss; in a",
        "! Emulation not valid. This kernel has no netem: links had no jitter, which the scenario gives them;",
        "! Emulation not valid. This kernel has no netem: links had no loss, which the scenario gives them;",
    ] {
        assert!(
            lacking.lines().any(|found| found == line),
            "no {line} in:\n{lacking}"
        );
    }
    let whole = report_of(
        json!({"kind": "network", "at_s": 0.0, "qdisc": "tbf", "netem": true,
        "delay": "kernel", "jitter": "not_asked", "loss": "kernel"}),
    );
    assert!(
        whole
            .lines()
            .any(|line| line == "links     kernel with tbf and netem"),
        "{whole}"
    );
    assert!(!whole.contains("! This kernel"), "{whole}");
}

/// A run for real whose links were measured, from `x` to `y` and back.
fn measured(changes: Value) -> Header {
    let link = |from: &str, to: &str| json!({"from": from, "to": to, "bandwidth_bps": 1e8});
    let mut header = json!({
        "clock": "wall", "network": "shaped", "iteration_model": null, "jobs": ["a"],
        "links": [link("x", "y"), link("y", "x")], "receipts": "full", "late_share": 0.05,
    });
    for (key, value) in changes.as_object().expect("an object") {
        header[key] = value.clone();
    }
    header_with(header)
}

fn receipt(phase: &str, from: &str, to: &str, verdict: &str, reason: Option<&str>) -> Value {
    json!({"kind": "receipt", "at_s": 0.0, "phase": phase, "from": from, "to": to, "attempts": 1,
           "figures": [{"quantity": "rate_bps", "configured": 1e8, "measured": 9e7, "at_least": 9.8e7, "at_most": 1.02e8},
                       {"quantity": "delay_s", "configured": 0.01, "measured": 0.0102, "at_least": 0.009, "at_most": 0.011}],
           "messages": 15, "late_arrivals": 0, "worst_late_s": 0.0, "verdict": verdict, "reason": reason})
}

fn receipts(phase: &str) -> [Value; 2] {
    [("x", "y"), ("y", "x")].map(|(from, to)| receipt(phase, from, to, "true", None))
}

fn transfer(from: &str, to: &str, messages: u64, late: u64) -> Value {
    json!({"kind": "transfer", "at_s": 2.0, "job": "a", "attempt": 0, "from_stage": 0, "to_stage": 1,
           "from": from, "to": to, "messages": messages, "bytes": 10, "late_arrivals": late,
           "worst_late_s": 0.0123})
}

/// A job over both regions between receipts.
fn whole_run(between: impl IntoIterator<Item = Value>) -> Vec<Value> {
    let job = [
        submitted("a", 0.0),
        placed("a", 0.0, 0, &["x", "y"]),
        energy("a", 0, 0, "x", 1.0),
        energy("a", 0, 1, "y", 1.0),
        finished("a", 2.0),
    ];
    let before = receipts("before").into_iter().chain(job);
    let after = receipts("after").into_iter().chain([ended(2.0, &[])]);
    before.chain(between).chain(after).collect()
}

#[test]
fn a_run_is_valid_if_its_links_were_true_and_few_messages_late() {
    let valid = |header: &Header, lines: Vec<Value>| {
        let summary = Summary::from_records(header, &records(lines));
        let valid = summary.emulation.valid.known().copied();
        assert_eq!(summary.succeeded(), valid != Some(false));
        assert_eq!(summary.to_json()["valid"], json!(valid));
        assert_eq!(
            render(&summary).contains("emulation not valid"),
            valid == Some(false)
        );
        valid
    };
    let header = measured(json!({}));
    assert_eq!(valid(&header, whole_run([])), Some(true));
    // 5 % are allowed, and so are four messages, however few there are.
    for (messages, late, expected) in [(100, 5, true), (100, 6, false), (4, 4, true), (5, 5, false)]
    {
        let lines = whole_run([
            transfer("x", "y", messages, late),
            transfer("y", "x", 100, 0),
        ]);
        assert_eq!(
            valid(&header, lines),
            Some(expected),
            "{late} of {messages}"
        );
    }
    // The parts of a link add up, those of a fabric are no link's.
    let parts = || (0..3).map(|_| transfer("x", "y", 20, 2));
    assert_eq!(valid(&header, whole_run(parts())), Some(false));
    let fabric = whole_run([transfer("x", "x", 100, 100)]);
    assert_eq!(valid(&header, fabric), Some(true));
    let unjudged = measured(json!({"late_share": null}));
    assert_eq!(valid(&unjudged, whole_run(parts())), Some(true));
}

#[test]
fn an_untrue_link_and_a_late_one_are_told() {
    let mut lines = whole_run([transfer("x", "y", 40, 10), transfer("y", "x", 40, 0)]);
    let untrue = receipt(
        "after",
        "y",
        "x",
        "untrue",
        Some("it carried 90.0 Mbit/s instead of 100.0 (-10.0 %); why"),
    );
    let place = lines
        .iter()
        .rposition(|line| line["kind"] == "receipt")
        .expect("receipts");
    lines[place] = untrue;
    let summary = Summary::from_records(&measured(json!({})), &records(lines));
    let report = render(&summary).replace("\n  ", " ");
    assert!(report.contains("The link y → x after the last job was untrue: it carried 90.0 Mbit/s instead of 100.0 (-10.0 %); why."), "{report}");
    assert!(
        report.contains("On the link x → y 10 of 40 messages (25.0 %) arrived over 1 ms later"),
        "{report}"
    );
    assert!(
        report.contains("the worst by 12.30 ms; more than 5.0 %"),
        "{report}"
    );
    assert!(report.contains("-10.00"), "{report}");
    let json = summary.to_json();
    assert_eq!(json["invalid_reasons"].as_array().map(Vec::len), Some(2));
    assert_eq!(json["links"][0]["late_arrivals"], 10);
    let figure = &json["receipts"]["links"][0]["figures"][0];
    assert_eq!(figure["error"], -1e7);
    assert_eq!(figure["holds"], false);
}

#[test]
fn what_nobody_measured_is_neither_valid_nor_invalid() {
    let reason = |header: &Header, lines: Vec<Value>| {
        let summary = Summary::from_records(header, &records(lines));
        summary
            .emulation
            .valid
            .reason()
            .map(str::to_owned)
            .unwrap_or_default()
    };
    let off = measured(json!({"receipts": "off"}));
    assert!(reason(&off, whole_run([])).contains("--receipts off"));
    let old = measured(json!({"receipts": null}));
    assert!(reason(&old, whole_run([])).contains("does not say"));
    assert_eq!(
        reason(&header(&["a"]), vec![ended(0.0, &[])]),
        "nothing was emulated"
    );
    let full = measured(json!({}));
    let cut = receipts("before").to_vec();
    assert!(reason(&full, cut).contains("not measured again"));
    let mut gone = whole_run([]);
    let place = gone
        .iter()
        .rposition(|line| line["kind"] == "receipt")
        .expect("receipts");
    gone[place] = receipt(
        "after",
        "y",
        "x",
        "not_judged",
        Some("x or y has no worker left"),
    );
    gone[place]["attempts"] = json!(0);
    gone[place]["figures"] = json!([]);
    let told = reason(&full, gone);
    assert_eq!(
        told,
        "The link y → x after the last job was not measured: x or y has no worker left"
    );
    let unshaped = measured(json!({"network": "none"}));
    assert!(reason(&unshaped, whole_run([])).contains("nothing shaped"));
}

#[test]
fn a_run_on_several_hosts_tells_how_well_their_clocks_are_known() {
    let offset = |uncertainty_s: f64| {
        json!({"kind": "clock_offset", "at_s": 0.0, "worker": "w1.run.local", "against": "coordinator",
               "offset_s": 5000.0, "uncertainty_s": uncertainty_s, "latency_s": 0.0001})
    };
    let summary = |offsets: &[f64]| {
        let offsets = offsets.iter().map(|&uncertainty_s| offset(uncertainty_s));
        Summary::from_records(&header(&[]), &records(offsets.chain([ended(1.0, &[])])))
    };
    assert_eq!(summary(&[]).clock_uncertainty_s, None);
    assert!(!render(&summary(&[])).contains("several hosts"));
    let several = summary(&[0.0001, 0.00025, 0.0002]);
    assert_eq!(several.clock_uncertainty_s, Some(0.00025));
    let report = render(&several);
    assert!(report.contains("known to within 0.250 ms"), "{report}");
}

fn summary_of(network: &str, between: impl IntoIterator<Item = Value>) -> Summary {
    let header = measured(json!({"network": network}));
    Summary::from_records(&header, &records(whole_run(between)))
}

#[test]
fn jitter_and_loss_that_nobody_emulates_are_faults() {
    let network = |jitter: &str, loss: &str| {
        json!({"kind": "network", "at_s": 0.0, "qdisc": "tbf", "netem": false,
               "delay": "receiver", "jitter": jitter, "loss": loss})
    };
    let faults = |jitter: &str, loss: &str| {
        let emulation = summary_of("kernel", [network(jitter, loss)]).emulation;
        assert_eq!(emulation.valid.known(), Some(&emulation.faults.is_empty()));
        emulation.faults.len()
    };
    assert_eq!(faults("not_asked", "not_asked"), 0);
    assert_eq!(faults("nobody", "not_asked"), 1);
    assert_eq!(faults("nobody", "nobody"), 2);
}

#[test]
fn late_datagrams_are_judged_and_shown_and_lateness_of_messages_is_unknown_beside_them() {
    let crossed = |late: u64| {
        let mut line = transfer("x", "y", 40, 0);
        line["datagrams"] = json!({"sent": 50, "bytes": 60_000, "lost": 3, "dropped": 2, "refused": 1, "late": late,
                                   "worst_late_s": 0.0045});
        line
    };
    let few = summary_of(
        "packet",
        [crossed(2), crossed(2), transfer("y", "x", 40, 0)],
    );
    assert_eq!(few.emulation.valid.known(), Some(&true));
    let many = summary_of(
        "packet",
        [crossed(2), crossed(10), transfer("y", "x", 40, 0)],
    );
    let [fault] = many.emulation.faults.as_slice() else {
        panic!("{:?}", many.emulation.faults);
    };
    assert!(fault.starts_with("On the link x → y 12 of 100 datagrams (12.0 %) arrived over 1 ms"));
    assert!(!many.succeeded());
    let link = &many.to_json()["links"][0];
    assert_eq!(
        link["datagrams"],
        json!({"sent": 100, "bytes": 120_000, "lost": 6, "dropped": 4, "refused": 2, "late": 12, "worst_late_s": 0.0045})
    );
    assert_eq!(link["messages"], 80);
    for key in ["late_arrivals", "worst_late_s"] {
        assert_eq!(link[key], Value::Null);
        assert_eq!(
            link["unknown"][key],
            "the links delayed datagrams, not messages"
        );
    }
    let report = render(&many);
    let row = report
        .lines()
        .find(|line| line.starts_with("x → y  "))
        .unwrap();
    let cells: Vec<_> = row.split_whitespace().collect();
    assert!(cells.ends_with(&["100", "6", "4", "12"]), "{report}");
}

#[test]
fn what_was_not_emulated_has_no_lateness() {
    for network in ["kernel", "none", "modelled"] {
        let summary = summary_of(
            network,
            [transfer("x", "y", 40, 0), transfer("y", "x", 40, 0)],
        );
        let link = &summary.links[0];
        assert_eq!(link.messages.known(), Some(&40));
        let why = link.late_arrivals.reason().unwrap();
        assert_eq!(link.worst_late_s.reason(), Some(why));
        assert_eq!(summary.jobs[0].late_arrivals.reason(), Some(why));
        assert_eq!(summary.totals.late_arrivals.reason(), Some(why));
    }
    // Without transfers in the ledger, messages are as unknown as bytes.
    let silent = summary_of("shaped", []);
    let link = &silent.links[0];
    let why = link.bytes.reason().unwrap();
    assert_eq!(link.messages.reason(), Some(why));
    assert_eq!(link.late_arrivals.reason(), Some(why));
    assert_eq!(link.worst_late_s.reason(), Some(why));
}

#[test]
fn every_link_that_carried_messages_has_to_be_proven() {
    let header = measured(json!({}));
    let reason = |change: &dyn Fn(&mut Vec<Value>)| {
        let mut lines = whole_run([transfer("x", "y", 40, 0), transfer("y", "x", 40, 0)]);
        change(&mut lines);
        let valid = Summary::from_records(&header, &records(lines))
            .emulation
            .valid;
        assert_ne!(valid.known(), Some(&false));
        valid.reason().map(str::to_owned)
    };
    assert_eq!(reason(&|_| ()), None);
    let of = |line: &Value, phase: &str| {
        line["kind"] == "receipt" && line["phase"] == phase && line["from"] == "y"
    };
    assert_eq!(
        reason(&|lines| lines.retain(|line| !of(line, "after"))).unwrap(),
        "the link y → x was not measured after the last job"
    );
    let open = |line: &mut Value| {
        line["verdict"] = json!("not_judged");
        line["reason"] = json!("it loses datagrams");
    };
    assert_eq!(
        reason(&|lines| lines
            .iter_mut()
            .filter(|line| of(line, "before"))
            .for_each(open))
        .unwrap(),
        "the link y → x was not judged before the first job: it loses datagrams"
    );
    let receipts = |line: &&mut Value| line["kind"] == "receipt";
    assert_eq!(
        reason(&|lines| lines.iter_mut().filter(receipts).for_each(open)).unwrap(),
        "nothing is promised of any measured link"
    );
}

#[test]
fn a_report_tells_unknown_validity_and_each_reason_of_receipts_once() {
    let mut lines = whole_run([transfer("x", "y", 40, 0), transfer("y", "x", 40, 0)]);
    let reason = "its delay: links with jitter have none";
    for line in lines.iter_mut().filter(|line| line["kind"] == "receipt") {
        line["verdict"] = json!("not_judged");
        line["reason"] = json!(reason);
    }
    let summary = Summary::from_records(&measured(json!({})), &records(lines));
    let report = render(&summary).replace("\n  ", " ");
    assert!(
        report.contains(
            "! Whether the links were what the scenario says is unknown: nothing is promised of any"
        ),
        "{report}"
    );
    assert!(report.contains("! Not judged in the receipt of x → y and 3 more: its delay"));
    assert_eq!(report.matches(reason).count(), 1, "{report}");
    let simulated = Summary::from_records(&header(&[]), &records([ended(0.0, &[])]));
    assert!(!render(&simulated).contains("is unknown"));
}

#[test]
fn a_receipt_shows_its_worst_figure_and_how_far_off_it_is_where_both_sides_are_judged() {
    let long = ["region-of-some-size", "another-such-region"];
    let row = |figures: Value| {
        let mut line = receipt("before", long[0], long[1], "not_judged", None);
        line["figures"] = figures;
        let summary = Summary::from_records(&measured(json!({})), &records([line]));
        let report = render(&summary);
        let name = format!("{} → ", long[0]);
        assert!(
            report.lines().any(|line| line.trim_end() == long[1]),
            "{report}"
        );
        let row = report.lines().find(|line| line.starts_with(&name));
        row.unwrap_or_else(|| panic!("a broken name in {report}"))
            .to_owned()
    };
    let rate = |measured: f64, at_most: Option<f64>| json!({"quantity": "rate_bps", "configured": 1e8, "measured": measured, "at_least": 9.8e7, "at_most": at_most});
    let worst = row(json!([
        rate(1.01e8, Some(1.02e8)),
        rate(9.5e7, Some(1.02e8)),
        rate(1e8, Some(1.02e8))
    ]));
    assert!(
        worst.contains("95.00") && worst.contains("-5.00"),
        "{worst}"
    );
    let one_sided = row(json!([rate(2.4e8, None)]));
    assert!(
        one_sided.contains("240.0") && !one_sided.contains("+140"),
        "{one_sided}"
    );
}
