//! Where brokers keep partitions, and how large they are.
//!
//! # References
//! KIP-113, KIP-827 (sizes of disks).

use std::collections::BTreeMap;

use bytestring::ByteString;
use kavka_member::TopicPartition;
use kavka_protocol::{
    ErrorCode,
    messages::{DescribeLogDirsRequest, describe_log_dirs_response::DescribeLogDirsResult},
};

use super::{
    Admin,
    rounds::{Answered, Left, Repeat},
};
use crate::{Error, ErrorKind, cluster::Node, connection::Connection};

/// A directory in which a broker keeps partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogDir {
    /// What is in it.
    pub replicas: BTreeMap<TopicPartition, ReplicaSize>,
    /// The size of its disk; brokers before 3.3 do not tell.
    pub total_bytes: Option<i64>,
    /// What is left of that.
    pub usable_bytes: Option<i64>,
}

/// A copy of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplicaSize {
    /// The size of its segments.
    pub bytes: i64,
    /// How many records it is behind.
    pub offset_lag: i64,
    /// Whether it is about to replace the copy in another directory.
    pub is_future: bool,
}

type Dirs = BTreeMap<ByteString, Result<LogDir, Error>>;

impl Admin {
    /// The directories of brokers by path, and the partitions in them; of all brokers, if none is named, each asked at the same time.
    ///
    /// Cancel safe: it only reads.
    ///
    /// # Errors
    /// The call's: no broker tells which others there are. Per broker: it does not answer, is not there, or refuses. Per directory:
    /// `KAFKA_STORAGE_ERROR`, if its disk failed.
    pub async fn describe_log_dirs(
        &self,
        brokers: impl IntoIterator<Item = i32>,
    ) -> Result<BTreeMap<i32, Result<Dirs, Error>>, Error> {
        let nodes = self.once(Repeat::Safe, |left| self.brokers_now(left)).await?;
        let nodes: &BTreeMap<i32, Node> = &nodes.into_iter().map(|node| (node.id, node)).collect();
        let mut named: Vec<i32> = brokers.into_iter().collect();
        if named.is_empty() {
            named.extend(nodes.keys());
        }
        let (there, missing): (Vec<i32>, Vec<i32>) =
            named.into_iter().partition(|id| nodes.contains_key(id));
        let results = self.rounds(there, |ids, left| {
            let asked =
                ids.iter().filter_map(|id| Some((nodes.get(id)?.clone(), vec![*id]))).collect();
            let ask = move |connection, node: Node, _: Vec<i32>| async move {
                self.log_dirs_at(&connection, node.id, left).await
            };
            self.at_nodes(asked, Repeat::Safe, ask)
        });
        let mut results = results.await;
        results.extend(missing.into_iter().map(|id| {
            let error =
                Error::new(ErrorKind::Config, format!("there is no broker {id} in the cluster"));
            (id, Err(error))
        }));
        Ok(results)
    }

    async fn log_dirs_at(
        &self,
        connection: &Connection,
        broker: i32,
        left: Left,
    ) -> Answered<i32, Dirs> {
        let request = DescribeLogDirsRequest { topics: None, ..Default::default() };
        let response = self.ask(connection, &request, i16::MAX, left).await?;
        let what = format_args!("describing the log directories of broker {broker}");
        if response.error_code != ErrorCode::None {
            return Ok(vec![(broker, Err(Error::broker(response.error_code, what)))]);
        }
        let dirs = response.results.into_iter().map(|row| {
            let path = row.log_dir.clone();
            let dir = match row.error_code {
                ErrorCode::None => Ok(log_dir(row)),
                code => {
                    Err(Error::broker(code, format_args!("describing {path} of broker {broker}")))
                }
            };
            (path, dir)
        });
        Ok(vec![(broker, Ok(dirs.collect()))])
    }
}

fn log_dir(row: DescribeLogDirsResult) -> LogDir {
    let replicas = row.topics.into_iter().flat_map(|topic| {
        let name = topic.name;
        topic.partitions.into_iter().map(move |row| {
            let size = ReplicaSize {
                bytes: row.partition_size,
                offset_lag: row.offset_lag,
                is_future: row.is_future_key,
            };
            (TopicPartition::new(name.clone(), row.partition_index), size)
        })
    });
    LogDir {
        replicas: replicas.collect(),
        total_bytes: Some(row.total_bytes).filter(|bytes| *bytes >= 0),
        usable_bytes: Some(row.usable_bytes).filter(|bytes| *bytes >= 0),
    }
}
