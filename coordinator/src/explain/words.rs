//! Figures and lists in words.

use bace_api::{ClockKind, Header, PlacedRegion};
use bace_ledger::path_text;

/// Width of paragraphs in columns.
const WIDTH: usize = 100;

/// Seconds, to three digits behind the point where they are few.
pub fn seconds(value: f64) -> String {
    let decimals = if value.abs() < 100.0 { 3 } else { 1 };
    format!("{value:.decimals$} s")
}

/// A time that may be far below a second.
pub fn duration(value: f64) -> String {
    if value.abs() < 1.0 {
        format!("{:.3} ms", value * 1e3)
    } else {
        seconds(value)
    }
}

/// Dollars, to three digits that tell something.
pub fn dollars(value: f64) -> String {
    let digits = if value > 0.0 && value < 1.0 {
        2 - value.log10().floor() as i32
    } else {
        2
    };
    format!("${value:.*}", digits.clamp(2, 12) as usize)
}

/// Joules.
pub fn joules(value: f64) -> String {
    let (scale, unit) = match value {
        small if small < 1e4 => (1.0, "J"),
        some if some < 1e7 => (1e3, "kJ"),
        _ => (1e6, "MJ"),
    };
    format!("{:.2} {unit}", value / scale)
}

/// A rate.
pub fn rate(bps: f64) -> String {
    let (scale, unit) = match bps {
        many if many >= 1e9 => (1e9, "Gbit/s"),
        some if some >= 1e6 => (1e6, "Mbit/s"),
        _ => (1e3, "kbit/s"),
    };
    format!("{:.1} {unit}", bps / scale)
}

/// How `value` stands to `reference`, to a hundredth of a per cent; absent where there is nothing to divide by.
pub fn compared(value: f64, reference: f64) -> Option<String> {
    let off = 100.0 * (value - reference) / reference;
    (reference > 0.0).then(|| match off {
        off if off >= 0.005 => format!("{off:.2} % more"),
        off if off <= -0.005 => format!("{:.2} % less", -off),
        _ => "the same".to_owned(),
    })
}

/// A count with its noun.
pub fn count(number: u64, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}

/// `a, b and c`.
pub fn list(parts: &[String]) -> String {
    match parts {
        [] => String::new(),
        [one] => one.clone(),
        [most @ .., last] => format!("{} and {last}", most.join(", ")),
    }
}

/// Numbers as a list.
pub fn numbers(values: &[u32]) -> String {
    list(&values.iter().map(u32::to_string).collect::<Vec<_>>())
}

/// A path with its GPUs.
pub fn path(path: &[PlacedRegion]) -> String {
    path_text(path.iter().map(|part| (part.region.as_str(), part.gpus)))
}

/// What rung a run's figures stand on.
pub fn rung(header: &Header) -> String {
    if header.clock == ClockKind::Virtual {
        let model = header.iteration_model.as_deref().unwrap_or("event");
        return format!("a simulation, iterations by the {model} model");
    }
    let (compute, network) = (header.compute.name(), header.network.name());
    format!("a real run, compute {compute}, network {network}")
}

/// `text` as a sentence: with a capital and an end.
pub fn sentence(text: &str) -> String {
    let text = text.trim();
    let mut letters = text.chars();
    let first: String = letters
        .next()
        .into_iter()
        .flat_map(char::to_uppercase)
        .collect();
    let end = if text.ends_with(['.', '!', '?']) {
        ""
    } else {
        "."
    };
    format!("{first}{}{end}", letters.as_str())
}

/// A paragraph of lines that fit a terminal, without characters that move a cursor: a ledger's names may come from anywhere.
pub fn paragraph(sentences: &[String]) -> String {
    let text = sentences.join(" ");
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let word: String = word
            .chars()
            .map(|letter| {
                if letter.is_control() {
                    '\u{fffd}'
                } else {
                    letter
                }
            })
            .collect();
        let line = lines.last_mut().expect("there is always a line");
        if line.is_empty() {
            line.push_str(&word);
        } else if line.chars().count() + 1 + word.chars().count() <= WIDTH {
            line.push(' ');
            line.push_str(&word);
        } else {
            lines.push(word);
        }
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_keep_digits_that_tell_something() {
        assert_eq!(seconds(1.23456), "1.235 s");
        assert_eq!(seconds(1234.56), "1234.6 s");
        assert_eq!(duration(0.00125), "1.250 ms");
        assert_eq!(dollars(0.000353), "$0.000353");
        assert_eq!(dollars(12.3), "$12.30");
        assert_eq!(dollars(0.0), "$0.00");
        assert_eq!(joules(5361.0), "5361.00 J");
        assert_eq!(joules(53610.0), "53.61 kJ");
        assert_eq!(rate(2.5e8), "250.0 Mbit/s");
        assert_eq!(compared(1.01, 1.0).as_deref(), Some("1.00 % more"));
        assert_eq!(compared(0.5, 1.0).as_deref(), Some("50.00 % less"));
        assert_eq!(compared(1.00001, 1.0).as_deref(), Some("the same"));
        assert_eq!(compared(1.0, 0.0), None);
    }

    #[test]
    fn lists_and_sentences_read_as_people_write() {
        assert_eq!(numbers(&[1, 2, 3]), "1, 2 and 3");
        assert_eq!(numbers(&[1]), "1");
        assert_eq!(count(1, "GPU"), "1 GPU");
        assert_eq!(count(2, "GPU"), "2 GPUs");
        assert_eq!(sentence("it waits "), "It waits.");
        assert_eq!(paragraph(&["a\u{7}b".to_owned()]), "a\u{fffd}b");
    }
}
