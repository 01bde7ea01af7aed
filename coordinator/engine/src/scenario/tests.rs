use bace_api::Schedule;
use bace_netem::{
    Accounting, BitRate, BurstCredit, Congestion, Delay, Jitter, LinkId, LinkSpec, LossModel,
    RegionId, Sharing,
};
use proptest::prelude::*;

use super::{Scenario, ScenarioError};
use crate::golden::golden;

/// Every key that a file can hold.
const FULL: &str = r#"
name = "full"
seed = 7

[gpu.slice]
peak_tflops = 0.01
mfu = 0.5
memory_gb = 0.002
busy_w = 100
idle_w = 10

[[region]]
name = "west"
gpus = 2
gpu = "slice"
price_usd_per_kwh = [
    { from_s = 0, usd_per_kwh = 0.21, daily = true },
    { from_s = 28800, usd_per_kwh = 0.33, daily = true },
]
carbon_g_per_kwh = [{ from_s = 0, g_per_kwh = 300 }, { from_s = 60, g_per_kwh = 200 }]
pue = 1.2
fabric_gbps = 10
fabric_delay_ms = 0.5

[[region]]
name = "east"
gpus = 3
gpu = "a6000"
price_usd_per_kwh = 0.1

[[region]]
name = "north"
gpus = 4
gpu = "slice"
price_usd_per_kwh = { csv = "north.csv", daily = true }
carbon_g_per_kwh = 12

[[link]]
between = ["west", "east"]
bandwidth_mbps = 500
one_way_delay_ms = 38
jitter_ms = 2.5
loss = 0.001
loss_model = "mathis"
accounting = "ethernet"
sharing = "per_flow"
trace = [
    { at_s = 5, bandwidth_mbps = 400 },
    { at_s = 15, bandwidth_mbps = 0, one_way_delay_ms = 45 },
]

[[link]]
from = "east"
to = "north"
bandwidth_mbps = 100
one_way_delay_ms = 20
jitter_ms = 4
jitter = "normal"
loss = 0.01
burst_credit_mb = 12.5
sustained_mbps = 25
queue_kb = 64
trace = { csv = "weather.csv" }

[[link]]
from = "north"
to = "west"
bandwidth_mbps = 0
one_way_delay_ms = 1.5

[[link_change]]
at_s = 20
between = ["east", "west"]
bandwidth_mbps = 50

[[link_change]]
at_s = 10.5
from = "north"
to = "west"
bandwidth_mbps = 250

[[link_change]]
at_s = 17
from = "west"
to = "east"
one_way_delay_ms = 12

[[gpu_change]]
at_s = 30
region = "north"
gpus = 1

[model.tiny]
layers = 4
hidden = 64
heads = 4
kv_heads = 2
head_size = 32
feed_forward = 128
gated = true
vocabulary = 256

[[job]]
name = "a"
model = "tiny"
arrival_s = 0
iterations = 40
micro_batches = 8
micro_batch = 4
sequence = 128
bytes_per_element = 4
schedule = "gpipe"
learning_rate = 3e-4

[[job]]
name = "b"
model = "qwen2.5-14b"
arrival_s = 2.5
iterations = 1
micro_batches = 1
micro_batch = 1
sequence = 1

[policy]
min_share = 0.5
time_slack = 0.1
aging_per_hour = 2
"#;

const NORTH_CSV: &str = "# day-ahead prices\nfrom_s, usd_per_kwh\n0,0.05\n\n3600 , 0.07\n";

const WEATHER_CSV: &str =
    "# measured on a Tuesday\nat_s, bandwidth_mbps, one_way_delay_ms\n3, 50, 21\n6.5, 0, 21\n";

fn sources(file: &str) -> Result<String, String> {
    match file {
        "north.csv" => Ok(NORTH_CSV.to_owned()),
        "weather.csv" => Ok(WEATHER_CSV.to_owned()),
        other => Err(format!("there is no file {other}")),
    }
}

fn milliseconds(ms: f64) -> Delay {
    Delay::from_seconds(ms * 1e-3).unwrap()
}

fn parse(text: &str) -> Result<Scenario, ScenarioError> {
    Scenario::parse(text, "full.toml", &sources)
}

/// The error after replacing `from`, which has to be there, by `to`.
fn error(from: &str, to: &str) -> String {
    assert!(FULL.contains(from), "{from:?} is not in the scenario");
    parse(&FULL.replacen(from, to, 1)).unwrap_err().to_string()
}

