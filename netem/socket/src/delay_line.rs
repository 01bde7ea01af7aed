//! Messages that their sender holds back, since the receiver's clock is not known well enough for it to do so.
//!
//! A chunk leaves so early that it arrives, over what the physical network takes, when the link would have delivered it; the
//! receiver hands its message up as soon as it is whole. What the network takes is known from round trips alone: where its two
//! directions differ, delays are off by half of the difference.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::task::AbortHandle;

use crate::SocketError;
use crate::carry::OutgoingStream;
use crate::peer_clock::PeerClock;
use crate::timer::DeadlineTimer;

/// Chunks that may be held: as many of 64 KiB as the bound on bytes in flight of any sender. Beyond, which only messages
/// without payload reach, their sender waits.
const MOST_CHUNKS: usize = 32_768;

/// Holds chunks until they may leave, in the order in which they came. Dropped, it drops them.
#[derive(Debug)]
pub(crate) struct DelayLine {
    peer_clock: PeerClock,
    queue: mpsc::Sender<Held>,
    task: AbortHandle,
}

/// A chunk that is held.
struct Held {
    leave_ns: u64,
    stream: Arc<Mutex<OutgoingStream>>,
    pieces: Vec<Bytes>,
    /// Who waits until the message is written; only with its last chunk.
    written: Option<oneshot::Sender<Result<(), SocketError>>>,
}

/// A message that is being held.
pub(crate) struct HeldMessage<'a> {
    line: &'a DelayLine,
    latency_ns: u64,
    stream: Arc<Mutex<OutgoingStream>>,
}

/// A message of which all has been handed over to the line.
pub(crate) struct HandedOver {
    stream: Arc<Mutex<OutgoingStream>>,
    written: oneshot::Receiver<Result<(), SocketError>>,
}

impl DelayLine {
    /// A line towards the host of `peer_clock`, within the current tokio runtime.
    ///
    /// # Errors
    /// When no timer is left.
    pub fn new(peer_clock: PeerClock) -> Result<Self, SocketError> {
        let (queue, held) = mpsc::channel(MOST_CHUNKS);
        let task = tokio::spawn(run(DeadlineTimer::new()?, held));
        Ok(Self {
            peer_clock,
            queue,
            task: task.abort_handle(),
        })
    }

    /// What a message needs to the peer, ns, if it has to be held here.
    pub fn latency_ns(&self) -> Option<u64> {
        self.peer_clock.held_latency_ns()
    }

    /// Begins to hold a message that needs `latency_ns` to the peer.
    pub fn begin(&self, stream: OutgoingStream, latency_ns: u64) -> HeldMessage<'_> {
        HeldMessage {
            line: self,
            latency_ns,
            stream: Arc::new(Mutex::new(stream)),
        }
    }
}

impl Drop for DelayLine {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl HeldMessage<'_> {
    /// Holds a chunk that the link delivers at `deliver_at_ns`, and that is not the last.
    pub async fn hold(&self, pieces: Vec<Bytes>, deliver_at_ns: u64) -> Result<(), SocketError> {
        self.push(pieces, deliver_at_ns, None).await
    }

    /// Holds the last chunk.
    pub async fn hold_last(
        self,
        pieces: Vec<Bytes>,
        deliver_at_ns: u64,
    ) -> Result<HandedOver, SocketError> {
        let (done, written) = oneshot::channel();
        self.push(pieces, deliver_at_ns, Some(done)).await?;
        Ok(HandedOver {
            stream: self.stream,
            written,
        })
    }

    async fn push(
        &self,
        pieces: Vec<Bytes>,
        deliver_at_ns: u64,
        written: Option<oneshot::Sender<Result<(), SocketError>>>,
    ) -> Result<(), SocketError> {
        let held = Held {
            leave_ns: deliver_at_ns.saturating_sub(self.latency_ns),
            stream: Arc::clone(&self.stream),
            pieces,
            written,
        };
        let queued = self.line.queue.send(held).await;
        queued.map_err(|_| SocketError::TaskEnded)
    }
}

impl HandedOver {
    /// The message's stream once all of it is written.
    pub async fn written(self) -> Result<OutgoingStream, SocketError> {
        self.written.await.unwrap_or(Err(SocketError::TaskEnded))?;
        let stream = Arc::into_inner(self.stream);
        Ok(stream
            .expect("the line lets go of a stream before it tells")
            .into_inner())
    }
}

async fn run(mut timer: DeadlineTimer, mut queue: mpsc::Receiver<Held>) {
    while let Some(mut held) = queue.recv().await {
        let is_last = held.written.is_some();
        let written = async {
            timer.wait_until(held.leave_ns).await?;
            let mut stream = held.stream.lock().await;
            stream.write(&mut held.pieces).await?;
            if is_last {
                stream.finish();
            }
            Ok(())
        };
        let written = written.await;
        drop(held.stream);
        match (held.written, written) {
            // Who has sent it may be gone.
            (Some(told), written) => drop(told.send(written)),
            // It is told with the last chunk, whose stream is the same.
            (None, Err(error)) => tracing::debug!("a held chunk was not sent: failed to {error}"),
            (None, Ok(())) => {}
        }
    }
}
