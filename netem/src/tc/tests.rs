use std::collections::BTreeMap;
use std::path::Path;

use super::*;
use crate::{
    Accounting, BitRate, BurstCredit, Delay, Jitter, LinkId, LinkSpec, Loss, LossModel, RegionId,
};

const PLAIN: Qdiscs = Qdiscs {
    rate: RateQdisc::Tbf,
    netem: false,
};
const FULL: Qdiscs = Qdiscs {
    rate: RateQdisc::Tbf,
    netem: true,
};
const HTB: Qdiscs = Qdiscs {
    rate: RateQdisc::Htb,
    netem: false,
};
const FULL_HTB: Qdiscs = Qdiscs {
    rate: RateQdisc::Htb,
    netem: true,
};

/// Compares with a file of `tests/golden/tc`; with `UPDATE_GOLDEN=1` the file is written anew.
#[expect(clippy::disallowed_methods, reason = "a golden file is a file")]
fn golden(name: &str, actual: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden/tc")
        .join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, actual).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        expected == actual,
        "{name} differs; UPDATE_GOLDEN=1 renews it. It is now:\n{actual}"
    );
}

fn rate(mbps: f64) -> BitRate {
    BitRate::from_bps(mbps * 1e6).unwrap()
}

fn ms(ms: f64) -> Delay {
    Delay::from_seconds(ms / 1e3).unwrap()
}

fn spec(mbps: f64, delay_ms: f64) -> LinkSpec {
    LinkSpec::new(rate(mbps), ms(delay_ms))
}

fn link(from: u16, to: u16) -> LinkId {
    LinkId::new(RegionId::new(from), RegionId::new(to))
}

fn try_plan(
    regions: &[&str],
    links: &[(LinkId, LinkSpec)],
    qdiscs: Qdiscs,
) -> Result<TcPlan, PlanError> {
    let regions = regions.iter().map(|&name| name.to_owned()).collect();
    let name = NetworkName::new("three-regions", Owner::Kept);
    TcPlan::new(name, regions, links.iter().copied().collect(), qdiscs)
}

fn plan(regions: &[&str], links: &[(LinkId, LinkSpec)], qdiscs: Qdiscs) -> TcPlan {
    try_plan(regions, links, qdiscs).unwrap()
}

/// Two ordinary regions.
fn pair(there: LinkSpec, back: LinkSpec, qdiscs: Qdiscs) -> TcPlan {
    let links = [(link(0, 1), there), (link(1, 0), back)];
    plan(&["east", "west"], &links, qdiscs)
}

fn lines(commands: &[TcCommand]) -> String {
    let mut text = String::new();
    let mut about = "";
    for command in commands {
        if command.about != about {
            about = &command.about;
            text.push_str(&format!("# {about}\n"));
        }
        text.push_str(&format!("{command}\n"));
        if let Some(undo) = &command.undo {
            text.push_str(&format!("# undo: {}\n", TcCommand::shell_line(undo)));
        }
    }
    text
}

#[test]
fn plans_are_as_written_down() {
    let three = |qdiscs| {
        let mut links = BTreeMap::new();
        for (a, b, mbps, delay_ms) in [(0, 1, 500.0, 38.0), (1, 2, 100.0, 9.5)] {
            links.insert(link(a, b), spec(mbps, delay_ms));
            links.insert(link(b, a), spec(mbps, delay_ms));
        }
        let links: Vec<_> = links.into_iter().collect();
        plan(
            &["eu-west", "us-east-2", "São Paulo/central 1"],
            &links,
            qdiscs,
        )
    };
    golden("tbf.txt", &lines(&three(PLAIN).commands()));
    golden("tbf-netem.txt", &lines(&three(FULL).commands()));
    golden("htb.txt", &lines(&three(HTB).commands()));
    golden("htb-netem.txt", &lines(&three(FULL_HTB).commands()));
}

/// What the links alone are made of.
fn shapes(plan: &TcPlan) -> String {
    let commands = plan.commands();
    let tc = commands.iter().filter(|command| command.argv[0] == "tc");
    lines(&tc.cloned().collect::<Vec<_>>())
}

