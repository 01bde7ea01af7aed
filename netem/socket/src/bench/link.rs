//! How true a shaped link is on this host.

use bace_netem::{BitRate, Congestion, FlowKey, LinkId, LinkSpec, RegionId, Route};
use bytes::Bytes;
use tokio::sync::mpsc;

use super::messages::any_port;
use super::{RECEIVER_NAME, SENDER_NAME};
use crate::SocketError;
use crate::cell::{CellTable, LinkCell};
use crate::credentials::Credentials;
use crate::credentials::RunAuthority;
use crate::packet::PacketLink;
use crate::pool::BufferPool;
use crate::quic::Endpoint;
use crate::receive::{Received, ReceivedMessage, ReceiverConfig, ReceiverTask};
use crate::runtime::NetThread;
use crate::send::{LinkSender, OutgoingMessage, SenderConfig, Shaper};
use crate::timer::now_ns;
use crate::transport::Profile;

/// Messages that may be handed up and not yet taken.
const HANDED_UP: usize = 2;
/// Buffers that are warm before the first message: one delivered, one held, and one or two on their way.
const WARM_BUFFERS: usize = 4;
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
    let mut link = Link::alone(spec, message_bytes)?;
    let payload = Bytes::from(vec![0x5a; message_bytes]);
    let mut measurements = Vec::with_capacity(repeats);
    for _ in 0..repeats {
        let measurement = link.carry(payload.clone())?;
        each(&measurement);
        measurements.push(measurement);
    }
    Ok(measurements)
}

/// Who gives a link its rate.
pub(super) enum Way {
    /// Its clock: the `virtual` back end.
    Clock(LinkCell),
    /// What delays and queues its datagrams: the `packet` back end, without loss.
    Datagrams,
}

/// Both ends of a link, on threads of their own.
pub(super) struct Link {
    spec: LinkSpec,
    sender: LinkSender,
    received: mpsc::Receiver<Received>,
    // Last: the tasks end with their threads.
    _threads: [NetThread; 2],
}

impl Link {
    /// A link that nobody else uses.
    pub fn alone(spec: &LinkSpec, max_message_bytes: usize) -> Result<Self, SocketError> {
        // Through the same door as other processes.
        let (_table, path) = CellTable::create(1)?;
        let cell = CellTable::open(&path)?.cell(0)?;
        cell.set(spec.into(), now_ns());
        Self::open(spec, Way::Clock(cell), max_message_bytes)
    }

    /// A link that `way` gives its rate.
    pub fn open(spec: &LinkSpec, way: Way, max_message_bytes: usize) -> Result<Self, SocketError> {
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
        let server = threads[1].run(async move { bind(&receiving) })??;
        let client = threads[0].run(async move { bind(&sending) })??;
        let address = server.local_addr()?;
        let shaper = match way {
            Way::Clock(cell) => Shaper::Clock(cell),
            Way::Datagrams => {
                // The way back has the same rate and delay, and a clock of its own.
                client.shape(address, packet_link(spec))?;
                server.shape(client.local_addr()?, packet_link(spec))?;
                Shaper::Below
            }
        };
        let (out, received) = mpsc::channel(HANDED_UP);
        let pool = warm_pool(max_message_bytes);
        threads[1].handle().spawn(async move {
            let connection = match server.accept().await {
                Some(pending) => pending.establish().await?,
                None => return Err(SocketError::TaskEnded),
            };
            let config = ReceiverConfig {
                max_message_bytes: max_message_bytes as u64,
                ..ReceiverConfig::default()
            };
            let _task = ReceiverTask::spawn(&connection, &pool, config, out)?;
            Err::<(), _>(connection.closed().await)
        });
        let link = *spec;
        let sender = threads[0].run(async move {
            let connection = client.connect(address, RECEIVER_NAME).await?;
            let config = SenderConfig::default();
            let (sender, _task) = LinkSender::spawn(&connection, shaper, &link, config)?;
            Ok::<_, SocketError>(sender)
        })??;
        Ok(Self {
            spec: *spec,
            sender,
            received,
            _threads: threads,
        })
    }

    /// What queues messages; for a thread that does nothing else.
    pub fn sender(&self) -> LinkSender {
        self.sender.clone()
    }

    /// The next message, once it is handed up.
    pub fn receive(&mut self) -> Result<ReceivedMessage, SocketError> {
        match self.received.blocking_recv() {
            Some(Received::Message(message)) => Ok(message),
            Some(Received::Failed { error, .. } | Received::Ended { error, .. }) => Err(error),
            None => Err(SocketError::TaskEnded),
        }
    }

