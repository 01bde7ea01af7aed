//! The thread that writes datagrams when they are due.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::io;
use std::net::UdpSocket;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use quinn::udp::{Transmit, UdpSocketState};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::retry_on_intr;
use rustix::time::{TimerfdClockId, TimerfdFlags, Timespec, timerfd_create};

use super::line::{Batch, Line};
use crate::SocketError;
use crate::timer::{now_ns, set_deadline};

/// Bytes that one endpoint's datagrams may hold until they are due, over all its links; what comes beyond is dropped as by
/// a full queue. It is the bound of [`SenderConfig`](crate::SenderConfig) too.
pub(super) const MAX_HELD_BYTES: usize = 2 << 30;
/// Longest wait for the system to take a datagram before the thread looks whether it is still wanted.
const WRITABLE_POLL: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 20_000_000,
};

/// The thread that sees to what is due. It ends once this is dropped, and what is not yet due then is never sent.
#[derive(Debug)]
pub(super) struct Releaser(Arc<Schedule>);

/// What is due when.
#[derive(Debug)]
pub(super) struct Schedule {
    /// Expires when the first of the agenda is due.
    timer: OwnedFd,
    agenda: Mutex<Agenda>,
}

#[derive(Debug, Default)]
struct Agenda {
    due: BinaryHeap<Reverse<Due>>,
    held_bytes: usize,
    /// Things ever added.
    added: u64,
    is_over: bool,
}

/// Ordered by time, and those of one time as they were added.
#[derive(Debug)]
struct Due {
    at_ns: u64,
    place: u64,
    what: What,
}

#[derive(Debug)]
enum What {
    Send(Batch),
    LookAgain(Arc<Line>),
}

impl Releaser {
    /// Starts the thread, which sends by `socket`.
    pub(super) fn start(socket: UdpSocket) -> Result<Self, SocketError> {
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC)
            .map_err(|error| SocketError::system("create a timer")(error.into()))?;
        let state = UdpSocketState::new((&socket).into())
            .map_err(SocketError::system("prepare a socket"))?;
        let schedule = Arc::new(Schedule {
            timer,
            agenda: Mutex::default(),
        });
        let thread = ReleaseThread {
            schedule: Arc::clone(&schedule),
            socket,
            state,
        };
        thread::Builder::new()
            .name("release".to_owned())
            .spawn(move || thread.run())
            .map_err(SocketError::system("start a thread"))?;
        Ok(Self(schedule))
    }

    /// Where lines enter what they send.
    pub(super) fn schedule(&self) -> Arc<Schedule> {
        Arc::clone(&self.0)
    }
}

impl Drop for Releaser {
    fn drop(&mut self) {
        let mut agenda = self.0.lock();
        agenda.is_over = true;
        // What is entered holds its line, and that the schedule.
        agenda.due.clear();
        self.0.arm(0);
    }
}

impl Schedule {
    /// Sends `batch` at `at_ns`; whether there is room for it until then.
    #[must_use]
    pub(super) fn release(&self, at_ns: u64, batch: Batch) -> bool {
        let mut agenda = self.lock();
        let bytes = agenda.held_bytes + batch.contents.len();
        if bytes > MAX_HELD_BYTES || agenda.is_over {
            return false;
        }
        agenda.held_bytes = bytes;
        self.add(&mut agenda, at_ns, What::Send(batch));
        true
    }

