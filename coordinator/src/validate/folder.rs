//! What a validation leaves behind, and finds again.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::Context;
use bace_api::told;
use bace_ledger::{LEDGER_FILE, RunEnd, RunLog, Summary};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::plan::{FORMAT, Plan, PlannedRun};
use crate::wrong_input::WrongInput;

/// What was asked for.
/// The plan of a validation, in its folder.
pub const PLAN_FILE: &str = "plan.json";
/// The verdict, for programs.
const JSON_FILE: &str = "validation.json";
/// The verdict, for people.
const TEXT_FILE: &str = "validation.txt";
/// In the folder of a run: why it came to no end.
const FAILED_FILE: &str = "failed.txt";

/// In the folder of a policy: its simulation.
pub const PREDICTED: &str = "predicted";
/// How the folders of its real runs begin; a number from 1 follows.
pub const MEASURED: &str = "measured-";

/// `plan.json`, `POLICY/predicted`, `POLICY/measured-1`, …, `validation.json` and `validation.txt`.
#[derive(Debug)]
pub struct Folder {
    dir: PathBuf,
    /// The folder itself, open and locked as long as this lives.
    _lock: File,
}

/// A real run that failed and was made again.
#[derive(Debug)]
pub struct Retry {
    /// Where what it left is, within the validation's folder.
    pub within: PathBuf,
    /// Why it failed.
    pub why: String,
}

/// What a run has left in its folder.
#[derive(Debug)]
pub enum Left {
    /// All of it: it came to its end.
    Whole(Box<Summary>),
    /// Nothing, or the ledger of a run that came to no end.
    Unfinished,
    /// A ledger that cannot be read, and why not: a phrase that follows the run.
    Unreadable(String),
}

impl Folder {
    /// Begins a validation in `dir`, or goes on with the one there.
    ///
    /// # Errors
    /// If the folder holds another validation, or anything else.
    pub fn open(dir: PathBuf, plan: &Plan) -> anyhow::Result<Self> {
        if dir.join(PLAN_FILE).exists() {
            let (folder, before) = Self::read(&dir)?;
            return match plan.difference_from(&before)? {
                None => Ok(folder),
                Some(difference) => Err(WrongInput::error(format!(
                    "go on with the validation in {}: {difference}; give the scenario and the arguments that it was begun with, or \
                     another --out; programs and machine have to be the same too",
                    dir.display()
                ))),
            };
        }
        let found = match fs::read_dir(&dir) {
            Ok(mut entries) => entries.next().is_some(),
            Err(error) if error.kind() == ErrorKind::NotFound => false,
            Err(error) => {
                let told = format!("look into {}: {error}", dir.display());
                return Err(WrongInput::error(told));
            }
        };
        if found {
            return Err(WrongInput::error(format!(
                "write a validation into {}: it holds something else already; give a fresh folder",
                dir.display()
            )));
        }
        fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
        let folder = Self {
            _lock: lock(&dir)?,
            dir,
        };
        folder.write(
            Path::new(PLAN_FILE),
            &format!("{:#}\n", serde_json::to_value(plan)?),
        )?;
        Ok(folder)
    }

    /// The validation in `dir` and its plan.
    pub fn read(dir: &Path) -> anyhow::Result<(Self, Plan)> {
        let path = dir.join(PLAN_FILE);
        let wrong =
            |problem: String| WrongInput::error(format!("read {}: {problem}", path.display()));
        let text = fs::read_to_string(&path).map_err(|error| match error.kind() {
            ErrorKind::NotFound => WrongInput::error(format!(
                "judge {}: it holds no {PLAN_FILE}, which every validation begins with",
                dir.display()
            )),
            _ => wrong(error.to_string()),
        })?;
        let plan: Plan = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        if plan.format != FORMAT {
            let format = plan.format;
            return Err(wrong(format!(
                "`format` = {format}, and this program reads {FORMAT}"
            )));
        }
        let folder = Self {
            _lock: lock(dir)?,
            dir: dir.to_owned(),
        };
        Ok((folder, plan))
    }

    /// Where it is.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where the prediction of a policy is, within this folder.
    pub fn predicted(policy: &str) -> PathBuf {
        Path::new(policy).join(PREDICTED)
    }

    /// Where a real run is, within this folder.
    pub fn measured(run: &PlannedRun) -> PathBuf {
        Path::new(&run.policy).join(format!("{MEASURED}{}", run.repeat))
    }

    /// The path of something within this folder.
    pub fn path(&self, within: &Path) -> PathBuf {
        self.dir.join(within)
    }

