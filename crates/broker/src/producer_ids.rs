//! Producer ids for idempotent producers (KIP-98): each handed out once, ever.
//!
//! Ids come in blocks that the metadata store has marked as used before the first id of a block leaves. What is left of a
//! block at the end of the process is lost, not handed out again.

use std::{
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
};

use kavka_meta::{ClusterMeta, MetaError};

use crate::partition::blocking;

/// Hands out producer ids.
pub(crate) struct ProducerIds {
    meta: Arc<dyn ClusterMeta>,
    /// Ids of the current block that are left.
    left: Mutex<Range<i64>>,
    /// Held while the next block is fetched, so that a herd of producers fetches one block and not one each.
    fetching: tokio::sync::Mutex<()>,
}

impl ProducerIds {
    pub(crate) fn new(meta: Arc<dyn ClusterMeta>) -> Self {
        Self { meta, left: Mutex::new(0..0), fetching: tokio::sync::Mutex::default() }
    }

    /// An id that nobody has had. Waits for the disk once per block. A wait that is dropped may lose a block, never hand it out
    /// twice.
    ///
    /// # Errors
    /// The store failed, or all 2^63 ids are used.
    pub(crate) async fn next(&self) -> Result<i64, MetaError> {
        if let Some(id) = self.take() {
            return Ok(id);
        }
        let _one_at_a_time = self.fetching.lock().await;
        loop {
            // Whoever held the lock before may have fetched a block; others may have used it up.
            if let Some(id) = self.take() {
                return Ok(id);
            }
            let meta = Arc::clone(&self.meta);
            let block = blocking(move || meta.allocate_producer_ids()).await?;
            *self.left.lock().unwrap_or_else(PoisonError::into_inner) = block;
        }
    }

    fn take(&self) -> Option<i64> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner).next()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::BTreeSet;

    use kavka_meta::{EmbeddedMeta, PRODUCER_ID_BLOCK, os_random};

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn a_herd_of_producers_gets_ids_of_its_own_and_fetches_no_block_too_many() {
        let dir = tempfile::tempdir().unwrap();
        let meta: Arc<dyn ClusterMeta> =
            Arc::new(EmbeddedMeta::open(dir.path(), os_random()).unwrap());
        let ids = Arc::new(ProducerIds::new(Arc::clone(&meta)));
        let producers = PRODUCER_ID_BLOCK + 10;
        let mut tasks = Vec::new();
        for _ in 0..producers {
            let ids = Arc::clone(&ids);
            tasks.push(tokio::spawn(async move { ids.next().await.unwrap() }));
        }
        let mut seen = BTreeSet::new();
        for task in tasks {
            let id = task.await.unwrap();
            assert!(seen.insert(id), "{id} was handed out twice");
        }
        assert_eq!(meta.allocate_producer_ids().unwrap().start, 2 * PRODUCER_ID_BLOCK);
    }

    #[tokio::test]
    async fn a_restart_does_not_go_on_in_the_old_block() {
        let dir = tempfile::tempdir().unwrap();
        let mut last = -1;
        for _ in 0..3 {
            let meta = Arc::new(EmbeddedMeta::open(dir.path(), os_random()).unwrap());
            let id = ProducerIds::new(meta).next().await.unwrap();
            assert!(id > last, "{id} after {last}");
            last = id;
        }
    }
}