    /// Has `line` look at `at_ns` whether its link is up.
    pub(super) fn look_at(&self, at_ns: u64, line: &Arc<Line>) {
        let mut agenda = self.lock();
        if !agenda.is_over {
            self.add(&mut agenda, at_ns, What::LookAgain(Arc::clone(line)));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Agenda> {
        // A panic in between at worst leaves a datagram out, which is what links do.
        self.agenda.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, agenda: &mut Agenda, at_ns: u64, what: What) {
        let place = agenda.added;
        agenda.added += 1;
        let first = agenda.due.peek();
        let is_first = first.is_none_or(|Reverse(first)| at_ns < first.at_ns);
        agenda.due.push(Reverse(Due { at_ns, place, what }));
        if is_first {
            self.arm(at_ns);
        }
    }

    /// Wakes the thread at `at_ns`, at once if that is past.
    fn arm(&self, at_ns: u64) {
        set_deadline(&self.timer, at_ns).expect("a timer of ours takes any time");
    }

    /// Moves what is due now to `due`, and sets the timer for what follows; false at the end.
    fn take_due(&self, due: &mut Vec<Due>) -> bool {
        let mut agenda = self.lock();
        let now_ns = now_ns();
        while let Some(first) = agenda.due.peek_mut() {
            if first.0.at_ns > now_ns {
                self.arm(first.0.at_ns);
                break;
            }
            due.push(PeekMut::pop(first).0);
        }
        for due in due.iter() {
            if let What::Send(batch) = &due.what {
                agenda.held_bytes -= batch.contents.len();
            }
        }
        !agenda.is_over
    }
}

struct ReleaseThread {
    schedule: Arc<Schedule>,
    socket: UdpSocket,
    state: UdpSocketState,
}

impl ReleaseThread {
    fn run(self) {
        let mut due = Vec::new();
        while self.schedule.take_due(&mut due) {
            for Due { at_ns, what, .. } in due.drain(..) {
                match what {
                    What::Send(batch) => self.send(&batch, at_ns),
                    What::LookAgain(line) => line.look_again(),
                }
            }
            self.wait();
        }
    }

    /// Sleeps until the timer expires.
    fn wait(&self) {
        let mut expirations = [0; 8];
        // An interrupted wait looks once more than it needs.
        let _ = rustix::io::read(&self.schedule.timer, &mut expirations);
    }

    fn send(&self, batch: &Batch, at_ns: u64) {
        if batch.segment.is_some() && self.state.max_gso_segments() > 1 {
            match self.write(&batch.transmit()) {
                Ok(()) => return batch.count_sent(batch.datagrams, batch.contents.len(), at_ns),
                // The socket is not wanted any more.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // Some interfaces segment nothing, which only a refused batch tells; the state then forbids all others.
                Err(error) => tracing::debug!("datagrams are written one by one: {error}"),
            }
        }
        for datagram in batch.datagrams() {
            match self.write(&datagram) {
                Ok(()) => batch.count_sent(1, datagram.contents.len(), at_ns),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => {
                    batch.line.counters.refused(1);
                    tracing::debug!("a datagram was refused: {error}");
                }
            }
        }
    }

    /// Writes datagrams to the socket, waiting while it is full; an error that would block says that nobody wants them now.
    fn write(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        loop {
            match self.state.try_send((&self.socket).into(), transmit) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let mut writable = [PollFd::new(&self.socket, PollFlags::OUT)];
                    retry_on_intr(|| poll(&mut writable, Some(&WRITABLE_POLL)))?;
                    if self.schedule.lock().is_over {
                        return Err(error);
                    }
                }
                sent => return sent,
            }
        }
    }
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at_ns, self.place).cmp(&(other.at_ns, other.place))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bace_netem::{Congestion, FlowKey, LinkId, RegionId, Route};

    use super::*;
    use crate::LinkCell;
    use crate::packet::PacketLink;
    use crate::tests::support::{loopback, spec};

    #[test]
    fn datagrams_of_a_batch_that_the_system_refuses_are_written_one_by_one() {
        let spec = spec(10_000.0, 0.0);
        let key = FlowKey {
            seed: 1,
            link: LinkId::new(RegionId::new(0), RegionId::new(1)),
            job: 0,
            from_stage: 0,
            to_stage: 1,
        };
        let route = Route {
            there: spec,
            back: spec,
        };
        let link = PacketLink {
            cell: LinkCell::private(&spec),
            route,
            congestion: Congestion::Fixed,
            draws: key.chunk(0, 0),
        };
        let socket = UdpSocket::bind(loopback()).unwrap();
        let peer = UdpSocket::bind(loopback()).unwrap();
        peer.set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        socket.set_nonblocking(true).unwrap();
        let releaser = Releaser::start(socket).unwrap();
        let line = Arc::new(Line::new(link, releaser.schedule()));
        // Linux takes at most 128 segments at once.
        for datagrams in [200_u8, 10] {
            let contents: Vec<u8> = (0..datagrams).flat_map(|number| [number; 20]).collect();
            line.take(&Transmit {
                destination: peer.local_addr().unwrap(),
                ecn: None,
                contents: &contents,
                segment_size: Some(20),
                src_ip: None,
            });
            let mut buffer = [0; 100];
            for number in 0..datagrams {
                assert_eq!(peer.recv(&mut buffer).unwrap(), 20);
                assert_eq!(buffer[..20], [number; 20]);
            }
        }
        drop(releaser);
        let counts = line.counters.counts();
        assert_eq!((counts.refused, counts.dropped), (0, 0), "{counts:?}");
    }
}
