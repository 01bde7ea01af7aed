//! The `bace-worker` process.
fn main() {}
