//! How two workers find each other: one connects, the other is found.

use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use bace_api::{HEADER_LIMIT, PROTOCOL_VERSION, PeerHello, Purpose, decode, encode};
use bace_socket::{Connection, Endpoint, PeerClock};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::neighbour::{LinkAccess, Towards};
use crate::peers::Arrival;

/// Longest wait for a worker that was told to connect: it may still be loading the job before.
const PEER_TIMEOUT: Duration = Duration::from_secs(30);

/// What both say when they meet.
#[derive(Debug, Clone, Copy)]
pub struct Words {
    /// What this worker says it is there for.
    pub own: Purpose,
    /// What the other has to say.
    pub theirs: Purpose,
}

/// A worker that is to connect and has not arrived.
#[derive(Debug)]
pub struct Awaited {
    /// What it comes for.
    pub purpose: Purpose,
    /// Its certificate name: any member of the run can connect and say `purpose`.
    pub name: String,
    /// Where it is handed over.
    pub found: oneshot::Sender<Arrival>,
}

/// Connects to a worker, which is called `who` in errors, and probes its clock where that is another.
pub async fn find(
    data: &Endpoint,
    links: &LinkAccess,
    towards: &mut Towards<'_>,
    words: Words,
    who: &str,
) -> anyhow::Result<Connection> {
    let peer = towards.neighbour;
    let name = peer.worker.certificate_name();
    let connected = timeout(PEER_TIMEOUT, async {
        let connection = data.connect(peer.address, &name).await?;
        let hello = encode::<HEADER_LIMIT>(&words.hello())?;
        let (answer, writer, reader) = connection.hello(&hello, HEADER_LIMIT as u32).await?;
        words.check(decode::<HEADER_LIMIT, _>(&answer)?)?;
        if links.is_timed_elsewhere(peer) {
            towards.clock = Some(PeerClock::ask(writer, reader).await?);
        }
        anyhow::Ok(connection)
    });
    connected
        .await
        .map_err(|_| anyhow!("{who} at {} does not answer", peer.address))?
}

/// Waits for a worker that connects, which is called `who` in errors, answers it, and lets it probe the clock where that is
/// another.
pub async fn be_found(
    arrival: oneshot::Receiver<Arrival>,
    links: &LinkAccess,
    towards: &mut Towards<'_>,
    words: Words,
    who: &str,
) -> anyhow::Result<Connection> {
    let mut arrival = timeout(PEER_TIMEOUT, arrival)
        .await
        .map_err(|_| anyhow!("{who} did not connect"))?
        .context("it is wanted no more")?;
    words.check(arrival.hello)?;
    arrival
        .writer
        .send(&encode::<HEADER_LIMIT>(&words.hello())?)
        .await?;
    if links.is_timed_elsewhere(towards.neighbour) {
        let answered = PeerClock::answer(arrival.writer, arrival.reader);
        let answered = timeout(PEER_TIMEOUT, answered).await;
        towards.clock = Some(answered.map_err(|_| anyhow!("{who} does not probe the clock"))??);
    }
    Ok(arrival.connection)
}

impl Words {
    fn hello(&self) -> PeerHello {
        PeerHello {
            protocol: PROTOCOL_VERSION,
            purpose: self.own,
        }
    }

    fn check(&self, hello: PeerHello) -> anyhow::Result<()> {
        let expected = PeerHello {
            purpose: self.theirs,
            ..self.hello()
        };
        if hello != expected {
            bail!("expected {expected:?}, but the peer said {hello:?}");
        }
        Ok(())
    }
}
