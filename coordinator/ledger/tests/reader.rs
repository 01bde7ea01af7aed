//! What comes out of ledgers that are torn, newer, damaged, or none at all.

use std::fs;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use bace_api::Record;
use bace_ledger::{
    Ledger, LedgerError, MAX_LINE_BYTES, Reader, RunEnd, Summary, read, render, summarise,
};
use proptest::prelude::*;

const GOLDEN: &str = include_str!("../../../tests/golden/ledger-v1/ledger.jsonl");

/// Reads bytes as a ledger.
fn parse(bytes: &[u8]) -> Result<Ledger, LedgerError> {
    parse_from(bytes)
}

fn parse_from(source: impl Read) -> Result<Ledger, LedgerError> {
    let mut reader = Reader::new(BufReader::new(source), PathBuf::from("x.jsonl"))?;
    let mut records = Vec::new();
    while let Some(record) = reader.next_record()? {
        records.push(record);
    }
    Ok(Ledger {
        path: reader.path().to_owned(),
        header: reader.header().clone(),
        records,
        omissions: reader.omissions().clone(),
    })
}

fn message(bytes: &[u8]) -> String {
    parse(bytes).expect_err("this is no ledger").to_string()
}

fn with_line(line: &str) -> String {
    let (header, rest) = GOLDEN.split_once('\n').expect("more than a line");
    format!("{header}\n{line}\n{rest}")
}