#[test]
fn every_key_arrives() {
    let scenario = parse(FULL).unwrap();
    assert_eq!((scenario.name.as_str(), scenario.seed), ("full", 7));

    let [west, east, north] = scenario.regions.as_slice() else {
        panic!("three regions");
    };
    assert_eq!(
        (west.gpus, west.gpu_name.as_str(), west.pue),
        (2, "slice", 1.2)
    );
    assert_eq!(west.gpu.flops, 1e10);
    assert_eq!(west.gpu.memory_bytes, 2_000_000);
    assert_eq!(
        (west.gpu.mfu, west.gpu.busy_w, west.gpu.idle_w),
        (0.5, 100.0, 10.0)
    );
    assert_eq!((west.price.at(0.0), west.price.at(86_399.0)), (0.21, 0.33));
    assert_eq!(west.price.at(86_400.0), 0.21);
    assert_eq!(west.carbon.as_ref().unwrap().at(61.0), 200.0);
    assert_eq!(west.fabric.rate.bps(), 1e10);
    assert_eq!(west.fabric.delay.seconds(), 5e-4);
    assert_eq!((east.pue, east.carbon.is_none()), (1.0, true));
    assert_eq!(east.fabric.rate.bps(), 1e11);
    assert_eq!(east.gpu.memory_bytes, 48_000_000_000);
    assert_eq!(
        (north.price.at(3599.0), north.price.at(3600.0)),
        (0.05, 0.07)
    );
    assert_eq!(north.price.at(86_400.0 + 1.0), 0.05);

    let id = |from, to| LinkId::new(RegionId::new(from), RegionId::new(to));
    let keys: Vec<LinkId> = scenario.links.keys().copied().collect();
    assert_eq!(keys, [id(0, 1), id(1, 0), id(1, 2), id(2, 0)]);
    assert_eq!(scenario.links[&id(1, 0)].rate.bps(), 5e8);
    assert_eq!(scenario.links[&id(1, 0)].delay.seconds(), 0.038);
    assert_eq!(scenario.links[&id(2, 0)].rate.bps(), 0.0);
    assert_eq!(
        scenario.links[&id(2, 0)],
        LinkSpec::new(BitRate::ZERO, milliseconds(1.5))
    );
    let changes: Vec<_> = scenario
        .link_changes
        .iter()
        .map(|c| (c.at_s, c.link, c.rate.bps() / 1e6, c.delay))
        .collect();
    assert_eq!(
        changes,
        [
            (3.0, id(1, 2), 50.0, milliseconds(21.0)),
            (5.0, id(0, 1), 400.0, milliseconds(38.0)),
            (5.0, id(1, 0), 400.0, milliseconds(38.0)),
            (6.5, id(1, 2), 0.0, milliseconds(21.0)),
            (10.5, id(2, 0), 250.0, milliseconds(1.5)),
            (15.0, id(0, 1), 0.0, milliseconds(45.0)),
            (15.0, id(1, 0), 0.0, milliseconds(45.0)),
            (17.0, id(0, 1), 0.0, milliseconds(12.0)),
            (20.0, id(1, 0), 50.0, milliseconds(45.0)),
            (20.0, id(0, 1), 50.0, milliseconds(12.0)),
        ]
    );
    assert_eq!(scenario.gpu_changes[0].gpus, 1);

    let [a, b] = scenario.jobs.as_slice() else {
        panic!("two jobs");
    };
    assert_eq!(
        (a.model.kv_heads, a.model.head_size, a.model.gated),
        (2, 32, true)
    );
    assert_eq!((a.schedule, a.learning_rate), (Schedule::GPipe, 3e-4));
    assert_eq!(a.boundary_bytes(), 4 * 128 * 64 * 4);
    assert_eq!((b.schedule, b.learning_rate), (Schedule::Eager1F1B, 1e-3));
    assert_eq!((b.arrival_s, b.shape.bytes_per_element), (2.5, 2));
    assert_eq!(b.model.layers, 48);
    let policy = scenario.policy;
    assert_eq!(
        (policy.min_share, policy.time_slack, policy.aging_per_hour),
        (0.5, 0.1, 2.0)
    );
}

