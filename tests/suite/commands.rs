//! The commands that start no worker.

use serde_json::Value;

use crate::harness::{Place, of_kind, scenario};

const POLICIES: [&str; 8] = [
    "bace-pipe",
    "lcf",
    "ldf",
    "cr-lcf",
    "cr-ldf",
    "no-priority",
    "no-pathfinder",
    "no-cost-min",
];

#[test]
fn policies_are_listed() {
    let ended = Place::new("").bace(&["policies"]).code(0);
    let names: Vec<_> = ended
        .stdout
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert_eq!(names, POLICIES);
    assert_eq!(ended.stderr, "");
}

#[test]
fn every_policy_simulates_the_built_in_scenario() {
    let place = Place::new("");
    for policy in POLICIES {
        for model in ["analytic", "event"] {
            let arguments = ["simulate", "three-regions", "--policy", policy];
            let more = ["--iteration-model", model, "--json"];
            let ended = place.bace(&[&arguments[..], &more[..]].concat()).code(0);
            let results = ended.json();
            assert_eq!(ended.stderr, "");
            assert_eq!(results["policy"], policy);
            assert_eq!(results["iteration_model"], model);
            assert_eq!(results["finished_jobs"], 5, "{policy} {model}");
            for key in ["mean_jct_s", "makespan_s", "energy_j", "cost_usd"] {
                assert!(
                    results[key].as_f64().is_some_and(|n| n > 0.0),
                    "{key}: {results}"
                );
            }
        }
    }
}

#[test]
fn a_simulation_is_the_same_whenever_it_runs() {
    let place = Place::new(&scenario("two-regions"));
    let ledgers = ["one", "other"].map(|out| {
        place.bace(&["simulate", "s.toml", "--out", out]).code(0);
        std::fs::read_to_string(place.path(out).join("ledger.jsonl")).expect("a ledger")
    });
    assert_eq!(ledgers[0], ledgers[1]);
}

#[test]
fn a_simulation_leaves_what_a_run_leaves() {
    let place = Place::new(&scenario("two-regions"));
    let ended = place
        .bace(&["simulate", "s.toml", "--out", "out", "--json"])
        .code(0);
    let ledger = place.ledger();
    assert_eq!(ledger[0]["clock"], "virtual");
    assert_eq!(ledger[0]["started"], Value::Null);
    assert_eq!(of_kind(&ledger, "job_finished").len(), 3);
    assert_eq!(ledger.last().expect("records")["kind"], "run_ended");
    let report = place.bace(&["report", "out", "--json", "--attribution", "off"]);
    assert_eq!(report.code(0).json(), ended.json());
    let report = place.bace(&["report", "out", "--json"]).code(0).json();
    assert_eq!(report["attribution"]["measured"], Value::Null);
    let jobs = &report["attribution"]["predicted"]["jobs"];
    assert_eq!(jobs.as_array().map(Vec::len), Some(3), "{jobs}");
    let table = place.bace(&["report", "out/ledger.jsonl"]).code(0);
    assert!(table.stdout.contains("across"), "{}", table.stdout);
    let again = place.bace(&["simulate", "s.toml", "--out", "out"]).code(2);
    again.complains(&["already holds"]);
}

#[test]
fn a_measured_run_is_near_its_prediction() {
    let place = Place::new(&scenario("two-regions"));
    let simulated = place.bace(&["simulate", "s.toml", "--json"]).code(0).json();
    let measured = place
        .start_run(&["--compute", "modelled", "--json"])
        .end()
        .code(0)
        .json();
    for (real, predicted) in jobs(&measured).iter().zip(jobs(&simulated)) {
        assert_eq!(real["path"], predicted["path"]);
        assert_eq!(real["k"], predicted["k"]);
        assert_eq!(real["layers"], predicted["layers"]);
        // A busy machine takes longer, no machine is faster.
        let seconds =
            |job: &Value| job["finish_s"].as_f64().unwrap() - job["start_s"].as_f64().unwrap();
        assert!(
            seconds(real) > 0.95 * seconds(predicted),
            "{real} {predicted}"
        );
    }
}

fn jobs(results: &Value) -> &Vec<Value> {
    results["jobs"].as_array().expect("jobs are a list")
}

#[test]
fn a_plan_shows_placements_and_pipelines() {
    let place = Place::new(&scenario("two-regions"));
    let ended = place.bace(&["plan", "s.toml"]).code(0);
    for word in [
        "across: placed on east×2 → west×2",
        "stage 3 ",
        "later: finished",
        "bubble",
    ] {
        assert!(ended.stdout.contains(word), "no {word} in {}", ended.stdout);
    }
    let one = place
        .bace(&["plan", "s.toml", "--job", "beside", "--at", "0.2"])
        .code(0);
    assert!(one.stdout.contains("beside: placed"), "{}", one.stdout);
    assert!(!one.stdout.contains("across: placed"), "{}", one.stdout);
    place
        .bace(&["plan", "s.toml", "--job", "nobody"])
        .code(2)
        .complains(&["nobody", "across"]);
    place.bace(&["plan", "three-regions"]).code(0);
}

