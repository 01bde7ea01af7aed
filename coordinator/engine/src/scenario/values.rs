//! Single values of a scenario file: numbers in range, names, series.

use std::ops::RangeInclusive;

use toml::Spanned;

use super::error::Fault;
use super::file::{CsvFile, SeriesFile, StepFile};
use super::limits::{self, Range};
use crate::series::{Series, Step};

/// What some spreadsheets put before UTF-8 text.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// Reads a file that a scenario names: its text, or why it cannot be read.
pub type ReadSource<'a> = &'a dyn Fn(&str) -> Result<String, String>;

/// A number within `range`.
pub(super) fn number(value: &Spanned<f64>, range: Range) -> Result<f64, Fault> {
    let number = *value.get_ref();
    if range.contains(number) {
        // A negative zero would print as one.
        Ok(number + 0.0)
    } else {
        let message = format!("{number} is out of range; it has to be {range}");
        Err(Fault::at(value.span(), message))
    }
}

/// A number within `range` where one is given.
pub(super) fn optional(value: &Option<Spanned<f64>>, range: Range) -> Result<Option<f64>, Fault> {
    value.as_ref().map(|value| number(value, range)).transpose()
}

/// A whole number within `range`, none of which exceeds 32 bits.
pub(super) fn count(value: &Spanned<i64>, range: RangeInclusive<i64>) -> Result<u32, Fault> {
    let number = *value.get_ref();
    u32::try_from(number)
        .ok()
        .filter(|_| range.contains(&number))
        .ok_or_else(|| {
            let (least, most) = range.into_inner();
            let message = format!(
                "{number} is out of range; it has to be a whole number from {least} to {most}"
            );
            Fault::at(value.span(), message)
        })
}

/// A name that can stand in a table and in a certificate.
pub(super) fn name(value: &Spanned<String>) -> Result<String, Fault> {
    let name = value.get_ref();
    let fault = |message: String| Err(Fault::at(value.span(), message));
    if name.trim().is_empty() {
        return fault("a name cannot be empty".to_owned());
    }
    if name.chars().count() > limits::NAME_CHARS {
        let most = limits::NAME_CHARS;
        return fault(format!("a name has at most {most} characters"));
    }
    if name.chars().any(char::is_control) {
        return fault("a name holds no control characters".to_owned());
    }
    Ok(name.clone())
}

/// A price or carbon series in any of its forms.
pub(super) fn series<S: StepFile>(
    value: &Spanned<SeriesFile<S>>,
    sources: ReadSource<'_>,
) -> Result<Series, Fault> {
    let at = |message: String| Fault::at(value.span(), message);
    match value.get_ref() {
        SeriesFile::Constant(constant) => {
            in_range(*constant).map_err(at)?;
            Series::constant(*constant).map_err(|error| at(error.to_string()))
        }
        SeriesFile::Steps(steps) => series_of_steps(steps, value.span()),
        SeriesFile::Csv(csv) => series_of_csv::<S>(csv, sources),
    }
}

fn in_range(value: f64) -> Result<(), String> {
    if limits::PER_KWH.contains(value) {
        Ok(())
    } else {
        let range = limits::PER_KWH;
        Err(format!("{value} is out of range; it has to be {range}"))
    }
}

fn series_of_steps<S: StepFile>(
    steps: &[Spanned<S>],
    span: std::ops::Range<usize>,
) -> Result<Series, Fault> {
    if steps.len() > limits::SERIES_STEPS {
        let most = limits::SERIES_STEPS;
        return Err(Fault::at(
            span,
            format!("a series has at most {most} entries"),
        ));
    }
    let daily = steps.first().is_some_and(|step| step.get_ref().daily());
    for step in steps {
        let fault = |message: String| Fault::at(step.span(), message);
        if step.get_ref().daily() != daily {
            return Err(fault(
                "either every entry of a series has `daily = true` or none".to_owned(),
            ));
        }
        in_range(step.get_ref().value()).map_err(fault)?;
        if !limits::SECONDS.contains(step.get_ref().start_s()) {
            let (from_s, range) = (step.get_ref().start_s(), limits::SECONDS);
            return Err(fault(format!("`from_s` = {from_s} has to be {range}")));
        }
    }
    let values = steps.iter().map(|step| Step {
        from_s: step.get_ref().start_s(),
        value: step.get_ref().value(),
    });
    Series::steps(values.collect(), daily).map_err(|error| Fault::at(span, error.to_string()))
}

