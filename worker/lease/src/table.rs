//! All leases of a host, in shared memory: as many lines for devices as for seats.

use std::sync::atomic::{AtomicU64, Ordering, fence};

use bace_socket::{Line, Section, SharedLines, SharedMemory};

use crate::error::LeaseError;
use crate::order::{MAX_SEATS, Seen, State};
use crate::process::Process;
use crate::seat::Seat;

const NAME: [u8; 8] = *b"balease1";
const VERSION: u64 = 3;

// Words of a device's line.
/// How many may hold it at a time.
pub(crate) const SLOTS: usize = 0;
/// The latest ticket drawn.
pub(crate) const TICKETS: usize = 1;
/// The latest claim: exclusion stands on it.
pub(crate) const CLAIM: usize = 2;
/// When somebody last looked whether those before it live.
pub(crate) const LOOKED_AT_NS: usize = 3;
/// The ticket that had room then and had not taken it; 0 if none had.
pub(crate) const SUSPECT: usize = 4;
/// When it was seen first with room.
pub(crate) const SUSPECT_SINCE_NS: usize = 5;
/// The name, in UTF-8, zeros behind it.
const DEVICE_NAME: usize = 6;
const NAME_WORDS: usize = 8;

/// Longest name of a device, bytes.
pub const MAX_NAME_BYTES: usize = 8 * NAME_WORDS;

// Words of a seat's line.
/// A [`State`].
pub(crate) const STATE: usize = 0;
const DEVICE: usize = 1;
const PID: usize = 2;
const STARTED: usize = 3;
/// How often the account was written; the last bit says which of the two holds.
const ACCOUNT_CHANGES: usize = 4;
/// Two accounts of two words each: time held up to the last release, and since when it is held, 0 if it is not.
const ACCOUNTS: usize = 5;
/// When the work is to be done that its worker wants the device for, or last wanted it for.
pub(crate) const DUE_NS: usize = ACCOUNTS + 4;

/// The leases of a host, by seat.
#[derive(Debug, Clone)]
pub struct LeaseTable {
    lines: SharedLines,
}

/// The device that a worker computes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeatDevice {
    /// Its index among the host's devices.
    pub index: usize,
    /// What it is called: `cpu`, `cuda:0`, a GPU's UUID; at most [`MAX_NAME_BYTES`].
    pub name: String,
    /// How many workers may compute on it at a time, at least 1; the same for all of them.
    pub slots: u32,
}

impl LeaseTable {
    /// Room for `seats` seats, all vacant, and as many devices; at most 65 536.
    pub fn section(seats: usize) -> Section {
        Section {
            name: NAME,
            version: VERSION,
            lines: 2 * seats.min(MAX_SEATS),
        }
    }

    /// The leases in `memory`.
    ///
    /// # Errors
    /// When it has none, or those of another version.
    pub fn of(memory: &SharedMemory) -> Result<Self, LeaseError> {
        let lines = memory.section(NAME, VERSION)?;
        Ok(Self { lines })
    }

    /// How many seats there are, vacant ones included.
    pub fn seats(&self) -> usize {
        self.lines.len() / 2
    }

    /// Takes the seat `seat` for this process, which wants to compute on `device`.
    ///
    /// # Errors
    /// When there is no such seat, or another process sits there.
    pub fn take(&self, seat: usize, device: &SeatDevice) -> Result<Seat, LeaseError> {
        let seats = self.seats();
        if seat >= seats || device.index >= seats {
            return Err(LeaseError::NoSuchSeat {
                seat,
                device: device.index,
                seats,
            });
        }
        if device.name.len() > MAX_NAME_BYTES {
            return Err(LeaseError::LongName(device.name.clone()));
        }
        let own = Process::own().map_err(LeaseError::Process)?;
        self.enter(seat, own)?;
        // What one that is gone held is settled before the seat is anybody else's.
        self.account_released(seat, bace_socket::now_ns());
        let words = &self.device(device.index).words;
        words[SLOTS].store(device.slots.max(1).into(), Ordering::Relaxed);
        let mut name = device.name.clone().into_bytes();
        name.resize(MAX_NAME_BYTES, 0);
        for (word, bytes) in words[DEVICE_NAME..].iter().zip(name.chunks_exact(8)) {
            let bytes = bytes.try_into().expect("chunks of 8 are 8");
            word.store(u64::from_le_bytes(bytes), Ordering::Relaxed);
        }
        let words = &self.seat(seat).words;
        words[DEVICE].store(device.index as u64, Ordering::Relaxed);
        words[STARTED].store(own.started, Ordering::Relaxed);
        words[PID].store(own.pid.into(), Ordering::Relaxed);
        let taken = self.change(seat, State::Changing(own.word()), State::Idle);
        if !taken {
            return Err(LeaseError::Lost { seat });
        }
        Ok(Seat::new(self.clone(), seat, device.index))
    }

