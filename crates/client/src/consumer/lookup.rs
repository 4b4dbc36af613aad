//! Offsets that are looked up for the application: committed ones, and those where logs begin, end or reach a time.

use std::collections::{BTreeMap, BTreeSet};

use kavka_member::TopicPartition;

use super::handle::ConsumerHandle;
use crate::{
    Error, ErrorKind,
    admin::{Admin, CommittedOffset, OffsetAt, OffsetSpec, OffsetsOfGroup},
};

impl ConsumerHandle {
    /// What the group has committed, of any partitions, owned or not. A partition without a committed offset is left out. Waits for
    /// transactions that are about to commit offsets, for at most `default.api.timeout.ms`; brokers before Kafka 2.5 cannot be asked to.
    ///
    /// Cancel safe.
    ///
    /// # Errors
    /// There is no `group.id`, no authorization, or time is up.
    pub async fn committed(
        &self,
        partitions: impl IntoIterator<Item = TopicPartition>,
    ) -> Result<BTreeMap<TopicPartition, CommittedOffset>, Error> {
        let Some(group) = self.group_id() else {
            return Err(Error::new(ErrorKind::Config, "committed offsets need a group.id"));
        };
        let wanted = OffsetsOfGroup::of(group.clone(), partitions);
        let admin = Admin::over(self.cluster().clone());
        let mut answer = admin.list_group_offsets([wanted.clone()], true).await;
        let is_too_old = |offsets: &Result<_, Error>| {
            offsets.as_ref().is_err_and(|error| error.kind() == ErrorKind::Unsupported)
        };
        if answer.values().any(is_too_old) {
            answer = admin.list_group_offsets([wanted], false).await;
        }
        let offsets = answer.remove(group).unwrap_or_else(|| Ok(BTreeMap::new()))?;
        let mut found = BTreeMap::new();
        for (partition, offset) in offsets {
            if let Some(offset) = offset? {
                found.insert(partition, offset);
            }
        }
        Ok(found)
    }

    /// For each partition the first record with this timestamp, in milliseconds since the Unix epoch, or a later one. A partition
    /// without one is left out.
    ///
    /// Cancel safe.
    ///
    /// # Errors
    /// A topic or partition does not exist, no authorization, or `default.api.timeout.ms` is over.
    pub async fn offsets_for_times(
        &self,
        times: impl IntoIterator<Item = (TopicPartition, i64)>,
    ) -> Result<BTreeMap<TopicPartition, OffsetAt>, Error> {
        let specs = times.into_iter().map(|(place, time)| (place, OffsetSpec::Timestamp(time)));
        self.list_offsets(specs).await
    }

    /// The first offset of each partition.
    ///
    /// Cancel safe.
    ///
    /// # Errors
    /// As [`offsets_for_times`](Self::offsets_for_times).
    pub async fn beginning_offsets(
        &self,
        partitions: impl IntoIterator<Item = TopicPartition>,
    ) -> Result<BTreeMap<TopicPartition, i64>, Error> {
        self.ends(partitions, OffsetSpec::Earliest).await
    }

    /// The offset of each partition that the next record gets; with `isolation.level=read_committed`, that of the first record of an
    /// open transaction.
    ///
    /// Cancel safe.
    ///
    /// # Errors
    /// As [`offsets_for_times`](Self::offsets_for_times).
    pub async fn end_offsets(
        &self,
        partitions: impl IntoIterator<Item = TopicPartition>,
    ) -> Result<BTreeMap<TopicPartition, i64>, Error> {
        self.ends(partitions, OffsetSpec::Latest).await
    }

    /// The numbers of a topic's partitions, owned or not.
    ///
    /// Cancel safe.
    ///
    /// # Errors
    /// The topic does not exist, no authorization, or `default.api.timeout.ms` is over.
    pub async fn partitions_for(&self, topic: &str) -> Result<BTreeSet<TopicPartition>, Error> {
        let admin = Admin::over(self.cluster().clone());
        let mut answer = admin.describe_topics([topic]).await;
        let missing = || {
            Error::new(ErrorKind::Protocol, format!("no broker said what partitions {topic} has"))
        };
        let described = answer.remove(topic).ok_or_else(missing)??;
        let numbers = described.partitions.iter().map(|found| found.partition);
        Ok(numbers.map(|number| TopicPartition::new(topic, number)).collect())
    }

    async fn ends(
        &self,
        partitions: impl IntoIterator<Item = TopicPartition>,
        spec: OffsetSpec,
    ) -> Result<BTreeMap<TopicPartition, i64>, Error> {
        let specs = partitions.into_iter().map(|place| (place, spec));
        let found = self.list_offsets(specs).await?;
        Ok(found.into_iter().map(|(place, found)| (place, found.offset)).collect())
    }

    async fn list_offsets(
        &self,
        specs: impl IntoIterator<Item = (TopicPartition, OffsetSpec)>,
    ) -> Result<BTreeMap<TopicPartition, OffsetAt>, Error> {
        let admin = Admin::over(self.cluster().clone());
        let mut found = BTreeMap::new();
        for (place, offset) in admin.list_offsets(specs, self.isolation_level()).await {
            if let Some(offset) = offset? {
                found.insert(place, offset);
            }
        }
        Ok(found)
    }
}
