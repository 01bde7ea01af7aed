//! Real processes of the two programs, each in a folder of its own.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// Longest wait for anything: far more than a busy machine needs, so that only what hangs reaches it.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(10);

/// A program that was built beside this test.
pub fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test has a path");
    let path = test
        .ancestors()
        .nth(2)
        .expect("tests lie in target/PROFILE/deps")
        .join(name);
    assert!(
        path.is_file(),
        "{} is not there; `cargo build --workspace` builds it (scripts/test does so before the tests)",
        path.display()
    );
    path
}

/// A scenario of `tests/scenarios`.
pub fn scenario(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("scenarios")
        .join(format!("{name}.toml"));
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// `text` with the first `old` replaced.
pub fn with(text: &str, old: &str, new: &str) -> String {
    assert!(text.contains(old), "the scenario holds no `{old}`");
    text.replacen(old, new, 1)
}

/// `scenario` with late messages and slow actions allowed, unless it says how many itself: tests share busy machines, and few
/// of them are about that.
fn patient(scenario: &str) -> String {
    if scenario.trim().is_empty() {
        return scenario.to_owned();
    }
    let text = allowing(scenario, "[network]\n", "late_share");
    allowing(&text, "[compute]\n", "overrun_share")
}

/// `scenario` with the share `key` of a table at 1, unless it gives one.
fn allowing(scenario: &str, table: &str, key: &str) -> String {
    if scenario.contains(key) {
        scenario.to_owned()
    } else if scenario.contains(table) {
        with(scenario, table, &format!("{table}{key} = 1\n"))
    } else {
        format!("{scenario}\n{table}{key} = 1\n")
    }
}

/// A folder with a scenario, a training text and an empty folder for temporary files.
pub struct Place {
    folder: TempDir,
    program: PathBuf,
}

/// A process in the middle of its life.
pub struct Running {
    child: Child,
    stdout: JoinHandle<String>,
    stderr: JoinHandle<String>,
    /// Processes it had started when last looked at.
    workers: Vec<u32>,
}

/// A process that has ended.
#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Place {
    /// One with `scenario` as `s.toml`.
    pub fn new(scenario: &str) -> Self {
        Self::with_program(scenario, program("bace"))
    }

    /// One whose `bace` is `program`.
    pub fn with_program(scenario: &str, program: PathBuf) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::write(folder.path().join("s.toml"), patient(scenario)).expect("a scenario is written");
        fs::write(folder.path().join("text"), text()).expect("a text is written");
        fs::create_dir(folder.path().join("tmp")).expect("a folder");
        Self { folder, program }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `bace` with these arguments, in this folder.
    pub fn command(&self, arguments: &[&str]) -> Command {
        self.prepare(&self.program, arguments)
    }

    /// `bace-worker` with these arguments, in this folder.
    pub fn worker(&self, arguments: &[&str]) -> Command {
        self.prepare(&program("bace-worker"), arguments)
    }

    fn prepare(&self, program: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .env("TMPDIR", self.path("tmp"))
            .env_remove("BACE_LOG")
            .env_remove("LD_LIBRARY_PATH")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs `bace` to its end.
    pub fn bace(&self, arguments: &[&str]) -> Ended {
        start(self.command(arguments)).end()
    }

    /// `bace run s.toml` on the text of this folder, into `out`, with more arguments. Links are measured only where
    /// `arguments` say so: most tests are about something else, and share the machine with others.
    pub fn start_run(&self, arguments: &[&str]) -> Running {
        let mut all = vec!["run", "s.toml", "--data", "text", "--out", "out"];
        if !arguments.contains(&"--receipts") {
            all.extend(["--receipts", "off"]);
        }
        all.extend(arguments);
        start(self.command(&all))
    }

    /// The ledger's records so far, without a line that is being written.
    pub fn ledger(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.path("out/ledger.jsonl")).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole
            .lines()
            .map(|line| serde_json::from_str(line).expect("a ledger's line is JSON"))
            .collect()
    }

    /// Waits until the ledger holds a record.
    pub fn wait_for(&self, what: &str, mut is_it: impl FnMut(&Value) -> bool) -> Value {
        let mut found = None;
        until(what, || {
            found = self.ledger().into_iter().find(&mut is_it);
            found.is_some()
        });
        found.expect("it was waited for")
    }

    /// Whether no process and no run has left anything behind in the folder for temporary files.
    pub fn assert_no_litter(&self) {
        let left: Vec<_> = fs::read_dir(self.path("tmp"))
            .expect("the folder is there")
            .map(|entry| entry.expect("an entry").file_name())
            .collect();
        assert!(left.is_empty(), "left behind: {left:?}");
        let shared = fs::read_dir("/dev/shm").into_iter().flatten().flatten();
        let shared: Vec<_> = shared
            .map(|entry| entry.file_name())
            .filter(|name| name.to_string_lossy().contains("bace"))
            .collect();
        assert!(shared.is_empty(), "left behind in /dev/shm: {shared:?}");
    }
}

