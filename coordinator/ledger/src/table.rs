//! Summaries for people.

use std::fmt::Write;

use bace_api::{ClockKind, ComputeRung, Header, KernelShaping, ProfileUse, ShapedBy};
use comfy_table::{
    CellAlignment, ColumnConstraint, ContentArrangement, LineStyle, Table, TableStyle,
};

use crate::meter_table::{drawn, meters};
use crate::notes::notes;
use crate::path::path_text;
use crate::percent::{percent, percents};
use crate::receipt_table::receipts;
use crate::{Figure, JobSummary, Summary, Totals};

/// Width of reports in columns, on a terminal and in a pipe alike.
const WIDTH: u16 = 100;

/// Rows of a table that still serve a person; `summary.json` holds all.
const MAX_ROWS: usize = 60;

/// The column of a job's path.
const PATH: usize = 4;

/// What stands for a number that is not known.
pub(crate) const UNKNOWN: &str = "–";

/// A report of at most 100 columns, plain text without colours, that ends with a line break.
///
/// Numbers that are not known show as a dash; what went wrong stands in sentences below the tables.
pub fn render(summary: &Summary) -> String {
    let mut text = String::new();
    let header = &summary.header;
    paragraph(
        &mut text,
        &format!(
            "{}, policy {}: {}\n{}",
            header.scenario,
            header.policy,
            outcome(summary),
            rung(header)
        ),
    );
    paragraph(&mut text, &jobs(summary));
    paragraph(&mut text, &totals(summary));
    paragraph(&mut text, &regions(summary));
    paragraph(&mut text, &links(summary));
    paragraph(&mut text, &meters(summary));
    paragraph(&mut text, &receipts(summary));
    let notes = notes(summary);
    let lines = notes.iter().map(|note| wrapped("! ", note));
    paragraph(&mut text, &lines.collect::<Vec<_>>().join("\n"));
    paragraph(&mut text, &trace(summary));
    plain(&text)
}

pub(crate) fn paragraph(text: &mut String, content: &str) {
    if content.is_empty() {
        return;
    }
    if !text.is_empty() {
        text.push('\n');
    }
    text.push_str(content);
    text.push('\n');
}

pub(crate) fn outcome(summary: &Summary) -> String {
    let mut counts: Vec<(&str, usize)> = Vec::new();
    for job in &summary.jobs {
        let word = job.status.word();
        match counts.iter_mut().find(|(known, _)| *known == word) {
            Some((_, count)) => *count += 1,
            None => counts.push((word, 1)),
        }
    }
    let parts: Vec<String> = counts
        .iter()
        .map(|(word, count)| format!("{count} {word}"))
        .collect();
    let plural = if summary.jobs.len() == 1 { "" } else { "s" };
    let invalid = if summary.emulation.faults.is_empty() {
        ""
    } else {
        "; emulation not valid"
    };
    format!(
        "{} job{plural}, {}{invalid}",
        summary.jobs.len(),
        parts.join(", ")
    )
}

/// On which rung a ledger stands, such as `clock wall × compute paced × network shaped`.
pub(crate) fn rung(header: &Header) -> String {
    let clock = match header.clock {
        ClockKind::Virtual => "virtual",
        ClockKind::Wall => "wall",
    };
    let compute = header.compute.name();
    let network = header.network.name();
    let mut text = format!("clock {clock} × compute {compute} × network {network}");
    if let Some(model) = &header.iteration_model {
        let _ = write!(text, " × iterations {model}");
    }
    if let Some(scale) = header.time_scale {
        let _ = write!(text, " × time scale {scale}");
    }
    text
}

fn jobs(summary: &Summary) -> String {
    let jobs = &summary.jobs;
    let of = |pick: fn(&JobSummary) -> &Figure| Scale::plain(jobs.iter().map(pick));
    let (jct, queueing) = (of(|job| &job.jct_s), of(|job| &job.queueing_s));
    let energy = Scale::energy(jobs.iter().map(|job| &job.energy_j));
    let cost = Scale::dollars(jobs.iter().map(|job| &job.cost_usd));
    let energy_heading = format!("energy ({})", energy.unit);
    let mut headings = vec!["job", "JCT (s)", "wait (s)", "K/K*", "path"];
    // Where nothing is computed there is no loss.
    let trained = summary.header.compute != ComputeRung::Modelled;
    if trained {
        headings.push("loss (nats)");
    }
    headings.extend([energy_heading.as_str(), "cost ($)"]);
    let mut table = Columns::new(&headings);
    table.wrap(PATH);
    for job in jobs {
        let mut cells = vec![
            job.name.clone(),
            match &job.jct_s {
                Figure::Known(_) => jct.show(&job.jct_s),
                Figure::Unknown(_) => job.status.word().to_owned(),
            },
            queueing.show(&job.queueing_s),
            job.placed.as_ref().map_or(UNKNOWN.to_owned(), |placed| {
                format!("{}/{}", placed.k, placed.k_star)
            }),
            path(job),
        ];
        if trained {
            cells.push(match (&job.loss_first, &job.loss_last) {
                (Figure::Known(first), Figure::Known(last)) => format!("{first:.3} → {last:.3}"),
                _ => UNKNOWN.to_owned(),
            });
        }
        cells.push(used(job, energy.show(&job.energy_j)));
        cells.push(used(job, cost.show(&job.cost_usd)));
        table.row(cells);
    }
    table.finish("jobs")
}