#[test]
fn what_a_link_can_have_becomes_arguments() {
    let base = spec(100.0, 20.0);
    let with = |change: fn(&mut LinkSpec)| {
        let mut spec = base;
        change(&mut spec);
        spec
    };
    let lossy = with(|spec| {
        spec.loss = Loss {
            share: 0.0007,
            model: LossModel::Mathis,
        }
    });
    let cases = [
        ("asymmetric", base, spec(5000.0, 45.5)),
        ("down", base, spec(0.0, 20.0)),
        ("slow, fast", spec(0.5, 300.0), spec(25_000.0, 0.0)),
        (
            "ip, ethernet",
            with(|spec| spec.accounting = Accounting::Ip),
            with(|spec| spec.accounting = Accounting::Ethernet),
        ),
        (
            "uniform, normal jitter",
            with(|spec| spec.jitter = Jitter::Uniform(Delay::from_seconds(0.005).unwrap())),
            with(|spec| spec.jitter = Jitter::Normal(Delay::from_seconds(0.005).unwrap())),
        ),
        (
            "loss, queue",
            lossy,
            with(|spec| spec.queue_bytes = Some(123_456)),
        ),
        (
            "credit for bursts, in either direction",
            with(|spec| {
                spec.burst = Some(BurstCredit {
                    bytes: 5_000_000,
                    sustained: BitRate::from_bps(20e6).unwrap(),
                })
            }),
            with(|spec| {
                spec.burst = Some(BurstCredit {
                    bytes: 0,
                    sustained: BitRate::ZERO,
                })
            }),
        ),
    ];
    let mut text = String::new();
    for (name, there, back) in cases {
        for qdiscs in [PLAIN, FULL, HTB] {
            let kind = format!("{} netem {}", qdiscs.rate.name(), qdiscs.netem);
            text.push_str(&format!("== {name}, {kind}\n"));
            let links = [(link(0, 1), there), (link(1, 0), back)];
            match try_plan(&["east", "west"], &links, qdiscs) {
                Ok(plan) => text.push_str(&shapes(&plan)),
                Err(error) => text.push_str(&format!("# failed to {error}\n")),
            }
        }
    }
    golden("links.txt", &text);
}

#[test]
fn changes_touch_the_link_they_are_of() {
    let mut text = String::new();
    for qdiscs in [PLAIN, FULL, HTB] {
        let mut plan = pair(spec(100.0, 20.0), spec(100.0, 20.0), qdiscs);
        for mbps in [50.0, 0.0, 0.0, 70.0] {
            let commands = plan.change(link(1, 0), spec(mbps, 20.0)).unwrap();
            assert_eq!(plan.link(link(1, 0)).unwrap().rate, rate(mbps));
            let kind = format!("{} netem {}", qdiscs.rate.name(), qdiscs.netem);
            text.push_str(&format!(
                "== to {mbps} Mbit/s, {kind}\n{}",
                lines(&commands)
            ));
        }
        assert_eq!(plan.change(link(0, 0), spec(1.0, 1.0)), Ok(Vec::new()));
        assert_eq!(plan.link(link(0, 0)), None);
    }
    golden("changes.txt", &text);
}

/// The number behind `key` in each command that has it.
fn numbers(plan: &TcPlan, key: &str) -> Vec<u64> {
    let commands = plan.commands();
    let number = |command: &TcCommand| {
        let at = command.argv.iter().position(|word| word == key)?;
        Some(command.argv[at + 1].parse().unwrap())
    };
    commands.iter().filter_map(number).collect()
}

