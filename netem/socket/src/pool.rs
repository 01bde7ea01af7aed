//! Reused buffers for tensors' bytes.
//!
//! The page faults of a fresh 16 MB buffer cost more than carrying its bytes.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

/// Buffers kept for reuse, from any thread; clones are the same pool.
#[derive(Debug, Clone)]
pub struct BufferPool {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    max_idle_bytes: usize,
    idle: Mutex<Idle>,
}

#[derive(Debug, Default)]
struct Idle {
    buffers: Vec<Vec<u8>>,
    bytes: usize,
}

/// A buffer on loan; it goes back to its pool when dropped.
#[derive(Debug)]
pub struct PooledBuffer {
    /// Initialised throughout, at least `len` long.
    storage: Vec<u8>,
    len: usize,
    /// Absent for one without bytes, which no pool has lent.
    pool: Option<Arc<Shared>>,
}

impl BufferPool {
    /// A pool that keeps at most `max_idle_bytes` that nobody uses; what comes back beyond is
    /// freed. Buffers on loan do not count.
    pub fn new(max_idle_bytes: usize) -> Self {
        let idle = Mutex::default();
        Self {
            shared: Arc::new(Shared {
                max_idle_bytes,
                idle,
            }),
        }
    }

    /// A buffer of `len` bytes with arbitrary contents.
    pub fn take(&self, len: usize) -> PooledBuffer {
        // Zeroed by the system where it is large, and not once more here.
        let storage = self
            .shared
            .take_best_fit(len)
            .unwrap_or_else(|| vec![0; len]);
        PooledBuffer {
            storage,
            len,
            pool: Some(Arc::clone(&self.shared)),
        }
    }

    /// Bytes kept for reuse at present.
    pub fn idle_bytes(&self) -> usize {
        self.shared.lock().bytes
    }
}

impl Default for BufferPool {
    /// A pool that keeps up to 256 MiB.
    fn default() -> Self {
        Self::new(256 << 20)
    }
}

impl Shared {
    /// The smallest idle buffer that holds `len` bytes, unless more than half of it would lie idle.
    fn take_best_fit(&self, len: usize) -> Option<Vec<u8>> {
        let mut idle = self.lock();
        let best = (0..idle.buffers.len())
            .filter(|&at| (len..=len.saturating_mul(2)).contains(&idle.buffers[at].len()))
            .min_by_key(|&at| idle.buffers[at].len())?;
        let buffer = idle.buffers.swap_remove(best);
        idle.bytes -= buffer.len();
        Some(buffer)
    }

    fn put_back(&self, buffer: Vec<u8>) {
        let mut idle = self.lock();
        if !buffer.is_empty() && idle.bytes + buffer.len() <= self.max_idle_bytes {
            idle.bytes += buffer.len();
            idle.buffers.push(buffer);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Idle> {
        // A panic between two lines of this file at worst miscounts idle bytes.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PooledBuffer {
    /// One without bytes.
    pub fn empty() -> Self {
        Self {
            storage: Vec::new(),
            len: 0,
            pool: None,
        }
    }

    /// The same bytes, shared and immutable, without a copy; the last clone gives the buffer back.
    pub fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl Deref for PooledBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.storage[..self.len]
    }
}

impl DerefMut for PooledBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.storage[..self.len]
    }
}

impl AsRef<[u8]> for PooledBuffer {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Drop for PooledBuffer {
    fn drop(&mut self) {
        if let Some(pool) = &self.pool {
            pool.put_back(std::mem::take(&mut self.storage));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_buffer_is_used_again() {
        let pool = BufferPool::new(1_000);
        let mut buffer = pool.take(100);
        buffer.fill(7);
        let address = buffer.as_ptr();
        let bytes = buffer.freeze();
        let clone = bytes.clone();
        drop(bytes);
        assert_eq!(pool.idle_bytes(), 0);
        drop(clone);
        assert_eq!(pool.idle_bytes(), 100);
        let again = pool.take(60);
        assert_eq!((again.as_ptr(), again.len()), (address, 60));
        assert_eq!(pool.idle_bytes(), 0);
    }

    #[test]
    fn the_closest_size_is_taken_and_a_far_larger_one_is_left() {
        let pool = BufferPool::new(1_000);
        drop([pool.take(400), pool.take(120), pool.take(300)]);
        assert_eq!(pool.take(100).storage.len(), 120);
        assert_eq!(pool.take(30).storage.len(), 30);
        assert_eq!(pool.take(0).len(), 0);
    }

    #[test]
    fn idle_bytes_are_bounded() {
        let pool = BufferPool::new(250);
        drop([pool.take(100), pool.take(100), pool.take(100)]);
        assert_eq!(pool.idle_bytes(), 200);
    }
}
