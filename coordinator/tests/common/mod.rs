//! The program as people call it.

use std::path::Path;
use std::process::{Command, Output};

/// What a call printed and how it ended.
#[derive(Debug)]
pub struct Called {
    /// Exit status.
    pub status: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

/// Calls `bace` with these arguments.
pub fn bace(args: &[&str]) -> Called {
    let called = Command::new(env!("CARGO_BIN_EXE_bace")).args(args).output();
    let Output {
        status,
        stdout,
        stderr,
    } = called.expect("the program starts");
    Called {
        status: status.code().expect("no signal ended it"),
        out: String::from_utf8(stdout).expect("it prints text"),
        err: String::from_utf8(stderr).expect("it prints text"),
    }
}

/// As [`bace`], where it has to end well.
#[track_caller]
pub fn succeeds(args: &[&str]) -> String {
    let called = bace(args);
    assert_eq!(called.status, 0, "{args:?}: {}", called.err);
    called.out
}

/// A path as an argument.
pub fn text(path: &Path) -> &str {
    path.to_str().expect("temporary paths are text")
}
