//! A neighbouring stage as the compute thread sees it: send and receive, both blocking.

use bace_api::{CodecError, DatagramSummary, NetworkRung, Prepare, TensorId, TransferSummary};
use bace_netem::{ClockEstimate, Congestion, FlowKey, Route, Shaping};
use bace_socket::{
    BufferPool, CellTable, Connection, DatagramCounters, Endpoint, LinkCell, LinkSender,
    OutgoingMessage, PacketLink, PeerClock, Received, ReceivedMessage, ReceiverConfig,
    ReceiverTask, SenderConfig, SenderTask, Shaper, SocketError, now_ns,
};
use bytes::Bytes;
use tokio::sync::mpsc;

/// Why tensors do not flow between two stages.
#[derive(Debug, thiserror::Error)]
pub enum NeighbourError {
    /// The transport failed.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// A neighbour that is farther away than the link makes it.
    #[error(
        "emulate the link to {name}: a message takes {latency_ms:.3} ms to get there, and the link's delay is {delay_ms} ms; give it more (`one_way_delay_ms`, or inside a region `fabric_delay_ms`), or use hosts that are nearer"
    )]
    TooFar {
        /// The neighbour's certificate name.
        name: String,
        /// Half of the shortest round trip.
        latency_ms: f64,
        /// The link's one-way delay.
        delay_ms: f64,
    },
    /// A header that cannot be read.
    #[error("read a tensor's header: {0}")]
    Header(CodecError),
    /// A tensor that is not the one the program receives next.
    #[error("receive the {expected}: the neighbour sent the {received}")]
    OutOfOrder {
        /// What the program receives.
        expected: TensorId,
        /// What came.
        received: TensorId,
    },
}

/// What a worker knows of the run's links.
#[derive(Debug, Clone)]
pub struct LinkAccess {
    /// Who gives them their rates and delays.
    pub network: NetworkRung,
    /// How connections find their sending rate where links take their datagrams.
    pub congestion: Congestion,
    /// Whether receivers hold what arrives for the link's delay.
    pub receivers_hold: bool,
    /// Whether anybody looks at what tensors hold: not where nothing is computed.
    pub keeps_payloads: bool,
    /// Clocks of those between regions.
    pub clocks: CellTable,
}

impl LinkAccess {
    /// Whether messages from and to `neighbour` are released by times of its clock, which is another.
    pub fn is_timed_elsewhere(&self, neighbour: &bace_api::Neighbour) -> bool {
        neighbour.is_elsewhere && self.is_clocked(neighbour)
    }

    fn is_clocked(&self, neighbour: &bace_api::Neighbour) -> bool {
        match self.network {
            NetworkRung::Modelled | NetworkRung::Shaped => true,
            NetworkRung::Packet | NetworkRung::Kernel => neighbour.clock.is_none(),
            NetworkRung::None => false,
        }
    }

    /// What can be promised of links between regions.
    pub fn shaping(&self) -> Shaping {
        match self.network {
            NetworkRung::Modelled | NetworkRung::Shaped => Shaping::Clocked,
            NetworkRung::Packet | NetworkRung::Kernel => Shaping::Datagrams,
            NetworkRung::None => Shaping::Nothing,
        }
    }

    /// Starts to send over `connection`, within the network's runtime; `messages` may wait, and links carry each as
    /// `carried_bytes` where that is given.
    pub fn sender(
        &self,
        connection: &Connection,
        towards: &Towards<'_>,
        messages: usize,
        carried_bytes: Option<u64>,
    ) -> Result<(LinkSender, SenderTask), NeighbourError> {
        if let Some(clock) = &towards.clock {
            check_distance(towards.neighbour, clock)?;
        }
        let shaper = match (self.shaper(towards.neighbour)?, &towards.clock) {
            (Shaper::Clock(cell), Some(clock)) => Shaper::ClockAcross(cell, clock.clone()),
            (shaper, _) => shaper,
        };
        let config = SenderConfig {
            queue_messages: messages,
            flow: towards.flow,
            carried_bytes,
            ..SenderConfig::default()
        };
        let link = &towards.neighbour.link;
        Ok(LinkSender::spawn(connection, shaper, link, config)?)
    }

