//! The worker's command line, as people meet it.

use std::path::Path;
use std::process::{Command, Output};

fn worker(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bace-worker"))
        .args(arguments)
        .output()
        .expect("the worker starts")
}

fn check(text: &Path, sequence: &str) -> Output {
    let text = text.to_str().expect("the path is text");
    worker(&["check", "--data", text, "--sequence", sequence])
}

#[test]
fn check_tells_what_it_found() {
    let dir = tempfile::tempdir().unwrap();
    let text = dir.path().join("text.txt");
    std::fs::write(&text, "to be or not to be").unwrap();
    let found = check(&text, "4");
    assert!(found.status.success(), "{found:?}");
    let found: serde_json::Value = serde_json::from_slice(&found.stdout).unwrap();
    assert_eq!(found["device"], "cpu");
    assert_eq!(found["text_bytes"], 18);
    let hash = found["text_hash"].as_str().unwrap();
    assert_eq!(hash.len(), 64);
}

#[test]
fn check_says_why_not() {
    let dir = tempfile::tempdir().unwrap();
    let text = dir.path().join("text.txt");
    std::fs::write(&text, "too short").unwrap();
    for (output, words) in [
        (check(&text, "9"), ["10", "9"]),
        (
            check(&dir.path().join("none"), "4"),
            ["none", "No such file"],
        ),
    ] {
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.starts_with("bace-worker: failed to "), "{said}");
        assert!(words.iter().all(|word| said.contains(word)), "{said}");
    }
}

#[test]
fn without_orders_it_says_which_it_needs() {
    let output = worker(&[]);
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("--join <ADDRESS>"), "{said}");
}