#[test]
fn a_link_is_as_rough_as_the_file_says() {
    let scenario = parse(FULL).unwrap();
    let link = |from, to| scenario.links[&LinkId::new(RegionId::new(from), RegionId::new(to))];
    let both = link(0, 1);
    assert_eq!(both, link(1, 0));
    assert_eq!(both.jitter, Jitter::Uniform(milliseconds(2.5)));
    assert_eq!(
        (both.loss.share, both.loss.model),
        (0.001, LossModel::Mathis)
    );
    assert_eq!(
        (both.accounting, both.sharing),
        (Accounting::Ethernet, Sharing::PerFlow)
    );
    assert_eq!((both.burst, both.queue_bytes), (None, None));
    let one = link(1, 2);
    assert_eq!(one.jitter, Jitter::Normal(milliseconds(4.0)));
    assert_eq!((one.loss.share, one.loss.model), (0.01, LossModel::Goodput));
    assert_eq!(
        (one.accounting, one.sharing),
        (Accounting::Payload, Sharing::PerJob)
    );
    let burst = BurstCredit {
        bytes: 12_500_000,
        sustained: BitRate::from_bps(25e6).unwrap(),
    };
    assert_eq!((one.burst, one.queue_bytes), (Some(burst), Some(64_000)));
}

#[test]
fn errors_of_rough_links_name_place_and_remedy() {
    let slips = [
        ("jitter_ms = 2.5", "jitter = \"uniform\""),
        ("jitter_ms = 2.5", "jitter_ms = -1"),
        ("jitter = \"normal\"", "jitter = \"gauss\""),
        ("loss = 0.001", "loss = 0.6"),
        ("loss = 0.001\n", ""),
        ("accounting = \"ethernet\"", "accounting = \"tcp\""),
        ("sharing = \"per_flow\"", "sharing = \"per-flow\""),
        ("burst_credit_mb = 12.5\n", ""),
        ("sustained_mbps = 25\n", ""),
        ("sustained_mbps = 25", "sustained_mbps = 100"),
        ("burst_credit_mb = 12.5", "burst_credit_mb = 0"),
        ("queue_kb = 64", "queue_kb = 1"),
        ("{ at_s = 15,", "{ at_s = 5,"),
        ("{ at_s = 5, bandwidth_mbps = 400 },", "{ at_s = 5 },"),
        (
            "{ at_s = 5, bandwidth_mbps = 400 },",
            "{ at_s = 5, bandwidth_mbps = -4 },",
        ),
        ("{ csv = \"weather.csv\" }", "\"weather.csv\""),
        ("{ csv = \"weather.csv\" }", "[]"),
        ("{ csv = \"weather.csv\" }", "{ csv = \"climate.csv\" }"),
        ("{ csv = \"weather.csv\" }", "{ csv = \"north.csv\" }"),
        ("one_way_delay_ms = 12\n", ""),
        ("at_s = 20", "at_s = 15"),
        ("fabric_delay_ms = 0.5", "jitter_ms = 0.5"),
    ];
    let messages: Vec<String> = slips.iter().map(|(from, to)| error(from, to)).collect();
    golden("rough-link-errors.txt", &(messages.join("\n") + "\n"));
}

#[test]
fn a_trace_is_checked_by_line() {
    let with = |csv: &str| {
        let csv = csv.to_owned();
        let source = move |file: &str| match file {
            "weather.csv" => Ok(csv.clone()),
            other => sources(other),
        };
        Scenario::parse(FULL, "full.toml", &source)
    };
    let place = "read full.toml:63:17: `link[1].trace.csv`: ";
    let error = |csv: &str| with(csv).unwrap_err().to_string();
    let header = "at_s,bandwidth_mbps\n";
    assert_eq!(
        error(&format!("{header}0,1\n1,-2\n")),
        format!(
            "{place}weather.csv:3: `bandwidth_mbps` = -2 has to be a number from 0 up to 1000000000"
        )
    );
    assert_eq!(
        error(&format!("{header}0,1,2\n")),
        format!(
            "{place}weather.csv:2: 3 columns instead of 2; a line is 2 numbers with commas between"
        )
    );
    assert_eq!(
        error(&format!("{header}1,1\n1,2\n")),
        format!(
            "{place}step 1 at 1 s does not come after the one before it; sort the trace by `at_s`"
        )
    );
    // Without the column of delays the link keeps its own.
    let scenario = with(&format!("{header}0,1\n")).unwrap();
    let first = scenario.link_changes[0];
    assert_eq!((first.at_s, first.delay), (0.0, milliseconds(20.0)));
}