    /// Makes `own` the only one who changes the seat, if nobody who lives sits there.
    fn enter(&self, seat: usize, own: Process) -> Result<(), LeaseError> {
        loop {
            let state = self.state(seat);
            let occupant = self.occupant(seat, state);
            if let Some(occupant) = occupant.filter(|occupant| !occupant.is_gone()) {
                let pid = occupant.pid;
                return Err(LeaseError::Taken { seat, pid });
            }
            if self.begin_change(seat, state, occupant, own) {
                return Ok(());
            }
        }
    }

    /// Who sits in a seat of this state, or changes it.
    fn occupant(&self, seat: usize, state: State) -> Option<Process> {
        match state {
            State::Vacant => None,
            State::Changing(process) => Some(Process::of(process)),
            _ => Some(self.process(seat)),
        }
    }

    /// Makes `own` the only one who changes a seat that is as believed; whether it was.
    fn begin_change(
        &self,
        seat: usize,
        state: State,
        occupant: Option<Process>,
        own: Process,
    ) -> bool {
        let changing = State::Changing(own.word());
        if !self.change(seat, state, changing) {
            return false;
        }
        // All idle seats look alike: another may have sat down since its process was looked at.
        if state == State::Idle && occupant != Some(self.process(seat)) {
            self.change(seat, changing, state);
            return false;
        }
        true
    }

    /// For how long the worker of `seat` has held its device up to `now_ns` of the host's monotonic clock, ns, the time under
    /// way included; absent where nobody has ever sat there. A worker that releases its lease while this is asked may be counted
    /// up to `now_ns`, and later to its release alone: who takes differences lets none fall below 0.
    pub fn held_ns(&self, seat: usize, now_ns: u64) -> Option<u64> {
        if seat >= self.seats() || self.process(seat).pid == 0 {
            return None;
        }
        let (total_ns, since_ns) = self.account(seat);
        let under_way = (since_ns > 0).then(|| now_ns.saturating_sub(since_ns));
        Some(total_ns.saturating_add(under_way.unwrap_or(0)))
    }

    /// Index of the device of `seat`; absent where nobody has ever sat there.
    pub fn device_of(&self, seat: usize) -> Option<usize> {
        if seat >= self.seats() || self.process(seat).pid == 0 {
            return None;
        }
        let device = self.seat(seat).words[DEVICE].load(Ordering::Relaxed);
        usize::try_from(device)
            .ok()
            .filter(|&device| device < self.seats())
    }

    /// What the device of this index is called; absent where no seat has it.
    pub fn device_name(&self, device: usize) -> Option<String> {
        if device >= self.seats() {
            return None;
        }
        let words = &self.device(device).words;
        if words[SLOTS].load(Ordering::Relaxed) == 0 {
            return None;
        }
        let name = &words[DEVICE_NAME..DEVICE_NAME + NAME_WORDS];
        let name = name
            .iter()
            .flat_map(|word| word.load(Ordering::Relaxed).to_le_bytes());
        let name: Vec<u8> = name.take_while(|&byte| byte != 0).collect();
        Some(String::from_utf8_lossy(&name).into_owned())
    }

    pub(crate) fn device(&self, index: usize) -> &Line {
        &self.lines[index]
    }

    pub(crate) fn seat(&self, index: usize) -> &Line {
        &self.lines[self.seats() + index]
    }

    pub(crate) fn state(&self, seat: usize) -> State {
        State::of(self.seat(seat).words[STATE].load(Ordering::SeqCst))
    }

    /// Changes a seat's state, if it is what is believed.
    pub(crate) fn change(&self, seat: usize, from: State, to: State) -> bool {
        let word = &self.seat(seat).words[STATE];
        word.compare_exchange(from.word(), to.word(), Ordering::SeqCst, Ordering::SeqCst)
            .is_ok()
    }

