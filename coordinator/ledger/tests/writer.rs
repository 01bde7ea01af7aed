//! What runs leave behind.

use std::fs;

use bace_api::Record;
use bace_ledger::{
    Fold, LEDGER_FILE, LedgerWriter, RunFolder, SCENARIO_FILE, SUMMARY_FILE, read, summarise,
};

const GOLDEN: &str = include_str!("../../../tests/golden/ledger-v1/ledger.jsonl");

fn records() -> Vec<Record> {
    let lines = GOLDEN.lines().map(serde_json::from_str);
    lines.map(|record| record.expect("frozen")).collect()
}

#[test]
fn every_record_is_in_the_file_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = LedgerWriter::create(dir.path()).unwrap();
    for (place, record) in records().iter().enumerate() {
        writer.append(record).unwrap();
        // The writer still lives, as that of a run that will be killed.
        assert_eq!(read(dir.path()).unwrap().records.len(), place);
    }
    assert_eq!(writer.path(), dir.path().join(LEDGER_FILE));
}

#[test]
fn batches_are_read_back_as_written() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = LedgerWriter::create(dir.path()).unwrap();
    let many: Vec<Record> = records()[1..].iter().cycle().take(2000).cloned().collect();
    writer.append(&records()[0]).unwrap();
    writer.append_all(&many).unwrap();
    assert_eq!(read(dir.path()).unwrap().records, many);
}

#[test]
fn a_run_folder_has_its_three_files() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("runs/first");
    let (folder, mut writer) = RunFolder::create(&run, "name = \"golden\"\n").unwrap();
    let records = records();
    let Record::Header(header) = &records[0] else {
        panic!("the first record is the header")
    };
    let mut fold = Fold::new(header);
    for record in &records {
        writer.append(record).unwrap();
        fold.add(record);
    }
    let mut live = fold.finish();
    live.ledger = Some(writer.path().to_owned());
    folder.write_summary(&live).unwrap();

    assert_eq!(live, summarise(folder.dir()).unwrap());
    assert_eq!(
        fs::read_to_string(run.join(SCENARIO_FILE)).unwrap(),
        "name = \"golden\"\n"
    );
    let summary = fs::read_to_string(run.join(SUMMARY_FILE)).unwrap();
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&summary).unwrap(),
        live.to_json()
    );
    assert_eq!(fs::read_dir(&run).unwrap().count(), 3);
}

#[test]
fn nothing_is_ever_overwritten() {
    for file in [LEDGER_FILE, SCENARIO_FILE, SUMMARY_FILE] {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(file), "mine").unwrap();
        let message = RunFolder::create(dir.path(), "theirs")
            .unwrap_err()
            .to_string();
        assert!(
            message.contains(&format!("it already holds {file}")),
            "{message}"
        );
        assert_eq!(fs::read_to_string(dir.path().join(file)).unwrap(), "mine");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}

#[test]
fn folders_that_cannot_be_made_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let message = RunFolder::create(&file.join("run"), "")
        .unwrap_err()
        .to_string();
    assert!(
        message.starts_with(&format!("create {}: ", file.join("run").display())),
        "{message}"
    );
    let error = LedgerWriter::create(&dir.path().join("nowhere")).unwrap_err();
    assert!(error.to_string().contains("nowhere"), "{error}");
}
