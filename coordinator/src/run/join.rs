//! Workers' first words: who may join the run.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use bace_api::{
    CONTROL_LIMIT, FromWorker, PROTOCOL_VERSION, ToWorker, WorkerDevice, WorkerId, decode, encode,
    told,
};
use bace_socket::{Connection, Endpoint, MessageReader, MessageWriter};
use governor::{Quota, RateLimiter};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::fleet::Seat;

/// Handshakes a second that strangers can cost the coordinator, on top of a first one of every expected worker: each
/// takes about a millisecond of the thread that also reads what workers report.
const HANDSHAKES_PER_SECOND: NonZeroU32 = NonZeroU32::new(20).expect("20 is not 0");
/// Longest wait for a worker that has connected to say who it is, and for a refusal to reach it.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);

/// A worker that may take part.
#[derive(Debug)]
pub struct Joined {
    /// Which of the expected ones.
    pub worker: WorkerId,
    /// Where it listens for neighbours.
    pub address: SocketAddr,
    /// Identifies its host.
    pub host_id: String,
    /// What it computes on.
    pub device: WorkerDevice,
    /// Keeps the connection open.
    pub connection: Connection,
    /// To the worker; it waits for its welcome.
    pub writer: MessageWriter,
    /// From the worker.
    pub reader: MessageReader,
}

impl Joined {
    /// Tells a worker that may take part why it does not.
    pub async fn refuse(self, reason: &str) {
        let name = self.worker.certificate_name();
        tracing::warn!("{name} was refused: {reason}");
        // Whether it hears why or not: it goes.
        let _ = timeout(HELLO_TIMEOUT, say_no(self.writer, reason)).await;
    }
}

/// Lets expected workers in until the endpoint closes; others are told why not.
pub async fn admit(endpoint: Arc<Endpoint>, seats: Arc<[Seat]>, joined: mpsc::Sender<Joined>) {
    let first_of_each = u32::try_from(seats.len()).unwrap_or(u32::MAX);
    let burst = HANDSHAKES_PER_SECOND.saturating_add(first_of_each);
    let limiter = RateLimiter::direct(Quota::per_second(HANDSHAKES_PER_SECOND).allow_burst(burst));
    while let Some(pending) = endpoint.accept().await {
        if limiter.check().is_err() {
            tracing::debug!(
                "a handshake from {} was dropped: too many at once",
                pending.address()
            );
            continue;
        }
        let (seats, joined) = (Arc::clone(&seats), joined.clone());
        tokio::spawn(async move {
            let address = pending.address();
            let admitted = timeout(HELLO_TIMEOUT, async {
                let connection = pending.establish().await?;
                let (writer, reader) = connection.accept_messages(CONTROL_LIMIT as u32).await?;
                admit_one(connection, writer, reader, &seats).await
            });
            match admitted.await {
                Ok(Ok(worker)) => {
                    // Once all are ready nobody waits for workers.
                    if let Err(mpsc::error::SendError(late)) = joined.send(worker).await {
                        late.refuse("the run has begun without it").await;
                    }
                }
                Ok(Err(error)) => {
                    tracing::warn!(
                        "a worker from {address} was refused: failed to {}",
                        told(error.as_ref())
                    )
                }
                Err(_) => {
                    tracing::warn!("a worker from {address} was refused: it did not say who it is")
                }
            }
        });
    }
}

async fn admit_one(
    connection: Connection,
    writer: MessageWriter,
    mut reader: MessageReader,
    seats: &[Seat],
) -> anyhow::Result<Joined> {
    let hello = reader
        .receive()
        .await?
        .context("read a hello: the worker said nothing")?;
    let hello: FromWorker = decode::<CONTROL_LIMIT, _>(&hello)
        .context("read a hello: coordinator and worker may be of different builds")?;
    match check(hello, connection.peer_name(), seats) {
        Ok(Newcomer {
            worker,
            address,
            host_id,
            device,
        }) => Ok(Joined {
            worker,
            address,
            host_id,
            device,
            connection,
            writer,
            reader,
        }),
        Err(reason) => {
            say_no(writer, &reason).await?;
            bail!("admit {}: {reason}", connection.peer_name())
        }
    }
}

/// Says `reason` and waits until the worker has heard it.
async fn say_no(mut writer: MessageWriter, reason: &str) -> anyhow::Result<()> {
    let refusal = encode::<CONTROL_LIMIT>(&ToWorker::Refused(reason.to_owned()))?;
    // It may hang up as soon as it knows.
    if writer.send(&refusal).await.is_ok() {
        let _ = writer.finish().await;
    }
    Ok(())
}

/// What an expected worker has said of itself.
#[derive(Debug, PartialEq)]
struct Newcomer {
    worker: WorkerId,
    address: SocketAddr,
    host_id: String,
    device: WorkerDevice,
}

/// Whether this is the worker that its certificate is for, and one that this run can use.
fn check(hello: FromWorker, certificate_name: &str, seats: &[Seat]) -> Result<Newcomer, String> {
    let FromWorker::Hello {
        protocol,
        region,
        address,
        host_id,
        device,
        ..
    } = hello
    else {
        return Err("its first message is no hello".to_owned());
    };
    if protocol != PROTOCOL_VERSION {
        return Err(format!(
            "it speaks protocol {protocol}, this run speaks {PROTOCOL_VERSION}"
        ));
    }
    let seat = seats
        .iter()
        .find(|seat| seat.worker.certificate_name() == certificate_name)
        .ok_or_else(|| format!("{certificate_name} is no worker of this run"))?;
    if seat.region_name != region {
        return Err(format!(
            "its credentials are for region {}, but it stands for {region}",
            seat.region_name
        ));
    }
    Ok(Newcomer {
        worker: seat.worker,
        address,
        host_id,
        device,
    })
}

#[cfg(test)]
mod tests {
    use bace_netem::RegionId;

    use super::*;

    fn hello(protocol: u32, region: &str) -> FromWorker {
        FromWorker::Hello {
            protocol,
            region: region.to_owned(),
            address: SocketAddr::from(([127, 0, 0, 1], 9)),
            host_id: "host".to_owned(),
            pid: 1,
            device: WorkerDevice {
                name: "cpu".to_owned(),
                words: "cpu".to_owned(),
                slots: 2,
            },
        }
    }

    #[test]
    fn only_the_expected_worker_may_join() {
        let seats = [Seat {
            worker: WorkerId(0),
            region: RegionId::new(0),
            region_name: "north".to_owned(),
        }];
        let check = |hello: FromWorker, name: &str| {
            check(hello, name, &seats).map(|newcomer| newcomer.worker)
        };
        let good = || hello(PROTOCOL_VERSION, "north");
        assert_eq!(check(good(), "w0.run.local"), Ok(WorkerId(0)));
        let refusals = [
            check(good(), "w1.run.local"),
            check(hello(PROTOCOL_VERSION + 1, "north"), "w0.run.local"),
            check(hello(PROTOCOL_VERSION, "south"), "w0.run.local"),
            check(FromWorker::Ready { text_hash: None }, "w0.run.local"),
        ];
        let words = [
            "no worker of this run",
            "protocol",
            "north, but it stands for south",
            "no hello",
        ];
        for (refusal, word) in refusals.into_iter().zip(words) {
            let reason = refusal.unwrap_err();
            assert!(reason.contains(word), "{reason}");
        }
    }
}
