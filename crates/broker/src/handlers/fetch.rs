//! Fetch: reads batches, or waits for them.
//!
//! Limits as in KIP-74: partitions are read in order, each up to its own limit and what is left of the request's; the first
//! one that has something is served with at least one batch, however large. Nothing beyond the high watermark is read.

use std::{pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use kavka_log::LogError;
use kavka_protocol::{
    ErrorCode, Uuid,
    messages::{
        FetchRequest, FetchResponse,
        fetch_response::{AbortedTransaction, FetchableTopicResponse, PartitionData},
    },
};
use tokio::time::Instant;
use tracing::warn;

use crate::{
    dispatch::{Context, Reply},
    fetch_session::{Plan, SessionRequest, Told, TopicKey, Wanted},
    gate::{Gate, Wait},
    net::budget::Charge,
    partition::{Partition, log_error_code},
};

/// The isolation level that hides open and aborted transactions.
const READ_COMMITTED: i8 = 1;

/// What a partition gave.
struct Read {
    error: ErrorCode,
    high_watermark: i64,
    log_start_offset: i64,
    records: Bytes,
}

impl Read {
    fn failed(error: ErrorCode) -> Self {
        Self { error, high_watermark: -1, log_start_offset: -1, records: Bytes::new() }
    }
}

/// A partition of the request: there, or why not.
struct Source {
    wanted: Wanted,
    partition: Result<Arc<Partition>, ErrorCode>,
}

/// One pass over all partitions.
struct Pass {
    reads: Vec<Read>,
    bytes: usize,
    held: Option<Charge>,
    /// A read failed: the answer goes out at once.
    failed: bool,
}

pub(crate) async fn handle(context: Context, request: FetchRequest) -> Reply<FetchResponse> {
    let now = context.broker.clock.now().monotonic;
    let replica =
        if context.version >= 15 { request.replica_state.replica_id } else { request.replica_id };
    if replica >= 0 {
        // Only other brokers fetch as replicas, and there are none.
        return failure(ErrorCode::NotLeaderOrFollower).into();
    }
    let plan = match context.broker.fetch_sessions.plan(session_request(&context, &request), now) {
        Ok(plan) => plan,
        Err(code) => return failure(code).into(),
    };
    let sources: Vec<_> = plan
        .wanted
        .iter()
        .map(|wanted| Source { partition: resolve(&context, wanted), wanted: wanted.clone() })
        .collect();

    let broker_max = usize::try_from(context.broker.config.fetch.max_bytes).unwrap_or(0);
    let max_bytes = (request.max_bytes.max(0) as usize).min(broker_max);
    let min_bytes = (request.min_bytes.max(0) as usize).min(max_bytes);
    let wait = Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0));
    let deadline = Instant::now() + wait;
    let pass = loop {
        let seen = Seen::of(&sources);
        let pass = read_all(&context, &sources, max_bytes).await;
        // Without any partition there is nothing to wait for; beside others, one that is not there does not end their wait.
        let nothing_to_wait_for = sources.iter().all(|source| source.partition.is_err());
        let satisfied = pass.failed || pass.bytes >= min_bytes || nothing_to_wait_for;
        if satisfied || wait.is_zero() || Instant::now() >= deadline {
            break pass;
        }
        let missing = min_bytes - pass.bytes;
        drop(pass);
        let stopping = &context.broker.stopping;
        if !seen.grown_by(&sources, missing, deadline, stopping).await {
            break read_all(&context, &sources, max_bytes).await;
        }
    };
    respond(&context, &plan, sources, pass, request.isolation_level)
}

fn session_request(context: &Context, request: &FetchRequest) -> SessionRequest {
    let by_topic_id = context.version >= 13;
    let key = |name: &bytestring::ByteString, id: Uuid| {
        if by_topic_id { TopicKey::Id(id) } else { TopicKey::Name(super::groups::own(name)) }
    };
    let mut wanted = Vec::new();
    for topic in &request.topics {
        let topic_key = key(&topic.topic, topic.topic_id);
        wanted.extend(topic.partitions.iter().map(|partition| Wanted {
            topic: topic_key.clone(),
            partition: partition.partition,
            fetch_offset: partition.fetch_offset,
            max_bytes: partition.partition_max_bytes,
            current_leader_epoch: partition.current_leader_epoch,
            last_fetched_epoch: partition.last_fetched_epoch,
        }));
    }
    let mut forgotten = Vec::new();
    for topic in &request.forgotten_topics_data {
        let topic_key = key(&topic.topic, topic.topic_id);
        forgotten.extend(topic.partitions.iter().map(|index| (topic_key.clone(), *index)));
    }
    SessionRequest {
        id: request.session_id,
        epoch: request.session_epoch,
        wanted,
        forgotten,
        by_topic_id,
    }
}

fn resolve(context: &Context, wanted: &Wanted) -> Result<Arc<Partition>, ErrorCode> {
    let topics = &context.broker.topics;
    let topic = match &wanted.topic {
        TopicKey::Name(name) => topics.by_name(name).ok_or(ErrorCode::UnknownTopicOrPartition)?,
        TopicKey::Id(id) => topics.by_id(*id).ok_or(ErrorCode::UnknownTopicId)?,
    };
    topic.partition(wanted.partition).cloned()
}

