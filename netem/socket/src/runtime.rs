//! The thread on which all networking of a process runs.

use std::future::Future;
use std::io;
use std::thread::{self, JoinHandle};

use rustix::process::{getpriority_process, setpriority_process};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::oneshot;

use crate::SocketError;

/// How much lower the priority of compute is: a tenth of a network thread's weight.
const COMPUTE_NICE: i32 = 10;
/// The lowest priority of the system.
const MAX_NICE: i32 = 19;

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

/// Lowers the priority of the calling thread, and of the threads it will start, beneath that of the
/// network threads; for compute.
///
/// Where compute keeps all cores busy, a network thread of the same priority waits its turn, and
/// messages are handed up some 10 ms late. The cost: compute also yields to other programs.
///
/// # Errors
/// When the system refuses.
pub fn yield_to_network() -> Result<(), SocketError> {
    // On Linux the "process" without an id is the calling thread.
    getpriority_process(None)
        .and_then(|nice| setpriority_process(None, (nice + COMPUTE_NICE).min(MAX_NICE)))
        .map_err(|error| SocketError::system("lower a thread's priority")(io::Error::from(error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compute_yields_and_the_network_does_not() {
        let nice = || getpriority_process(None).unwrap();
        let net = NetThread::start("net").unwrap();
        let before = nice();
        let compute = move || {
            yield_to_network().unwrap();
            (nice(), thread::spawn(nice).join().unwrap())
        };
        let (own, child) = thread::spawn(compute).join().unwrap();
        assert_eq!(own, (before + COMPUTE_NICE).min(MAX_NICE));
        assert_eq!(child, own);
        assert_eq!(nice(), before);
        assert_eq!(net.run(async move { nice() }).unwrap(), before);
    }

    #[test]
    fn a_task_may_drop_its_own_thread() {
        let net = NetThread::start("net").unwrap();
        let handle = net.handle().clone();
        let (done, dropped) = oneshot::channel();
        handle.spawn(async move {
            drop(net);
            done.send(()).unwrap();
        });
        dropped.blocking_recv().unwrap();
    }

    #[test]
    fn a_panic_of_a_task_is_an_error_and_the_thread_lives() {
        let net = NetThread::start("net").unwrap();
        let failed = net.run(async { assert_eq!(1, 2, "on purpose") });
        assert!(matches!(failed, Err(SocketError::TaskEnded)));
        assert_eq!(net.run(async { 3 }).unwrap(), 3);
    }
}
