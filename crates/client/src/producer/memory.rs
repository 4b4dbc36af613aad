//! `buffer.memory`: how much of it batches have taken, and the buffers of former batches that wait for the next.
//!
//! Buffers are used again because new ones are pages that the kernel has to clear and map, which costs about as much as to fill them.
//!
//! **Architecture invariant:** the buffers of batches and those that wait are together never more than `buffer.memory`: a batch of `batch.size` begins
//! in a buffer that waits if there is one, and before a batch of another size begins, those that wait are freed.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

/// Bytes of buffers that wait are at most so many: what a producer keeps while it has nothing to send.
const MAX_SPARE_BYTES: usize = 4 << 20;

/// See the module.
#[derive(Debug)]
pub(super) struct Memory {
    permits: Arc<Semaphore>,
    total: usize,
    usual: usize,
    spare: Mutex<Vec<Vec<u8>>>,
}

/// So much of the memory, until it is dropped.
#[derive(Debug)]
pub(super) struct Grant {
    memory: Arc<Memory>,
    _permit: OwnedSemaphorePermit,
}

impl Memory {
    /// `total` bytes, mostly for batches of `usual` bytes.
    pub(super) fn new(total: usize, usual: usize) -> Arc<Self> {
        let permits = Arc::new(Semaphore::new(total));
        Arc::new(Self { permits, total, usual: usual.min(total), spare: Mutex::default() })
    }

    /// How large a batch is, unless a record needs more.
    pub(super) fn usual(&self) -> usize {
        self.usual
    }

    /// Bytes that batches have.
    pub(super) fn taken(&self) -> usize {
        self.total - self.permits.available_permits()
    }

    /// Takes bytes if they are there and nobody waits for them.
    pub(super) fn try_take(self: &Arc<Self>, bytes: u32) -> Option<Grant> {
        let permit = Arc::clone(&self.permits).try_acquire_many_owned(bytes).ok()?;
        Some(Grant { memory: Arc::clone(self), _permit: permit })
    }

    /// Takes bytes when they are there. Cancel safe.
    ///
    /// # Errors
    /// The memory was closed.
    pub(super) async fn take(self: &Arc<Self>, bytes: u32) -> Result<Grant, AcquireError> {
        let permit = Arc::clone(&self.permits).acquire_many_owned(bytes).await?;
        Ok(Grant { memory: Arc::clone(self), _permit: permit })
    }

    /// Nobody gets any more.
    pub(super) fn close(&self) {
        self.permits.close();
    }

    fn spare(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Grant {
    /// A buffer for a batch of so many bytes, which this was taken for.
    pub(super) fn buffer(&self, capacity: usize) -> Vec<u8> {
        let waiting = match capacity == self.memory.usual {
            true => self.memory.spare().pop(),
            false => {
                self.memory.spare().clear();
                None
            }
        };
        waiting.unwrap_or_else(|| Vec::with_capacity(capacity))
    }

    /// Takes a buffer back. To be called before this is dropped.
    pub(super) fn recycle(&self, buffer: Vec<u8>) {
        let mut spare = self.memory.spare();
        if buffer.capacity() == self.memory.usual
            && (spare.len() + 1) * self.memory.usual <= MAX_SPARE_BYTES
        {
            spare.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn buffers_wait_for_the_next_batch_of_their_size_and_no_other() {
        let memory = Memory::new(100_000, 16_384);
        let grant = memory.try_take(16_384).unwrap();
        let mut buffer = grant.buffer(16_384);
        buffer.push(7);
        let at = buffer.as_ptr();
        grant.recycle(buffer);
        drop(grant);
        assert_eq!((memory.taken(), memory.spare().len()), (0, 1));
        let grant = memory.try_take(16_384).unwrap();
        let buffer = grant.buffer(16_384);
        assert_eq!(buffer.as_ptr(), at);
        grant.recycle(buffer);
        let large = memory.try_take(80_000).unwrap();
        assert_eq!(large.buffer(80_000).capacity(), 80_000);
        assert!(memory.spare().is_empty(), "with it, they would be more than there is");
        large.recycle(Vec::with_capacity(80_000));
        assert!(memory.spare().is_empty());
    }

    #[test]
    fn only_so_many_wait() {
        let memory = Memory::new(1 << 30, 1 << 20);
        let grant = memory.try_take(1 << 20).unwrap();
        for _ in 0..10 {
            grant.recycle(Vec::with_capacity(1 << 20));
        }
        assert_eq!(memory.spare().len(), MAX_SPARE_BYTES >> 20);
    }
}
