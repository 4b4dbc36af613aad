//! What an answer to a Produce request means for a batch. Pure.
//!
//! # References
//! `Sender.completeBatch` and `TransactionManager.canRetry` of Apache Kafka 4.x; KIP-98, KIP-126, KIP-360, KIP-467.

use std::time::Duration;

use kavka_protocol::{ErrorCode, messages::produce_response::PartitionProduceResponse};

use super::{delivery::Outcome, partition::Verdict};
use crate::{Error, ErrorKind};

/// Where the answer belongs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Situation<'a> {
    pub(super) topic: &'a str,
    pub(super) partition: i32,
    /// How long to wait before it is tried again; `None` if it can be at once.
    pub(super) pause: Option<Duration>,
}

/// The verdict of a broker's answer.
pub(super) fn of_answer(row: PartitionProduceResponse, situation: &Situation<'_>) -> Verdict {
    let Situation { topic, partition, pause } = *situation;
    let error = |code| {
        Error::broker(code, format_args!("producing to {topic}-{partition}"))
            .with_detail(row.error_message.as_deref().map(AsRef::as_ref))
    };
    match row.error_code {
        ErrorCode::None => Verdict::Written {
            base_offset: Some(row.base_offset).filter(|offset| *offset >= 0),
            log_append_time_ms: Some(row.log_append_time_ms).filter(|time| *time >= 0),
        },
        // The broker has it, and no longer knows where.
        ErrorCode::DuplicateSequenceNumber => {
            Verdict::Written { base_offset: None, log_append_time_ms: None }
        }
        code @ (ErrorCode::MessageTooLarge | ErrorCode::RecordListTooLarge) => {
            Verdict::TooLarge(error(code).with_advice(
                "Raise the topic's max.message.bytes (or segment.bytes), or send smaller records.",
            ))
        }
        code @ ErrorCode::OutOfOrderSequenceNumber => {
            Verdict::OutOfOrder { error: error(code), pause, is_certain: false }
        }
        // It knows nothing of this producer any more: everything it had is deleted.
        code @ ErrorCode::UnknownProducerId => {
            Verdict::OutOfOrder { error: error(code), pause, is_certain: true }
        }
        code if code.is_retriable() => Verdict::Retry {
            error: error(code),
            pause,
            // Written, but not known to be on enough replicas.
            may_be_written: matches!(
                code,
                ErrorCode::RequestTimedOut | ErrorCode::NotEnoughReplicasAfterAppend
            ),
        },
        code => {
            let others = error(code);
            if row.record_errors.is_empty() {
                return Verdict::Failed(Outcome::Failed(others));
            }
            let refused = row.record_errors.iter().filter_map(|refused| {
                let index = u32::try_from(refused.batch_index).ok()?;
                let why = refused.batch_index_error_message.as_deref();
                let why =
                    why.map(AsRef::as_ref).or(row.error_message.as_deref().map(AsRef::as_ref));
                let error = Error::broker(code, format_args!("producing to {topic}-{partition}"));
                Some((index, error.with_detail(why)))
            });
            Verdict::Failed(Outcome::Refused {
                records: refused.collect(),
                others: others
                    .while_doing("not written, for another record of its batch was refused"),
            })
        }
    }
}

/// The verdict when no answer came.
pub(super) fn of_failed_request(error: &Error, pause: Option<Duration>) -> Verdict {
    match error.kind() {
        ErrorKind::Unsupported | ErrorKind::Config | ErrorKind::Authentication => {
            Verdict::Failed(Outcome::Failed(error.clone()))
        }
        _ => Verdict::Retry { error: error.clone(), pause, may_be_written: true },
    }
}

#[cfg(test)]
mod tests {
    use kavka_protocol::messages::produce_response::BatchIndexAndErrorMessage;

    use super::*;

    fn verdict(code: ErrorCode) -> Verdict {
        let row = PartitionProduceResponse {
            error_code: code,
            base_offset: if code == ErrorCode::None { 7 } else { -1 },
            ..Default::default()
        };
        of_answer(row, &Situation { topic: "t", partition: 0, pause: Some(Duration::ZERO) })
    }

    #[test]
    fn codes_mean_what_they_mean_to_javas_producer() {
        assert!(matches!(
            verdict(ErrorCode::None),
            Verdict::Written { base_offset: Some(7), log_append_time_ms: None }
        ));
        assert!(matches!(
            verdict(ErrorCode::DuplicateSequenceNumber),
            Verdict::Written { base_offset: None, .. }
        ));
        for code in [
            ErrorCode::NotLeaderOrFollower,
            ErrorCode::NotEnoughReplicas,
            ErrorCode::NotEnoughReplicasAfterAppend,
            ErrorCode::RequestTimedOut,
            ErrorCode::UnknownTopicOrPartition,
            ErrorCode::UnknownTopicId,
            ErrorCode::CorruptMessage,
            ErrorCode::KafkaStorageError,
        ] {
            assert!(matches!(verdict(code), Verdict::Retry { .. }), "{code}");
        }
        for code in [
            ErrorCode::InvalidRecord,
            ErrorCode::InvalidTimestamp,
            ErrorCode::TopicAuthorizationFailed,
            ErrorCode::InvalidProducerEpoch,
            ErrorCode::InvalidRequiredAcks,
            ErrorCode::UnsupportedForMessageFormat,
        ] {
            assert!(matches!(verdict(code), Verdict::Failed(_)), "{code}");
        }
        let out_of_order = verdict(ErrorCode::OutOfOrderSequenceNumber);
        assert!(matches!(out_of_order, Verdict::OutOfOrder { is_certain: false, .. }));
        let unknown = verdict(ErrorCode::UnknownProducerId);
        assert!(matches!(unknown, Verdict::OutOfOrder { is_certain: true, .. }));
        for code in [ErrorCode::MessageTooLarge, ErrorCode::RecordListTooLarge] {
            assert!(matches!(verdict(code), Verdict::TooLarge(_)), "{code}");
        }
    }

    #[test]
    fn refused_records_are_told_apart_from_those_of_the_same_batch() {
        let row = PartitionProduceResponse {
            error_code: ErrorCode::InvalidRecord,
            record_errors: vec![BatchIndexAndErrorMessage {
                batch_index: 2,
                batch_index_error_message: Some("no key".into()),
                ..Default::default()
            }],
            error_message: Some("bad records".into()),
            ..Default::default()
        };
        let verdict = of_answer(row, &Situation { topic: "t", partition: 0, pause: None });
        let Verdict::Failed(Outcome::Refused { records, others }) = verdict else {
            panic!("not refused");
        };
        assert_eq!(records.len(), 1);
        assert_eq!(records[0].0, 2);
        assert!(records[0].1.to_string().ends_with("(87): no key"), "{}", records[0].1);
        assert!(others.to_string().contains("another record"), "{others}");
    }
}
