//! `buffer.memory`: how much of it batches have taken, and the buffers of former batches that wait for the next.
//!
//! Buffers are used again because new ones are pages that the kernel has to clear and map, which costs about as much as to fill them.
//!
//! **Architecture invariant:** the bytes of batches and the buffers that wait are together never more than `buffer.memory`: a batch of `batch.size` begins
//! in a buffer that waits if there is one, before a batch of another size begins, those that wait are freed, and what a batch was collected in
//! waits only where its compressed bytes leave room for it.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

/// Bytes of buffers that wait are at most so many: what a producer keeps while it has nothing to send.
const MAX_SPARE_BYTES: usize = 4 << 20;

/// See the module.
#[derive(Debug)]
pub(super) struct Memory {
    permits: Arc<Semaphore>,
    total: usize,
    usual: usize,
    /// Bytes that were taken and are not used, since batches were compressed.
    saved: AtomicUsize,
    spare: Mutex<Vec<Vec<u8>>>,
}

/// So much of the memory, until it is dropped.
#[derive(Debug)]
pub(super) struct Grant {
    memory: Arc<Memory>,
    permit: OwnedSemaphorePermit,
    /// Its part of [`Memory::saved`].
    saved: AtomicUsize,
}

impl Memory {
    /// `total` bytes, mostly for batches of `usual` bytes.
    pub(super) fn new(total: usize, usual: usize) -> Arc<Self> {
        let permits = Arc::new(Semaphore::new(total));
        let (usual, saved) = (usual.min(total), AtomicUsize::new(0));
        Arc::new(Self { permits, total, usual, saved, spare: Mutex::default() })
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
        Some(self.grant(permit))
    }

    /// Takes bytes when they are there. Cancel safe.
    ///
    /// # Errors
    /// The memory was closed.
    pub(super) async fn take(self: &Arc<Self>, bytes: u32) -> Result<Grant, AcquireError> {
        let permit = Arc::clone(&self.permits).acquire_many_owned(bytes).await?;
        Ok(self.grant(permit))
    }

    fn grant(self: &Arc<Self>, permit: OwnedSemaphorePermit) -> Grant {
        Grant { memory: Arc::clone(self), permit, saved: AtomicUsize::new(0) }
    }

    /// Nobody gets any more.
    pub(super) fn close(&self) {
        self.permits.close();
    }

    /// Keeps a buffer for a later batch, if there is room for it beside those that wait and the bytes that batches have. Of what was
    /// taken, `unused` bytes are not in use any more.
    fn keep(&self, buffer: Vec<u8>, unused: usize) {
        let mut spare = self.spare();
        let waiting = (spare.len() + 1) * self.usual;
        if buffer.capacity() == self.usual
            && waiting <= MAX_SPARE_BYTES
            && self.taken() + waiting <= self.total + unused
        {
            spare.push(buffer);
        }
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

    /// Takes the buffer back in which a batch was collected that goes on with so many bytes. Batches that share what was taken save
    /// nothing as long as they do.
    pub(super) fn recycle(self: &Arc<Self>, buffer: Vec<u8>, goes_on_with: usize) {
        let saves = self.own().saturating_sub(goes_on_with);
        self.saved.fetch_add(saves, Ordering::Relaxed);
        let saved = self.memory.saved.fetch_add(saves, Ordering::AcqRel) + saves;
        self.memory.keep(buffer, saved);
    }

    /// All that was taken for the batch is in use again.
    pub(super) fn use_all(&self) {
        self.save_nothing();
        self.memory.spare().clear();
    }

    /// Bytes that no other batch shares.
    fn own(self: &Arc<Self>) -> usize {
        if Arc::strong_count(self) > 1 { 0 } else { self.permit.num_permits() }
    }

    fn save_nothing(&self) {
        let saved = self.saved.swap(0, Ordering::Relaxed);
        self.memory.saved.fetch_sub(saved, Ordering::AcqRel);
    }

    /// Takes the buffer of a batch back that is over. To be called before this is dropped, and nothing after it.
    pub(super) fn give_back(self: &Arc<Self>, buffer: Vec<u8>) {
        let own = self.own().saturating_sub(self.saved.load(Ordering::Relaxed));
        self.memory.keep(buffer, self.memory.saved.load(Ordering::Acquire) + own);
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        self.save_nothing();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn buffers_wait_for_the_next_batch_of_their_size_and_no_other() {
        let memory = Memory::new(100_000, 16_384);
        let grant = Arc::new(memory.try_take(16_384).unwrap());
        let mut buffer = grant.buffer(16_384);
        buffer.push(7);
        let at = buffer.as_ptr();
        grant.give_back(buffer);
        drop(grant);
        assert_eq!((memory.taken(), memory.spare().len()), (0, 1));
        let grant = Arc::new(memory.try_take(16_384).unwrap());
        let buffer = grant.buffer(16_384);
        assert_eq!(buffer.as_ptr(), at);
        grant.give_back(buffer);
        drop(grant);
        let large = Arc::new(memory.try_take(80_000).unwrap());
        assert_eq!(large.buffer(80_000).capacity(), 80_000);
        assert!(memory.spare().is_empty(), "with it, they would be more than there is");
        large.give_back(Vec::with_capacity(80_000));
        assert!(memory.spare().is_empty());
    }

    /// A batch that was compressed has other bytes, and what it was collected in waits only where they leave room.
    #[test]
    fn a_buffer_does_not_wait_where_the_memory_is_taken() {
        let memory = Memory::new(3 * 16_384, 16_384);
        let grants: Vec<_> = (0..3).map(|_| Arc::new(memory.try_take(16_384).unwrap())).collect();
        let buffers: Vec<Vec<u8>> = grants.iter().map(|grant| grant.buffer(16_384)).collect();
        for (grant, buffer) in grants.iter().zip(buffers) {
            grant.recycle(buffer, 16_000);
        }
        assert_eq!(memory.spare().len(), 0, "nothing could be compressed");
        for (at, grant) in grants.into_iter().enumerate() {
            grant.give_back(Vec::with_capacity(16_384));
            drop(grant);
            assert_eq!(memory.taken() + memory.spare().len() * 16_384, 3 * 16_384, "{at}");
        }
        assert_eq!(memory.saved.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn buffers_wait_in_the_room_that_compressing_makes() {
        let memory = Memory::new(3 * 16_384, 16_384);
        let grants: Vec<_> = (0..3).map(|_| Arc::new(memory.try_take(16_384).unwrap())).collect();
        for (at, waiting) in [0, 1, 1].into_iter().enumerate() {
            grants[at].recycle(Vec::with_capacity(16_384), if at == 2 { 16_384 } else { 8_192 });
            assert_eq!(memory.spare().len(), waiting, "{at}");
        }
        grants[0].use_all();
        assert_eq!((memory.saved.load(Ordering::Relaxed), memory.spare().len()), (8_192, 0));
        let shared = Arc::clone(&grants[0]);
        shared.recycle(Vec::with_capacity(16_384), 8_192);
        assert_eq!(memory.saved.load(Ordering::Relaxed), 8_192, "two batches share it");
        drop((shared, grants));
        assert_eq!((memory.taken(), memory.saved.load(Ordering::Relaxed)), (0, 0));
    }

    #[test]
    fn only_so_many_wait() {
        let memory = Memory::new(1 << 30, 1 << 20);
        let grant = Arc::new(memory.try_take(1 << 20).unwrap());
        for _ in 0..10 {
            grant.recycle(Vec::with_capacity(1 << 20), 1000);
        }
        assert_eq!(memory.spare().len(), MAX_SPARE_BYTES >> 20);
    }
}