/// The number of a job that ever held a GPU; a zero of another would be noise.
fn used(job: &JobSummary, number: String) -> String {
    job.placed.as_ref().map_or(UNKNOWN.to_owned(), |_| number)
}

fn path(job: &JobSummary) -> String {
    let Some(placed) = &job.placed else {
        return UNKNOWN.to_owned();
    };
    let path = placed.path.iter();
    let text = path_text(path.map(|part| (part.region.as_str(), part.gpus)));
    // Lines break behind an arrow, never before one or within a name.
    glued(&text).replace(&format!("→{GLUE}"), "→ ")
}

fn totals(summary: &Summary) -> String {
    let totals = &summary.totals;
    let seconds = Scale::plain(
        [
            &totals.max_jct_s,
            &totals.makespan_s,
            &totals.mean_queueing_s,
        ]
        .into_iter(),
    );
    let mut lines = Vec::new();
    lines.push((
        "JCT",
        match &totals.mean_jct_s {
            Figure::Unknown(reason) => unknown(reason),
            mean => format!(
                "mean {} s, median {} s, p95 {} s, longest {} s",
                seconds.show(mean),
                seconds.show(&totals.median_jct_s),
                seconds.show(&totals.p95_jct_s),
                seconds.show(&totals.max_jct_s)
            ),
        },
    ));
    lines.push((
        "wait",
        told(&totals.mean_queueing_s, |_| {
            format!("mean {} s", seconds.show(&totals.mean_queueing_s))
        }),
    ));
    lines.push((
        "makespan",
        told(&totals.makespan_s, |_| {
            format!("{} s", seconds.show(&totals.makespan_s))
        }),
    ));
    let energy = Scale::energy([&totals.energy_j].into_iter());
    lines.push((
        "energy",
        told(&totals.energy_j, |_| {
            format!("{} {}", energy.show(&totals.energy_j), energy.unit)
        }),
    ));
    lines.extend(drawn(summary).map(|text| ("drawn", text)));
    let cost = Scale::dollars([&totals.cost_usd].into_iter());
    lines.push((
        "cost",
        told(&totals.cost_usd, |_| {
            format!("${}", cost.show(&totals.cost_usd))
        }),
    ));
    // Without carbon series there is nothing to miss.
    if let Figure::Known(carbon_g) = totals.carbon_g {
        lines.push(("carbon", format!("{carbon_g:.1} g CO2")));
    }
    lines.push(("GPUs", gpus(totals)));
    if let Figure::Known(share) = totals.link_utilisation {
        lines.push((
            "links",
            format!("carried {} of what they could", percent(share)),
        ));
    }
    let lines = lines
        .iter()
        .map(|(name, text)| wrapped(&format!("{name:<10}"), text));
    lines.collect::<Vec<_>>().join("\n")
}

fn gpus(totals: &Totals) -> String {
    match (&totals.gpu_busy_share, &totals.gpu_utilisation) {
        (Figure::Known(held), Figure::Known(all)) => format!(
            "computed {} of the time jobs held them, {} of all their time",
            percent(*held),
            percent(*all)
        ),
        (Figure::Known(held), Figure::Unknown(_)) => {
            format!("computed {} of the time jobs held them", percent(*held))
        }
        (Figure::Unknown(reason), _) => unknown(reason),
    }
}

fn regions(summary: &Summary) -> String {
    let regions = &summary.regions;
    let energy = Scale::energy(regions.iter().map(|region| &region.energy_j));
    let cost = Scale::dollars(regions.iter().map(|region| &region.cost_usd));
    let mut table = Columns::new(&[
        "region",
        &format!("energy ({})", energy.unit),
        "cost ($)",
        "GPUs computing (%)",
    ]);
    for region in regions {
        table.row(vec![
            region.name.clone(),
            energy.show(&region.energy_j),
            cost.show(&region.cost_usd),
            share(&region.gpu_utilisation),
        ]);
    }
    table.finish("regions")
}

