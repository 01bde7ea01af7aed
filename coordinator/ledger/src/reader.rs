//! Files to records.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use bace_api::{FORMAT_VERSION, Header, Record};
use serde::Deserialize;
use serde_json::Value;

use crate::{LEDGER_FILE, LedgerError, MAX_LINE_BYTES};

/// Kinds of records that this program knows.
const KINDS: [&str; 27] = [
    "header",
    "input",
    "refused",
    "placed",
    "pipeline",
    "passed_over",
    "network",
    "worker_joined",
    "clock_offset",
    "loopback",
    "receipt",
    "worker_memory",
    "worker_lost",
    "training",
    "iteration",
    "actions",
    "transfer",
    "weights",
    "energy",
    "meter",
    "meter_absent",
    "physical_energy",
    "meter_total",
    "metering",
    "job_finished",
    "job_failed",
    "run_ended",
];

/// Kinds of inputs that this program knows.
const INPUTS: [&str; 8] = [
    "submitted",
    "usage",
    "finished",
    "failed",
    "progress",
    "link_changed",
    "gpus_changed",
    "settle",
];

/// A whole ledger in memory.
#[derive(Debug, Clone, PartialEq)]
pub struct Ledger {
    /// The file it was read from.
    pub path: PathBuf,
    /// Its first record.
    pub header: Header,
    /// All records behind the header.
    pub records: Vec<Record>,
    /// What the reader had to leave out.
    pub omissions: Omissions,
}

/// What the reader had to leave out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Omissions {
    /// Records of a kind this program does not know.
    pub unknown_kinds: u64,
    /// The first such kind.
    pub first_unknown: Option<String>,
    /// The last line, by its number from 1, if it was torn and dropped.
    pub torn_line: Option<u64>,
}

impl Omissions {
    /// How many records were left out and of which kind the first was, as a clause; absent if none was.
    pub(crate) fn unknown(&self) -> Option<String> {
        let kind = self.first_unknown.as_ref()?;
        let (plural, were) = match self.unknown_kinds {
            1 => ("", "was"),
            _ => ("s", "were"),
        };
        Some(format!(
            "{} record{plural} of kinds that this program does not know (the first: {kind}) {were} left out",
            self.unknown_kinds
        ))
    }
}

/// Reads a whole ledger; `path` is the file or a run folder.
///
/// # Errors
/// As [`Reader::open`] and [`Reader::next_record`].
pub fn read(path: &Path) -> Result<Ledger, LedgerError> {
    let mut reader = Reader::open(path)?;
    let mut records = Vec::new();
    while let Some(record) = reader.next_record()? {
        records.push(record);
    }
    Ok(Ledger {
        path: reader.path,
        header: reader.header,
        records,
        omissions: reader.omissions,
    })
}

/// Reads a ledger record by record, holding one line at a time.
#[derive(Debug)]
pub struct Reader<R = BufReader<File>> {
    path: PathBuf,
    lines: Lines<R>,
    header: Header,
    omissions: Omissions,
}

impl Reader {
    /// Opens a ledger, a file or a run folder, and reads its header.
    ///
    /// # Errors
    /// If it cannot be read, is no ledger, or is of a format that this program does not know.
    pub fn open(path: &Path) -> Result<Self, LedgerError> {
        let path = if path.is_dir() {
            let file = path.join(LEDGER_FILE);
            if !file.exists() {
                return Err(LedgerError::NoLedger {
                    dir: path.to_owned(),
                });
            }
            file
        } else {
            path.to_owned()
        };
        let file = File::open(&path).map_err(|error| LedgerError::io("read", &path, error))?;
        Self::new(BufReader::new(file), path)
    }
}