    /// The ledger of a run that has come to its end; else why there is none or it cannot be read, a phrase.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn log(&self, within: &Path) -> anyhow::Result<Result<RunLog, String>> {
        let dir = self.path(within);
        if !dir.join(LEDGER_FILE).exists() {
            let why = self.told_failure(within)?;
            return Ok(Err(why.unwrap_or_else(|| "it has not run".to_owned())));
        }
        let log = match RunLog::read(&dir) {
            Ok(log) => log,
            Err(error) => return Ok(Err(format!("failed to {}", told(&error)))),
        };
        Ok(match unfinished(&log.summary) {
            None => Ok(log),
            Some(why) => Err(self.told_failure(within)?.unwrap_or(why)),
        })
    }

    /// What a run has left.
    pub fn left(&self, within: &Path) -> Left {
        let dir = self.path(within);
        if !dir.join(LEDGER_FILE).exists() {
            return Left::Unfinished;
        }
        match bace_ledger::summarise(&dir) {
            Ok(summary) if unfinished(&summary).is_none() => Left::Whole(Box::new(summary)),
            Ok(_) => Left::Unfinished,
            Err(error) => Left::Unreadable(format!("left no readable ledger: {}", told(&error))),
        }
    }

    /// Takes away what a run has left that came to no end.
    pub fn clear(&self, within: &Path) -> anyhow::Result<()> {
        let dir = self.path(within);
        match fs::remove_dir_all(&dir) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error).with_context(|| format!("remove {}", dir.display()))
            }
            _ => Ok(()),
        }
    }

    /// Makes room for a real run: what a failed one has left, or one whose ledger cannot be read, is kept beside it, and that is
    /// said; what an interrupted one has left is taken away.
    pub fn make_room(&self, run: &PlannedRun) -> anyhow::Result<()> {
        let within = Self::measured(run);
        if let (Left::Unreadable(why), None) = (self.left(&within), self.told_failure(&within)?) {
            self.tell_failure(&within, &why)?;
        }
        let Some(why) = self.told_failure(&within)? else {
            return self.clear(&within);
        };
        let kept = Self::failed(run, self.retries(run)?.len() + 1);
        let (from, to) = (self.path(&within), self.path(&kept));
        fs::rename(&from, &to)
            .with_context(|| format!("rename {} to {}", from.display(), to.display()))?;
        eprintln!(
            "{}: it {why}; that is put aside in {}, and it is made again",
            run.label(),
            to.display()
        );
        Ok(())
    }

    /// The failed runs that a real run was made again after, the first one first.
    pub fn retries(&self, run: &PlannedRun) -> anyhow::Result<Vec<Retry>> {
        let mut retries = Vec::new();
        loop {
            let within = Self::failed(run, retries.len() + 1);
            match self.told_failure(&within)? {
                Some(why) => retries.push(Retry { within, why }),
                None => return Ok(retries),
            }
        }
    }

    /// Where what a run has left is that failed and was made again, by how often it had failed.
    fn failed(run: &PlannedRun, time: usize) -> PathBuf {
        Path::new(&run.policy).join(format!("{MEASURED}{}-failed-{time}", run.repeat))
    }

    /// Keeps why a run has come to no end.
    pub fn tell_failure(&self, within: &Path, why: &str) -> anyhow::Result<()> {
        let dir = self.path(within);
        fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
        self.write(&within.join(FAILED_FILE), &format!("{why}\n"))
    }

    fn told_failure(&self, within: &Path) -> anyhow::Result<Option<String>> {
        let path = self.path(&within.join(FAILED_FILE));
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text.trim_end().to_owned())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
        }
    }

    /// Keeps a verdict.
    pub fn keep(&self, json: &str, text: &str) -> anyhow::Result<()> {
        self.write(Path::new(JSON_FILE), json)?;
        self.write(Path::new(TEXT_FILE), text)
    }

    /// Writes a file whole or not at all.
    fn write(&self, within: &Path, text: &str) -> anyhow::Result<()> {
        let path = self.path(within);
        let mut partial = path.clone().into_os_string();
        partial.push(".partial");
        fs::write(&partial, text)
            .and_then(|()| fs::rename(&partial, &path))
            .with_context(|| format!("write {}", path.display()))
    }
}

/// Why a run has come to no end of its own; absent where it has, whatever became of its jobs.
fn unfinished(summary: &Summary) -> Option<String> {
    match &summary.end {
        RunEnd::Complete => None,
        RunEnd::Stopped(reason) => Some(format!("it was stopped: {reason}")),
        RunEnd::CutOff { last_s } => Some(format!("its ledger breaks off at {last_s:.1} s")),
    }
}

/// Keeps others out of a validation's folder as long as the file is open.
fn lock(dir: &Path) -> anyhow::Result<File> {
    let opened = File::open(dir).with_context(|| format!("open {}", dir.display()))?;
    match flock(&opened, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(opened),
        Err(Errno::WOULDBLOCK) => Err(WrongInput::error(format!(
            "use {}: another validation is at work there; wait for its end, or give another --out",
            dir.display()
        ))),
        Err(error) => Err(error).with_context(|| format!("lock {}", dir.display())),
    }
}
