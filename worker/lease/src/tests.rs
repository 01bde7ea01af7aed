//! Leases between threads and between processes, some of which are killed or stopped.

use std::io::{BufRead, BufReader, Lines, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use bace_socket::{Section, SharedLines, SharedMemory, now_ns};
use rustix::process::{Pid, Signal, kill_process};

use crate::order::State;
use crate::seat::Seat;
use crate::table::{LeaseTable, SeatDevice};

/// Tells this program, started again, what to do as a member: memory, seat, slots, what.
const MEMBER: &str = "BACE_TEST_LEASE";
/// Whatever takes longer will never happen.
const PATIENCE: Duration = Duration::from_secs(60);

const WATCH: Section = Section {
    name: *b"testwtch",
    version: 1,
    lines: 1,
};
/// How many are inside now.
const INSIDE: usize = 0;
/// How often more were inside than may be.
const VIOLATIONS: usize = 1;
/// How often anybody was.
const TURNS: usize = 2;

/// The device 0, which `slots` may hold at a time.
fn device(slots: u32) -> SeatDevice {
    SeatDevice {
        index: 0,
        name: "cpu".to_owned(),
        slots,
    }
}

fn memory(seats: usize) -> (LeaseTable, SharedLines, PathBuf) {
    let sections = [LeaseTable::section(seats), WATCH];
    let (memory, path) = SharedMemory::create(&sections).unwrap();
    let watch = memory.section(WATCH.name, WATCH.version).unwrap();
    (LeaseTable::of(&memory).unwrap(), watch, path)
}

/// Takes turns, to be done sooner and later, and counts who else is inside.
fn take_turns(seat: &mut Seat, watch: &[AtomicU64], slots: u32, turns: u32) {
    for turn in 0..turns {
        let ahead_ns = u64::from(turn) * 7_919 % 11 * 100_000;
        let lease = seat.acquire(now_ns() + ahead_ns).unwrap();
        if watch[INSIDE].fetch_add(1, Ordering::SeqCst) >= slots.into() {
            watch[VIOLATIONS].fetch_add(1, Ordering::SeqCst);
        }
        watch[TURNS].fetch_add(1, Ordering::SeqCst);
        if turn % 7 == 0 {
            std::thread::yield_now();
        }
        watch[INSIDE].fetch_sub(1, Ordering::SeqCst);
        drop(lease);
    }
}

fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < PATIENCE, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// This program as another process on the same memory; it is killed when this is dropped.
struct Member {
    child: Child,
    said: Lines<BufReader<ChildStdout>>,
}

impl Member {
    fn start(path: &Path, seat: usize, slots: u32, what: &str) -> Self {
        let told = format!("{} {seat} {slots} {what}", path.display());
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "tests::a_member_takes_turns", "--nocapture"])
            .env(MEMBER, told)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, said }
    }

    /// Waits until it says `word`.
    fn says(&mut self, word: &str) {
        let said = self.said.by_ref().map(Result::unwrap);
        assert!(
            said.into_iter().any(|line| line == word),
            "the member ended and had not said {word}"
        );
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a member does, as [`MEMBER`] tells it.
fn be_a_member(told: &str) {
    // Nobody is left behind: the parent's end of the pipe closes with the parent.
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(1);
    });
    let words: Vec<&str> = told.split(' ').collect();
    let &[path, seat, slots, what] = words.as_slice() else {
        panic!("{told}");
    };
    let slots = slots.parse().unwrap();
    let memory = SharedMemory::open(Path::new(path)).unwrap();
    let table = LeaseTable::of(&memory).unwrap();
    let mut seat = table.take(seat.parse().unwrap(), &device(slots)).unwrap();
    let say = |word| {
        let mut out = std::io::stdout();
        write!(out, "\n{word}\n").unwrap();
        out.flush().unwrap();
    };
    match what {
        "hold" => {
            let _lease = seat.acquire(0).unwrap();
            say("holding");
            loop {
                std::thread::park();
            }
        }
        turns => {
            let watch = memory.section(WATCH.name, WATCH.version).unwrap();
            take_turns(&mut seat, &watch[0].words, slots, turns.parse().unwrap());
            say("done");
        }
    }
}

#[test]
fn a_member_takes_turns() {
    if let Ok(told) = std::env::var(MEMBER) {
        be_a_member(&told);
        return;
    }
    let (_table, watch, path) = memory(1);
    Member::start(&path, 0, 1, "20").says("done");
    assert_eq!(watch[0].words[TURNS].load(Ordering::SeqCst), 20);
}

#[test]
fn threads_and_processes_never_hold_more_than_the_slots() {
    for slots in [1, 2, 3] {
        let (table, watch, path) = memory(8);
        let mut members: Vec<Member> = (0..3)
            .map(|seat| Member::start(&path, seat, slots, "400"))
            .collect();
        std::thread::scope(|scope| {
            for seat in 3..8 {
                let mut seat = table.take(seat, &device(slots)).unwrap();
                let watch = &watch[0].words;
                scope.spawn(move || take_turns(&mut seat, watch, slots, 400));
            }
        });
        members.iter_mut().for_each(|member| member.says("done"));
        let count = |word: usize| watch[0].words[word].load(Ordering::SeqCst);
        assert_eq!((count(VIOLATIONS), count(INSIDE)), (0, 0));
        assert_eq!(count(TURNS), 8 * 400);
    }
}

