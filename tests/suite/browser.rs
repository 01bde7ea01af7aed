//! Chromium without a window, led over its DevTools protocol: two pipes, messages of JSON that end with a zero byte.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Names under which Chromium is found, the smallest first.
const NAMES: [&str; 5] = [
    "chromium-headless-shell",
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
];
/// Longest wait for an answer: far more than a busy machine needs.
const PATIENCE: Duration = Duration::from_secs(60);
/// Messages that are read ahead: the browser waits where a test does not listen.
const MOST_UNREAD: usize = 1024;

/// Names another Chromium: a program on PATH, or its path.
const CHOSEN: &str = "BACE_CHROMIUM";

/// Whether `BACE_WITHOUT_CHROMIUM=1` says that tests which need Chromium are to be left out, `what` among them. Without it they
/// fail where there is none.
pub fn without_chromium(what: &str) -> bool {
    let left_out = std::env::var_os("BACE_WITHOUT_CHROMIUM").is_some_and(|value| value == "1");
    if left_out {
        eprintln!("{what} was left out: BACE_WITHOUT_CHROMIUM=1");
    }
    left_out
}

/// A browser with one page open. It ends with this value, and by itself where the test's process ends first, since its pipes
/// close.
pub struct Browser {
    child: Child,
    to: ChildStdin,
    from: Receiver<Value>,
    asked: u64,
    /// The open page's.
    session: Option<String>,
    /// What the page has told so far.
    events: Vec<Value>,
    /// Profile, crash reports and whatever else it writes.
    folder: TempDir,
}

impl Browser {
    /// Starts one, with an empty page.
    pub fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut child = command(folder.path()).spawn().expect("a shell starts");
        let to = child.stdin.take().expect("its input is a pipe");
        let from = child.stdout.take().expect("its output is a pipe");
        let (sender, receiver) = sync_channel(MOST_UNREAD);
        thread::spawn(move || {
            for message in BufReader::new(from).split(0) {
                let message = message.expect("a pipe can be read");
                let value = serde_json::from_slice(&message).expect("messages are JSON");
                if sender.send(value).is_err() {
                    break;
                }
            }
        });
        let mut browser = Self {
            child,
            to,
            from: receiver,
            asked: 0,
            session: None,
            events: Vec::new(),
            folder,
        };
        let page = browser.ask("Target.createTarget", json!({ "url": "about:blank" }));
        let attach = json!({ "targetId": page["targetId"], "flatten": true });
        let session = browser.ask("Target.attachToTarget", attach);
        browser.session = session["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Log", "Network"] {
            browser.ask(&format!("{domain}.enable"), json!({}));
        }
        browser
    }

    /// Opens a file in a window of this width and theme (`light` or `dark`) and waits until all of it is there.
    pub fn open(&mut self, file: &Path, width: u32, theme: &str) {
        let size =
            json!({ "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false });
        self.ask("Emulation.setDeviceMetricsOverride", size);
        let feature = json!({ "name": "prefers-color-scheme", "value": theme });
        self.ask(
            "Emulation.setEmulatedMedia",
            json!({ "features": [feature] }),
        );
        self.events.clear();
        let url = format!("file://{}", file.display());
        self.ask("Page.navigate", json!({ "url": url }));
        while !self.has_told("Page.loadEventFired") {
            let message = self.next();
            self.events.push(message);
        }
    }

    /// What an expression of JavaScript comes to on the page; if it is a promise, what that comes to.
    #[track_caller]
    pub fn value(&mut self, expression: &str) -> Value {
        let question =
            json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let answer = self.ask("Runtime.evaluate", question);
        assert!(
            answer.get("exceptionDetails").is_none(),
            "{expression}: {answer:#}"
        );
        answer["result"]["value"].clone()
    }

    /// What the open page has told under this name.
    pub fn told(&self, method: &str) -> Vec<&Value> {
        let told = self.events.iter().filter(|event| event["method"] == method);
        told.map(|event| &event["params"]).collect()
    }

    fn has_told(&self, method: &str) -> bool {
        !self.told(method).is_empty()
    }

    /// Sends a command and waits for its answer.
    #[track_caller]
    fn ask(&mut self, method: &str, parameters: Value) -> Value {
        self.asked += 1;
        let mut question = json!({ "id": self.asked, "method": method, "params": parameters });
        if let Some(session) = &self.session {
            question["sessionId"] = session.as_str().into();
        }
        let mut bytes = question.to_string().into_bytes();
        bytes.push(0);
        let sent = self.to.write_all(&bytes).and_then(|()| self.to.flush());
        sent.unwrap_or_else(|error| panic!("{method}: {error}\n{}", self.said()));
        loop {
            let message = self.next();
            if message["id"] == self.asked {
                assert!(message.get("error").is_none(), "{method}: {message:#}");
                return message["result"].clone();
            }
            self.events.push(message);
        }
    }

    #[track_caller]
    fn next(&self) -> Value {
        let message = self.from.recv_timeout(PATIENCE);
        message.unwrap_or_else(|error| panic!("Chromium does not answer: {error}\n{}", self.said()))
    }

    /// What it wrote on its standard error.
    fn said(&self) -> String {
        std::fs::read_to_string(log(self.folder.path())).unwrap_or_default()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Its group is its own and holds all that it has started. It may have ended already.
        if let Some(group) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.child.wait();
    }
}

fn log(folder: &Path) -> PathBuf {
    folder.join("stderr")
}

/// Chromium in a folder of its own. It reads commands from descriptor 3 and answers on 4, which a shell makes of its input and
/// output.
fn command(folder: &Path) -> Command {
    let chromium = match std::env::var_os(CHOSEN).filter(|chosen| !chosen.is_empty()) {
        Some(chosen) => PathBuf::from(chosen),
        None => NAMES.iter().find_map(|name| in_path(name)).unwrap_or_else(|| {
            panic!(
                "none of {} is on PATH; {CHOSEN} names another one, scripts/test installs one where it may, or leaves its \
                 tests out: BACE_WITHOUT_CHROMIUM=1",
                NAMES.join(", ")
            )
        }),
    };
    let stderr = File::create(log(folder)).expect("a file is made");
    let mut command = Command::new("sh");
    command
        .args(["-c", "exec \"$@\" 3<&0 4>&1 </dev/null 1>&2", "sh"])
        .arg(chromium)
        .args(["--headless", "--disable-gpu", "--remote-debugging-pipe"])
        .args(["--no-first-run", "--disable-background-networking"])
        .args(["--disable-breakpad", "--disable-dev-shm-usage"])
        // A page of a test may read the test's other files.
        .arg("--allow-file-access-from-files")
        .arg(format!("--user-data-dir={}", folder.display()))
        .arg(format!("--crash-dumps-dir={}", folder.display()))
        .env("HOME", folder)
        .env("TMPDIR", folder)
        .current_dir(folder)
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(stderr);
    // Its sandbox refuses root. The page comes from this test.
    if rustix::process::geteuid().is_root() {
        command.arg("--no-sandbox");
    }
    command
}

fn in_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let mut places = std::env::split_paths(&path).map(|folder| folder.join(name));
    places.find(|place| place.is_file())
}