impl<R: BufRead> Reader<R> {
    /// Reads a ledger from `source`; `path` stands in messages.
    ///
    /// # Errors
    /// As [`Reader::open`].
    pub fn new(source: R, path: PathBuf) -> Result<Self, LedgerError> {
        let mut lines = Lines {
            source,
            buffer: Vec::new(),
            number: 0,
        };
        let first = lines.next(&path)?;
        let header = read_header(first, &path)?;
        Ok(Self {
            path,
            lines,
            header,
            omissions: Omissions::default(),
        })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The ledger's first record.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The last line read, from 1.
    pub fn line(&self) -> u64 {
        self.lines.number
    }

    /// What has been left out so far.
    pub fn omissions(&self) -> &Omissions {
        &self.omissions
    }

    /// The next record of a kind this program knows; `None` at the end.
    ///
    /// # Errors
    /// If the file cannot be read or a line, other than a torn last one, is no record.
    pub fn next_record(&mut self) -> Result<Option<Record>, LedgerError> {
        loop {
            let Some(line) = self.lines.next(&self.path)? else {
                return Ok(None);
            };
            let number = line.number;
            let problem = match serde_json::from_slice::<Record>(line.bytes) {
                Ok(Record::Header(_)) => "a second header".to_owned(),
                Ok(record) => return Ok(Some(record)),
                Err(_) if !line.terminated => {
                    self.omissions.torn_line = Some(number);
                    continue;
                }
                Err(error) => match unknown_kind(line.bytes) {
                    Ok(Some(kind)) => {
                        self.omissions.unknown_kinds += 1;
                        self.omissions.first_unknown.get_or_insert(kind);
                        continue;
                    }
                    Ok(None) => describe(line.bytes, &error),
                    Err(error) => describe(line.bytes, &error),
                },
            };
            return Err(LedgerError::Damaged {
                path: self.path.clone(),
                line: number,
                problem,
            });
        }
    }
}

/// The records behind the header; ends after the first error.
impl<R: BufRead> Iterator for Reader<R> {
    type Item = Result<Record, LedgerError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.next_record().transpose();
        if matches!(next, Some(Err(_))) {
            self.lines.finish();
        }
        next
    }
}

/// Splits into lines without ever holding more than [`MAX_LINE_BYTES`].
#[derive(Debug)]
struct Lines<R> {
    source: R,
    buffer: Vec<u8>,
    number: u64,
}

struct Line<'a> {
    bytes: &'a [u8],
    number: u64,
    /// Whether the line's end is in the file.
    terminated: bool,
}

impl<R: BufRead> Lines<R> {
    fn next(&mut self, path: &Path) -> Result<Option<Line<'_>>, LedgerError> {
        if self.number == u64::MAX {
            return Ok(None);
        }
        self.buffer.clear();
        // One byte over the limit tells a line that is too long from one that just fits.
        let mut limited = (&mut self.source).take(MAX_LINE_BYTES as u64 + 1);
        let read = limited
            .read_until(b'\n', &mut self.buffer)
            .map_err(|error| LedgerError::io("read", path, error))?;
        if read == 0 {
            return Ok(None);
        }
        self.number += 1;
        let terminated = self.buffer.last() == Some(&b'\n');
        if !terminated && read > MAX_LINE_BYTES {
            return Err(LedgerError::Damaged {
                path: path.to_owned(),
                line: self.number,
                problem: format!("longer than {MAX_LINE_BYTES} bytes, which no record is"),
            });
        }
        Ok(Some(Line {
            bytes: self.buffer.trim_ascii_end(),
            number: self.number,
            terminated,
        }))
    }

    fn finish(&mut self) {
        self.number = u64::MAX;
    }
}

/// What a line says it is, whatever else it holds.
#[derive(Deserialize)]
struct Probe {
    kind: String,
    #[serde(default)]
    input: Value,
    #[serde(default)]
    format: Value,
}

