//! One command, and what takes it back.

use std::fmt;

/// A command of iproute2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TcCommand {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// What takes it back; absent where that of an earlier command does, since what lies in a namespace goes with it.
    pub undo: Option<Vec<String>>,
    /// What it is for: a place or a link, in words.
    pub about: String,
}

impl TcCommand {
    /// A command of these words, separated by spaces; none of them may hold one.
    pub(super) fn new(about: &str, words: &str) -> Self {
        Self {
            argv: split(words),
            undo: None,
            about: about.to_owned(),
        }
    }

    pub(super) fn undone_by(mut self, words: &str) -> Self {
        self.undo = Some(split(words));
        self
    }

    /// `argv` as a line of a shell.
    pub fn shell_line(argv: &[String]) -> String {
        let words: Vec<String> = argv.iter().map(|word| shell_word(word)).collect();
        words.join(" ")
    }
}

impl fmt::Display for TcCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&Self::shell_line(&self.argv))
    }
}

fn split(words: &str) -> Vec<String> {
    words.split(' ').map(str::to_owned).collect()
}

/// A word as a shell reads it.
pub fn shell_word(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:%".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}
