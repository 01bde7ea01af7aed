//! The `bace` command.
fn main() {}
