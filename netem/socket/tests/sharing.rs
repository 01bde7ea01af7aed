//! One link, many processes: shares, the cap, and a process that is killed. Judged by the slots that the link gave, which do
//! not depend on how busy the machine is.
#![expect(clippy::unwrap_used, reason = "a test's panic is its report")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bace_netem::{BitRate, Delay, LinkSpec, chunk_bytes, jain_index};
use bace_socket::{
    BufferPool, CellTable, Endpoint, LinkCell, LinkSender, NetThread, OutgoingMessage, Profile,
    Received, ReceiverConfig, ReceiverTask, RunAuthority, SenderConfig, Shaper, now_ns,
};
use bytes::Bytes;

/// Tells this program, started again, which link clocks to use: it is then a member of a shared link.
const CELLS: &str = "BACE_TEST_CELLS";
/// The test that is such a member.
const MEMBER: &str = "a_member_alone_has_the_whole_link";
/// How long the slots of one comparison last: 143 chunks.
const WINDOW: Duration = Duration::from_secs(3);
/// The link carries a chunk of 64 KiB in 21 ms, so that a process may be kept from its core for so long and still has its turn.
const RATE_BPS: f64 = 25e6;
const SLOT_NS: u64 = 20_971_520;
/// Windows looked at until one is fair. Where the machine keeps a process from its core for several turns, it has fewer, and
/// that says nothing about the link; that no slot goes unused or twice holds in every window.
const WINDOWS: usize = 4;
/// A process that has said nothing for so long has stopped.
const PATIENCE: Duration = Duration::from_secs(60);

fn spec() -> LinkSpec {
    LinkSpec::new(
        BitRate::from_bps(RATE_BPS).unwrap(),
        Delay::from_seconds(0.002).unwrap(),
    )
}

fn shared_link() -> (CellTable, std::path::PathBuf, LinkCell) {
    let (table, path) = CellTable::create(1).unwrap();
    let cell = table.cell(0).unwrap();
    cell.set((&spec()).into(), now_ns());
    (table, path, cell)
}

/// Fills the link of `cells` for ever with messages of one chunk; `told` gets the time of delivery of each.
fn fill(cells: &Path, mut told: impl FnMut(u64) -> bool) {
    let cell = CellTable::open(cells).unwrap().cell(0).unwrap();
    let net = NetThread::start("member").unwrap();
    let (_ends, sender, mut received) = net
        .run(async move {
            let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
            let authority = RunAuthority::new().unwrap();
            let bind = |name| {
                let credentials = authority.issue(name).unwrap();
                Endpoint::bind(any, &credentials, Profile::data()).unwrap()
            };
            let (w0, w1) = (bind("w0.run.local"), bind("w1.run.local"));
            let address = w1.local_addr().unwrap();
            let (client, server) = tokio::join!(w0.connect(address, "w1.run.local"), async {
                w1.accept().await.unwrap().establish().await
            });
            let (client, server) = (client.unwrap(), server.unwrap());
            let (out, received) = tokio::sync::mpsc::channel::<Received>(64);
            let pool = BufferPool::default();
            ReceiverTask::spawn(&server, &pool, ReceiverConfig::default(), out).unwrap();
            let config = SenderConfig::default();
            let shaper = Shaper::Clock(cell);
            let (sender, _task) = LinkSender::spawn(&client, shaper, &spec(), config).unwrap();
            ((w0, w1, client, server), sender, received)
        })
        .unwrap();
    // Ends with its queue, when the receiving side below is gone.
    thread::spawn(move || {
        let payload = Bytes::from(vec![0x5a; chunk_bytes(spec().rate) as usize]);
        let ready_ns = now_ns();
        let message = || OutgoingMessage {
            header: Bytes::new(),
            payload: payload.clone(),
            ready_ns,
        };
        while sender.blocking_send(message()).is_ok() {}
    });
    while let Some(Received::Message(message)) = received.blocking_recv() {
        if !told(message.timing.deliver_at_ns) {
            return;
        }
    }
    panic!("the connection ended");
}

#[test]
fn a_member_alone_has_the_whole_link() {
    if let Some(cells) = std::env::var_os(CELLS) {
        // A member among others, until its parent is gone or has had enough.
        thread::spawn(|| {
            let _ = std::io::stdin().read_to_end(&mut Vec::new());
            std::process::exit(0);
        });
        let mut out = std::io::stdout();
        fill(Path::new(&cells), |at_ns| {
            writeln!(out, "\nslot {at_ns}").is_ok()
        });
        return;
    }
    let (_table, path, cell) = shared_link();
    let mut stamps = Vec::new();
    fill(&path, |at_ns| {
        stamps.push(at_ns);
        stamps.len() < 20
    });
    for pair in stamps.windows(2) {
        assert_eq!(pair[1] - pair[0], SLOT_NS);
    }
    assert!(cell.counters().reservations >= 20);
}

/// A process that fills the link.
struct Member {
    child: Child,
    reader: Option<JoinHandle<()>>,
}

/// Processes that fill one link, and the slots they got.
struct Members {
    members: Vec<Member>,
    said: mpsc::Receiver<(usize, u64)>,
    /// Times of delivery, ns, of each.
    slots: Vec<Vec<u64>>,
}