#[test]
fn a_queue_that_tc_cannot_count_is_cut_and_told_of() {
    // Of 90 Gbit/s over 200 ms there and back the default queue has more than 4 GiB.
    let fast = spec(90_000.0, 100.0);
    for qdiscs in [PLAIN, FULL, HTB, FULL_HTB] {
        let plan = pair(fast, fast, qdiscs);
        for key in ["limit", "burst", "cburst", "mtu"] {
            for number in numbers(&plan, key) {
                assert!(number <= u64::from(u32::MAX), "{key} {number}");
            }
        }
        // With netem what waits is counted in frames.
        let remarks = plan.remarks();
        assert_eq!(
            remarks.len(),
            if qdiscs.netem { 0 } else { 2 },
            "{remarks:?}"
        );
        for remark in remarks {
            assert!(
                remark.contains("its queue has 4294967295 bytes"),
                "{remark}"
            );
        }
    }
    assert_eq!(numbers(&pair(fast, fast, PLAIN), "limit")[0], 4_294_967_295);
    assert_eq!(
        pair(spec(500.0, 38.0), spec(500.0, 38.0), PLAIN).remarks(),
        [""; 0]
    );
}

#[test]
fn what_tc_cannot_be_told_is_refused() {
    let base = spec(100.0, 20.0);
    let credit = |bytes, bps| {
        Some(BurstCredit {
            bytes,
            sustained: BitRate::from_bps(bps).unwrap(),
        })
    };
    let cases = [
        (
            LinkSpec {
                queue_bytes: Some(5_000_000_000),
                ..base
            },
            PLAIN,
            "queue_bytes asks for a queue of 5000000000 bytes; it may have 4294967295 at most",
        ),
        (
            LinkSpec {
                burst: credit(5_000_000_000, 2e7),
                ..base
            },
            FULL,
            "a bucket of 5000000000 bytes; it may have 4294967295 at most",
        ),
        (
            LinkSpec {
                burst: credit(50_000_000, 1e5),
                ..base
            },
            HTB,
            "longer than 274 s; from 1459855 bit/s on it can",
        ),
        (spec(1e8, 1.0), PLAIN, "need a bucket of"),
    ];
    for (spec, qdiscs, words) in cases {
        let error = try_plan(&["east", "west"], &[(link(1, 0), spec)], qdiscs);
        let error = error.unwrap_err().to_string();
        assert!(
            error.starts_with("shape the link west → east in the kernel: "),
            "{error}"
        );
        assert!(error.contains(words), "{error}");
        let mut plan = pair(base, base, qdiscs);
        plan.change(link(1, 0), spec).unwrap_err();
        assert_eq!(plan.link(link(1, 0)), Some(&base));
    }
    // tbf is told bytes, not ticks.
    pair(
        LinkSpec {
            burst: credit(50_000_000, 1e5),
            ..base
        },
        base,
        PLAIN,
    );
}

#[test]
fn a_direction_without_a_link_is_cabled_and_not_shaped() {
    let one_way = plan(&["a", "b", "c"], &[(link(1, 0), spec(9.0, 1.0))], PLAIN);
    let commands = lines(&one_way.commands());
    assert!(commands.contains("peer name 0-a netns bace-three-regions-up-r1"));
    let shaped: Vec<_> = commands
        .lines()
        .filter(|line| line.starts_with("tc"))
        .collect();
    assert_eq!(shaped.len(), 2, "{shaped:?}");
    for line in shaped {
        assert!(line.starts_with("tc -n bace-three-regions-up-r1 qdisc replace dev 0-a "));
    }
    assert!(
        !commands.contains("2-c type veth peer name 0-a"),
        "{commands}"
    );
}