#[test]
fn files_that_are_no_ledgers_say_so() {
    let cases: [(&[u8], &str); 7] = [
        (b"", "the file is empty"),
        (b"\n\n", "an empty line"),
        (b"hello\n", "line 1 should be a header"),
        (b"\xff\xfe\x00\n", "not UTF-8 text"),
        (b"{\"kind\":\"energy\"}\n", "line 1 should be a header"),
        (
            b"{\"kind\":\"header\",\"format\":1}\n",
            "damaged: not a record: missing field",
        ),
        (b"[1,2,3]\n", "line 1 should be a header"),
    ];
    for (bytes, expected) in cases {
        let message = message(bytes);
        assert!(
            message.starts_with("read x.jsonl: not a ledger: "),
            "{message}"
        );
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn other_versions_are_named_beside_ours() {
    let newer = GOLDEN.replacen("\"format\":1", "\"format\":2", 1);
    assert_eq!(
        message(newer.as_bytes()),
        "read x.jsonl: the ledger has format version 2, this program reads versions 1 to 1; \
         use the program that wrote it or a later one"
    );
    // A header whose other fields a later version has changed still tells its version.
    let alien = b"{\"kind\":\"header\",\"format\":99,\"regions\":7}\n";
    assert!(message(alien).contains("format version 99"));
}

#[test]
fn a_value_of_a_later_program_is_not_called_damage() {
    let later = GOLDEN.replacen("\"jobs\":", "\"receipts\":\"quick\",\"jobs\":", 1);
    let message = message(later.as_bytes());
    assert!(message.contains("unknown variant `quick`"), "{message}");
    assert!(
        message.contains("a newer program may have written it"),
        "{message}"
    );
    assert!(!message.contains("damaged"), "{message}");
}

#[test]
fn unknown_kinds_are_skipped_and_counted() {
    let text = with_line(
        "{\"kind\":\"weather\",\"at_s\":1.0}\n{\"kind\":\"input\",\"at_s\":1.0,\"input\":\"moon\"}",
    );
    let ledger = parse(text.as_bytes()).unwrap();
    assert_eq!(ledger.records.len(), GOLDEN.lines().count() - 1);
    assert_eq!(ledger.omissions.unknown_kinds, 2);
    assert_eq!(ledger.omissions.first_unknown.as_deref(), Some("weather"));
    assert!(
        render(&Summary::fold(&ledger))
            .contains("2 records of kinds that this program does not know")
    );
}

#[test]
fn a_damaged_line_in_the_middle_is_named() {
    let cases = [
        ("", "an empty line"),
        ("{\"kind\":\"energy\"}", "missing field `job`"),
        (
            "{\"kind\":\"job_finished\",\"at_s\":null,\"job\":\"a\"}",
            "invalid type: null",
        ),
        (
            "{\"kind\":\"job_finished\",\"at_s\":1e999,\"job\":\"a\"}",
            "number out of range",
        ),
        ("{\"kind\":\"job_fin", "EOF while parsing a string"),
        ("nonsense", "expected ident"),
    ];
    for (line, expected) in cases {
        let message = message(with_line(line).as_bytes());
        assert!(message.starts_with("read x.jsonl: line 2: "), "{message}");
        assert!(message.contains(expected), "{message}");
        assert!(!message.contains("at line"), "{message}");
    }
    let header = GOLDEN.lines().next().unwrap();
    assert!(message(with_line(header).as_bytes()).contains("line 2: a second header"));
    let later = with_line("{\"kind\":\"job_finished\",\"at_s\":3.0,\"job\":\"e\",\"moon\":1}");
    assert_eq!(parse(later.as_bytes()).unwrap().omissions.unknown_kinds, 0);
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let line = format!("{{\"kind\":\"passed_over\",\"at_s\":1.0,\"job\":\"a\",\"reason\":{deep}}}");
    assert!(message(with_line(&line).as_bytes()).contains("recursion limit"));
    let line = format!("{{\"kind\":\"weather\",\"input\":7,\"wind\":{deep}}}");
    let skipped = parse(with_line(&line).as_bytes()).unwrap();
    assert_eq!(skipped.omissions.unknown_kinds, 1);
}

#[test]
fn a_torn_last_line_is_dropped_with_a_warning() {
    let whole = parse(GOLDEN.as_bytes()).unwrap();
    let text = GOLDEN.trim_end();
    // Without its line break the last record is complete all the same.
    assert_eq!(parse(text.as_bytes()).unwrap(), whole);

    let torn = parse(&text.as_bytes()[..text.len() - 3]).unwrap();
    assert_eq!(torn.records, whole.records[..whole.records.len() - 1]);
    assert_eq!(
        torn.omissions.torn_line,
        Some(GOLDEN.lines().count() as u64)
    );
    let summary = Summary::fold(&torn);
    assert_eq!(summary.end, RunEnd::CutOff { last_s: 4.2 });
    let report = render(&summary);
    assert!(report.contains("is torn and was left out"), "{report}");
    assert!(report.contains("The ledger ends at 4.2 s"), "{report}");
}

#[test]
fn every_beginning_of_a_ledger_folds() {
    let header = GOLDEN.find('\n').unwrap();
    for end in (header..GOLDEN.len()).step_by(37) {
        let ledger = parse(&GOLDEN.as_bytes()[..end]).unwrap();
        let summary = Summary::fold(&ledger);
        assert!(!summary.succeeded());
        assert!(!render(&summary).is_empty());
        assert!(summary.to_json()["jobs"].is_array());
    }
}

#[test]
fn a_run_that_was_killed_has_no_energy_instead_of_too_little() {
    let placed = GOLDEN.find("{\"kind\":\"energy\",\"job\":\"a\"").unwrap();
    let first = placed + GOLDEN[placed..].find('\n').unwrap() + 1;
    let summary = Summary::fold(&parse(&GOLDEN.as_bytes()[..first]).unwrap());
    let reason = "1 of 3 stages have their energy in the ledger";
    assert_eq!(summary.jobs[0].energy_j.reason(), Some(reason));
    assert_eq!(summary.jobs[0].cost_usd.reason(), Some(reason));
    assert_eq!(
        summary.totals.cost_usd.reason(),
        Some(format!("job a: {reason}").as_str())
    );
    assert_eq!(summary.regions[0].energy_j.known(), None);
    assert_eq!(summary.regions[2].energy_j.known(), Some(&159.025));
    assert_eq!(summary.jobs[0].link_bytes.known(), None);
    let json = summary.to_json();
    assert!(json["energy_j"].is_null());
    assert!(
        json["unknown"]["energy_j"]
            .as_str()
            .unwrap()
            .contains(reason)
    );
    assert!(json["jobs"][0]["finish_s"].is_null());
}

#[test]
fn a_line_without_end_takes_bounded_memory() {
    let header = GOLDEN.lines().next().unwrap();
    let endless = format!("{header}\n").into_bytes();
    let source = endless.chain(io::repeat(b'x').take(1 << 40));
    let error = parse_from(source).unwrap_err();
    assert!(error.to_string().contains("line 2: longer than"), "{error}");

    let message = parse_from(io::repeat(0)).unwrap_err().to_string();
    assert!(
        message.contains(&format!("longer than {MAX_LINE_BYTES} bytes")),
        "{message}"
    );
}

#[test]
fn folders_and_files_that_are_missing_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let message = read(dir.path()).unwrap_err().to_string();
    assert!(
        message.ends_with("the folder holds no ledger.jsonl"),
        "{message}"
    );
    let missing = dir.path().join("nowhere");
    let message = summarise(&missing).unwrap_err().to_string();
    assert!(
        message.starts_with(&format!("read {}: ", missing.display())),
        "{message}"
    );
    fs::create_dir(dir.path().join("ledger.jsonl")).unwrap();
    assert!(matches!(read(dir.path()), Err(LedgerError::Io { .. })));
}

#[test]
fn the_iterator_ends_after_an_error() {
    let text = with_line("nonsense");
    let mut reader = Reader::new(text.as_bytes(), PathBuf::from("x.jsonl")).unwrap();
    assert!(matches!(reader.next(), Some(Err(_))));
    assert!(reader.next().is_none());
}

#[test]
fn a_report_of_hostile_names_moves_no_cursor() {
    let text = GOLDEN.replace("\"job\":\"b\"", "\"job\":\"b\\u001b[2J\\r\"");
    let report = render(&Summary::fold(&parse(text.as_bytes()).unwrap()));
    assert!(
        report
            .chars()
            .all(|character| character == '\n' || !character.is_control())
    );
}

#[test]
fn a_loss_that_is_no_number_is_told() {
    let text = GOLDEN.replace("\"loss\":3.125", "\"loss\":null");
    let summary = Summary::fold(&parse(text.as_bytes()).unwrap());
    assert_eq!(
        summary.jobs[0].loss_last.reason(),
        Some("the loss was not a number")
    );
    assert!(render(&summary).contains("The loss is unknown for job a"));
}

/// One thing that happens to a file.
#[derive(Debug, Clone)]
enum Mutation {
    Truncate(usize),
    Overwrite(usize, u8),
    FlipBit(usize, u8),
    /// Copies what stands between two commas to another place.
    RepeatToken(usize, usize),
    Insert(usize, Vec<u8>),
    Remove(usize, usize),
    SwapLines(usize, usize),
    RepeatLine(usize),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let at = 0..GOLDEN.len();
    prop_oneof![
        at.clone().prop_map(Mutation::Truncate),
        (at.clone(), any::<u8>()).prop_map(|(at, byte)| Mutation::Overwrite(at, byte)),
        (
            at.clone(),
            prop_oneof![
                Just(b"\n".to_vec()),
                Just(b"1e308".to_vec()),
                Just(b"-".to_vec()),
                Just(b"99999999999999999999".to_vec()),
                Just(b"0".to_vec()),
                proptest::collection::vec(any::<u8>(), 0..8),
            ]
        )
            .prop_map(|(at, bytes)| Mutation::Insert(at, bytes)),
        (at.clone(), 0..8u8).prop_map(|(at, bit)| Mutation::FlipBit(at, bit)),
        (at.clone(), at.clone()).prop_map(|(from, to)| Mutation::RepeatToken(from, to)),
        (at.clone(), 1..300usize).prop_map(|(at, depth)| Mutation::Insert(at, b"[".repeat(depth))),
        (at.clone(), 1..300usize)
            .prop_map(|(at, depth)| Mutation::Insert(at, b"{\"a\":".repeat(depth))),
        (at, 0..40usize).prop_map(|(at, length)| Mutation::Remove(at, length)),
        (0..64usize, 0..64usize).prop_map(|(one, two)| Mutation::SwapLines(one, two)),
        (0..64usize).prop_map(Mutation::RepeatLine),
    ]
}

fn apply(bytes: &mut Vec<u8>, mutation: &Mutation) {
    let length = bytes.len();
    match mutation {
        Mutation::Truncate(at) => bytes.truncate(*at),
        Mutation::Overwrite(at, byte) => {
            if let Some(target) = bytes.get_mut(*at) {
                *target = *byte;
            }
        }
        Mutation::Insert(at, extra) => {
            let at = (*at).min(length);
            bytes.splice(at..at, extra.iter().copied());
        }
        Mutation::FlipBit(at, bit) => {
            if let Some(target) = bytes.get_mut(*at) {
                *target ^= 1 << bit;
            }
        }
        Mutation::RepeatToken(from, to) => rearrange(bytes, b',', |tokens| {
            let count = tokens.len();
            let token = tokens[from % count].clone();
            tokens.insert(to % count, token);
        }),
        Mutation::Remove(at, count) => {
            let at = (*at).min(length);
            bytes.drain(at..(at + count).min(length));
        }
        Mutation::SwapLines(one, two) => rearrange(bytes, b'\n', |lines| {
            // The header stays where it is, so that mutations reach what is behind it.
            if (*one).max(*two) + 1 < lines.len() {
                lines.swap(one + 1, two + 1);
            }
        }),
        Mutation::RepeatLine(line) => rearrange(bytes, b'\n', |lines| {
            if let Some(copy) = lines.get(line + 1).cloned() {
                lines.push(copy);
            }
        }),
    }
}

fn rearrange(bytes: &mut Vec<u8>, separator: u8, change: impl FnOnce(&mut Vec<Vec<u8>>)) {
    let mut parts: Vec<Vec<u8>> = bytes
        .split(|byte| *byte == separator)
        .map(<[u8]>::to_vec)
        .collect();
    change(&mut parts);
    *bytes = parts.join(&separator);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    /// Whatever happened to the file: an error that names it, or a summary that can be shown.
    #[test]
    fn mutated_ledgers_never_panic(mutations in proptest::collection::vec(mutation(), 1..6)) {
        let mut bytes = GOLDEN.as_bytes().to_vec();
        for mutation in &mutations {
            apply(&mut bytes, mutation);
        }
        match parse(&bytes) {
            Err(error) => prop_assert!(error.to_string().starts_with("read x.jsonl: ")),
            Ok(ledger) => {
                let summary = Summary::fold(&ledger);
                prop_assert!(render(&summary).ends_with('\n'));
                let json = summary.to_json().to_string();
                prop_assert!(serde_json::from_str::<serde_json::Value>(&json).is_ok());
            }
        }
    }

    /// Arbitrary numbers in records that make sense otherwise.
    #[test]
    fn arbitrary_numbers_never_panic(
        at_s in proptest::num::f64::ANY,
        number in proptest::num::f64::ANY,
        count in any::<u32>(),
        large in any::<u64>(),
    ) {
        let mut ledger = parse(GOLDEN.as_bytes()).unwrap();
        for record in &mut ledger.records {
            match record {
                Record::Placed { at_s: at, k, .. } => (*at, *k) = (at_s, count),
                Record::JobFinished { at_s: at, .. } => *at = number,
                Record::Energy(energy) => (energy.energy_j, energy.busy_s) = (number, at_s),
                Record::Transfer { summary, .. } => (summary.bytes, summary.late_arrivals) = (large, large),
                Record::Iteration(iteration) => {
                    iteration.tokens = Some(large);
                    iteration.iteration.0 = count;
                    iteration.to_s = number;
                }
                _ => {}
            }
        }
        let summary = Summary::fold(&ledger);
        prop_assert!(render(&summary).ends_with('\n'));
        let _ = summary.to_json();
    }
}

#[test]
fn paths_of_the_repository_are_folders_too() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/ledger-v1");
    assert_eq!(
        read(&folder).unwrap().records,
        read(&folder.join("ledger.jsonl")).unwrap().records
    );
}