/// Reads every partition in turn, within the limits.
async fn read_all(context: &Context, sources: &[Source], max_bytes: usize) -> Pass {
    let mut pass =
        Pass { reads: Vec::with_capacity(sources.len()), bytes: 0, held: None, failed: false };
    for source in sources {
        let read = match &source.partition {
            Err(code) => Read::failed(*code),
            Ok(partition) => match check_epoch(partition, source.wanted.current_leader_epoch) {
                Err(code) => {
                    pass.failed = true;
                    Read::failed(code)
                }
                Ok(()) => read_one(context, partition, &source.wanted, max_bytes, &mut pass).await,
            },
        };
        pass.bytes += read.records.len();
        pass.reads.push(read);
    }
    pass
}

/// The consumer's idea of the leader epoch (KIP-320); -1 is none.
fn check_epoch(partition: &Partition, current_leader_epoch: i32) -> Result<(), ErrorCode> {
    match current_leader_epoch {
        -1 => Ok(()),
        epoch if epoch < partition.leader_epoch() => Err(ErrorCode::FencedLeaderEpoch),
        epoch if epoch > partition.leader_epoch() => Err(ErrorCode::UnknownLeaderEpoch),
        _ => Ok(()),
    }
}

async fn read_one(
    context: &Context,
    partition: &Arc<Partition>,
    wanted: &Wanted,
    max_bytes: usize,
    pass: &mut Pass,
) -> Read {
    let high_watermark = partition.high_watermark();
    let log_start_offset = partition.log_start_offset();
    let nothing =
        Read { error: ErrorCode::None, high_watermark, log_start_offset, records: Bytes::new() };
    let from = wanted.fetch_offset;
    if from < log_start_offset || from > partition.log_end_offset() {
        pass.failed = true;
        return Read::failed(ErrorCode::OffsetOutOfRange);
    }
    let first = pass.bytes == 0;
    let budget = &context.broker.budget;
    let limit = (wanted.max_bytes.max(0) as usize)
        .min(max_bytes.saturating_sub(pass.bytes))
        .min(budget.available());
    if from >= high_watermark || (limit == 0 && !first) {
        return nothing;
    }
    let records = match partition.read(from, high_watermark, limit, first).await {
        Ok(slice) => slice.into_bytes(),
        Err(LogError::OffsetOutOfRange { .. }) => {
            pass.failed = true;
            return Read::failed(ErrorCode::OffsetOutOfRange);
        }
        Err(error) => {
            warn!("fetch of {} at {from} failed: {error}", partition.id());
            pass.failed = true;
            return Read::failed(log_error_code(&error));
        }
    };
    if records.is_empty() {
        return nothing;
    }
    match budget.try_charge(records.len()) {
        Some(charge) => Charge::join(&mut pass.held, charge),
        // Memory is short: the first one waits its turn, others are left for the next request.
        None if first => Charge::join(&mut pass.held, budget.charge(records.len()).await),
        None => return nothing,
    }
    Read { records, ..nothing }
}

/// Where a partition stood before a pass.
#[derive(Clone, Copy, Debug)]
struct Mark {
    high_watermark: i64,
    /// The size of the log if all of it was visible, else 0.
    size: u64,
}

impl Mark {
    /// `size` has to be read first and the high watermark last: then whatever `size` counts was visible if the high watermark
    /// is not behind the log end.
    fn new(size: u64, log_end_offset: i64, high_watermark: i64) -> Self {
        Self { high_watermark, size: if high_watermark >= log_end_offset { size } else { 0 } }
    }

    fn of(partition: &Partition) -> Self {
        let size = partition.log().size_bytes();
        let log_end_offset = partition.log_end_offset();
        Self::new(size, log_end_offset, partition.high_watermark())
    }

    /// At least the bytes that have become visible since. What was appended and is not visible yet counts too, so this
    /// tells when to look again, not what there is to see.
    fn grown(&self, size: u64, high_watermark: i64) -> u64 {
        if high_watermark <= self.high_watermark {
            return 0;
        }
        // A log that shrank was cleaned meanwhile; there is no telling what came.
        size.checked_sub(self.size).unwrap_or(u64::MAX)
    }
}

/// Where the partitions stood before a pass.
struct Seen {
    marks: Vec<Option<Mark>>,
}

impl Seen {
    fn of(sources: &[Source]) -> Self {
        let mark = |source: &Source| source.partition.as_deref().ok().map(Mark::of);
        Self { marks: sources.iter().map(mark).collect() }
    }