    /// Starts to receive messages of at most `message_bytes` over `connection`, within the network's runtime; `messages`
    /// may be due and not yet taken.
    pub fn receiver(
        &self,
        connection: &Connection,
        towards: &Towards<'_>,
        messages: usize,
        message_bytes: u64,
    ) -> Result<(ReceiverTask, mpsc::Receiver<Received>), NeighbourError> {
        let (out, inbox) = mpsc::channel(messages);
        let config = ReceiverConfig {
            max_message_bytes: message_bytes,
            keeps_payloads: self.keeps_payloads,
            cell: self.arrivals(towards.neighbour)?,
            hold: self.hold(towards.neighbour)?,
            peer_clock: towards.clock.clone(),
        };
        let receiver = ReceiverTask::spawn(connection, &BufferPool::default(), config, out)?;
        Ok((receiver, inbox))
    }

    /// Who shapes the link towards `neighbour`. A region's fabric is clocked wherever links between regions are shaped.
    fn shaper(&self, neighbour: &bace_api::Neighbour) -> Result<Shaper, NeighbourError> {
        if !self.is_clocked(neighbour) {
            return Ok(Shaper::Below);
        }
        match neighbour.clock {
            None => Ok(Shaper::Clock(LinkCell::private(&neighbour.link))),
            Some(index) => Ok(Shaper::Clock(self.shared(index)?)),
        }
    }

    /// Where arrivals from `neighbour` are counted for all processes: only there where the sender's clock times them.
    fn arrivals(
        &self,
        neighbour: &bace_api::Neighbour,
    ) -> Result<Option<LinkCell>, NeighbourError> {
        match (self.network, neighbour.clock_back) {
            (NetworkRung::Modelled | NetworkRung::Shaped, Some(index)) => {
                self.shared(index).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// The link from `neighbour`, where what arrives over it is held for its delay.
    fn hold(&self, neighbour: &bace_api::Neighbour) -> Result<Option<LinkCell>, NeighbourError> {
        match neighbour.clock_back {
            Some(index) if self.receivers_hold => self.shared(index).map(Some),
            _ => Ok(None),
        }
    }

    /// The links there and back as the kernel has them, and how a connection over them finds its rate.
    fn kernel_route(&self, neighbour: &bace_api::Neighbour) -> (Route, Congestion) {
        let route = Route {
            there: neighbour.link,
            back: neighbour.back,
        };
        if self.receivers_hold {
            // Without the link's delay a search for the rate is not the one that the link would see.
            (route.without_delay(), Congestion::Fixed)
        } else {
            (route, self.congestion)
        }
    }

    /// The clock `index` of a link between regions.
    fn shared(&self, index: u32) -> Result<LinkCell, NeighbourError> {
        Ok(self.clocks.cell(index as usize)?)
    }

    /// Where links take datagrams, puts the one towards `neighbour` between `data` and its address. Comes before any
    /// connection, whose handshake takes the link too. Draws follow from `flow` and from `time`, which tells apart what the
    /// same flow sends on several occasions.
    pub fn lay<'a>(
        &self,
        data: &Endpoint,
        neighbour: &'a bace_api::Neighbour,
        flow: FlowKey,
        time: u64,
    ) -> Result<Towards<'a>, NeighbourError> {
        let datagrams = match (self.network, neighbour.clock) {
            (NetworkRung::Packet, Some(index)) => {
                let link = PacketLink {
                    cell: self.shared(index)?,
                    route: Route {
                        there: neighbour.link,
                        back: neighbour.back,
                    },
                    congestion: self.congestion,
                    draws: flow.datagrams(time),
                };
                Some(data.shape(neighbour.address, link)?)
            }
            (NetworkRung::Kernel, Some(_)) => {
                let (route, congestion) = self.kernel_route(neighbour);
                data.tune(neighbour.address, route, congestion);
                None
            }
            _ => {
                data.pass(neighbour.address);
                None
            }
        };
        Ok(Towards {
            neighbour,
            flow,
            datagrams,
            clock: None,
        })
    }
}

/// A neighbour, and what is sent to it.
#[derive(Debug)]
pub struct Towards<'a> {
    /// Who and where it is, and the links there and back.
    pub neighbour: &'a bace_api::Neighbour,
    /// Names what is sent to it.
    flow: FlowKey,
    /// What becomes of the datagrams sent to it, where its link takes them.
    datagrams: Option<DatagramCounters>,
    /// Its clock once it was probed; absent on the same host, and where links are not timed.
    pub clock: Option<PeerClock>,
}