#[test]
fn all_that_is_made_is_inside_namespaces_that_are_taken_back() {
    let plan = pair(spec(1.0, 1.0), spec(2.0, 1.0), FULL);
    for command in plan.commands() {
        let argv: Vec<&str> = command.argv.iter().map(String::as_str).collect();
        match argv.as_slice() {
            ["ip", "netns", "add", name] => {
                let undo = command.undo.unwrap();
                assert_eq!(undo, ["ip", "netns", "delete", name]);
                assert_eq!(NamespaceName::parse(name).unwrap().network, *plan.name());
            }
            ["ip" | "tc", "-n", name, ..] => {
                assert!(NamespaceName::parse(name).is_some());
                assert_eq!(command.undo, None);
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn plans_that_differ_have_marks_that_differ() {
    let marks = [
        pair(spec(1.0, 1.0), spec(2.0, 1.0), FULL).mark(),
        pair(spec(1.0, 1.0), spec(2.0, 1.0), PLAIN).mark(),
        pair(spec(1.0, 1.0), spec(2.5, 1.0), PLAIN).mark(),
    ];
    assert_ne!(marks[0], marks[1]);
    assert_ne!(marks[1], marks[2]);
    assert_eq!(marks[0], pair(spec(1.0, 1.0), spec(2.0, 1.0), FULL).mark());
}

#[test]
fn names_are_read_back_and_nothing_else_is() {
    let long = "a very long scenario with many, many words in its name";
    for scenario in ["three-regions", "a", "a-7", "up", "São Paulo", long, ""] {
        for owner in [Owner::Kept, Owner::Run(4711)] {
            let network = NetworkName::new(scenario, owner);
            for place in [Place::Hub, Place::Probe, Place::Region(RegionId::new(31))] {
                let text = network.namespace(place);
                let network = network.clone();
                assert_eq!(
                    NamespaceName::parse(&text),
                    Some(NamespaceName { network, place })
                );
                assert!(
                    text.len() < 80 && text.is_ascii() && !text.contains(['/', ' ']),
                    "{text}"
                );
            }
        }
    }
    assert_eq!(
        NetworkName::new("a b", Owner::Run(7)).namespace(Place::Hub),
        "bace-a_b-04833892-7-hub"
    );
    assert_ne!(
        NetworkName::new("a b", Owner::Kept),
        NetworkName::new("a.b", Owner::Kept)
    );
    let kept = NetworkName::new("x", Owner::Kept);
    assert!(kept.is_of_same_scenario(&NetworkName::new("x", Owner::Run(1))));
    assert!(!kept.is_of_same_scenario(&NetworkName::new("x-1", Owner::Kept)));
    for foreign in [
        "bace",
        "bace-",
        "bace-x-up",
        "bace-x-up-r",
        "bace-x-up-r01",
        "bace-x-+7-hub",
        "bace-x-down-hub",
        "other-x-up-hub",
        "bace-x-up-r99999",
        "docker0",
    ] {
        assert_eq!(NamespaceName::parse(foreign), None, "{foreign}");
    }
}

#[test]
fn interfaces_of_any_regions_have_names_that_differ_and_fit() {
    let regions: Vec<String> = (0..MOST_TC_REGIONS)
        .map(|_| "the/same very-long näme".to_owned())
        .collect();
    let links: BTreeMap<_, _> = (1..MOST_TC_REGIONS as u16)
        .map(|other| (link(0, other), spec(1.0, 0.0)))
        .collect();
    let name = NetworkName::new("x", Owner::Kept);
    let plan = TcPlan::new(name.clone(), regions.clone(), links, PLAIN).unwrap();
    let mut made = std::collections::BTreeSet::new();
    for command in plan.commands() {
        if let [
            "ip",
            "-n",
            one,
            "link",
            "add",
            "name",
            device,
            ..,
            peer,
            "netns",
            other,
        ] = command.argv.iter().map(String::as_str).collect::<Vec<_>>()[..]
        {
            for (namespace, device) in [(one, device), (other, peer)] {
                assert!(device.len() <= 15, "{device}");
                assert!(
                    made.insert((namespace.to_owned(), device.to_owned())),
                    "{device}"
                );
            }
        }
    }
    assert_eq!(made.len(), 2 * (32 + 31));
    let mut too_many = regions;
    too_many.push("one more".to_owned());
    let error = TcPlan::new(name, too_many, BTreeMap::new(), PLAIN).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("lay out 33 regions as network namespaces")
    );
}

#[test]
fn lines_are_for_a_shell() {
    let words = ["ip", "it's", "", "a b", "10:", "é"].map(str::to_owned);
    assert_eq!(
        TcCommand::shell_line(&words),
        r"ip 'it'\''s' '' 'a b' 10: 'é'"
    );
}
