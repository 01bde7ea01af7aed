//! What loopback carries: the bound on all links of a host together.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use bace_netem::{BitRate, Delay, LinkSpec};
use bytes::Bytes;
use rustix::time::{ClockId, clock_gettime};
use tokio::sync::mpsc;

use super::messages::any_port;
use super::{RECEIVER_NAME, SENDER_NAME};
use crate::SocketError;
use crate::cell::LinkCell;
use crate::credentials::RunAuthority;
use crate::pool::BufferPool;
use crate::quic::{Connection, Endpoint};
use crate::receive::{Received, ReceiverConfig, ReceiverTask};
use crate::runtime::NetThread;
use crate::send::{LinkSender, OutgoingMessage, SenderConfig, Shaper};
use crate::timer::now_ns;
use crate::transport::Profile;

/// The share of loopback's throughput that links may add up to. The rest is for what links need beside their bytes:
/// timers on time, bursts that catch up after a stall, and compute on the same cores.
pub const LINKS_SHARE: f64 = 0.6;
/// Large enough that a message's own cost does not count, and small beside what passes in a second.
const QUIC_MESSAGE_BYTES: usize = 4 << 20;
/// As in the tables of `bace bench transport`.
const TCP_MESSAGE_BYTES: usize = 16 << 20;
/// What is carried before the clock starts: page faults of the first buffers, and a window that opens.
const WARM_UP: Duration = Duration::from_millis(200);
/// Messages queued or handed up and not yet taken.
const QUEUE_MESSAGES: usize = 16;
/// The link over which messages are costed: any that makes both ends wait for their timers.
const COSTED_BPS: f64 = 1e9;
const COSTED_DELAY_NS: u64 = 1_000_000;
/// Between two of them: long enough for every thread to sleep.
const COSTED_GAP: Duration = Duration::from_millis(1);
/// Messages before those that count.
const COSTED_WARM_UP: u32 = 20;

/// What this host's loopback carries at present, one way, through the path that tensors take.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LoopbackCeiling {
    /// QUIC from a link's sender into pooled buffers.
    pub quic: BitRate,
}

impl LoopbackCeiling {
    /// What the rates of a host's links may add up to.
    pub fn links(&self) -> BitRate {
        BitRate::from_bps(self.quic.bps() * LINKS_SHARE).expect("a share of a rate is a rate")
    }
}

/// Sends messages for `window` and a little more, as fast as they go, between two network threads of this process.
/// Whoever else uses the machine at that time is measured too.
///
/// # Errors
/// When loopback does not work.
///
/// # Panics
/// Within a tokio runtime: it blocks.
pub fn loopback_ceiling(window: Duration) -> Result<LoopbackCeiling, SocketError> {
    let Pair {
        threads,
        sender,
        mut received,
        task,
        ..
    } = Pair::connect(None)?;
    let feeder = thread::spawn(move || {
        let payload = Bytes::from(vec![0x5a; QUIC_MESSAGE_BYTES]);
        // Ends with the sender's thread.
        while sender.blocking_send(message(&payload)).is_ok() {}
    });
    let drain = thread::spawn(move || while received.blocking_recv().is_some() {});
    let carried = sample(window, || task.stats().bytes);
    drop(threads);
    for thread in [feeder, drain] {
        thread.join().map_err(|_| SocketError::TaskEnded)?;
    }
    Ok(LoopbackCeiling { quic: carried? })
}

/// The processor time that a message takes beside its bytes, both ends together, s: of `messages` of one byte over a link,
/// each on its own, so that every thread on the way sleeps and is woken. Whoever else uses the machine hardly counts.
///
/// # Errors
/// When loopback does not work, or the system does not tell this process's time.
///
/// # Panics
/// Within a tokio runtime: it blocks.
pub fn message_cost_s(messages: u32) -> Result<f64, SocketError> {
    let spec = LinkSpec::new(
        BitRate::from_bps(COSTED_BPS).expect("a rate"),
        Delay::from_nanos(COSTED_DELAY_NS),
    );
    let mut pair = Pair::connect(Some(spec))?;
    let payload = Bytes::from_static(b"x");
    let mut exchange = |count: u32| {
        for _ in 0..count {
            thread::sleep(COSTED_GAP);
            pair.sender.blocking_send(message(&payload))?;
            match pair.received.blocking_recv() {
                Some(Received::Message(_)) => {}
                Some(Received::Failed { error, .. } | Received::Ended { error, .. }) => {
                    return Err(error);
                }
                None => return Err(SocketError::TaskEnded),
            }
        }
        Ok(())
    };
    exchange(COSTED_WARM_UP)?;
    let before = processor_s();
    exchange(messages)?;
    Ok((processor_s() - before) / f64::from(messages.max(1)))
}

/// Processor time of all threads of this process, s.
fn processor_s() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn message(payload: &Bytes) -> OutgoingMessage {
    OutgoingMessage {
        header: Bytes::new(),
        payload: payload.clone(),
        ready_ns: now_ns(),
    }
}