fn links(summary: &Summary) -> String {
    let carried: Vec<_> = summary
        .links
        .iter()
        .filter(|link| link.bytes != Figure::Known(0))
        .collect();
    // A simulation by formula sends nothing: then there is nothing to tell.
    if carried.iter().all(|link| link.bytes.known().is_none()) {
        return String::new();
    }
    let mut headings = vec!["link", "payload (MB)", "in use (%)"];
    let took_datagrams = carried.iter().any(|link| link.datagrams.is_some());
    if took_datagrams {
        headings.extend(["datagrams", "lost", "dropped", "late"]);
    }
    let mut table = Columns::new(&headings);
    for link in carried {
        let mut cells = vec![
            glued(&format!("{} → {}", link.from, link.to)),
            match &link.bytes {
                Figure::Known(bytes) => format!("{:.1}", *bytes as f64 / 1e6),
                Figure::Unknown(_) => UNKNOWN.to_owned(),
            },
            share(&link.utilisation),
        ];
        if took_datagrams {
            let counts = link
                .datagrams
                .map(|all| [all.sent, all.lost, all.dropped, all.late]);
            cells.extend(match counts {
                Some(counts) => counts.map(|count| count.to_string()),
                None => [UNKNOWN; 4].map(str::to_owned),
            });
        }
        table.row(cells);
    }
    table.finish("links")
}

fn trace(summary: &Summary) -> String {
    let header = &summary.header;
    let mut lines = vec![
        ("scenario", format!("{} (blake3)", header.scenario_hash)),
        ("seed", header.seed.to_string()),
        ("version", header.version.clone()),
        ("machine", header.machine.clone()),
    ];
    if let Some(shaping) = &summary.shaping {
        lines.insert(2, ("links", shaped(shaping)));
    }
    if let Some(ProfileUse::Used {
        path, hash, device, ..
    }) = header.profile.as_deref()
    {
        let text =
            format!("{path}, of {device}: {hash} (blake3); all GPUs take its times of compute");
        lines.insert(1, ("profile", text));
    }
    let behind_scenario = 1;
    let reads = header.sources.iter();
    let reads = reads.map(|(name, hash)| ("reads", format!("{name}: {hash} (blake3)")));
    lines.splice(behind_scenario..behind_scenario, reads);
    if let Some(started) = &header.started {
        lines.push(("started", started.clone()));
    }
    if let Some(path) = &summary.ledger {
        lines.push(("ledger", path.display().to_string()));
    }
    let lines = lines
        .iter()
        .map(|(name, text)| wrapped(&format!("{name:<10}"), text));
    lines.collect::<Vec<_>>().join("\n")
}

/// Who shaped the links, in words.
pub(crate) fn shaped(shaping: &KernelShaping) -> String {
    let netem = if shaping.netem { "netem" } else { "no netem" };
    let mut text = format!("kernel with {} and {netem}", shaping.qdisc);
    let parts = [
        ("delay", shaping.delay),
        ("jitter", shaping.jitter),
        ("loss", shaping.loss),
    ];
    for (what, by) in parts {
        match by {
            ShapedBy::Kernel | ShapedBy::NotAsked => {}
            ShapedBy::Receiver => {
                let _ = write!(text, "; {what} held by receiving workers");
            }
            ShapedBy::Nobody => {
                let _ = write!(text, "; no {what}");
            }
        }
    }
    if shaping.user_namespace {
        text.push_str("; in a user namespace");
    }
    text
}

/// One unit and one number of decimals for a column.
pub(crate) struct Scale {
    unit: &'static str,
    divisor: f64,
    decimals: usize,
}

impl Scale {
    pub(crate) fn plain<'a>(figures: impl Iterator<Item = &'a Figure>) -> Self {
        Self {
            unit: "",
            divisor: 1.0,
            decimals: match largest(figures) {
                small if small < 1.0 => 4,
                small if small < 10.0 => 2,
                _ => 1,
            },
        }
    }

    pub(crate) fn energy<'a>(figures: impl Iterator<Item = &'a Figure>) -> Self {
        let largest = largest(figures);
        let (unit, divisor) = match largest {
            joules if joules < 1e4 => ("J", 1.0),
            joules if joules < 1e7 => ("kJ", 1e3),
            joules if joules < 1e10 => ("MJ", 1e6),
            _ => ("GJ", 1e9),
        };
        Self {
            unit,
            divisor,
            decimals: if largest / divisor < 100.0 { 2 } else { 1 },
        }
    }

    pub(crate) fn dollars<'a>(figures: impl Iterator<Item = &'a Figure>) -> Self {
        Self {
            unit: "$",
            divisor: 1.0,
            decimals: match largest(figures) {
                dollars if dollars < 1e-4 => 9,
                dollars if dollars < 1.0 => 6,
                dollars if dollars < 100.0 => 4,
                _ => 2,
            },
        }
    }

    pub(crate) fn unit(&self) -> &'static str {
        self.unit
    }

    pub(crate) fn show(&self, figure: &Figure) -> String {
        match figure {
            Figure::Known(value) => format!("{:.*}", self.decimals, value / self.divisor),
            Figure::Unknown(_) => UNKNOWN.to_owned(),
        }
    }
}

