//! A neighbouring stage as the compute thread sees it: send and receive, both blocking.

use bace_api::{CodecError, Prepare, TensorId, TransferSummary};
use bace_socket::{
    BufferPool, CellTable, Connection, LinkCell, LinkSender, OutgoingMessage, Received,
    ReceivedMessage, ReceiverConfig, ReceiverTask, SenderConfig, SocketError,
};
use bytes::Bytes;
use tokio::sync::mpsc;

/// Why tensors do not flow between two stages.
#[derive(Debug, thiserror::Error)]
pub enum NeighbourError {
    /// The transport failed.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The link has no clock in this run's shared memory.
    #[error("find the clock of the link to {0}: the coordinator shares no memory with this worker")]
    NoClocks(String),
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

/// The stage on the other side of a boundary.
#[derive(Debug)]
pub struct Neighbour {
    connection: Connection,
    sender: LinkSender,
    inbox: mpsc::Receiver<Received>,
    receiver: ReceiverTask,
    sent: TransferSummary,
}

impl Neighbour {
    /// Starts to exchange tensors over `connection`, within the network's runtime.
    pub fn start(
        connection: Connection,
        neighbour: &bace_api::Neighbour,
        clocks: Option<&CellTable>,
        prepare: &Prepare,
    ) -> Result<Self, NeighbourError> {
        let cell = match (neighbour.clock, clocks) {
            (None, _) => LinkCell::private(neighbour.link.rate),
            (Some(index), Some(clocks)) => clocks.cell(index as usize)?,
            (Some(_), None) => {
                return Err(NeighbourError::NoClocks(
                    neighbour.worker.certificate_name(),
                ));
            }
        };
        // A neighbour is at most one iteration ahead, so that no more tensors than these wait on either side.
        let messages = 2 * prepare.job.micro_batches as usize + 1;
        let config = SenderConfig {
            queue_messages: messages,
            ..SenderConfig::default()
        };
        // The task ends with its queue or its connection, which the session closes.
        let (sender, _task) = LinkSender::spawn(&connection, cell, &neighbour.link, config)?;
        let (out, inbox) = mpsc::channel(messages);
        let config = ReceiverConfig {
            max_message_bytes: prepare.job.boundary_bytes(),
            cell: None,
        };
        let receiver = ReceiverTask::spawn(&connection, &BufferPool::default(), config, out)?;
        Ok(Self {
            connection,
            sender,
            inbox,
            receiver,
            sent: TransferSummary::default(),
        })
    }

    /// The connection, to close it.
    pub fn connection(&self) -> Connection {
        self.connection.clone()
    }

    /// Queues a tensor that could leave at `ready_ns`; waits only where the queue is full.
    pub fn send(
        &mut self,
        header: Vec<u8>,
        payload: Bytes,
        ready_ns: u64,
    ) -> Result<(), NeighbourError> {
        self.sent.messages += 1;
        self.sent.bytes += payload.len() as u64;
        self.sender.blocking_send(OutgoingMessage {
            header: header.into(),
            payload,
            ready_ns,
        })?;
        Ok(())
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
}