/// The stage on the other side of a boundary.
#[derive(Debug)]
pub struct Neighbour {
    connection: Connection,
    sender: LinkSender,
    inbox: mpsc::Receiver<Received>,
    receiver: ReceiverTask,
    sent: TransferSummary,
    /// Its clock; absent on the same host, and where links are not timed.
    clock: Option<PeerClock>,
    datagrams: Option<DatagramCounters>,
}

impl Neighbour {
    /// Starts to exchange tensors over `connection` with a neighbour, within the network's runtime.
    pub fn start(
        connection: Connection,
        towards: Towards<'_>,
        links: &LinkAccess,
        prepare: &Prepare,
    ) -> Result<Self, NeighbourError> {
        // No more tensors than these wait on either side.
        let messages = prepare.job.tensors_ahead() as usize;
        // The task ends with its queue or its connection, which the session closes.
        let carried_bytes = prepare.boundary_stands_for_bytes;
        let (sender, _task) = links.sender(&connection, &towards, messages, carried_bytes)?;
        let message_bytes = prepare.job.boundary_bytes();
        let (receiver, inbox) = links.receiver(&connection, &towards, messages, message_bytes)?;
        Ok(Self {
            connection,
            sender,
            inbox,
            receiver,
            sent: TransferSummary::default(),
            datagrams: towards.datagrams,
            clock: towards.clock,
        })
    }

    /// What is known of its clock now.
    pub fn clock(&self) -> Option<ClockEstimate> {
        self.clock.as_ref().map(PeerClock::estimate)
    }

    /// The connection, to close it.
    pub fn connection(&self) -> Connection {
        self.connection.clone()
    }

    /// Queues a tensor that could leave at `ready_ns`; waits only where the queue is full, and tells when it had room then.
    pub fn send(
        &mut self,
        header: Vec<u8>,
        payload: Bytes,
        ready_ns: u64,
    ) -> Result<Option<u64>, NeighbourError> {
        self.sent.messages += 1;
        self.sent.bytes += payload.len() as u64;
        let message = OutgoingMessage {
            header: header.into(),
            payload,
            ready_ns,
        };
        match self.sender.try_send(message.clone()) {
            Ok(()) => Ok(None),
            Err(SocketError::QueueFull(_)) => {
                self.sender.blocking_send(message)?;
                Ok(Some(now_ns()))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Waits for the next tensor.
    pub fn receive(&mut self) -> Result<ReceivedMessage, NeighbourError> {
        match self.inbox.blocking_recv() {
            Some(Received::Message(message)) => Ok(message),
            Some(Received::Failed { error, .. } | Received::Ended { error, .. }) => {
                Err(error.into())
            }
            None => Err(SocketError::TaskEnded.into()),
        }
    }

    /// What was sent to this neighbour, and what came late from it.
    pub fn transfers(&self) -> TransferSummary {
        let received = self.receiver.stats();
        TransferSummary {
            late_arrivals: received.late_arrivals,
            worst_late_s: received.late_max_us as f64 / 1e6,
            ..self.sent
        }
    }

    /// What became of the datagrams sent to this neighbour, where its link takes them.
    pub fn datagrams(&self) -> Option<DatagramSummary> {
        let counts = self.datagrams.as_ref()?.counts();
        Some(DatagramSummary {
            sent: counts.sent,
            bytes: counts.bytes,
            lost: counts.lost,
            dropped: counts.dropped,
            refused: counts.refused,
            late: counts.late,
            worst_late_s: counts.late_max_ns as f64 / 1e9,
        })
    }
}

/// What is farther away than an emulated link cannot be brought nearer.
fn check_distance(
    neighbour: &bace_api::Neighbour,
    clock: &PeerClock,
) -> Result<(), NeighbourError> {
    let latency_s = clock.estimate().latency_ns as f64 / 1e9;
    let delay_s = neighbour.link.delay.seconds();
    if latency_s <= delay_s {
        return Ok(());
    }
    Err(NeighbourError::TooFar {
        name: neighbour.worker.certificate_name(),
        latency_ms: latency_s * 1e3,
        delay_ms: delay_s * 1e3,
    })
}
