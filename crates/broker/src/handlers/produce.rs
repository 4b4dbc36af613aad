//! Produce: appends batches, and answers when they are durable.
//!
//! All partitions are appended to before anything is waited for, so one sync covers them. There is one replica, so acks=1 promises
//! what acks=all does, and is answered when that holds; who wants less says so with `kavka.sync.policy`.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use bytestring::ByteString;
use kavka_protocol::{
    ErrorCode,
    messages::{
        ProduceRequest, ProduceResponse,
        produce_request::TopicProduceData,
        produce_response::{
            BatchIndexAndErrorMessage, PartitionProduceResponse, TopicProduceResponse,
        },
    },
    records::{BatchHeader, Compression},
};

use crate::{
    dispatch::{Context, Reply},
    groups::OFFSETS_TOPIC,
    partition::{AppendError, Partition, Produced},
    topics::TopicPartitions,
};

/// The client id whose writes to internal topics are let through, as in Apache Kafka.
const ADMIN_CLIENT_ID: &str = "__admin_client";

/// An append whose sync is waited for, and its row of the response.
struct Waiting {
    partition: Arc<Partition>,
    end_offset: i64,
    topic: usize,
    row: usize,
}

pub(crate) async fn handle(context: Context, request: ProduceRequest) -> Reply<ProduceResponse> {
    let mut response = ProduceResponse::default();
    let mut waiting = Vec::new();
    let now_ms = context.broker.clock.wall_ms();
    let refused = refusal(&request);
    for topic in &request.topic_data {
        let mut rows = TopicProduceResponse {
            name: topic.name.clone(),
            topic_id: topic.topic_id,
            ..Default::default()
        };
        let found = resolve(&context, topic);
        for data in &topic.partition_data {
            let mut row = PartitionProduceResponse { index: data.index, ..Default::default() };
            let partition = found
                .as_ref()
                .map_err(|code| *code)
                .and_then(|topic| topic.partition(data.index).cloned());
            let result = match (refused, partition) {
                (Some(code), _) | (None, Err(code)) => Err(AppendError::new(code, code.message())),
                (None, Ok(partition)) => {
                    append(&context, &partition, data.records.as_ref(), now_ms)
                        .map(|produced| (partition, produced))
                }
            };
            match result {
                Ok((partition, produced)) => {
                    row.base_offset = produced.base_offset;
                    row.log_append_time_ms = produced.log_append_time;
                    row.log_start_offset = partition.log_start_offset();
                    waiting.push(Waiting {
                        partition,
                        end_offset: produced.end_offset,
                        topic: response.responses.len(),
                        row: rows.partition_responses.len(),
                    });
                }
                Err(error) => fail(&mut row, &error),
            }
            rows.partition_responses.push(row);
        }
        response.responses.push(rows);
    }
    match request.acks {
        0 => without_answer(&response),
        _ => {
            wait(&mut response, waiting, request.timeout_ms).await;
            Reply::Answer(response)
        }
    }
}

/// Why the whole request is refused, if it is.
fn refusal(request: &ProduceRequest) -> Option<ErrorCode> {
    let transactional =
        request.topic_data.iter().flat_map(|topic| &topic.partition_data).any(|data| {
            data.records
                .as_ref()
                .and_then(|records| BatchHeader::parse(records).ok())
                .is_some_and(|header| header.is_transactional())
        });
    if transactional && request.transactional_id.is_none() {
        return Some(ErrorCode::TransactionalIdAuthorizationFailed);
    }
    if transactional {
        // There are no transactions yet, so none can be open.
        return Some(ErrorCode::InvalidTxnState);
    }
    (!matches!(request.acks, -1..=1)).then_some(ErrorCode::InvalidRequiredAcks)
}

/// The topic that the request names, by id from version 13 on.
fn resolve(context: &Context, topic: &TopicProduceData) -> Result<Arc<TopicPartitions>, ErrorCode> {
    let topics = &context.broker.topics;
    let found = if context.version >= 13 {
        topics.by_id(topic.topic_id).ok_or(ErrorCode::UnknownTopicId)?
    } else {
        topics.by_name(&topic.name).ok_or(ErrorCode::UnknownTopicOrPartition)?
    };
    if &*found.topic.name == OFFSETS_TOPIC && context.client_id.as_deref() != Some(ADMIN_CLIENT_ID)
    {
        return Err(ErrorCode::InvalidTopicException);
    }
    Ok(found)
}

fn append(
    context: &Context,
    partition: &Partition,
    records: Option<&Bytes>,
    now_ms: i64,
) -> Result<Produced, AppendError> {
    let Some(records) = records.filter(|records| !records.is_empty()) else {
        return Err(AppendError::new(ErrorCode::InvalidRecord, "there is no batch"));
    };
    let codec = BatchHeader::parse(records).ok().and_then(|header| header.compression().ok());
    if codec == Some(Compression::Zstd) && context.version < 7 {
        let code = ErrorCode::UnsupportedCompressionType;
        return Err(AppendError::new(code, "zstd needs Produce version 7"));
    }
    partition.produce(records, now_ms)
}

fn fail(row: &mut PartitionProduceResponse, error: &AppendError) {
    row.error_code = error.code();
    row.base_offset = -1;
    row.log_append_time_ms = -1;
    row.log_start_offset = -1;
    row.record_errors = error
        .records
        .iter()
        .map(|(index, message)| BatchIndexAndErrorMessage {
            batch_index: *index,
            batch_index_error_message: Some(ByteString::from(message.as_str())),
            ..Default::default()
        })
        .collect();
    row.error_message = Some(ByteString::from(error.message()));
}

/// acks=0: nothing is answered; a failure closes the connection, the only way to tell.
fn without_answer(response: &ProduceResponse) -> Reply<ProduceResponse> {
    for topic in &response.responses {
        let failed = |row: &&PartitionProduceResponse| row.error_code != ErrorCode::None;
        if let Some(row) = topic.partition_responses.iter().find(failed) {
            let code = row.error_code;
            return Reply::Failed(format!("produce to {}-{}: {code}", topic.name, row.index));
        }
    }
    Reply::Silent
}

/// Waits until everything appended is durable, or the time is up.
async fn wait(response: &mut ProduceResponse, waiting: Vec<Waiting>, timeout_ms: i32) {
    let timeout = Duration::from_millis(u64::try_from(timeout_ms).unwrap_or(0));
    let deadline = tokio::time::Instant::now() + timeout;
    for appended in waiting {
        let durable = appended.partition.durable(appended.end_offset);
        let code = match tokio::time::timeout_at(deadline, durable).await {
            Ok(Ok(())) => continue,
            Ok(Err(_)) => ErrorCode::KafkaStorageError,
            Err(_) => ErrorCode::RequestTimedOut,
        };
        let row = &mut response.responses[appended.topic].partition_responses[appended.row];
        fail(row, &AppendError::new(code, code.message()));
    }
}