    /// One message over the idle link.
    pub fn carry(&mut self, payload: Bytes) -> Result<LinkMeasurement, SocketError> {
        let message_bytes = payload.len() as u64;
        let ready_ns = now_ns();
        self.sender.blocking_send(message(payload, ready_ns))?;
        let timing = self.receive()?.timing;
        let done_ns = now_ns();
        let late_ns = timing.arrived_ns.saturating_sub(timing.deliver_at_ns);
        Ok(LinkMeasurement {
            spec: self.spec,
            message_bytes,
            ideal_s: self.spec.ideal_seconds(message_bytes),
            measured_s: (done_ns - ready_ns) as f64 / 1e9,
            late_us: late_ns.div_ceil(1_000),
        })
    }

    /// `messages` of the same payload, all ready at once: the rate at which they came, over the link's.
    pub fn carry_back_to_back(
        &mut self,
        payload: &Bytes,
        messages: u32,
    ) -> Result<f64, SocketError> {
        let ready_ns = now_ns();
        let sender = self.sender();
        let bytes = payload.len() as u64 * u64::from(messages);
        let all = (0..messages).map(|_| message(payload.clone(), ready_ns));
        self.feed(sender, all.collect(), |_, _| {})?;
        let seconds = (now_ns() - ready_ns) as f64 / 1e9;
        Ok(self.spec.ideal_seconds(bytes) / seconds)
    }

    /// `messages` of the same payload, all ready at once: the rate of all of them until the last is here, the link's delay
    /// not counted.
    pub fn goodput(&mut self, payload: &Bytes, messages: u32) -> Result<BitRate, SocketError> {
        let ready_ns = now_ns();
        let sender = self.sender();
        let all = (0..messages).map(|_| message(payload.clone(), ready_ns));
        // The last to be handed up need not be the last to arrive.
        let mut last_ns = None;
        self.feed(sender, all.collect(), |message, _| {
            last_ns = last_ns.max(Some(message.timing.arrived_ns));
        })?;
        let last_ns = last_ns.ok_or(SocketError::NothingCarried)?;
        let bytes = payload.len() as u64 * u64::from(messages);
        let took_s = last_ns.saturating_sub(ready_ns) as f64 / 1e9;
        Ok(BitRate::carrying(bytes, took_s - self.spec.delay.seconds()))
    }

    /// Small messages, ready one after the other every `gap_ns`: by how much each came later than the link delivers it, s.
    pub fn delay_errors(
        &mut self,
        payload: &Bytes,
        messages: u32,
        gap_ns: u64,
    ) -> Result<Vec<f64>, SocketError> {
        let begin_ns = now_ns() + gap_ns;
        let ideal_s = self.spec.ideal_seconds(payload.len() as u64);
        let all = (0..u64::from(messages))
            .map(|number| message(payload.clone(), begin_ns + number * gap_ns));
        let mut errors = Vec::with_capacity(messages as usize);
        let sender = self.sender();
        self.feed(sender, all.collect(), |message, done_ns| {
            let took_s = (done_ns - message.timing.ready_ns) as f64 / 1e9;
            errors.push(took_s - ideal_s);
        })?;
        Ok(errors)
    }

    /// Queues messages from a thread of its own and shows each with the time of its receipt.
    fn feed(
        &mut self,
        sender: LinkSender,
        messages: Vec<OutgoingMessage>,
        mut each: impl FnMut(&ReceivedMessage, u64),
    ) -> Result<(), SocketError> {
        let count = messages.len();
        std::thread::scope(|scope| {
            let feeder = scope.spawn(move || {
                messages
                    .into_iter()
                    .try_for_each(|message| sender.blocking_send(message))
            });
            for _ in 0..count {
                let message = self.receive()?;
                each(&message, now_ns());
            }
            feeder.join().map_err(|_| SocketError::TaskEnded)?
        })
    }
}

/// A message without a header.
pub(super) fn message(payload: Bytes, ready_ns: u64) -> OutgoingMessage {
    OutgoingMessage {
        header: Bytes::new(),
        payload,
        ready_ns,
    }
}

fn bind(credentials: &Credentials) -> Result<Endpoint, SocketError> {
    Endpoint::bind(any_port(), credentials, Profile::data())
}

/// A lossless link of datagrams whose sender fills it with one window that never changes.
fn packet_link(spec: &LinkSpec) -> PacketLink {
    let key = FlowKey {
        seed: 0,
        link: LinkId::new(RegionId::new(0), RegionId::new(1)),
        job: 0,
        from_stage: 0,
        to_stage: 1,
    };
    PacketLink {
        cell: LinkCell::private(spec),
        route: Route {
            there: *spec,
            back: *spec,
        },
        congestion: Congestion::Fixed,
        draws: key.chunk(0, 0),
    }
}

/// A pool that holds what a few messages need, its pages touched: the page faults of a first message belong to no link.
fn warm_pool(message_bytes: usize) -> BufferPool {
    let pool = BufferPool::new(WARM_BUFFERS * message_bytes);
    drop([(); WARM_BUFFERS].map(|()| {
        let mut buffer = pool.take(message_bytes);
        buffer.fill(1);
        buffer
    }));
    pool
}
