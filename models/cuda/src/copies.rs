//! Copies between a device and the host that are under way.

use std::any::Any;

use crate::driver::{DeviceRange, Event, PinnedBuffer, Stream};
use crate::error::CudaError;
use crate::pool::Pooled;

/// What has to live until a copy is done: the tensor whose memory it is.
pub type Held = Box<dyn Any + Send>;

/// A copy that the device does by itself. It owns both ends until it is done; dropping it waits for it.
#[derive(Debug)]
pub struct Copying {
    /// Absent only once it was waited for.
    ends: Option<(Pooled<PinnedBuffer>, Held)>,
    done: Event,
}

impl Stream {
    /// Begins to copy `from`, which is memory of `held`, into `to`, after all work given to this stream before.
    ///
    /// # Errors
    /// [`CudaError::NotOnDevice`], [`CudaError::Refused`].
    ///
    /// # Panics
    /// Where the two are not of one length.
    pub fn copy_to_host(
        &self,
        (from, held): (DeviceRange, Held),
        to: Pooled<PinnedBuffer>,
    ) -> Result<Copying, CudaError> {
        self.copying((to, held), |to| self.begin_to_host(from, to))
    }

    /// Begins to copy `from` into `to`, which is memory of `held`, after all work given to this stream before.
    ///
    /// # Errors
    /// [`CudaError::NotOnDevice`], [`CudaError::Refused`].
    ///
    /// # Panics
    /// Where the two are not of one length.
    pub fn copy_to_device(
        &self,
        from: Pooled<PinnedBuffer>,
        (to, held): (DeviceRange, Held),
    ) -> Result<Copying, CudaError> {
        self.copying((from, held), |from| self.begin_to_device(from, to))
    }

    fn copying(
        &self,
        (mut buffer, held): (Pooled<PinnedBuffer>, Held),
        begin: impl FnOnce(&mut PinnedBuffer) -> Result<(), CudaError>,
    ) -> Result<Copying, CudaError> {
        // A mark of this stream's own context: no other can be recorded on it.
        let done = self.event()?;
        match begin(&mut buffer).and_then(|()| self.record(&done)) {
            Ok(()) => Ok(Copying {
                ends: Some((buffer, held)),
                done,
            }),
            Err(error) => {
                // The copy may be under way all the same, and nothing marks its end but the whole stream's.
                if self.synchronize().is_err() {
                    give_up(buffer, held);
                }
                Err(error)
            }
        }
    }
}

impl Copying {
    /// Reached once the copy is done, for other streams to follow.
    pub fn done(&self) -> &Event {
        &self.done
    }

    /// Waits until the copy is done; its host side, and its mark to be used again.
    ///
    /// # Errors
    /// [`CudaError::Refused`]; also for what went wrong on the device before.
    pub fn wait(mut self) -> Result<Pooled<PinnedBuffer>, CudaError> {
        let waited = self.done.wait();
        let (buffer, held) = self.ends.take().expect("it is waited for once");
        match waited {
            Ok(()) => Ok(buffer),
            Err(error) => {
                give_up(buffer, held);
                Err(error)
            }
        }
    }
}

impl Drop for Copying {
    fn drop(&mut self) {
        if let Some((buffer, held)) = self.ends.take()
            && self.done.wait().is_err()
        {
            give_up(buffer, held);
        }
    }
}

/// Nobody knows whether a device that fails still writes: what it could write to is never used again.
fn give_up(buffer: Pooled<PinnedBuffer>, held: Held) {
    buffer.give_up();
    std::mem::forget(held);
}