#[test]
fn scenarios_are_listed_shown_and_checked() {
    let place = Place::new(&scenario("two-regions"));
    let list = place.bace(&["scenario", "list"]).code(0);
    assert!(list.stdout.starts_with("three-regions "), "{}", list.stdout);
    let shown = place.bace(&["scenario", "show", "three-regions"]).code(0);
    std::fs::write(place.path("mine.toml"), &shown.stdout).expect("a file");
    let checked = place.bace(&["scenario", "check", "mine.toml"]).code(0);
    assert!(
        checked.stdout.contains("three-regions: valid"),
        "{}",
        checked.stdout
    );
    let checked = place.bace(&["scenario", "check", "s.toml"]).code(0);
    assert!(
        checked
            .stdout
            .contains("2 regions, 5 GPUs, 2 directed links, 3 jobs"),
        "{}",
        checked.stdout
    );
    place
        .bace(&["scenario", "show", "nothing"])
        .code(2)
        .complains(&["nothing", "three-regions"]);
}

#[test]
fn output_that_nobody_reads_or_nothing_takes_is_no_panic() {
    let place = Place::new("");
    for arguments in [&["plan", "three-regions"][..], &["scenario", "list"]] {
        let mut unread = place.command(arguments);
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let ended = unread.stdout(writer).output().expect("it starts");
        assert_eq!(ended.status.code(), Some(1));
        assert_eq!(String::from_utf8_lossy(&ended.stderr), "");
        let full = std::fs::File::options().write(true).open("/dev/full");
        let mut full_disk = place.command(arguments);
        full_disk.stdout(full.expect("Linux has this device"));
        let ended = full_disk.output().expect("it starts");
        assert_eq!(ended.status.code(), Some(1));
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert!(said.contains("standard output: No space left"), "{said}");
    }
}

#[test]
fn a_report_of_no_run_is_told() {
    let place = Place::new("");
    place
        .bace(&["report", "nowhere"])
        .code(2)
        .complains(&["nowhere"]);
    place.bace(&["report", "tmp"]).code(2).complains(&["tmp"]);
    std::fs::write(place.path("ledger.jsonl"), "{}\n").expect("a file");
    place
        .bace(&["report", "ledger.jsonl"])
        .code(2)
        .complains(&["ledger.jsonl", "line 1"]);
}

#[test]
fn help_teaches_and_a_wrong_command_line_is_told() {
    let place = Place::new("");
    let help = place.bace(&["--help"]).code(0);
    for word in ["bace run three-regions", "Exit status", "simulate", "bench"] {
        assert!(help.stdout.contains(word), "no {word} in {}", help.stdout);
    }
    assert!(place.bace(&["fly"]).code(2).stderr.contains("fly"));
    assert!(place.bace(&[]).code(2).stderr.contains("Usage"));
}

#[test]
fn links_are_measured() {
    let place = Place::new("");
    let arguments = [
        "--message-mib",
        "1",
        "--rates-mbps",
        "200,1000",
        "--delays-ms",
        "0,5",
        "--repeats",
        "1",
    ];
    let ended = place.bace(&[&["bench", "link"][..], &arguments[..]].concat());
    // Whether a link is true is the machine's affair, not this test's.
    assert!(matches!(ended.status.code(), Some(0 | 1)), "{ended:#?}");
    assert_eq!(ended.stderr, "");
    let rows = ended
        .stdout
        .lines()
        .filter(|line| line.trim_end().to_lowercase().ends_with(" true"));
    assert_eq!(rows.count(), 4, "{}", ended.stdout);
    place
        .bace(&["bench", "link", "--rates-mbps", "0"])
        .code(2)
        .complains(&["rate 0"]);
}

