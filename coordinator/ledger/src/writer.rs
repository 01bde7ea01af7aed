//! Records to files.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use bace_api::Record;

use crate::{
    LEDGER_FILE, LedgerError, MAX_LINE_BYTES, PROFILE_FILE, SCENARIO_FILE, SUMMARY_FILE, Summary,
};

/// How much of a batch is held back before it is written; one system call for some hundred records.
const BATCH_BYTES: usize = 64 << 10;

/// Writes `ledger.jsonl`, a line a record.
///
/// Every record is handed to the system before [`append`](Self::append) returns, so a process that is
/// killed leaves all its records behind. It is not forced to the disk: a power cut may lose the last ones.
#[derive(Debug)]
pub struct LedgerWriter {
    path: PathBuf,
    file: File,
    /// Bytes of whole lines in the file.
    written: u64,
    /// Lines under construction; reused.
    buffer: Vec<u8>,
    broken: bool,
}

impl LedgerWriter {
    /// Begins an empty ledger in the folder `dir`, which must exist.
    ///
    /// # Errors
    /// If there is one already, or the file cannot be made.
    pub fn create(dir: &Path) -> Result<Self, LedgerError> {
        let path = dir.join(LEDGER_FILE);
        let file = create_file(dir, LEDGER_FILE)?;
        Ok(Self {
            path,
            file,
            written: 0,
            buffer: Vec::new(),
            broken: false,
        })
    }

    /// Where the ledger is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes one record.
    ///
    /// # Errors
    /// If the file cannot be written; the ledger then ends with its last whole record and takes no more.
    pub fn append(&mut self, record: &Record) -> Result<(), LedgerError> {
        self.append_all([record])
    }

    /// Writes records with fewer system calls than one by one.
    ///
    /// # Errors
    /// As [`append`](Self::append); the records before the failed one may or may not be in the file.
    pub fn append_all<'a>(
        &mut self,
        records: impl IntoIterator<Item = &'a Record>,
    ) -> Result<(), LedgerError> {
        if self.broken {
            return Err(LedgerError::Broken {
                path: self.path.clone(),
            });
        }
        self.buffer.clear();
        for record in records {
            self.push_line(record)?;
            if self.buffer.len() >= BATCH_BYTES {
                self.flush()?;
            }
        }
        self.flush()
    }

    fn push_line(&mut self, record: &Record) -> Result<(), LedgerError> {
        let start = self.buffer.len();
        let problem = match serde_json::to_writer(&mut self.buffer, record) {
            Ok(()) if self.buffer.len() - start < MAX_LINE_BYTES => {
                self.buffer.push(b'\n');
                return Ok(());
            }
            Ok(()) => format!("it is longer than {MAX_LINE_BYTES} bytes"),
            Err(error) => error.to_string(),
        };
        self.broken = true;
        Err(LedgerError::Unwritable {
            path: self.path.clone(),
            problem,
        })
    }

    fn flush(&mut self) -> Result<(), LedgerError> {
        if let Err(error) = self.file.write_all(&self.buffer) {
            self.broken = true;
            // A full disk takes part of a line; without it the ledger ends with a whole one. If this
            // fails too, the reader drops the torn line.
            let _ = self.file.set_len(self.written);
            return Err(LedgerError::io("write", &self.path, error));
        }
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

/// The folder a run leaves behind: `scenario.toml` as read, `ledger.jsonl`, `summary.json`, and `profile.toml`
/// where one was used.
#[derive(Debug)]
pub struct RunFolder {
    dir: PathBuf,
}

impl RunFolder {
    /// Makes the folder where it is missing, claims it by beginning the ledger, and keeps the scenario's text.
    ///
    /// # Errors
    /// If the folder already holds a run's files (they stay as they are), or cannot be written.
    pub fn create(dir: &Path, scenario: &str) -> Result<(Self, LedgerWriter), LedgerError> {
        fs::create_dir_all(dir).map_err(|error| LedgerError::io("create", dir, error))?;
        for file in [LEDGER_FILE, SCENARIO_FILE, PROFILE_FILE, SUMMARY_FILE] {
            // A link that leads nowhere is something, too.
            if dir.join(file).symlink_metadata().is_ok() {
                return Err(LedgerError::Occupied {
                    dir: dir.to_owned(),
                    file,
                });
            }
        }
        let writer = LedgerWriter::create(dir)?;
        let path = dir.join(SCENARIO_FILE);
        create_file(dir, SCENARIO_FILE)?
            .write_all(scenario.as_bytes())
            .map_err(|error| LedgerError::io("write", &path, error))?;
        let folder = Self {
            dir: dir.to_owned(),
        };
        Ok((folder, writer))
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Keeps the text of the profile that compute is predicted from: a replay needs it.
    ///
    /// # Errors
    /// If there is one already, or it cannot be written.
    pub fn keep_profile(&self, text: &str) -> Result<(), LedgerError> {
        let path = self.dir.join(PROFILE_FILE);
        create_file(&self.dir, PROFILE_FILE)?
            .write_all(text.as_bytes())
            .map_err(|error| LedgerError::io("write", &path, error))
    }

    /// Writes `summary.json`, whole or not at all.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write_summary(&self, summary: &Summary) -> Result<(), LedgerError> {
        let path = self.dir.join(SUMMARY_FILE);
        let partial = self.dir.join("summary.json.partial");
        let text = format!("{:#}\n", summary.to_json());
        fs::write(&partial, text)
            .and_then(|()| fs::rename(&partial, &path))
            .map_err(|error| LedgerError::io("write", &path, error))
    }
}

/// A file that was not there.
fn create_file(dir: &Path, name: &'static str) -> Result<File, LedgerError> {
    let path = dir.join(name);
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&path)
        .map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => LedgerError::Occupied {
                dir: dir.to_owned(),
                file: name,
            },
            _ => LedgerError::io("create", &path, error),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record::JobFinished {
            at_s: 1.0,
            job: "a".to_owned(),
        }
    }

    fn writer(file: &str) -> LedgerWriter {
        LedgerWriter {
            path: PathBuf::from(file),
            file: OpenOptions::new().write(true).open(file).unwrap(),
            written: 0,
            buffer: Vec::new(),
            broken: false,
        }
    }

    #[test]
    fn a_full_disk_is_told_and_nothing_follows_it() {
        // Writes to this device fail as on a full disk.
        let mut writer = writer("/dev/full");
        let error = writer.append(&record()).unwrap_err();
        assert!(
            error.to_string().starts_with("write /dev/full: "),
            "{error}"
        );
        assert!(matches!(
            writer.append(&record()),
            Err(LedgerError::Broken { .. })
        ));
    }

    #[test]
    fn a_record_that_no_reader_would_take_is_refused() {
        let mut writer = writer("/dev/null");
        let error = writer
            .append(&Record::JobFinished {
                at_s: 1.0,
                job: "a".repeat(MAX_LINE_BYTES),
            })
            .unwrap_err();
        assert!(error.to_string().contains("longer than"), "{error}");
    }
}
