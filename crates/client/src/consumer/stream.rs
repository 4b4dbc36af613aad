//! The stream of one partition.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use futures_core::Stream;
use kavka_member::TopicPartition;

use super::{
    reader::Reader,
    record::{Batch, Record},
};
use crate::Error;

/// The records of one partition, apart from those of the others: for a task of its own. Ends when the partition is revoked or lost, or
/// the consumer is closed. When it is dropped before, the consumer's main stream takes the partition again, beginning with the record
/// that was in hand.
///
/// As everywhere, a record counts as consumed when the next is asked for; [`finish`](Self::finish) says so of the last one.
#[derive(Debug)]
pub struct PartitionStream {
    pub(super) partition: TopicPartition,
    pub(super) reader: Reader,
}

impl PartitionStream {
    /// Which partition it is.
    pub fn partition(&self) -> &TopicPartition {
        &self.partition
    }

    /// The next record; `None` when the partition is not this consumer's any more.
    ///
    /// Cancel safe: no record is lost.
    ///
    /// # Errors
    /// A batch that cannot be read; it is fetched again.
    pub async fn next(&mut self) -> Option<Result<Record, Error>> {
        std::future::poll_fn(|cx| self.reader.poll_record(cx)).await
    }

    /// Lends the next batch; see [`Consumer::next_batch`](super::Consumer::next_batch).
    ///
    /// Cancel safe: no record is lost.
    ///
    /// # Errors
    /// A batch that cannot be read; it is fetched again.
    pub async fn next_batch(&mut self) -> Option<Result<Batch<'_>, Error>> {
        super::lend(&mut self.reader).await
    }

    /// What was handed out is done with.
    pub fn finish(&mut self) {
        self.reader.settle();
    }
}

impl Stream for PartitionStream {
    type Item = Result<Record, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.reader.poll_record(cx)
    }
}
