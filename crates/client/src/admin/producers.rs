//! Who produces to partitions with a producer id, and which transactions are open there.
//!
//! # References
//! KIP-664.

use std::collections::BTreeMap;

use kavka_member::TopicPartition;
use kavka_protocol::{
    ErrorCode,
    messages::{
        DescribeProducersRequest, describe_producers_request::TopicRequest,
        describe_producers_response::ProducerState as Row,
    },
};

use super::{Admin, rounds::Repeat, topics::by_topic};
use crate::{Error, cluster::Node};

/// A producer that a partition's leader remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerState {
    /// Its id.
    pub producer_id: i64,
    /// Its epoch.
    pub producer_epoch: i32,
    /// The sequence number of its last record, if it wrote one.
    pub last_sequence: Option<i32>,
    /// When it last wrote, in milliseconds since 1970.
    pub last_timestamp: Option<i64>,
    /// The epoch of the transaction coordinator that last wrote for it.
    pub coordinator_epoch: Option<i32>,
    /// Where its open transaction begins, if it has one.
    pub transaction_start_offset: Option<i64>,
}

impl Admin {
    /// The producers that the leaders of partitions remember (KIP-664; Kafka 2.8).
    ///
    /// Cancel safe: it only reads.
    ///
    /// # Errors
    /// Per partition. `UNKNOWN_TOPIC_OR_PARTITION`, and authorization.
    pub async fn describe_producers(
        &self,
        partitions: impl IntoIterator<Item = TopicPartition>,
    ) -> BTreeMap<TopicPartition, Result<Vec<ProducerState>, Error>> {
        self.rounds(partitions, |partitions, left| {
            let ask = move |connection, _: Node, partitions: Vec<TopicPartition>| async move {
                let topics = by_topic(&partitions).into_iter();
                let topics = topics.map(|(name, partition_indexes)| TopicRequest {
                    name,
                    partition_indexes,
                    ..Default::default()
                });
                let request =
                    DescribeProducersRequest { topics: topics.collect(), ..Default::default() };
                let response = self.ask(&connection, &request, i16::MAX, left).await?;
                let rows = response.topics.into_iter().flat_map(|topic| {
                    let name = topic.name;
                    topic.partitions.into_iter().map(move |row| {
                        let place = TopicPartition::new(name.clone(), row.partition_index);
                        let result = match row.error_code {
                            ErrorCode::None => {
                                Ok(row.active_producers.into_iter().map(state).collect())
                            }
                            code => {
                                let what = format_args!("describing the producers of {place}");
                                Err(Error::broker(code, what)
                                    .with_detail(row.error_message.as_deref().map(AsRef::as_ref)))
                            }
                        };
                        (place, result)
                    })
                });
                Ok(rows.collect())
            };
            self.at_leaders(partitions, Repeat::Safe, left, ask)
        })
        .await
    }
}

fn state(row: Row) -> ProducerState {
    ProducerState {
        producer_id: row.producer_id,
        producer_epoch: row.producer_epoch,
        last_sequence: Some(row.last_sequence).filter(|sequence| *sequence >= 0),
        last_timestamp: Some(row.last_timestamp).filter(|timestamp| *timestamp >= 0),
        coordinator_epoch: Some(row.coordinator_epoch).filter(|epoch| *epoch >= 0),
        transaction_start_offset: Some(row.current_txn_start_offset).filter(|offset| *offset >= 0),
    }
}