impl Members {
    fn start(cells: &Path, count: usize) -> Self {
        let (say, said) = mpsc::channel();
        let members = (0..count).map(|number| {
            let mut child = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", MEMBER, "--nocapture"])
                .env(CELLS, cells)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let lines = BufReader::new(child.stdout.take().unwrap()).lines();
            let say = say.clone();
            let reader = thread::spawn(move || {
                for line in lines.map_while(Result::ok) {
                    if let Some(at_ns) = line.strip_prefix("slot ") {
                        let _ = say.send((number, at_ns.parse().unwrap()));
                    }
                }
            });
            Member {
                child,
                reader: Some(reader),
            }
        });
        Self {
            members: members.collect(),
            said,
            slots: vec![Vec::new(); count],
        }
    }

    /// Waits until every one of `members` has had a slot that was delivered after `after_ns`.
    fn wait_beyond(&mut self, after_ns: u64, members: &[usize]) {
        let is_beyond = |slots: &Vec<u64>| slots.last().is_some_and(|&at_ns| at_ns > after_ns);
        while !members.iter().all(|&number| is_beyond(&self.slots[number])) {
            let (number, at_ns) = self.said.recv_timeout(PATIENCE).expect("members go on");
            self.slots[number].push(at_ns);
        }
    }

    /// Slots of each of `members` that are delivered in a window which begins now, once it is over for all of them.
    fn window(&mut self, members: &[usize]) -> Vec<Vec<u64>> {
        let from_ns = now_ns();
        let until_ns = from_ns + WINDOW.as_nanos() as u64;
        self.wait_beyond(until_ns, members);
        let within = |&at_ns: &u64| from_ns < at_ns && at_ns <= until_ns;
        let slots = members.iter().map(|&number| &self.slots[number]);
        slots
            .map(|slots| slots.iter().copied().filter(within).collect())
            .collect()
    }

    fn kill(&mut self, number: usize) {
        let child = &mut self.members[number].child;
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

impl Drop for Members {
    fn drop(&mut self) {
        for member in &mut self.members {
            drop(member.child.stdin.take());
            // Killed or ended: either way it is gone.
            let _ = member.child.kill();
            let _ = member.child.wait();
            let _ = member.reader.take().map(JoinHandle::join);
        }
    }
}

/// Slots that nobody used between the first and the last of a window, and Jain's index of how many each member had.
fn judge(slots: &[Vec<u64>]) -> (u64, f64) {
    let mut all = slots.concat();
    all.sort_unstable();
    let mut unused = 0;
    for pair in all.windows(2) {
        // One behind the other to the nanosecond: never above the link's rate, and below it by whole slots.
        let gap_ns = pair[1] - pair[0];
        assert!(gap_ns >= SLOT_NS && gap_ns % SLOT_NS == 0, "{gap_ns}");
        unused += gap_ns / SLOT_NS - 1;
    }
    let counts: Vec<f64> = slots.iter().map(|slots| slots.len() as f64).collect();
    (unused, jain_index(&counts).unwrap())
}

/// Asserts that `among` share their link equally; the slots meanwhile that nobody used.
fn shares(members: &mut Members, among: &[usize]) -> u64 {
    let mut unused = 0;
    let mut jains = Vec::new();
    for _ in 0..WINDOWS {
        let (unused_now, jain) = judge(&members.window(among));
        unused += unused_now;
        if jain >= 0.99 {
            return unused;
        }
        jains.push(jain);
    }
    panic!("unequal in every window: {jains:?}");
}

fn share_among(count: usize) {
    let (_table, path, cell) = shared_link();
    let mut members = Members::start(&path, count);
    let all: Vec<usize> = (0..count).collect();
    members.wait_beyond(0, &all);
    assert_eq!(shares(&mut members, &all), 0);
    let counters = cell.counters();
    let carried: usize = members.slots.iter().map(Vec::len).sum();
    assert!(counters.reservations >= carried as u64);
    assert_eq!(counters.charged_bytes, counters.reservations * 65_536);
}

#[test]
fn two_processes_share_a_link_equally_and_never_exceed_it() {
    share_among(2);
}

#[test]
fn four_processes_share_a_link_equally_and_never_exceed_it() {
    share_among(4);
}

#[test]
fn eight_processes_share_a_link_equally_and_never_exceed_it() {
    share_among(8);
}

#[test]
fn a_killed_process_leaves_its_link_to_the_others_and_nothing_behind() {
    let (table, path, cell) = shared_link();
    let mut members = Members::start(&path, 3);
    members.wait_beyond(0, &[0, 1, 2]);
    // In mid-transfer: it always has a reservation and several messages queued.
    members.kill(1);
    let before = cell.counters().reservations;
    // The chunk that was on its way and the one that it had reserved.
    let unused = shares(&mut members, &[0, 2]);
    assert!(unused <= 2, "{unused}");
    assert!(cell.counters().reservations > before);
    drop(members);
    assert!(cell.reserve(1, 0).is_some());
    // The clocks are in no file system, and gone with who made them.
    assert!(path.starts_with("/proc"));
    drop((table, cell));
    assert!(CellTable::open(&path).is_err());
}
