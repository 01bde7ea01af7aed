//! Scenario files that something happened to: an error that names the file, or a valid scenario; never a panic, a hang or
//! memory out of proportion.

#![expect(clippy::unwrap_used, reason = "a test's panic is its report")]

use bace_engine::{Scenario, ScenarioError};
use proptest::prelude::*;

const WHOLE: [&str; 4] = [
    include_str!("../../scenarios/three-regions.toml"),
    include_str!("../../scenarios/rough-links.toml"),
    include_str!("../../../tests/scenarios/two-regions.toml"),
    include_str!("../../../tests/scenarios/scale-model.toml"),
];

fn parse(text: &str) -> Result<Scenario, ScenarioError> {
    Scenario::parse(text, "x.toml", &|path: &str| {
        Err(format!("there is no {path}"))
    })
}

/// The error's message, which is one line and hardly longer than the file.
fn message(text: &str) -> String {
    let message = parse(text).unwrap_err().to_string();
    assert!(message.starts_with("read x.toml"), "{message:.200}");
    assert_eq!(message.lines().count(), 1, "{message:.200}");
    assert!(
        message.len() < 4_000 + text.len(),
        "{} bytes",
        message.len()
    );
    message
}

/// What happens to a file.
#[derive(Debug, Clone)]
enum Damage {
    Truncate(usize),
    FlipBit(usize, u8),
    Delete(usize, usize),
    /// Copies the token at a place to another place.
    RepeatToken(usize, usize),
    RepeatLine(usize, usize),
    SwapLines(usize, usize),
    /// Replaces the token at a place.
    Replace(usize, String),
}

fn damage() -> impl Strategy<Value = Damage> {
    let place = || 0..6_000_usize;
    let token = prop_oneof![
        Just("nan".to_owned()),
        Just("-inf".to_owned()),
        Just("-0.0".to_owned()),
        Just("1e308".to_owned()),
        Just("5e-324".to_owned()),
        Just("9223372036854775807".to_owned()),
        Just("-9223372036854775808".to_owned()),
        Just("9".repeat(400)),
        Just("0x7fffffffffffffff".to_owned()),
        Just("{ csv = \"".to_owned()),
        Just("\"\"\"".to_owned()),
        Just("1979-05-27T07:32:00Z".to_owned()),
        (1..200_usize).prop_map(|depth| "[".repeat(depth)),
        (1..200_usize).prop_map(|depth| "{a=".repeat(depth)),
        (1..200_usize).prop_map(|depth| "a.".repeat(depth)),
        ".{0,6}",
    ];
    prop_oneof![
        place().prop_map(Damage::Truncate),
        (place(), 0..8_u8).prop_map(|(at, bit)| Damage::FlipBit(at, bit)),
        (place(), 1..60_usize).prop_map(|(at, length)| Damage::Delete(at, length)),
        (place(), place()).prop_map(|(from, to)| Damage::RepeatToken(from, to)),
        (place(), place()).prop_map(|(from, to)| Damage::RepeatLine(from, to)),
        (place(), place()).prop_map(|(one, two)| Damage::SwapLines(one, two)),
        (place(), token).prop_map(|(at, token)| Damage::Replace(at, token)),
    ]
}

fn apply(text: String, damage: &Damage) -> String {
    match damage {
        Damage::Truncate(at) => text[..boundary(&text, *at)].to_owned(),
        Damage::FlipBit(at, bit) => {
            let mut bytes = text.into_bytes();
            if let Some(at) = at.checked_rem(bytes.len()) {
                bytes[at] ^= 1 << bit;
            }
            String::from_utf8_lossy(&bytes).into_owned()
        }
        Damage::Delete(at, length) => {
            let (from, to) = (boundary(&text, *at), boundary(&text, at + length));
            format!("{}{}", &text[..from.min(to)], &text[to.max(from)..])
        }
        Damage::RepeatToken(from, to) => parts(&text, ' ', |tokens| {
            let token = tokens[from % tokens.len()];
            tokens.insert(to % tokens.len(), token);
        }),
        Damage::RepeatLine(from, to) => parts(&text, '\n', |lines| {
            let line = lines[from % lines.len()];
            lines.insert(to % lines.len(), line);
        }),
        Damage::SwapLines(one, two) => parts(&text, '\n', |lines| {
            let count = lines.len();
            lines.swap(one % count, two % count);
        }),
        Damage::Replace(at, other) => parts(&text, ' ', |tokens| {
            let at = at % tokens.len();
            tokens[at] = other;
        }),
    }
}

/// The nearest place at or below `at` where the text can be cut.
fn boundary(text: &str, at: usize) -> usize {
    let at = at.min(text.len());
    (0..=at)
        .rev()
        .find(|&at| text.is_char_boundary(at))
        .unwrap_or(0)
}

/// Changes the parts between separators.
fn parts<'a>(text: &'a str, separator: char, change: impl FnOnce(&mut Vec<&'a str>)) -> String {
    let mut parts: Vec<&str> = text.split(separator).collect();
    change(&mut parts);
    parts.join(&separator.to_string())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damage_ends_in_an_error_or_a_valid_scenario(
        whole in prop::sample::select(&WHOLE[..]),
        damages in prop::collection::vec(damage(), 1..6),
    ) {
        let text = damages.iter().fold(whole.to_owned(), apply);
        match parse(&text) {
            Ok(scenario) => {
                prop_assert!(!scenario.regions.is_empty() && !scenario.jobs.is_empty());
                // Every valid scenario can be decided on.
                let policy = bace_engine::policy_by_name("bace-pipe").unwrap();
                let mut engine = bace_engine::Engine::new(scenario.into(), policy);
                let jobs = engine.scenario().jobs.len().min(50) as u32;
                for job in 0..jobs {
                    engine.handle(0.0, bace_engine::Input::Submitted(bace_api::JobId(job)));
                }
                engine.settle(0.0);
            }
            Err(_) => { message(&text); }
        }
    }
}

#[test]
fn nesting_of_any_depth_is_an_error() {
    for piece in [
        "[", "{a=", "{ a = [", "a.", "[[a.", "[a.a]\n", "\"", "(", "\\", "#\n",
    ] {
        for depth in [100, 30_000] {
            message(&format!("name = {}", piece.repeat(depth)));
            message(&piece.repeat(depth));
        }
    }
    for depth in [100, 30_000] {
        message(&format!("{}a = 1", "a.".repeat(depth)));
        message(&format!("[{}a]\nb = 1", "a.".repeat(depth)));
        message(&format!(
            "name = {}{}",
            "[".repeat(depth),
            "]".repeat(depth)
        ));
        message(&format!("name = {{{}a = 1}}", "a.".repeat(depth)));
        message(&format!(
            "name = {}1{}",
            "{a=".repeat(depth),
            "}".repeat(depth)
        ));
    }
}

#[test]
fn numbers_and_names_of_any_length_are_errors() {
    let long = "9".repeat(200_000);
    for value in [
        &long,
        &format!("{long}.{long}"),
        &format!("1e{long}"),
        &format!("\"{long}\""),
    ] {
        message(&WHOLE[0].replacen("seed = ", &format!("seed = {value} #"), 1));
        message(&format!("{value} = 1"));
    }
}

#[test]
fn every_beginning_of_a_file_is_an_error_or_a_scenario() {
    for whole in WHOLE {
        for at in (0..whole.len()).filter(|&at| whole.is_char_boundary(at)) {
            if parse(&whole[..at]).is_err() {
                message(&whole[..at]);
            }
        }
    }
}