    /// Waits until `missing` more bytes may have become visible, or a partition is gone: true. False if the time is up before,
    /// or the broker stops.
    async fn grown_by(
        &self,
        sources: &[Source],
        missing: usize,
        deadline: Instant,
        stopping: &Gate,
    ) -> bool {
        let mut stopped = stopping.wait(1);
        let mut waits: Vec<Wait<'_>> = Vec::new();
        for (source, mark) in sources.iter().zip(&self.marks) {
            if let (Ok(partition), Some(mark)) = (&source.partition, mark) {
                waits.push(partition.gate().wait(mark.high_watermark + 1));
            }
        }
        let grown = || {
            let of_one = |(source, mark): (&Source, &Option<Mark>)| match (&source.partition, mark)
            {
                (Ok(partition), Some(mark)) => {
                    let high_watermark = partition.high_watermark();
                    mark.grown(partition.log().size_bytes(), high_watermark)
                }
                _ => 0,
            };
            sources.iter().zip(&self.marks).map(of_one).fold(0, u64::saturating_add)
        };
        loop {
            let advanced = std::future::poll_fn(|cx| {
                let mut closed = false;
                let mut ready = false;
                waits.retain_mut(|wait| match Pin::new(wait).poll(cx) {
                    std::task::Poll::Pending => true,
                    std::task::Poll::Ready(result) => {
                        ready = true;
                        closed |= result.is_err();
                        false
                    }
                });
                if ready { std::task::Poll::Ready(closed) } else { std::task::Poll::Pending }
            });
            let advanced = tokio::select! {
                biased;
                _ = &mut stopped => return false,
                advanced = tokio::time::timeout_at(deadline, advanced) => advanced,
            };
            match advanced {
                Err(_) => return false,
                Ok(closed) if closed || grown() >= missing as u64 => return true,
                Ok(_) => {}
            }
            // Not enough yet: wait for the next rise of those that rose.
            waits.clear();
            for source in sources {
                if let Ok(partition) = &source.partition {
                    waits.push(partition.gate().wait(partition.high_watermark() + 1));
                }
            }
        }
    }
}

fn respond(
    context: &Context,
    plan: &Plan,
    sources: Vec<Source>,
    pass: Pass,
    isolation_level: i8,
) -> Reply<FetchResponse> {
    let told: Vec<_> = pass
        .reads
        .iter()
        .map(|read| Told {
            high_watermark: read.high_watermark,
            log_start_offset: read.log_start_offset,
            has_records: !read.records.is_empty(),
            error: read.error,
        })
        .collect();
    let named = plan.answer(&told);
    let mut response = FetchResponse { session_id: plan.session_id, ..Default::default() };
    // There are no transactions yet, so none was aborted.
    let aborted = (isolation_level == READ_COMMITTED).then(Vec::new);
    for ((source, read), named) in sources.into_iter().zip(pass.reads).zip(named) {
        if named {
            add(&mut response, context, source, read, aborted.clone());
        }
    }
    match pass.held {
        Some(held) => Reply::Holding(response, held),
        None => Reply::Answer(response),
    }
}

/// Adds a partition to the topic at the end of the response, or to a new one.
fn add(
    response: &mut FetchResponse,
    context: &Context,
    source: Source,
    read: Read,
    aborted_transactions: Option<Vec<AbortedTransaction>>,
) {
    let same = response.responses.last().is_some_and(|last| match &source.wanted.topic {
        TopicKey::Name(name) => last.topic == *name,
        TopicKey::Id(id) => last.topic_id == *id,
    });
    if !same {
        let mut topic = FetchableTopicResponse::default();
        match &source.wanted.topic {
            TopicKey::Name(name) => topic.topic = name.clone(),
            TopicKey::Id(id) => topic.topic_id = *id,
        }
        response.responses.push(topic);
    }
    let mut row = PartitionData {
        partition_index: source.wanted.partition,
        error_code: read.error,
        high_watermark: read.high_watermark,
        last_stable_offset: read.high_watermark,
        log_start_offset: read.log_start_offset,
        aborted_transactions,
        records: Some(read.records),
        ..Default::default()
    };
    if let (ErrorCode::FencedLeaderEpoch, Ok(partition)) = (read.error, &source.partition)
        && context.version >= 12
    {
        row.current_leader.leader_id = context.broker.config.node_id;
        row.current_leader.leader_epoch = partition.leader_epoch();
    }
    if let Some(topic) = response.responses.last_mut() {
        topic.partitions.push(row);
    }
}

fn failure(error_code: ErrorCode) -> FetchResponse {
    FetchResponse { error_code, ..Default::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_appended_before_the_pass_and_visible_after_it_counts() {
        // Two batches of 70 bytes; the pass comes between the append of the first and its sync, and sees nothing.
        let mark = Mark::new(70, 1, 0);
        assert!(mark.grown(70, 1) >= 70, "the first one became visible");
        assert!(mark.grown(140, 2) >= 140, "both did");
    }

    #[test]
    fn only_what_came_since_counts() {
        let mark = Mark::new(70, 1, 1);
        assert_eq!(mark.grown(140, 1), 0, "appended, not visible");
        assert_eq!(mark.grown(140, 2), 70);
        assert_eq!(mark.grown(60, 2), u64::MAX, "cleaned meanwhile: look again");
    }
}
