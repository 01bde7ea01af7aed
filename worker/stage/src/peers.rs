//! Neighbours that connect to this worker: who they are, and where they wait.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bace_api::{HEADER_LIMIT, PeerHello, Purpose, decode, told};
use bace_socket::{Connection, Endpoint, MessageReader, MessageWriter, PendingPeer};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;

/// Longest wait for a peer that has connected to say who it is.
const PEER_HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// Peers whose handshake may be under way at once: a neighbour's takes milliseconds, and whoever knocks and then
/// stays silent holds one for as long as `PEER_HELLO_TIMEOUT`.
const HANDSHAKES: usize = 64;

/// A peer that has connected and said who it is.
#[derive(Debug)]
pub struct Arrival {
    /// The connection, whose name the run's authority vouches for.
    pub connection: Connection,
    /// What it said.
    pub hello: PeerHello,
    /// To answer it.
    pub writer: MessageWriter,
    /// What it says after that.
    pub reader: MessageReader,
}

/// Where peers knock.
#[derive(Debug)]
pub struct Door {
    /// The endpoint.
    pub endpoint: Arc<Endpoint>,
    /// Whether links take datagrams: then who knocks waits until the link to it is in place, which its handshake takes too.
    pub takes_datagrams: bool,
}

/// Hands all who connect at `door` and say who they are to `peers`, until its endpoint is closed.
pub async fn accept_peers(door: Door, peers: mpsc::Sender<Arrival>) {
    let takes_datagrams = door.takes_datagrams;
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES));
    loop {
        let Ok(permit) = Arc::clone(&handshakes).acquire_owned().await else {
            return;
        };
        let Some(pending) = door.endpoint.accept().await else {
            return;
        };
        let peers = peers.clone();
        tokio::spawn(async move {
            let greeted = async {
                if takes_datagrams {
                    pending.named().await;
                }
                greet(pending).await
            };
            match timeout(PEER_HELLO_TIMEOUT, greeted).await {
                // A session that has ended needs no neighbours.
                Ok(Ok(arrival)) => drop(peers.send(arrival).await),
                Ok(Err(error)) => {
                    tracing::warn!("a peer was turned away: {}", told(error.as_ref()))
                }
                Err(_) => tracing::warn!("a peer was turned away: it did not say who it is"),
            }
            drop(permit);
        });
    }
}

async fn greet(pending: PendingPeer) -> anyhow::Result<Arrival> {
    let connection = pending.establish().await?;
    let (writer, mut reader) = connection.accept_messages(HEADER_LIMIT as u32).await?;
    let hello = reader
        .receive()
        .await?
        .context("read a peer's hello: it said nothing")?;
    Ok(Arrival {
        hello: decode::<HEADER_LIMIT, PeerHello>(&hello)?,
        connection,
        writer,
        reader,
    })
}

/// Peers that connected before the coordinator's word about them arrived: the latest of each member of the run,
/// since a worker does one thing with another at a time, so that no member takes another's place.
#[derive(Debug)]
pub struct EarlyPeers<T> {
    /// Oldest first.
    waiting: VecDeque<Early<T>>,
    most: usize,
}

#[derive(Debug)]
struct Early<T> {
    name: String,
    purpose: Purpose,
    peer: T,
}

impl<T> EarlyPeers<T> {
    /// Room for `most` members, at least one.
    pub fn new(most: usize) -> Self {
        Self {
            waiting: VecDeque::new(),
            most: most.max(1),
        }
    }

    /// Keeps the peer of this certificate name in place of what the same member sent before and, where there is no
    /// room, of the member that has waited longest; that member's name.
    pub fn keep(&mut self, name: &str, purpose: Purpose, peer: T) -> Option<String> {
        self.waiting.retain(|early| early.name != name);
        let full = self.waiting.len() == self.most;
        let oldest = full.then(|| self.waiting.pop_front()).flatten();
        self.waiting.push_back(Early {
            name: name.to_owned(),
            purpose,
            peer,
        });
        oldest.map(|early| early.name)
    }

    /// The peer that came for this and has this certificate name.
    pub fn take(&mut self, name: &str, purpose: Purpose) -> Option<T> {
        let wanted = |early: &Early<T>| early.name == name && early.purpose == purpose;
        let index = self.waiting.iter().position(wanted)?;
        self.waiting.remove(index).map(|early| early.peer)
    }

    /// Drops those whose purpose is over.
    pub fn forget(&mut self, is_over: impl Fn(Purpose) -> bool) {
        self.waiting.retain(|early| !is_over(early.purpose));
    }
}

#[cfg(test)]
mod tests {
    use bace_api::{Attempt, JobId, MeasurementId, StageIndex};

    use super::*;

    fn key(job: u32, stage: u32) -> Purpose {
        Purpose::Stage {
            job: JobId(job),
            attempt: Attempt(1),
            stage: StageIndex(stage),
        }
    }

    #[test]
    fn who_claims_to_be_another_does_not_take_its_place() {
        let mut early = EarlyPeers::new(16);
        assert_eq!(early.keep("w3", key(0, 0), "impostor"), None);
        assert_eq!(early.keep("w1", key(0, 0), "real"), None);
        assert_eq!(early.keep("w4", key(0, 0), "impostor"), None);
        assert_eq!(early.take("w1", key(0, 1)), None);
        assert_eq!(early.take("w1", key(0, 0)), Some("real"));
        assert_eq!(early.take("w1", key(0, 0)), None);
    }

    #[test]
    fn a_member_has_one_place_however_much_it_sends() {
        let mut early = EarlyPeers::new(2);
        early.keep("w1", key(0, 0), 0);
        for job in 1..100 {
            assert_eq!(early.keep("w3", key(job, 0), job), None);
        }
        assert_eq!(early.take("w1", key(0, 0)), Some(0));
        assert_eq!(early.take("w3", key(98, 0)), None);
        assert_eq!(early.take("w3", key(99, 0)), Some(99));
    }

    #[test]
    fn who_has_waited_longest_makes_room() {
        let mut early = EarlyPeers::new(2);
        early.keep("w1", key(0, 0), 1);
        early.keep("w2", key(0, 0), 2);
        assert_eq!(early.keep("w3", key(0, 0), 3), Some("w1".to_owned()));
        assert_eq!(early.keep("w2", key(1, 0), 4), None);
        assert_eq!(early.take("w2", key(1, 0)), Some(4));
        assert_eq!(early.take("w3", key(0, 0)), Some(3));
    }

    #[test]
    fn a_released_job_takes_its_early_peers_along() {
        let mut early = EarlyPeers::new(2);
        early.keep("w1", key(0, 0), 1);
        early.keep("w2", key(1, 0), 2);
        let measurement = Purpose::Measurement(MeasurementId(0));
        early.forget(|purpose| purpose == key(0, 0) || purpose == measurement);
        assert_eq!(early.take("w1", key(0, 0)), None);
        assert_eq!(early.take("w2", key(1, 0)), Some(2));
    }
}