    /// The seats of a device and what they do.
    pub(crate) fn seen(&self, device: usize) -> impl Iterator<Item = Seen> {
        let seats = self.lines[self.seats()..].iter().enumerate();
        seats.filter_map(move |(seat, line)| {
            let state = State::of(line.words[STATE].load(Ordering::SeqCst));
            let is_here = || line.words[DEVICE].load(Ordering::Relaxed) == device as u64;
            (state != State::Vacant && is_here()).then(|| Seen {
                seat,
                state,
                due_ns: line.words[DUE_NS].load(Ordering::Relaxed),
            })
        })
    }

    pub(crate) fn process(&self, seat: usize) -> Process {
        let words = &self.seat(seat).words;
        Process {
            pid: words[PID].load(Ordering::Relaxed) as u32,
            started: words[STARTED].load(Ordering::Relaxed),
        }
    }

    /// Takes the process `gone` out of its seat, on behalf of `by`; whether that was still to be done. Until its account is
    /// settled nobody else can sit there.
    pub(crate) fn clear(&self, seat: usize, state: State, gone: Process, by: Process) -> bool {
        let cleared = self.begin_change(seat, state, Some(gone), by);
        if cleared {
            self.account_released(seat, bace_socket::now_ns());
            self.change(seat, State::Changing(by.word()), State::Vacant);
        }
        cleared
    }

    /// Frees the seat of a process that is gone, and with it the device that it may have held: nobody else looks while nobody
    /// waits for the device, and its time would go on being counted. Whether that was still to be done.
    pub fn vacate_if_gone(&self, seat: usize) -> bool {
        // Who cannot be told from others changes nothing; the seat is cleared when it is taken again.
        let (true, Ok(own)) = (seat < self.seats(), Process::own()) else {
            return false;
        };
        // Others may change the state once more meanwhile, to show that it holds or is passed over.
        loop {
            let state = self.state(seat);
            let gone = self
                .occupant(seat, state)
                .filter(|process| process.is_gone());
            let Some(gone) = gone else {
                return false;
            };
            if self.clear(seat, state, gone, own) {
                return true;
            }
        }
    }

    /// Notes that the device is held since `now_ns`. One process at a time may write a seat's account.
    pub(crate) fn account_held(&self, seat: usize, now_ns: u64) {
        let (total_ns, _) = self.account(seat);
        self.set_account(seat, total_ns, now_ns);
    }

    /// Notes that the device is held no more; for how long it was, ns.
    pub(crate) fn account_released(&self, seat: usize, now_ns: u64) -> u64 {
        let (total_ns, since_ns) = self.account(seat);
        if since_ns == 0 {
            return 0;
        }
        let held_ns = now_ns.saturating_sub(since_ns);
        self.set_account(seat, total_ns.saturating_add(held_ns), 0);
        held_ns
    }

    /// Time held up to the last release, and since when it is held, or 0.
    fn account(&self, seat: usize) -> (u64, u64) {
        let words = &self.seat(seat).words;
        loop {
            let changes = words[ACCOUNT_CHANGES].load(Ordering::Acquire);
            let [total, since] = account_words(words, changes);
            let account = (total.load(Ordering::Relaxed), since.load(Ordering::Relaxed));
            fence(Ordering::Acquire);
            // Two changes later the same place is written again.
            if words[ACCOUNT_CHANGES].load(Ordering::Relaxed) == changes {
                return account;
            }
        }
    }

    fn set_account(&self, seat: usize, total_ns: u64, since_ns: u64) {
        let words = &self.seat(seat).words;
        let changes = words[ACCOUNT_CHANGES]
            .load(Ordering::Relaxed)
            .wrapping_add(1);
        let [total, since] = account_words(words, changes);
        // A reader that sees either value sees the last change too, and reads again.
        fence(Ordering::Release);
        total.store(total_ns, Ordering::Relaxed);
        since.store(since_ns, Ordering::Relaxed);
        words[ACCOUNT_CHANGES].store(changes, Ordering::Release);
    }
}

/// The account that holds after so many changes.
fn account_words(words: &[AtomicU64], changes: u64) -> [&AtomicU64; 2] {
    let at = ACCOUNTS + 2 * (changes & 1) as usize;
    [&words[at], &words[at + 1]]
}

#[cfg(test)]
mod tests {
    use bace_socket::now_ns;

    use super::*;

    fn table(seats: usize) -> LeaseTable {
        let (memory, _path) = SharedMemory::create(&[LeaseTable::section(seats)]).unwrap();
        LeaseTable::of(&memory).unwrap()
    }

    fn cpu() -> SeatDevice {
        SeatDevice {
            index: 0,
            name: "cpu".to_owned(),
            slots: 2,
        }
    }