#[test]
fn figures_of_links_stand_beside_their_goals() {
    let place = Place::new("");
    let arguments = [
        "--parts",
        "isolated,shared",
        "--rates-mbps",
        "2000",
        "--delays-ms",
        "1",
    ];
    let ended = place.bace(
        &[
            &["bench", "link", "--repeats", "1", "--json"][..],
            &arguments[..],
        ]
        .concat(),
    );
    // Whether a goal is reached is the machine's affair, not this test's.
    assert!(matches!(ended.status.code(), Some(0 | 1)), "{ended:#?}");
    let all = ended.json();
    assert_eq!(all["met"], ended.status.success());
    let parts = all["parts"].as_array().expect("parts");
    let count = |part: &str| {
        let found = parts.iter().find(|found| found["part"] == part);
        let figures = found.expect("the part that was asked for")["figures"].as_array();
        figures.expect("figures").len()
    };
    // Four sizes; what 2, 4 and 8 processes reserve, get, and how equally.
    assert_eq!((parts.len(), count("isolated"), count("shared")), (2, 4, 9));
    for figure in parts
        .iter()
        .flat_map(|part| part["figures"].as_array())
        .flatten()
    {
        assert_eq!(
            figure["samples"].as_array().map(Vec::len),
            Some(1),
            "{figure}"
        );
        assert_eq!(figure["median"], figure["samples"][0], "{figure}");
        let verdict = figure["verdict"].as_str().expect("a verdict");
        assert!(["aim", "met", "missed"].contains(&verdict), "{figure}");
    }
    let both = ["bench", "link", "--all", "--parts", "rate"];
    assert!(place.bace(&both).code(2).stderr.contains("--parts"));
    let unknown = ["bench", "link", "--parts", "speed"];
    assert!(place.bace(&unknown).code(2).stderr.contains("isolated"));
}

#[test]
fn transport_is_measured_beside_tcp() {
    let place = Place::new("");
    let small = [
        "--gigabytes",
        "0.01",
        "--message-mib",
        "1",
        "--largest-mib",
        "1",
    ];
    let arguments = [&["bench", "transport", "--rounds", "2"][..], &small[..]].concat();
    let ended = place.bace(&[&arguments[..], &["--json"]].concat());
    assert!(matches!(ended.status.code(), Some(0 | 1)), "{ended:#?}");
    let all = ended.json();
    let rows = all["rows"].as_array().expect("rows");
    assert_eq!(rows.len(), 6);
    for row in rows {
        let runs = row["runs"].as_array().expect("runs");
        assert_eq!(runs.len(), 2, "{row}");
        assert!(
            runs.iter().all(|run| run["gbps"].as_f64() > Some(0.0)),
            "{row}"
        );
        // Nothing is lost that does not know losses.
        let is_tcp = row["carrier"] == "tcp";
        assert_eq!(runs[0]["lost_packets"].is_null(), is_tcp, "{row}");
    }
    let sizes = all["intact"].as_array().expect("messages");
    let sizes: Vec<_> = sizes.iter().map(|size| size["bytes"].as_u64()).collect();
    assert_eq!(sizes, [1, 1 << 10, 64 << 10, 1 << 20].map(Some));
    assert_eq!(all["not_tried"]["bytes"], 16 << 20);

    let table = place.bace(&arguments);
    for words in [
        "TCP into one buffer",
        "stock quinn",
        "≥ 0.8",
        "1 MiB in",
        "not tried: 16 MiB",
    ] {
        assert!(
            table.stdout.contains(words),
            "no {words} in {}",
            table.stdout
        );
    }
    place
        .bace(&["bench", "transport", "--gigabytes", "0"])
        .code(2);
    // A process without a task says so and ends.
    place.bace(&["bench", "peer"]).code(1).complains(&["task"]);
}

#[test]
fn the_doctor_says_what_there_is_and_what_fits() {
    let place = Place::new(&scenario("two-regions"));
    let ended = place.bace(&["doctor", "s.toml", "--json"]);
    let all = ended.json();
    let findings = all["findings"].as_array().expect("findings");
    for name in [
        "cores",
        "other load",
        "memory",
        "socket buffers",
        "loopback, TCP",
        "loopback, QUIC",
        "timer, timerfd",
        "timer, tokio",
        "libtorch",
        "user namespaces",
        "NVML",
        "RAPL",
    ] {
        let finding = findings.iter().find(|finding| finding["name"] == name);
        let finding = finding.unwrap_or_else(|| panic!("nothing about {name} in {all}"));
        assert!(
            finding["found"]
                .as_str()
                .is_some_and(|found| !found.is_empty())
        );
        let is_present = finding["state"] == "present";
        assert_eq!(finding["advice"].is_null(), is_present, "{finding}");
    }
    assert_eq!(all["cpu_run_works"], true, "{all}");
    for measured in ["loopback_tcp_gbps", "loopback_quic_gbps"] {
        assert!(all["measured"][measured].as_f64() > Some(0.0), "{all}");
    }
    assert!(
        all["measured"]["timerfd"]["p99_us"].as_f64() > Some(0.0),
        "{all}"
    );
    for bound in ["links_gbps", "workers_by_memory", "compute_gops"] {
        assert!(all["capacity"][bound].as_f64() > Some(0.0), "{all}");
    }
    assert_eq!(all["scenario"]["demands"].as_array().map(Vec::len), Some(4));
    assert_eq!(all["scenario"]["fits"], ended.status.success(), "{all}");
    place
        .bace(&["doctor", "nowhere.toml"])
        .code(2)
        .complains(&["nowhere.toml"]);
}
