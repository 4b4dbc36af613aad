//! Control records: transaction markers and their kin, which take an offset and are never shown to applications.
//!
//! # References
//!
//! KIP-98 (transaction markers); `ControlRecordType`, `EndTransactionMarker` of Apache Kafka.

use bytes::Bytes;

use super::{BatchBuilder, BuildError, RecordError, RecordView};

/// What a control record says.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ControlType {
    /// The producer's transaction was aborted.
    Abort,
    /// The producer's transaction was committed.
    Commit,
    /// A new leader of the metadata quorum.
    LeaderChange,
    /// Start of a metadata snapshot.
    SnapshotHeader,
    /// End of a metadata snapshot.
    SnapshotFooter,
    /// Version of the quorum protocol.
    KraftVersion,
    /// Voters of the metadata quorum.
    KraftVoters,
    /// A type of a later version; to be skipped.
    Unknown(i16),
}

impl ControlType {
    /// The number in the key.
    #[must_use]
    pub fn id(self) -> i16 {
        match self {
            ControlType::Abort => 0,
            ControlType::Commit => 1,
            ControlType::LeaderChange => 2,
            ControlType::SnapshotHeader => 3,
            ControlType::SnapshotFooter => 4,
            ControlType::KraftVersion => 5,
            ControlType::KraftVoters => 6,
            ControlType::Unknown(id) => id,
        }
    }

    /// Reads the type from the key of a control record.
    ///
    /// # Errors
    ///
    /// [`RecordError::InvalidRecord`] if the key is null, shorter than 4 bytes or of a version below 0.
    pub fn parse(record: &RecordView<'_>) -> Result<ControlType, RecordError> {
        let invalid = |reason| RecordError::InvalidRecord { index: 0, reason };
        let Some(&[v0, v1, t0, t1, ..]) = record.key else {
            return Err(invalid("the key of a control record is null or too short"));
        };
        if i16::from_be_bytes([v0, v1]) < 0 {
            return Err(invalid("the key of a control record has a negative version"));
        }
        Ok(match i16::from_be_bytes([t0, t1]) {
            0 => ControlType::Abort,
            1 => ControlType::Commit,
            2 => ControlType::LeaderChange,
            3 => ControlType::SnapshotHeader,
            4 => ControlType::SnapshotFooter,
            5 => ControlType::KraftVersion,
            6 => ControlType::KraftVoters,
            id => ControlType::Unknown(id),
        })
    }
}

/// The end of a transaction in one partition: commit or abort.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct EndTxnMarker {
    /// True for commit.
    pub committed: bool,
    /// Epoch of the transaction coordinator that wrote it.
    pub coordinator_epoch: i32,
}

impl EndTxnMarker {
    /// Reads the marker from a control record; `None` if that is of another type.
    ///
    /// # Errors
    ///
    /// [`RecordError::InvalidRecord`] for a broken key, or a value that is null, too short or of a version below 0.
    pub fn parse(record: &RecordView<'_>) -> Result<Option<EndTxnMarker>, RecordError> {
        let committed = match ControlType::parse(record)? {
            ControlType::Abort => false,
            ControlType::Commit => true,
            _ => return Ok(None),
        };
        let invalid = |reason| RecordError::InvalidRecord { index: 0, reason };
        let Some(&[v0, v1, e0, e1, e2, e3, ..]) = record.value else {
            return Err(invalid("the value of a transaction marker is null or too short"));
        };
        if i16::from_be_bytes([v0, v1]) < 0 {
            return Err(invalid("the value of a transaction marker has a negative version"));
        }
        let coordinator_epoch = i32::from_be_bytes([e0, e1, e2, e3]);
        Ok(Some(EndTxnMarker { committed, coordinator_epoch }))
    }

    /// The control batch of this marker: transactional, one record, no sequence number.
    ///
    /// `timestamp` in ms since the epoch; offset and leader epoch are patched in at the append.
    ///
    /// # Errors
    ///
    /// None in practice: a marker fits into any batch.
    pub fn to_batch(
        self,
        base_offset: i64,
        timestamp: i64,
        producer_id: i64,
        producer_epoch: i16,
    ) -> Result<Bytes, BuildError> {
        let kind = if self.committed { ControlType::Commit } else { ControlType::Abort };
        let mut key = [0; 4];
        key[2..].copy_from_slice(&kind.id().to_be_bytes());
        let mut value = [0; 6];
        value[2..].copy_from_slice(&self.coordinator_epoch.to_be_bytes());

        let mut batch = BatchBuilder::new(base_offset)
            .with_producer(producer_id, producer_epoch, super::NO_SEQUENCE)
            .with_transactional(true)
            .with_control(true);
        batch.append(timestamp, Some(&key), Some(&value), &[])?;
        batch.build()
    }
}