/// A run whose links were measured, with a line behind its header.
fn measured_run(line: &str) -> String {
    let header = GOLDEN.lines().next().expect("more than a line");
    let header = header.replacen("\"jobs\":", "\"receipts\":\"full\",\"jobs\":", 1);
    format!("{header}\n{line}\n{{\"kind\":\"run_ended\",\"at_s\":1.0,\"waiting\":[]}}\n")
}

#[test]
fn damaged_records_of_the_links_are_told_and_unknown_ones_leave_validity_open() {
    for kind in ["network", "clock_offset", "loopback", "receipt"] {
        let text = measured_run(&format!("{{\"kind\":\"{kind}\",\"at_s\":0.0}}"));
        let message = message(text.as_bytes());
        assert!(message.contains("line 2: not a record: missing field"));
    }
    let valid = |line: &str| {
        let ledger = parse(measured_run(line).as_bytes()).unwrap();
        Summary::fold(&ledger).emulation.valid
    };
    let known = "{\"kind\":\"loopback\",\"at_s\":0.0,\"rate_bps\":1e9,\"links_bps\":1e8}";
    assert_eq!(valid(known).known(), Some(&true));
    let unknown = valid("{\"kind\":\"weather\",\"at_s\":0.0}");
    let expected =
        "1 record of kinds that this program does not know (the first: weather) was left out";
    assert_eq!(unknown.reason(), Some(expected));
}