/// Starts a process whose output is read as it comes.
pub fn start(mut command: Command) -> Running {
    let mut child = command
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let stdout = read(child.stdout.take().expect("standard output is a pipe"));
    let stderr = read(child.stderr.take().expect("standard error is a pipe"));
    Running {
        child,
        stdout,
        stderr,
        workers: Vec::new(),
    }
}

fn read(mut pipe: impl Read + Send + 'static) -> JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).expect("a pipe can be read");
        String::from_utf8(bytes).expect("programs print text")
    })
}

impl Running {
    /// Waits for its end.
    pub fn end(mut self) -> Ended {
        let mut status = None;
        let begin = Instant::now();
        while status.is_none() && begin.elapsed() < PATIENCE {
            status = self.child.try_wait().expect("a child can be waited for");
            thread::sleep(LOOK);
        }
        let hung = status.is_none();
        if hung {
            self.child.kill().expect("a child can be killed");
        }
        let status = self.child.wait().expect("a child can be waited for");
        let ended = Ended {
            status,
            stdout: self.stdout.join().expect("the reader ends"),
            stderr: self.stderr.join().expect("the reader ends"),
        };
        assert!(!hung, "it did not end: {ended:#?}");
        ended
    }

    /// Its worker processes, once there are `count`.
    pub fn workers(&mut self, count: usize) -> Vec<u32> {
        let parent = self.child.id();
        let mut found = Vec::new();
        until("workers", || {
            found = children(parent);
            found.len() == count
        });
        self.workers.clone_from(&found);
        found
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        let status = self.child.try_wait().expect("a child can be waited for");
        status.is_some()
    }

    /// Sends it a signal.
    pub fn signal(&self, with: Signal) {
        signal(self.child.id(), with);
    }
}

/// Sends a process that this test started, or that one of those started, a signal.
pub fn signal(pid: u32, with: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    kill_process(pid.expect("a process id"), with).expect("the process is there");
}

impl Ended {
    /// Its exit status was `code`.
    #[track_caller]
    pub fn code(self, code: i32) -> Self {
        assert_eq!(self.status.code(), Some(code), "{self:#?}");
        self
    }

    /// All it printed is one JSON object.
    #[track_caller]
    pub fn json(&self) -> Value {
        let value: Value = serde_json::from_str(&self.stdout).unwrap_or_else(|error| {
            panic!("standard output is not one JSON value: {error}\n{self:#?}")
        });
        assert!(value.is_object(), "{value}");
        value
    }

    /// It said one line that holds all of `words`, and nothing else.
    #[track_caller]
    pub fn complains(&self, words: &[&str]) {
        assert_eq!(self.stdout, "");
        assert_eq!(self.stderr.lines().count(), 1, "{}", self.stderr);
        assert!(
            self.stderr.starts_with("bace: failed to "),
            "{}",
            self.stderr
        );
        for word in words {
            assert!(
                self.stderr.contains(word),
                "no `{word}` in: {}",
                self.stderr
            );
        }
    }
}

/// Waits until `is_so`.
#[track_caller]
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < PATIENCE, "waited in vain for {what}");
        thread::sleep(LOOK);
    }
}

/// Worker processes whose parent is `parent`.
fn children(parent: u32) -> Vec<u32> {
    let processes = fs::read_dir("/proc").expect("there is /proc").flatten();
    let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    ids.filter(|&id| {
        // What is still a copy of its parent has its name as well.
        stat(id).is_some_and(|(name, _, of)| of == parent && name.starts_with("bace-worker"))
    })
    .collect()
}

/// A process's name, state and parent.
fn stat(pid: u32) -> Option<(String, char, u32)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (name, rest) = text.split_once('(')?.1.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let state = fields.next()?.chars().next()?;
    let parent = fields.next()?.parse().ok()?;
    Some((name.to_owned(), state, parent))
}

/// Whether a process still runs. One that waits to be reaped by the system's first process does not.
pub fn runs(pid: u32) -> bool {
    stat(pid).is_some_and(|(_, state, _)| state != 'Z' && state != 'X')
}

/// Whether anything of a process is left, even if it only waits to be reaped.
pub fn is_left(pid: u32) -> bool {
    stat(pid).is_some()
}

/// Records of a kind.
pub fn of_kind<'a>(ledger: &'a [Value], kind: &str) -> Vec<&'a Value> {
    ledger
        .iter()
        .filter(|record| record["kind"] == kind)
        .collect()
}

/// Text that a tiny model learns something from, the same in every run.
fn text() -> String {
    let mut text = String::new();
    for number in 0..2000 {
        text.push_str(&format!("{number} times seven is {}.\n", number * 7));
    }
    text
}

/// Whether `BACE_WITHOUT_NAMESPACES=1` says that tests which need namespaces are to be left out, `what` among them, where
/// there are none. Without it they fail there.
pub fn without_namespaces(what: &str) -> bool {
    let left_out = std::env::var_os("BACE_WITHOUT_NAMESPACES").is_some_and(|value| value == "1");
    if left_out {
        eprintln!("{what} was left out: BACE_WITHOUT_NAMESPACES=1");
    }
    left_out
}