fn read_header(line: Option<Line<'_>>, path: &Path) -> Result<Header, LedgerError> {
    let no_ledger = |problem: String| LedgerError::NotALedger {
        path: path.to_owned(),
        problem,
    };
    let line = line.ok_or_else(|| no_ledger("the file is empty".to_owned()))?;
    let probe: Probe = serde_json::from_slice(line.bytes).map_err(|error| {
        no_ledger(format!(
            "line 1 should be a header: {}",
            describe(line.bytes, &error)
        ))
    })?;
    if probe.kind != "header" {
        return Err(no_ledger("line 1 should be a header".to_owned()));
    }
    if let Some(found) = probe.format.as_u64()
        && (found == 0 || found > u64::from(FORMAT_VERSION))
    {
        return Err(LedgerError::Version {
            path: path.to_owned(),
            found,
            known: FORMAT_VERSION,
        });
    }
    match serde_json::from_slice(line.bytes) {
        Ok(Record::Header(header)) => Ok(header),
        Ok(_) => Err(no_ledger("line 1 should be a header".to_owned())),
        Err(error) => {
            let problem = describe(line.bytes, &error);
            Err(no_ledger(
                if error.to_string().starts_with("unknown variant") {
                    format!(
                        "the header in line 1 has a value that this program does not know, {problem}; a newer program \
                     may have written it: use the program that wrote it or a later one"
                    )
                } else {
                    format!("the header in line 1 is damaged: {problem}")
                },
            ))
        }
    }
}

/// The kind of a well-formed record that this program does not know; `None` if it knows the kind, an error if
/// the line is no record at all.
fn unknown_kind(line: &[u8]) -> Result<Option<String>, serde_json::Error> {
    let probe: Probe = serde_json::from_slice(line)?;
    if !KINDS.contains(&probe.kind.as_str()) {
        return Ok(Some(probe.kind));
    }
    Ok(match probe.input.as_str() {
        Some(input) if probe.kind == "input" && !INPUTS.contains(&input) => {
            Some(format!("input {input}"))
        }
        _ => None,
    })
}

/// What is wrong with a line, without serde's own line number, which is always 1 here.
fn describe(line: &[u8], error: &serde_json::Error) -> String {
    if line.is_empty() {
        return "an empty line".to_owned();
    }
    if std::str::from_utf8(line).is_err() {
        return "not UTF-8 text".to_owned();
    }
    let text = error.to_string();
    let end = text.rfind(" at line ").unwrap_or(text.len());
    match error.column() {
        0 => format!("not a record: {}", &text[..end]),
        column => format!("not a record: {} at column {column}", &text[..end]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The variants that serde names where it knows none.
    fn variants(error: &serde_json::Error) -> Vec<String> {
        let text = error.to_string();
        let (_, expected) = text.split_once("expected one of ").expect(&text);
        let quoted = expected.split('`').skip(1).step_by(2);
        quoted.map(str::to_owned).collect()
    }

    #[test]
    fn every_kind_and_input_is_listed() {
        let kinds = serde_json::from_str::<Record>(r#"{"kind":"?"}"#).unwrap_err();
        let mut kinds = variants(&kinds);
        kinds.sort();
        let mut listed = KINDS.to_vec();
        listed.sort_unstable();
        assert_eq!(kinds, listed);
        let inputs = serde_json::from_str::<bace_api::InputRecord>(r#"{"input":"?"}"#);
        let mut inputs = variants(&inputs.unwrap_err());
        inputs.sort();
        let mut listed = INPUTS.to_vec();
        listed.sort_unstable();
        assert_eq!(inputs, listed);
    }

    #[test]
    fn all_kinds_and_inputs_of_the_frozen_ledger_are_listed() {
        let golden = include_str!("../../../tests/golden/ledger-v1/ledger.jsonl");
        for line in golden.lines() {
            let probe: Probe = serde_json::from_str(line).unwrap();
            assert!(KINDS.contains(&probe.kind.as_str()), "{}", probe.kind);
            if let Some(input) = probe.input.as_str() {
                assert!(INPUTS.contains(&input), "{input}");
            }
        }
    }
}