fn largest<'a>(figures: impl Iterator<Item = &'a Figure>) -> f64 {
    figures
        .filter_map(|figure| figure.known())
        .fold(0.0, |largest, value| value.abs().max(largest))
}

fn told(figure: &Figure, tell: impl FnOnce(f64) -> String) -> String {
    match figure {
        Figure::Known(value) => tell(*value),
        Figure::Unknown(reason) => unknown(reason),
    }
}

fn unknown(reason: &str) -> String {
    format!("unknown: {reason}")
}

fn share(figure: &Figure) -> String {
    match figure {
        Figure::Known(share) => percents(*share),
        Figure::Unknown(_) => UNKNOWN.to_owned(),
    }
}

/// A table whose numbers end on the right.
pub(crate) struct Columns {
    table: Table,
    rows: usize,
    /// What holds the rows that are left out.
    rest_in: &'static str,
}

impl Columns {
    pub(crate) fn new(headings: &[&str]) -> Self {
        let mut table = Table::new();
        table
            .load_style(
                TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─')),
            )
            .set_content_arrangement(ContentArrangement::Dynamic)
            .set_width(WIDTH)
            .set_header(headings);
        for (place, column) in table.column_iter_mut().enumerate() {
            column.set_padding((0, 1));
            if place > 0 {
                column.set_constraint(ColumnConstraint::ContentWidth);
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        Self {
            table,
            rows: 0,
            rest_in: crate::SUMMARY_FILE,
        }
    }

    /// Says what holds the rows that are left out, where it is not the run's summary.
    pub(crate) fn rest_in(self, rest_in: &'static str) -> Self {
        Self { rest_in, ..self }
    }

    /// Keeps the first column from breaking into lines, which would be within words where its cells are glued.
    pub(crate) fn unbroken(mut self) -> Self {
        let first = self.table.column_mut(0);
        let first = first.expect("a table has a first column");
        first.set_constraint(ColumnConstraint::ContentWidth);
        self
    }

    /// Sets the next column one space behind this one, since the two belong together.
    pub(crate) fn join_next(&mut self, column: usize) {
        let column = self.table.column_mut(column);
        column
            .expect("the column has a heading")
            .set_padding((0, 0));
    }

    /// Lets a column of text read from the left and break into lines where room is short.
    pub(crate) fn wrap(&mut self, column: usize) {
        let column = self
            .table
            .column_mut(column)
            .expect("the column has a heading");
        column.remove_constraint();
        column.set_cell_alignment(CellAlignment::Left);
    }

    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.rows += 1;
        if self.rows <= MAX_ROWS {
            self.table.add_row(cells);
        }
    }

    pub(crate) fn finish(self, what: &str) -> String {
        let mut text = self.table.trim_fmt();
        if self.rows > MAX_ROWS {
            let _ = write!(
                text,
                "\n{MAX_ROWS} of {} {what} are shown; {} holds all",
                self.rows, self.rest_in
            );
        }
        text
    }
}

/// A space at which no line breaks, until [`plain`] makes a space of it.
pub(crate) const GLUE: char = '\u{a0}';

pub(crate) fn glued(text: &str) -> String {
    text.replace(' ', "\u{a0}")
}

/// `text` behind `prefix`, broken into lines of at most [`WIDTH`] columns that stand below each other.
pub(crate) fn wrapped(prefix: &str, text: &str) -> String {
    let indent = prefix.chars().count();
    let room = usize::from(WIDTH) - indent;
    let mut lines = vec![String::new()];
    let gap = |character: char| character.is_whitespace() && character != GLUE;
    for word in text.split(gap).filter(|word| !word.is_empty()) {
        let line = lines.last_mut().expect("there is always a line");
        if line.is_empty() {
            line.push_str(word);
        } else if line.chars().count() + 1 + word.chars().count() <= room {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    format!(
        "{prefix}{}",
        lines.join(&format!("\n{}", " ".repeat(indent)))
    )
}

/// Text that moves no cursor: a ledger's strings may come from anywhere.
pub(crate) fn plain(text: &str) -> String {
    text.chars()
        .map(|character| match character {
            '\n' => '\n',
            GLUE => ' ',
            control if control.is_control() => '\u{fffd}',
            other => other,
        })
        .collect()
}
