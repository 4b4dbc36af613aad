//! Which batches of a pass belong to aborted transactions, and which markers are no longer needed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use kavka_protocol::records::BatchHeader;

use crate::AbortedTransaction;

/// Follows the transactions through the batches of a pass, which come in offset order.
#[derive(Debug)]
pub(super) struct Transactions {
    /// Not begun yet, by first offset.
    ahead: VecDeque<AbortedTransaction>,
    /// Aborted and begun, by producer id.
    aborted: BTreeMap<i64, Aborted>,
    /// Producers of which a batch was met that a commit marker will follow.
    committed: BTreeSet<i64>,
}

#[derive(Debug)]
struct Aborted {
    /// Offset of the marker, which may be gone already: nothing after it is aborted by it.
    last_offset: i64,
    /// A batch of it is still there.
    observed: bool,
}

impl Transactions {
    pub(super) fn new(mut aborted: Vec<AbortedTransaction>) -> Self {
        aborted.sort_unstable_by_key(|transaction| transaction.first_offset);
        Self { ahead: aborted.into(), aborted: BTreeMap::new(), committed: BTreeSet::new() }
    }

    /// Whether the records of this data batch were aborted.
    pub(super) fn is_aborted(&mut self, header: &BatchHeader) -> bool {
        if !header.is_transactional() {
            return false;
        }
        match self.aborted_at(header) {
            Some(aborted) => {
                aborted.observed = true;
                true
            }
            None => {
                self.committed.insert(header.producer_id);
                false
            }
        }
    }

    /// Takes a marker; whether no batch of its transaction was left before it.
    pub(super) fn ends_empty(&mut self, header: &BatchHeader, commit: bool) -> bool {
        if commit {
            return !self.committed.remove(&header.producer_id);
        }
        let observed = self.aborted_at(header).is_some_and(|aborted| aborted.observed);
        self.aborted.remove(&header.producer_id);
        !observed
    }

    /// The aborted transaction to which a batch of a producer belongs.
    fn aborted_at(&mut self, header: &BatchHeader) -> Option<&mut Aborted> {
        while let Some(next) = self.ahead.front()
            && next.first_offset <= header.last_offset()
        {
            let aborted = Aborted { last_offset: next.last_offset, observed: false };
            self.aborted.insert(next.producer_id, aborted);
            self.ahead.pop_front();
        }
        let aborted = self.aborted.get_mut(&header.producer_id)?;
        (aborted.last_offset >= header.base_offset).then_some(aborted)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::testing::Batch;

    fn data(offset: i64, id: i64) -> BatchHeader {
        let batch = Batch::at(offset).producer(id, 0, 0, true).record(0, Some(b"k"), Some(b"v"));
        BatchHeader::parse(&batch.build()).unwrap()
    }

    #[test]
    fn a_marker_that_is_gone_does_not_abort_what_follows() {
        let aborted = AbortedTransaction { producer_id: 5, first_offset: 0, last_offset: 10 };
        let mut transactions = Transactions::new(vec![aborted]);
        assert!(transactions.is_aborted(&data(3, 5)));
        assert!(!transactions.is_aborted(&data(4, 6)));
        // The marker at 10 was compacted away; the producer's next transaction was committed.
        assert!(!transactions.is_aborted(&data(11, 5)));
        let mut later = Transactions::new(vec![aborted]);
        assert!(!later.is_aborted(&data(11, 5)), "the pass began after the transaction");
    }
}