#[test]
fn devices_do_not_wait_for_each_other() {
    let (table, _watch, _path) = memory(2);
    let other = SeatDevice {
        index: 1,
        name: "cuda:0".to_owned(),
        slots: 1,
    };
    let mut one = table.take(0, &device(1)).unwrap();
    let mut two = table.take(1, &other).unwrap();
    let (held, also_held) = (one.acquire(0).unwrap(), two.acquire(0).unwrap());
    drop((held, also_held));
}

#[test]
fn of_those_who_wait_the_first_to_be_done_goes_first() {
    let (table, _watch, _path) = memory(6);
    // What a seat was wanted for before says nothing of what it is wanted for now, by whomever.
    let mut before = table.take(5, &device(1)).unwrap();
    drop(before.acquire(u64::MAX).unwrap());
    drop(before);
    let mut first = table.take(0, &device(1)).unwrap();
    drop(first.acquire(u64::MAX).unwrap());
    let (went, order) = mpsc::channel();
    let (go, gone) = mpsc::channel();
    std::thread::scope(|scope| {
        let told = went.clone();
        scope.spawn(move || {
            let lease = first.acquire(0).unwrap();
            gone.recv().unwrap();
            drop(lease);
            // Behind all of them, however quick it is.
            let lease = first.acquire(now_ns()).unwrap();
            assert!(lease.waited_ns() > 0);
            told.send(0).unwrap();
        });
        wait_for("the first holds", || {
            matches!(table.state(0), State::Holding(_))
        });
        // The seats wait in the order of their numbers; three and four are due together.
        for (index, due_ns) in (1..).zip([40_000, 50_000, 20_000, 20_000, 10_000]) {
            let mut seat = table.take(index, &device(1)).unwrap();
            let went = went.clone();
            scope.spawn(move || {
                let lease = seat.acquire(due_ns).unwrap();
                went.send(index).unwrap();
                drop(lease);
            });
            wait_for("the seat waits", || {
                matches!(table.state(index), State::Waiting(_))
            });
        }
        go.send(()).unwrap();
    });
    assert_eq!(order.try_iter().collect::<Vec<_>>(), [5, 3, 4, 1, 2, 0]);
}

#[test]
fn a_killed_holder_blocks_nobody_and_its_time_is_kept() {
    let (table, _watch, path) = memory(2);
    let mut member = Member::start(&path, 0, 1, "hold");
    member.says("holding");
    let mut own = table.take(1, &device(1)).unwrap();
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| drop(own.acquire(0).unwrap()));
        wait_for("the seat waits", || {
            matches!(table.state(1), State::Waiting(_))
        });
        member.signal(Signal::KILL);
        waiter.join().unwrap();
    });
    assert_eq!(table.state(0), State::Vacant);
    let held_ns = table.held_ns(0, now_ns()).unwrap();
    assert!(held_ns > 0);
    assert_eq!(table.held_ns(0, u64::MAX), Some(held_ns));
    // Somebody else may sit there now.
    assert!(table.take(0, &device(1)).is_ok());
}

#[test]
fn a_killed_holder_that_nobody_waits_for_holds_no_longer_once_it_is_told() {
    let (table, _watch, path) = memory(2);
    let mut member = Member::start(&path, 0, 2, "hold");
    member.says("holding");
    assert!(!table.vacate_if_gone(0), "it lives");
    member.signal(Signal::KILL);
    wait_for("the process ends", || table.process(0).is_gone());
    // A slot is free, so that whoever comes waits for nobody and looks at nobody.
    let mut own = table.take(1, &device(2)).unwrap();
    drop(own.acquire(0).unwrap());
    assert!(matches!(table.state(0), State::Holding(_)));
    assert!(table.vacate_if_gone(0));
    let held_ns = table.held_ns(0, now_ns()).unwrap();
    assert!(held_ns > 0);
    assert_eq!(table.held_ns(0, u64::MAX), Some(held_ns));
    assert!(!table.vacate_if_gone(0), "it is free already");
    assert!(!table.vacate_if_gone(2), "there is no such seat");
}

#[test]
fn a_killed_waiter_blocks_nobody() {
    let (table, _watch, path) = memory(3);
    let mut first = table.take(0, &device(1)).unwrap();
    let lease = first.acquire(0).unwrap();
    let member = Member::start(&path, 1, 1, "hold");
    wait_for("the member waits", || {
        matches!(table.state(1), State::Waiting(_))
    });
    let mut last = table.take(2, &device(1)).unwrap();
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| drop(last.acquire(0).unwrap()));
        wait_for("the seat waits", || {
            matches!(table.state(2), State::Waiting(_))
        });
        member.signal(Signal::KILL);
        drop(lease);
        waiter.join().unwrap();
    });
}

#[test]
fn a_stopped_waiter_is_passed_over_and_goes_on_later() {
    let (table, _watch, path) = memory(3);
    let mut first = table.take(0, &device(1)).unwrap();
    let lease = first.acquire(0).unwrap();
    let mut member = Member::start(&path, 1, 1, "hold");
    wait_for("the member waits", || {
        matches!(table.state(1), State::Waiting(_))
    });
    member.signal(Signal::STOP);
    let mut last = table.take(2, &device(1)).unwrap();
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            drop(last.acquire(0).unwrap());
            // Once passed over, it costs no more time.
            last.acquire(0).unwrap().waited_ns()
        });
        wait_for("the seat waits", || {
            matches!(table.state(2), State::Waiting(_))
        });
        drop(lease);
        waiter.join().unwrap();
    });
    assert!(matches!(table.state(1), State::Passed(_)));
    member.signal(Signal::CONT);
    member.says("holding");
    assert!(matches!(table.state(1), State::Holding(_)));
}
