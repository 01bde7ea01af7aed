//! Labelled rows over one axis: spans of time as blocks, figures as marks.

use askama::Template;

use super::axis::{Axis, Share};
use super::words::shortened;

/// Blocks of one picture that still draw at once and keep a page within a few megabytes.
pub(super) const MOST_BLOCKS: usize = 4000;

/// Pixels that a letter of a block's text takes, and those beside the text.
const LETTER_PX: f64 = 7.2;
const BESIDE_TEXT_PX: f64 = 6.0;

/// Letters of a name, its ellipsis among them, that still tell something.
const LEAST_LETTERS: usize = 5;

/// Pixels of labels beside the plot.
pub(super) const LABELS_PX: u32 = 132;

/// A picture of rows.
#[derive(Debug, Clone, Template)]
#[template(path = "lanes.html")]
pub(super) struct Lanes {
    /// Its accessible name.
    pub name: String,
    pub axis: Axis,
    pub lanes: Vec<Lane>,
    pub blocks: Vec<Block>,
    pub marks: Vec<Mark>,
    pub keys: Vec<Key>,
    /// Pixels of the plot, at the least; wider where there is room.
    pub plot_px: u32,
    /// Pixels from the first lane's top to the last one's bottom.
    pub height: u32,
    /// What was not drawn, and where it is.
    pub left_out: Option<String>,
}

/// A row, or several that share a label.
#[derive(Debug, Clone)]
pub(super) struct Lane {
    pub label: String,
    /// Smaller, behind the label.
    pub more: String,
    pub top: u32,
    pub height: u32,
}

/// A span.
#[derive(Debug, Clone)]
pub(super) struct Block {
    pub left: Share,
    pub width: Share,
    pub top: u32,
    pub height: u32,
    /// What it looks like.
    pub class: String,
    /// What stands in it; empty where there is no room.
    pub text: String,
    /// All about it, shown where one points at it.
    pub title: String,
}

/// A figure.
#[derive(Debug, Clone)]
pub(super) struct Mark {
    pub at: Share,
    pub beyond: Beyond,
    pub middle: u32,
    pub class: &'static str,
    pub title: String,
}

/// Whether a figure lies outside the axis, at whose edge it is drawn then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Beyond {
    No,
    Left,
    Right,
}

impl Beyond {
    /// An arrow whose tip stands on the edge; absent where a figure is in its place.
    fn arrow(self) -> Option<&'static str> {
        match self {
            Self::No => None,
            Self::Left => Some("M0,0 10,-6 10,6Z"),
            Self::Right => Some("M0,0 -10,-6 -10,6Z"),
        }
    }
}

/// What a look means.
#[derive(Debug, Clone)]
pub(super) struct Key {
    pub class: String,
    pub text: String,
}

impl Lanes {
    /// No rows yet, in a plot of at least so many pixels.
    pub fn new(name: String, axis: Axis, plot_px: u32) -> Self {
        Self {
            name,
            axis,
            lanes: Vec::new(),
            blocks: Vec::new(),
            marks: Vec::new(),
            keys: Vec::new(),
            plot_px,
            height: 0,
            left_out: None,
        }
    }

    /// A lane below the others; where it begins.
    pub fn lane(&mut self, label: &str, more: &str, height: u32) -> u32 {
        let top = self.height;
        self.lanes.push(Lane {
            label: label.to_owned(),
            more: more.to_owned(),
            top,
            height,
        });
        self.height += height;
        top
    }

    /// Room below the last lane.
    pub fn gap(&mut self, height: u32) {
        self.height += height;
    }

    pub fn key(&mut self, class: &str, text: &str) {
        self.keys.push(Key {
            class: class.to_owned(),
            text: text.to_owned(),
        });
    }

    /// The first of `texts` that a block of this width has room for in the narrowest plot; empty if none.
    pub fn fitting(&self, width: Share, texts: &[&str]) -> String {
        let room_px = width.0 * f64::from(self.plot_px) - BESIDE_TEXT_PX;
        let room = (room_px / LETTER_PX).max(0.0) as usize;
        let fits = |text: &&&str| text.chars().count() <= room;
        texts.iter().find(fits).copied().unwrap_or("").to_owned()
    }

    /// As [`Self::fitting`], of names: where there is no room for the last, as much of it as tells something.
    pub fn fitting_name(&self, width: Share, texts: &[&str]) -> String {
        let room_px = width.0 * f64::from(self.plot_px) - BESIDE_TEXT_PX;
        let room = (room_px / LETTER_PX).max(0.0) as usize;
        let whole = self.fitting(width, texts);
        match texts.last() {
            Some(last) if whole.is_empty() && room >= LEAST_LETTERS => shortened(last, room),
            _ => whole,
        }
    }

    /// Keeps the widest blocks where there are more than can be shown, in their order; `reach` says where the others are.
    pub fn bound(&mut self, reach: &str) {
        let all = self.blocks.len();
        if all <= MOST_BLOCKS {
            return;
        }
        let mut widths: Vec<f64> = self.blocks.iter().map(|block| block.width.0).collect();
        widths.sort_by(|one, two| two.total_cmp(one));
        let least = widths[MOST_BLOCKS - 1];
        self.blocks.retain(|block| block.width.0 >= least);
        self.blocks.truncate(MOST_BLOCKS);
        let sentence = format!(
            "{} of {all} spans are drawn, the longest ones; {reach}.",
            self.blocks.len()
        );
        self.left_out = Some(match self.left_out.take() {
            Some(before) => format!("{before} {sentence}"),
            None => sentence,
        });
    }

    /// Pixels of the whole picture, at the least.
    fn whole_px(&self) -> u32 {
        LABELS_PX + self.plot_px
    }
}