#[test]
fn errors_name_place_and_remedy() {
    let slips = [
        ("iterations = 40", "iteration = 40"),
        ("gpu = \"slice\"", "gpu = \"slise\""),
        ("model = \"tiny\"", "model = \"tinny\""),
        (
            "from = \"north\"\nto = \"west\"\nbandwidth_mbps = 0",
            "from = \"north\"\nto = \"vest\"\nbandwidth_mbps = 0",
        ),
        ("pue = 1.2", "pue = 0.9"),
        ("arrival_s = 2.5", "arrival_s = nan"),
        ("gpus = 3", "gpus = -3"),
        ("name = \"b\"", "name = \"a\""),
        ("schedule = \"gpipe\"", "schedule = \"1f1bb\""),
        ("sequence = 1\n", "\n"),
        ("bytes_per_element = 4", "bytes_per_element = 9"),
        ("0.33, daily = true", "0.33"),
        ("from_s = 28800, usd", "from_s = 0, usd"),
        ("north.csv", "south.csv"),
        ("gpus = 1\n", "gpus = 5\n"),
        ("price_usd_per_kwh = 0.1", "price_usd_per_kwh = \"dear\""),
        ("min_share = 0.5", "min_share = 0"),
    ];
    let messages: Vec<String> = slips.iter().map(|(from, to)| error(from, to)).collect();
    golden("scenario-errors.txt", &(messages.join("\n") + "\n"));
}

#[test]
fn the_shares_of_a_regions_hosts_sum_to_one() {
    let with = |shares: &str| {
        let text = FULL.replace("pue = 1.2", &format!("host_shares = {shares}"));
        Scenario::parse(&text, "full.toml", &sources)
    };
    let regions = with("[0.75, 0.25]").unwrap().regions;
    assert_eq!(regions[0].host_shares, [0.75, 0.25]);
    assert!(regions[1].host_shares.is_empty());
    with("[0.333333, 0.333333, 0.333334]").unwrap();
    for (shares, word) in [
        ("[0.5, 0.4]", "sum to 0.9; give one for each host"),
        ("[]", "sum to 0;"),
        ("[1.5, -0.5]", "1.5 is out of range"),
    ] {
        let error = with(shares).unwrap_err().to_string();
        assert!(error.contains("`region[0].host_shares"), "{error}");
        assert!(error.contains(word), "{error}");
    }
}

#[test]
fn links_join_two_known_regions_once() {
    let second = "from = \"north\"\nto = \"west\"\nbandwidth_mbps = 0";
    let message = error(second, "from = \"east\"\nto = \"west\"\nbandwidth_mbps = 0");
    assert!(
        message.ends_with("the link from `east` to `west` is already given above"),
        "{message}"
    );
    let message = error(second, "from = \"west\"\nto = \"west\"\nbandwidth_mbps = 0");
    assert!(message.contains("a link joins two regions"), "{message}");
    let message = error(second, "to = \"west\"\nbandwidth_mbps = 0");
    assert!(message.contains("either `between`"), "{message}");
    let message = error("[\"west\", \"east\"]", "[\"west\"]");
    assert!(message.contains("`between` names two regions"), "{message}");
    let message = error(
        "from = \"north\"\nto = \"west\"\nbandwidth_mbps = 250",
        "from = \"west\"\nto = \"north\"\nbandwidth_mbps = 250",
    );
    assert!(
        message.contains("there is no link from `west` to `north`"),
        "{message}"
    );
}

#[test]
fn congestion_control_can_be_chosen() {
    let congestion = |network: &str| {
        let text = FULL.replacen(
            "[gpu.slice]",
            &format!("[network]\n{network}\n\n[gpu.slice]"),
            1,
        );
        parse(&text).map(|scenario| scenario.network.congestion)
    };
    assert_eq!(congestion("").unwrap(), Congestion::Bbr);
    assert_eq!(
        congestion("congestion = \"cubic\"").unwrap(),
        Congestion::Cubic
    );
    assert_eq!(
        congestion("congestion = \"fixed\"").unwrap(),
        Congestion::Fixed
    );
    let error = congestion("congestion = \"reno\"").unwrap_err().to_string();
    assert!(
        error.contains("congestion") && error.contains("`cubic`"),
        "{error}"
    );
}

#[test]
fn a_model_that_no_gpu_can_hold_is_an_error() {
    let message = error("gpu = \"a6000\"", "gpu = \"slice\"");
    assert!(
        message.starts_with(
            "read full.toml:117:9: `job[1].model`: training one layer of `qwen2.5-14b` takes "
        ),
        "{message}"
    );
    assert!(
        message.contains("the largest GPU, `slice`, has 0.002 GB"),
        "{message}"
    );
}

#[test]
fn a_file_without_the_essentials_says_what_is_missing() {
    let of = |text: &str| parse(text).unwrap_err().to_string();
    assert!(of(" \n").starts_with("read full.toml: the file is empty"));
    assert_eq!(of("seed = 1"), "read full.toml: `name` is missing");
    assert_eq!(
        of("name = \"x\""),
        "read full.toml: no region is given; add a `[[region]]`"
    );
    assert!(of("name = [").starts_with("read full.toml:1:"));
    assert!(of(&"x".repeat(17 << 20)).starts_with("read full.toml: the file has 17825792 bytes"));
}

