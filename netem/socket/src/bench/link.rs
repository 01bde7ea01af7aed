//! How true a shaped link is on this host.

use std::net::{Ipv4Addr, SocketAddr};

use bace_netem::LinkSpec;
use bytes::Bytes;
use tokio::sync::mpsc;

use crate::SocketError;
use crate::cell::{CellTable, LinkCell};
use crate::credentials::RunAuthority;
use crate::pool::BufferPool;
use crate::quic::{Connection, Endpoint};
use crate::receive::{Received, ReceiverConfig, ReceiverTask};
use crate::runtime::NetThread;
use crate::send::{LinkSender, OutgoingMessage, SenderConfig, Shaper};
use crate::timer::now_ns;
use crate::transport::Profile;

const RECEIVER_NAME: &str = "receiver.bench.local";
const SENDER_NAME: &str = "sender.bench.local";
/// An error below this counts as none, s: that of the receiver's timer and of the wake-up.
const TOLERANCE_S: f64 = 1e-3;
/// An error below this share of the ideal time counts as none.
const TOLERANCE_SHARE: f64 = 0.01;

/// One message over one otherwise idle link.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct LinkMeasurement {
    /// The link as specified.
    pub spec: LinkSpec,
    /// The message's payload.
    pub message_bytes: u64,
    /// Bytes / rate + delay, s.
    pub ideal_s: f64,
    /// From the moment the message was ready to the moment its receiver had all of it, s.
    pub measured_s: f64,
    /// Whether its last byte came later than the link would have delivered it, us; 0 if in time.
    pub late_us: u64,
}

impl LinkMeasurement {
    /// Measured minus ideal, s.
    pub fn error_s(&self) -> f64 {
        self.measured_s - self.ideal_s
    }

    /// Whether the error is within 1 % of the ideal time or within 1 ms, whichever is larger.
    pub fn is_true(&self) -> bool {
        self.error_s().abs() <= TOLERANCE_S.max(TOLERANCE_SHARE * self.ideal_s)
    }
}

/// Sends `repeats` messages of `message_bytes` over a link of `spec`, one after the other, between
/// two network threads of this process that meet over loopback, and calls `each` after every one.
/// Takes as long as the link does.
///
/// # Errors
/// When `spec` is a link that is down or needs too many bytes in flight, or loopback does not work.
///
/// # Panics
/// Within a tokio runtime: it blocks.
pub fn measure_link(
    spec: &LinkSpec,
    message_bytes: usize,
    repeats: usize,
    mut each: impl FnMut(&LinkMeasurement),
) -> Result<Vec<LinkMeasurement>, SocketError> {
    let mut link = BenchLink::open(spec, message_bytes)?;
    let payload = Bytes::from(vec![0x5a; message_bytes]);
    let mut measurements = Vec::with_capacity(repeats);
    for _ in 0..repeats {
        let measurement = link.carry(spec, payload.clone())?;
        each(&measurement);
        measurements.push(measurement);
    }
    Ok(measurements)
}

/// Both ends of a link, on threads of their own.
struct BenchLink {
    sender: LinkSender,
    received: mpsc::Receiver<Received>,
    // Last: the tasks end with their threads.
    _threads: [NetThread; 2],
}

impl BenchLink {
    fn open(spec: &LinkSpec, message_bytes: usize) -> Result<Self, SocketError> {
        if spec.rate.whole_bps() == 0 {
            return Err(SocketError::LinkDown);
        }
        let authority = RunAuthority::new()?;
        let sending = authority.issue(SENDER_NAME)?;
        let receiving = authority.issue(RECEIVER_NAME)?;
        let threads = [
            NetThread::start("bench-send")?,
            NetThread::start("bench-receive")?,
        ];
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let server =
            threads[1].run(async move { Endpoint::bind(any, &receiving, Profile::data()) })??;
        let address = server.local_addr()?;

        // Two of them: one delivered, one that follows.
        let (out, received) = mpsc::channel(2);
        let pool = warm_pool(message_bytes);
        threads[1].handle().spawn(async move {
            let connection = match server.accept().await {
                Some(pending) => pending.establish().await?,
                None => return Err(SocketError::TaskEnded),
            };
            let config = ReceiverConfig {
                max_message_bytes: message_bytes as u64,
                cell: None,
            };
            let _task = ReceiverTask::spawn(&connection, &pool, config, out)?;
            Err::<(), _>(connection.closed().await)
        });
        // Through the same door as other processes.
        let (_table, path) = CellTable::create(1)?;
        let cell = CellTable::open(&path)?.cell(0)?;
        cell.set_rate(spec.rate, now_ns());
        let spec = *spec;
        let sender =
            threads[0].run(async move { connect(&sending, any, address, cell, &spec).await })??;
        Ok(Self {
            sender,
            received,
            _threads: threads,
        })
    }

    fn carry(&mut self, spec: &LinkSpec, payload: Bytes) -> Result<LinkMeasurement, SocketError> {
        let message_bytes = payload.len() as u64;
        let ready_ns = now_ns();
        self.sender.blocking_send(OutgoingMessage {
            header: Bytes::new(),
            payload,
            ready_ns,
        })?;
        let message = match self.received.blocking_recv() {
            Some(Received::Message(message)) => message,
            Some(Received::Failed { error, .. } | Received::Ended { error, .. }) => {
                return Err(error);
            }
            None => return Err(SocketError::TaskEnded),
        };
        let done_ns = now_ns();
        let late_ns = message
            .timing
            .arrived_ns
            .saturating_sub(message.timing.deliver_at_ns);
        Ok(LinkMeasurement {
            spec: *spec,
            message_bytes,
            ideal_s: spec.ideal_seconds(message_bytes),
            measured_s: (done_ns - ready_ns) as f64 / 1e9,
            late_us: late_ns.div_ceil(1_000),
        })
    }
}

async fn connect(
    credentials: &crate::Credentials,
    from: SocketAddr,
    to: SocketAddr,
    cell: LinkCell,
    spec: &LinkSpec,
) -> Result<LinkSender, SocketError> {
    let endpoint = Endpoint::bind(from, credentials, Profile::data())?;
    let connection: Connection = endpoint.connect(to, RECEIVER_NAME).await?;
    let (sender, _task) = LinkSender::spawn(
        &connection,
        Shaper::Clock(cell),
        spec,
        SenderConfig::default(),
    )?;
    Ok(sender)
}

/// A pool that holds what two messages need, its pages touched: the page faults of a first message
/// belong to no link.
fn warm_pool(message_bytes: usize) -> BufferPool {
    let pool = BufferPool::new(2 * message_bytes);
    drop([0, 1].map(|_| {
        let mut buffer = pool.take(message_bytes);
        buffer.fill(1);
        buffer
    }));
    pool
}
