//! Tables of the page: what has no figure says why, below.

use askama::Template;

use super::lanes::MOST_BLOCKS;
use crate::Figure;
use crate::table::{GLUE, UNKNOWN};

/// Rows of a table: as many as a picture draws, so that a table lists whatever its picture shows.
const MOST_ROWS: usize = MOST_BLOCKS;

/// A table under construction.
#[derive(Debug, Clone, Template)]
#[template(path = "table.html")]
pub(super) struct TableView {
    caption: String,
    columns: Vec<Column>,
    rows: Vec<Vec<Cell>>,
    /// Why figures are missing, each reason once; cells refer to them by their number from 1.
    notes: Vec<String>,
    more_rows: usize,
}

#[derive(Debug, Clone)]
struct Column {
    heading: String,
    is_text: bool,
}

/// What stands in a table.
#[derive(Debug, Clone)]
pub(super) struct Cell {
    text: String,
    /// Which of the table's notes says why there is no figure; 0 for none.
    note: usize,
    class: &'static str,
}

impl TableView {
    /// A table without rows. A heading that ends in `|` is of words, which begin on the left; others are of figures.
    pub fn new(caption: impl Into<String>, headings: &[&str]) -> Self {
        let column = |heading: &&str| Column {
            is_text: heading.ends_with('|'),
            heading: heading.trim_end_matches('|').to_owned(),
        };
        Self {
            caption: caption.into(),
            columns: headings.iter().map(column).collect(),
            rows: Vec::new(),
            notes: Vec::new(),
            more_rows: 0,
        }
    }

    /// Words or figures as they are; a dash where there are none.
    pub fn cell(&self, text: impl Into<String>) -> Cell {
        let text = text.into().replace(GLUE, " ");
        Cell {
            text: if text.is_empty() {
                UNKNOWN.to_owned()
            } else {
                text
            },
            note: 0,
            class: "",
        }
    }

    /// A figure, or a dash and its reason below the table.
    pub fn figure<T>(&mut self, figure: &Figure<T>, show: impl FnOnce(&T) -> String) -> Cell {
        match figure {
            Figure::Known(value) => self.cell(show(value)),
            Figure::Unknown(reason) => {
                let known = self.notes.iter().position(|note| note == reason);
                let place = known.unwrap_or_else(|| {
                    self.notes.push(reason.clone().into_owned());
                    self.notes.len() - 1
                });
                Cell {
                    text: UNKNOWN.to_owned(),
                    note: place + 1,
                    class: "absent",
                }
            }
        }
    }

    /// Adds a row, as long as there is room for it.
    pub fn row(&mut self, cells: Vec<Cell>) {
        debug_assert_eq!(cells.len(), self.columns.len());
        if self.rows.len() < MOST_ROWS {
            self.rows.push(cells);
        } else {
            self.more_rows += 1;
        }
    }

    /// Where to find what a picture leaves out, after a semicolon.
    pub fn reach(&self) -> String {
        match self.more_rows {
            0 => "the table lists all".to_owned(),
            _ => format!(
                "the table lists the first {} of {} rows, the ledger all",
                self.rows.len(),
                self.len()
            ),
        }
    }

    /// Rows that it was given.
    pub fn len(&self) -> usize {
        self.rows.len() + self.more_rows
    }
}

impl Cell {
    /// The same with a look.
    pub fn with_class(self, class: &'static str) -> Self {
        Self { class, ..self }
    }
}