    #[test]
    fn a_seat_is_taken_once_and_names_its_device() {
        let table = table(3);
        assert_eq!((table.held_ns(1, 5), table.device_of(1)), (None, None));
        assert_eq!(table.device_name(2), None);
        let gpu = SeatDevice {
            index: 2,
            name: "GPU-12345678-1234-1234-1234-123456789abc".to_owned(),
            slots: 1,
        };
        let seat = table.take(1, &gpu).unwrap();
        assert_eq!(table.device_of(1), Some(2));
        assert_eq!(table.device_name(2), Some(gpu.name.clone()));
        assert_eq!(table.held_ns(1, 5), Some(0));
        let taken = table.take(1, &gpu).unwrap_err().to_string();
        let own = std::process::id();
        assert_eq!(taken, format!("take seat 1: process {own} sits there"));
        drop(seat);
        assert!(table.take(1, &cpu()).is_ok());
    }

    #[test]
    fn what_the_dead_held_is_settled_before_anybody_else_sits_there() {
        let table = table(1);
        drop(table.take(0, &cpu()).unwrap());
        let own = Process::own().unwrap();
        let dead = Process {
            started: own.started + 1,
            ..own
        };
        let word = |index: usize| &table.seat(0).words[index];
        let begin_ns = now_ns();
        for state in [State::Holding(3), State::Changing(dead.word())] {
            word(STARTED).store(dead.started, Ordering::Relaxed);
            word(STATE).store(state.word(), Ordering::SeqCst);
            table.account_held(0, begin_ns);
            let before_ns = table.account(0).0;
            let seat = table.take(0, &cpu()).unwrap();
            let (total_ns, since_ns) = table.account(0);
            assert_eq!(since_ns, 0);
            assert!(total_ns > before_ns);
            drop(seat);
        }
        // One who lives is in the middle of a change.
        word(STATE).store(State::Changing(own.word()).word(), Ordering::SeqCst);
        let told = table.take(0, &cpu()).unwrap_err().to_string();
        assert_eq!(told, format!("take seat 0: process {} sits there", own.pid));
    }

    #[test]
    fn a_seat_is_taken_by_one_of_many() {
        let table = table(1);
        for _ in 0..50 {
            let seats: Vec<_> = std::thread::scope(|scope| {
                let takers: Vec<_> = (0..4)
                    .map(|_| scope.spawn(|| table.take(0, &cpu()).ok()))
                    .collect();
                let takers = takers.into_iter();
                takers.map(|taker| taker.join().unwrap()).collect()
            });
            assert_eq!(seats.iter().flatten().count(), 1);
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let table = table(2);
        assert_eq!(
            table.take(2, &cpu()).unwrap_err().to_string(),
            "take seat 2 on device 0: the table has 2 of each"
        );
        let name = "x".repeat(MAX_NAME_BYTES + 1);
        let long = SeatDevice { name, ..cpu() };
        let refused = table.take(0, &long).unwrap_err().to_string();
        assert!(refused.ends_with("more than 64 bytes"), "{refused}");
        let (memory, _path) = SharedMemory::create(&[]).unwrap();
        assert!(LeaseTable::of(&memory).is_err());
        assert_eq!(table.held_ns(2, 0), None);
    }

    #[test]
    fn time_held_grows_while_it_is_held_and_stays_after() {
        let table = table(1);
        let mut seat = table.take(0, &cpu()).unwrap();
        let lease = seat.acquire(0).unwrap();
        let begin_ns = now_ns();
        let early_ns = table.held_ns(0, begin_ns).unwrap();
        assert_eq!(table.held_ns(0, begin_ns + 5_000), Some(early_ns + 5_000));
        let held_ns = lease.release();
        assert!(held_ns >= early_ns);
        assert_eq!(table.held_ns(0, u64::MAX), Some(held_ns));
        let more_ns = seat.acquire(0).unwrap().release();
        assert_eq!(table.held_ns(0, u64::MAX), Some(held_ns + more_ns));
    }

    #[test]
    fn an_account_is_read_whole_while_it_is_written() {
        let table = table(1);
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let mut last = 0;
                while last < 50_000 {
                    let (total_ns, since_ns) = table.account(0);
                    assert_eq!(total_ns, since_ns);
                    assert!(total_ns >= last);
                    last = total_ns;
                }
            });
            for i in 1..=50_000 {
                table.set_account(0, i, i);
            }
            reader.join().unwrap();
        });
    }
}
