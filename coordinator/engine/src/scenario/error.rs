//! Why a text is no scenario, and where.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

/// Why a scenario file was refused: where, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("read {}: {message}", self.place())]
pub struct ScenarioError {
    /// The file, as the caller names it.
    pub file: String,
    /// Line and column, from 1; absent where the whole file is meant.
    pub position: Option<(usize, usize)>,
    /// The key, such as `job[1].model`; absent where the text is no TOML or the whole file is meant.
    pub key: Option<String>,
    /// What is wrong and what would be right.
    pub message: String,
}

impl ScenarioError {
    fn place(&self) -> String {
        let mut place = self.file.clone();
        if let Some((line, column)) = self.position {
            place.push_str(&format!(":{line}:{column}"));
        }
        if let Some(key) = &self.key {
            place.push_str(&format!(": `{key}`"));
        }
        place
    }

    /// An error about the file as a whole.
    pub(super) fn whole(file: &str, message: impl Into<String>) -> Self {
        Self {
            file: file.to_owned(),
            position: None,
            key: None,
            message: message.into(),
        }
    }

    /// Finds the place of `fault` in `text`.
    pub(super) fn locate(file: &str, text: &str, fault: Fault) -> Self {
        let Some(span) = fault.span else {
            return Self::whole(file, fault.message);
        };
        Self {
            file: file.to_owned(),
            position: Some(line_and_column(text, span.start)),
            key: fault.key.or_else(|| key_at(text, &span)),
            message: fault.message,
        }
    }
}

/// A fault and the bytes of the text it is about.
#[derive(Debug)]
pub(super) struct Fault {
    pub span: Option<Range<usize>>,
    /// The key, where the text does not name it.
    pub key: Option<String>,
    pub message: String,
}

impl Fault {
    pub fn at(span: Range<usize>, message: impl Into<String>) -> Self {
        Self {
            span: Some(span),
            key: None,
            message: message.into(),
        }
    }

    pub fn whole(message: impl Into<String>) -> Self {
        Self {
            span: None,
            key: None,
            message: message.into(),
        }
    }

    /// A fault that the TOML reader found; an unknown key gets its nearest known one.
    pub fn of_toml(error: &toml::de::Error) -> Self {
        let message = error.message();
        let mut words = message.split('`').skip(1).step_by(2);
        let message = match words.next() {
            Some(unknown) if message.starts_with("unknown field") => {
                let known: Vec<&str> = words.collect();
                format!("unknown key; {}", suggestion(unknown, &known))
            }
            Some(unknown) if message.starts_with("unknown variant") => {
                let known: Vec<&str> = words.collect();
                format!(
                    "`{unknown}` is not possible here; {}",
                    suggestion(unknown, &known)
                )
            }
            Some(key) if message.starts_with("missing field") => format!("`{key}` is missing"),
            _ => one_line(message),
        };
        Self {
            // A document without a key that it needs has no place for it.
            span: error.span().filter(|span| span.end > 0),
            key: None,
            message,
        }
    }
}

/// What a name that is not among `known` was meant to be: the nearest, or all of them where none is near.
pub(super) fn suggestion(name: &str, known: &[&str]) -> String {
    /// Similarity from which a name is taken for a misspelling.
    const NEAR: f64 = 0.75;
    /// Most names listed.
    const LISTED: usize = 24;

    let nearest = known
        .iter()
        .map(|candidate| (strsim::jaro_winkler(name, candidate), candidate))
        .max_by(|a, b| a.0.total_cmp(&b.0));
    match nearest {
        Some((similarity, candidate)) if similarity >= NEAR => {
            format!("did you mean `{candidate}`?")
        }
        Some(_) => {
            let listed: Vec<String> = known
                .iter()
                .take(LISTED)
                .map(|known| format!("`{known}`"))
                .collect();
            let more = known.len().saturating_sub(LISTED);
            let more = if more > 0 {
                format!(" and {more} more")
            } else {
                String::new()
            };
            format!("known: {}{more}", listed.join(", "))
        }
        None => "none is known here".to_owned(),
    }
}

fn one_line(message: &str) -> String {
    let lines: Vec<&str> = message.lines().map(str::trim).collect();
    lines.join("; ")
}

fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = before.bytes().filter(|&byte| byte == b'\n').count() + 1;
    (line, before[line_start..].chars().count() + 1)
}

/// The key whose name or value is the smallest span around `span`.
fn key_at(text: &str, span: &Range<usize>) -> Option<String> {
    let (document, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        return None;
    }
    let mut search = Search {
        target: span,
        best: None,
    };
    search.table(document.get_ref(), "");
    search.best.map(|(_, key)| key)
}

struct Search<'a> {
    target: &'a Range<usize>,
    best: Option<(usize, String)>,
}

impl Search<'_> {
    fn table(&mut self, table: &DeTable<'_>, prefix: &str) {
        for (key, value) in table {
            let name = key.get_ref();
            let path = if prefix.is_empty() {
                name.to_string()
            } else {
                format!("{prefix}.{name}")
            };
            self.offer(key.span(), &path);
            self.offer(value.span(), &path);
            self.value(value.get_ref(), &path);
        }
    }

    fn value(&mut self, value: &DeValue<'_>, path: &str) {
        match value {
            DeValue::Table(table) => self.table(table, path),
            DeValue::Array(array) => {
                for (index, item) in array.iter().enumerate() {
                    let path = format!("{path}[{index}]");
                    self.offer(item.span(), &path);
                    self.value(item.get_ref(), &path);
                }
            }
            _ => {}
        }
    }

    fn offer(&mut self, span: Range<usize>, path: &str) {
        if span.start <= self.target.start && self.target.end <= span.end {
            let length = span.end - span.start;
            // On equal spans the deeper key, which comes later, says more.
            if self.best.as_ref().is_none_or(|(best, _)| length <= *best) {
                self.best = Some((length, path.to_owned()));
            }
        }
    }
}
