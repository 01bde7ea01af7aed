//! The thread on which all networking of a process runs.

use std::future::Future;
use std::thread::{self, JoinHandle};

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::oneshot;

use crate::SocketError;

/// A current-thread tokio runtime on its own OS thread, so that compute never delays a chunk.
#[derive(Debug)]
pub struct NetThread {
    handle: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl NetThread {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system gives no thread or no descriptors.
    pub fn start(name: &str) -> Result<Self, SocketError> {
        let runtime: Runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(SocketError::system("start a network runtime"))?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        let thread = thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                // An error says that the other half was dropped, which stops the thread as well.
                let _ = runtime.block_on(stopped);
            })
            .map_err(SocketError::system("start a network thread"))?;
        Ok(Self {
            handle,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// Where to spawn tasks.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Runs `task` on the network thread and waits for its result; called from other threads only.
    ///
    /// # Errors
    /// When the thread was stopped or `task` panicked.
    pub fn run<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, SocketError> {
        let (result, received) = oneshot::channel();
        self.handle.spawn(async move {
            // Nobody waits any more only if the caller's thread is gone.
            let _ = result.send(task.await);
        });
        received.blocking_recv().map_err(|_| SocketError::TaskEnded)
    }
}

impl Drop for NetThread {
    /// Ends all tasks where they wait, and the thread.
    fn drop(&mut self) {
        drop(self.stop.take());
        let own = thread::current().id();
        // A task of the thread itself may hold the last handle: that thread cannot wait for itself.
        if let Some(thread) = self
            .thread
            .take()
            .filter(|thread| thread.thread().id() != own)
        {
            // A panic of the thread was printed by it; there is nothing to add.
            let _ = thread.join();
        }
    }
}