/// Two connected ends on network threads of this process.
struct Pair {
    threads: [NetThread; 2],
    sender: LinkSender,
    received: mpsc::Receiver<Received>,
    task: ReceiverTask,
    _connection: Connection,
}

impl Pair {
    /// Ends with a link of `spec` between them; without one nothing shapes what is sent.
    fn connect(spec: Option<LinkSpec>) -> Result<Self, SocketError> {
        let authority = RunAuthority::new()?;
        let receiving = authority.issue(RECEIVER_NAME)?;
        let sending = authority.issue(SENDER_NAME)?;
        let threads = [
            NetThread::start("ceiling-send")?,
            NetThread::start("ceiling-recv")?,
        ];
        let server = threads[1]
            .run(async move { Endpoint::bind(any_port(), &receiving, Profile::data()) })??;
        let address = server.local_addr()?;
        let (out, received) = mpsc::channel::<Received>(QUEUE_MESSAGES);
        let (started, receiver) = std::sync::mpsc::channel();
        threads[1].handle().spawn(async move {
            let task = async {
                let pending = server.accept().await.ok_or(SocketError::TaskEnded)?;
                let connection = pending.establish().await?;
                let config = ReceiverConfig::default();
                let task = ReceiverTask::spawn(&connection, &BufferPool::default(), config, out)?;
                Ok::<_, SocketError>((connection, task))
            };
            // Nobody listens any more once the measurement has failed.
            let _ = started.send(task.await);
            // The endpoint lives as long as its thread.
            std::future::pending::<()>().await;
        });
        let (sender, _) = threads[0].run(async move {
            let endpoint = Endpoint::bind(any_port(), &sending, Profile::data())?;
            let connection = endpoint.connect(address, RECEIVER_NAME).await?;
            let shaper = spec.map_or(Shaper::Below, |spec| {
                Shaper::Clock(LinkCell::private(&spec))
            });
            let link = spec.unwrap_or(LinkSpec::new(BitRate::ZERO, Delay::ZERO));
            let config = SenderConfig {
                queue_messages: QUEUE_MESSAGES,
                ..SenderConfig::default()
            };
            LinkSender::spawn(&connection, shaper, &link, config)
        })??;
        let (connection, task) = receiver.recv().map_err(|_| SocketError::TaskEnded)??;
        Ok(Self {
            threads,
            sender,
            received,
            task,
            _connection: connection,
        })
    }
}

/// What one TCP connection carries over loopback, read into one buffer of 16 MiB: the yardstick for [`loopback_ceiling`].
///
/// # Errors
/// When loopback does not work.
pub fn tcp_ceiling(window: Duration) -> Result<BitRate, SocketError> {
    let failed = || SocketError::system("measure TCP over loopback");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(failed())?;
    let mut sending =
        TcpStream::connect(listener.local_addr().map_err(failed())?).map_err(failed())?;
    let (mut receiving, _) = listener.accept().map_err(failed())?;
    let writer = thread::spawn(move || {
        let payload = vec![0x5a; TCP_MESSAGE_BYTES];
        // Ends when the other end is closed.
        while sending.write_all(&payload).is_ok() {}
    });
    let mut buffer = vec![0; TCP_MESSAGE_BYTES];
    let begin = Instant::now();
    let (mut bytes, mut from) = (0, None);
    let carried = loop {
        bytes += receiving.read(&mut buffer).map_err(failed())? as u64;
        let elapsed = begin.elapsed();
        match from {
            None if elapsed >= WARM_UP => from = Some((elapsed, bytes)),
            Some((at, before)) if elapsed >= at + window => {
                break BitRate::carrying(bytes - before, (elapsed - at).as_secs_f64());
            }
            _ => {}
        }
    };
    drop(receiving);
    writer.join().map_err(|_| SocketError::TaskEnded)?;
    Ok(carried)
}

/// The rate at which a counter of bytes grows during `window`, after the warm-up.
fn sample(window: Duration, bytes: impl Fn() -> u64) -> Result<BitRate, SocketError> {
    thread::sleep(WARM_UP);
    let (begin, before) = (Instant::now(), bytes());
    thread::sleep(window);
    let (seconds, carried) = (begin.elapsed().as_secs_f64(), bytes() - before);
    if carried == 0 {
        return Err(SocketError::NothingCarried);
    }
    Ok(BitRate::carrying(carried, seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_carries_something_and_links_less() {
        let window = Duration::from_millis(100);
        let ceiling = loopback_ceiling(window).unwrap();
        assert!(ceiling.quic.bps() > 1e6, "{ceiling:?}");
        assert!(ceiling.links() < ceiling.quic);
        assert!(tcp_ceiling(window).unwrap().bps() > 1e6);
    }

    #[test]
    fn a_message_takes_some_of_the_processor_and_little() {
        let cost_s = message_cost_s(20).unwrap();
        assert!((1e-6..0.1).contains(&cost_s), "{cost_s}");
    }
}