#[test]
fn a_csv_series_is_checked_by_line() {
    let with = |csv: &str| {
        let csv = csv.to_owned();
        Scenario::parse(FULL, "full.toml", &move |_: &str| Ok(csv.clone()))
            .unwrap_err()
            .to_string()
    };
    let place = "read full.toml:35:29: `region[2].price_usd_per_kwh.csv`: north.csv";
    assert_eq!(
        with("time,price\n0,1\n"),
        format!("{place} has to begin with the line `from_s,usd_per_kwh`")
    );
    let header = "from_s,usd_per_kwh\n";
    assert_eq!(
        with(&format!("{header}0,1\n5,x\n")),
        format!("{place}:3: `x` is no number")
    );
    assert_eq!(
        with(&format!("{header}0,1,2\n")),
        format!("{place}:2: 3 columns instead of 2; a line is 2 numbers with commas between")
    );
    assert_eq!(
        with(&format!("{header}3,1\n")),
        format!("{place}: the series begins at 3 s; its first entry needs `from_s` = 0")
    );
    assert!(with(&format!("{header}0,inf\n")).contains(":2: inf is out of range"));
}

#[test]
fn a_csv_series_may_begin_with_a_byte_order_mark() {
    let parsed = |csv: &str| {
        let csv = csv.to_owned();
        let source = move |file: &str| match file {
            "north.csv" => Ok(csv.clone()),
            other => sources(other),
        };
        Scenario::parse(FULL, "full.toml", &source).unwrap()
    };
    let csv = "from_s,usd_per_kwh\n0,0.5\n";
    let (with, without) = (parsed(&format!("\u{feff}{csv}")), parsed(csv));
    assert_eq!(with.regions, without.regions);
}

/// What a careless hand does to a file.
#[derive(Debug, Clone)]
enum Slip {
    Delete(usize, usize),
    Insert(usize, String),
    Swap(usize, usize),
}

fn slip() -> impl Strategy<Value = Slip> {
    let place = 0..FULL.len();
    let piece = prop_oneof![
        Just("nan".to_owned()),
        Just("-1".to_owned()),
        Just("1e308".to_owned()),
        Just("9223372036854775807".to_owned()),
        Just("[[job]]\n".to_owned()),
        Just("{ csv = \"".to_owned()),
        Just("\u{fffd}\0é".to_owned()),
        Just("[".repeat(500)),
        ".{0,6}",
    ];
    prop_oneof![
        (place.clone(), 1usize..40).prop_map(|(at, length)| Slip::Delete(at, length)),
        (place.clone(), piece).prop_map(|(at, piece)| Slip::Insert(at, piece)),
        (place.clone(), place).prop_map(|(a, b)| Slip::Swap(a, b)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged_files_end_in_an_error_or_a_valid_scenario(
        slips in prop::collection::vec(slip(), 1..6),
    ) {
        let mut text: Vec<char> = FULL.chars().collect();
        for slip in slips {
            let length = text.len();
            match slip {
                Slip::Delete(at, count) => {
                    let at = at.min(length);
                    text.drain(at..(at + count).min(length));
                }
                Slip::Insert(at, piece) => {
                    let at = at.min(length);
                    text.splice(at..at, piece.chars());
                }
                Slip::Swap(a, b) if a < length && b < length => text.swap(a, b),
                Slip::Swap(..) => {}
            }
        }
        let text: String = text.into_iter().collect();
        match parse(&text) {
            Ok(scenario) => prop_assert!(!scenario.regions.is_empty() && !scenario.jobs.is_empty()),
            Err(error) => {
                let message = error.to_string();
                prop_assert!(message.starts_with("read full.toml"), "{}", message);
                prop_assert!(message.lines().count() == 1, "{}", message);
            }
        }
    }

    #[test]
    fn numbers_of_any_size_never_overflow(numbers in prop::collection::vec(any::<i64>(), 6)) {
        let keys = ["layers = 4", "hidden = 64", "heads = 4", "feed_forward = 128", "vocabulary = 256", "sequence = 128"];
        let mut text = FULL.to_owned();
        for (key, number) in keys.iter().zip(&numbers) {
            let shifted = number >> (number & 63);
            let name = key.split(' ').next().unwrap();
            text = text.replacen(key, &format!("{name} = {shifted}"), 1);
        }
        if let Ok(scenario) = parse(&text) {
            let job = &scenario.jobs[0];
            prop_assert!(job.boundary_bytes() > 0 && job.iteration_tokens() > 0);
        }
    }
}
