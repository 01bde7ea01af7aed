//! Messages between coordinator and one worker.

use std::time::Duration;

use bace_api::{CONTROL_LIMIT, ToWorker, WorkerId, decode, encode};
use bace_socket::{Connection, MessageReader, MessageWriter};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::fleet::Event;

/// Commands that may wait for one worker; it gets a handful for each job.
const COMMANDS: usize = 64;

/// How long after its last word a worker may still say why it goes.
const FAREWELL_TIMEOUT: Duration = Duration::from_millis(500);

/// Hands up what a worker says until it says no more; why it does not.
pub async fn read(
    worker: WorkerId,
    mut reader: MessageReader,
    connection: &Connection,
    events: &mpsc::Sender<Event>,
) -> String {
    loop {
        let message = match reader.receive().await {
            Ok(Some(message)) => message,
            Ok(None) => {
                let closed = timeout(FAREWELL_TIMEOUT, connection.closed()).await;
                return closed.map_or_else(
                    |_| "it has ended its connection".to_owned(),
                    |error| format!("failed to {error}"),
                );
            }
            Err(error) => return format!("failed to {error}"),
        };
        match decode::<CONTROL_LIMIT, _>(&message) {
            Ok(message) => {
                if events
                    .send(Event::Said(worker, Box::new(message)))
                    .await
                    .is_err()
                {
                    return "the run is over".to_owned();
                }
            }
            Err(error) => return format!("failed to {error}"),
        }
    }
}

/// A queue of commands for one worker. A command that cannot be sent ends the connection: a worker that has missed one is
/// of no more use, and its loss is told of as any other.
pub fn writer(
    worker: WorkerId,
    mut writer: MessageWriter,
    connection: Connection,
) -> mpsc::Sender<ToWorker> {
    let (commands, mut queue) = mpsc::channel::<ToWorker>(COMMANDS);
    tokio::spawn(async move {
        while let Some(command) = queue.recv().await {
            let message = match encode::<CONTROL_LIMIT>(&command) {
                Ok(message) => message,
                Err(error) => {
                    tracing::error!(
                        "command for {}: failed to {error}",
                        worker.certificate_name()
                    );
                    connection.close("a command could not be encoded");
                    return;
                }
            };
            // A worker that is gone is told of by its reader.
            if writer.send(&message).await.is_err() {
                return;
            }
        }
    });
    commands
}