fn series_of_csv<S: StepFile>(csv: &CsvFile, sources: ReadSource<'_>) -> Result<Series, Fault> {
    let header = format!("from_s,{}", S::VALUE_KEY);
    let steps = csv_rows(&csv.csv, &[&header], sources, |row| {
        let step = Step {
            from_s: row[0],
            value: row[1],
        };
        in_range(step.value)?;
        if !limits::SECONDS.contains(step.from_s) {
            let (from_s, range) = (step.from_s, limits::SECONDS);
            return Err(format!("`from_s` = {from_s} has to be {range}"));
        }
        Ok(step)
    })?;
    let file = csv.csv.get_ref();
    Series::steps(steps, csv.daily)
        .map_err(|error| Fault::at(csv.csv.span(), format!("{file}: {error}")))
}

/// The rows of the CSV file `file`, each made of its numbers by `take`, which says what is wrong with them.
///
/// The file begins with one of `headers`, names of columns with commas between; each row has as many numbers.
pub(super) fn csv_rows<T>(
    file: &Spanned<String>,
    headers: &[&str],
    sources: ReadSource<'_>,
    mut take: impl FnMut(&[f64]) -> Result<T, String>,
) -> Result<Vec<T>, Fault> {
    let fault = |message: String| Fault::at(file.span(), message);
    let file = file.get_ref();
    let text = sources(file).map_err(fault)?;
    if text.len() > limits::FILE_BYTES {
        let most = limits::FILE_BYTES;
        return Err(fault(format!(
            "{file} is larger than a series may be, {most} bytes"
        )));
    }
    // Comments and empty lines are left out, so that a source can stand beside its numbers.
    let mut lines = text
        .strip_prefix(BYTE_ORDER_MARK)
        .unwrap_or(&text)
        .lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line.trim()))
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    let first: Option<String> = lines
        .next()
        .map(|(_, line)| line.chars().filter(|c| !c.is_whitespace()).collect());
    let Some(header) = headers
        .iter()
        .find(|&&header| first.as_deref() == Some(header))
    else {
        let known: Vec<String> = headers.iter().map(|header| format!("`{header}`")).collect();
        return Err(fault(format!(
            "{file} has to begin with the line {}",
            known.join(" or ")
        )));
    };
    let columns = header.split(',').count();
    let (mut rows, mut numbers) = (Vec::new(), Vec::new());
    for (number, line) in lines.take(limits::SERIES_STEPS + 1) {
        let row = csv_numbers(line, columns, &mut numbers).and_then(|()| take(&numbers));
        rows.push(row.map_err(|message| fault(format!("{file}:{number}: {message}")))?);
    }
    if rows.len() > limits::SERIES_STEPS {
        let most = limits::SERIES_STEPS;
        return Err(fault(format!(
            "{file} has more than {most} entries, the most a series may have"
        )));
    }
    Ok(rows)
}

fn csv_numbers(line: &str, columns: usize, numbers: &mut Vec<f64>) -> Result<(), String> {
    numbers.clear();
    let found = line.split(',').count();
    if found != columns {
        return Err(format!(
            "{found} columns instead of {columns}; a line is {columns} numbers with commas between"
        ));
    }
    for field in line.split(',').map(str::trim) {
        let parsed: Result<f64, _> = field.parse();
        numbers.push(parsed.map_err(|_| format!("`{}` is no number", field.escape_debug()))?);
    }
    Ok(())
}
