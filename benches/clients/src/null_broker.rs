//! A broker that answers at once: it takes every batch and keeps none, so that what is measured is the client.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    thread,
};

use crate::payload;
use anyhow::{Context, bail};
use bytes::{Bytes, BytesMut};
use clap::Args;
use kavka_protocol::{
    ApiKey, ErrorCode, Message, Reader, Uuid,
    messages::{
        ApiVersionsResponse, FetchRequest, FetchResponse, FindCoordinatorRequest,
        FindCoordinatorResponse, InitProducerIdRequest, InitProducerIdResponse, ListOffsetsRequest,
        ListOffsetsResponse, MetadataRequest, MetadataResponse, ProduceRequest, ProduceResponse,
        RequestHeader, ResponseHeader,
        api_versions_response::ApiVersion,
        fetch_request::FetchPartition,
        fetch_response::{FetchableTopicResponse, PartitionData},
        find_coordinator_response::Coordinator,
        list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse},
        metadata_response::{
            MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
        },
        produce_response::{PartitionProduceResponse, TopicProduceResponse},
    },
    records::{BatchBuilder, BatchHeader, Compression, Compressor, patch_base_offset},
};

#[derive(Args)]
pub(crate) struct Options {
    /// 0 takes a free one.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Partitions of every topic.
    #[arg(long, default_value_t = 8)]
    partitions: i32,
    /// Bytes of the values that fetches get.
    #[arg(long, default_value_t = 100)]
    size: usize,
    /// The codec of the batches that fetches get.
    #[arg(long, default_value = "none")]
    codec: String,
}

/// What every answer needs.
struct Setup {
    port: i32,
    partitions: i32,
    /// Batches that follow each other, from offset 0 on, and how many records each has.
    batches: Vec<(Vec<u8>, i64)>,
}

/// What it has, and up to which version: by name, so that every client can.
const APIS: [(ApiKey, i16); 7] = [
    (ApiKey::ApiVersions, 4),
    (ApiKey::Metadata, 9),
    (ApiKey::Produce, 10),
    (ApiKey::InitProducerId, 4),
    (ApiKey::FindCoordinator, 4),
    (ApiKey::Fetch, 12),
    (ApiKey::ListOffsets, 7),
];

/// What was produced since somebody asked.
static PRODUCED: Produced = Produced {
    requests: AtomicU64::new(0),
    batches: AtomicU64::new(0),
    records: AtomicU64::new(0),
    bytes: AtomicU64::new(0),
};

/// So that it shows whether clients make the batches that they are asked for.
struct Produced {
    requests: AtomicU64,
    batches: AtomicU64,
    records: AtomicU64,
    bytes: AtomicU64,
}

/// Of what was produced.
static NEXT_OFFSET: AtomicI64 = AtomicI64::new(0);

/// Serves until its standard input ends. For each line there it prints what was produced since the last, as JSON.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", options.port))?;
    let setup = Arc::new(Setup {
        port: i32::from(listener.local_addr()?.port()),
        partitions: options.partitions,
        batches: batches(options)?,
    });
    println!("listening on 127.0.0.1:{}", setup.port);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let setup = Arc::clone(&setup);
            thread::spawn(move || {
                if let Err(error) = stream.map_err(Into::into).and_then(|it| serve(it, &setup)) {
                    eprintln!("a connection ended: {error:#}");
                }
            });
        }
    });
    for line in std::io::stdin().lines() {
        line?;
        let take = |count: &AtomicU64| count.swap(0, Ordering::Relaxed);
        let counts = serde_json::json!({
            "requests": take(&PRODUCED.requests),
            "batches": take(&PRODUCED.batches),
            "records": take(&PRODUCED.records),
            "bytes": take(&PRODUCED.bytes),
        });
        println!("{counts}");
    }
    Ok(())
}

/// About 256 KiB in batches of 16 KiB, as producers write them by default.
fn batches(options: &Options) -> anyhow::Result<Vec<(Vec<u8>, i64)>> {
    let codec = Compression::from_name(&options.codec).context("no such codec")?;
    let mut compressor = Compressor::new(codec, None)?;
    let mut n = 0;
    let mut batches = Vec::new();
    for _ in 0..16 {
        let mut builder = BatchBuilder::new(0).with_compression(codec);
        while builder.size() + options.size < 16_384 || builder.record_count() == 0 {
            builder.append(1_700_000_000_000, None, Some(&payload::value(n, options.size)), &[])?;
            n += 1;
        }
        let count = builder.record_count() as i64;
        batches.push((builder.build_with(&mut compressor)?.to_vec(), count));
    }
    Ok(batches)
}

/// What a partition has from an offset on: the same again and again, up to so many bytes.
fn fetched(setup: &Setup, mut offset: i64, room: usize) -> Bytes {
    let mut out = Vec::with_capacity(room);
    for (batch, count) in setup.batches.iter().cycle() {
        if !out.is_empty() && out.len() + batch.len() > room {
            break;
        }
        let start = out.len();
        out.extend_from_slice(batch);
        patch_base_offset(&mut out[start..], offset);
        offset += count;
    }
    out.into()
}

fn serve(mut stream: TcpStream, setup: &Setup) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    loop {
        let mut length = [0; 4];
        if stream.read_exact(&mut length).is_err() {
            return Ok(());
        }
        let length = usize::try_from(i32::from_be_bytes(length)).context("a negative length")?;
        if length > 256 << 20 {
            bail!("a frame of {length} bytes");
        }
        let mut frame = BytesMut::zeroed(length);
        stream.read_exact(&mut frame)?;
        if let Some(answer) = answer(frame.freeze(), setup)? {
            stream.write_all(&answer)?;
        }
    }
}

fn answer(frame: Bytes, setup: &Setup) -> anyhow::Result<Option<Vec<u8>>> {
    let code = i16::from_be_bytes([frame[0], frame[1]]);
    let version = i16::from_be_bytes([frame[2], frame[3]]);
    let api = ApiKey::from_code(code).context("an unknown API")?;
    let mut reader = Reader::new(frame);
    let header = RequestHeader::decode(&mut reader, api.request_header_version(version))?;
    let body = match api {
        ApiKey::ApiVersions => {
            let highest = APIS[0].1;
            let (version, error_code) = match version > highest {
                true => (0, ErrorCode::UnsupportedVersion),
                false => (version, ErrorCode::None),
            };
            let api_keys = APIS.map(|(api, max_version)| ApiVersion {
                api_key: api.code(),
                min_version: api.versions().0,
                max_version,
                ..Default::default()
            });
            let response = ApiVersionsResponse {
                error_code,
                api_keys: api_keys.to_vec(),
                ..Default::default()
            };
            return framed(header.correlation_id, 0, &response, version).map(Some);
        }
        ApiKey::Metadata => {
            let request = MetadataRequest::decode(&mut reader, version)?;
            let names = request.topics.unwrap_or_default().into_iter().filter_map(|row| row.name);
            let partition = |index| MetadataResponsePartition {
                partition_index: index,
                leader_id: 1,
                leader_epoch: 0,
                replica_nodes: vec![1],
                isr_nodes: vec![1],
                ..Default::default()
            };
            let response = MetadataResponse {
                brokers: vec![MetadataResponseBroker {
                    node_id: 1,
                    host: "127.0.0.1".into(),
                    port: setup.port,
                    ..Default::default()
                }],
                cluster_id: Some("null".into()),
                controller_id: 1,
                topics: names
                    .map(|name| MetadataResponseTopic {
                        name: Some(name),
                        topic_id: Uuid::ZERO,
                        partitions: (0..setup.partitions).map(partition).collect(),
                        ..Default::default()
                    })
                    .collect(),
                ..Default::default()
            };
            encode(&header, api, version, &response)?
        }
        ApiKey::InitProducerId => {
            InitProducerIdRequest::decode(&mut reader, version)?;
            let response =
                InitProducerIdResponse { producer_id: 7, producer_epoch: 0, ..Default::default() };
            encode(&header, api, version, &response)?
        }
        ApiKey::Produce => {
            let request = ProduceRequest::decode(&mut reader, version)?;
            if request.acks == 0 {
                return Ok(None);
            }
            PRODUCED.requests.fetch_add(1, Ordering::Relaxed);
            let responses = request.topic_data.into_iter().map(|topic| TopicProduceResponse {
                name: topic.name,
                partition_responses: topic
                    .partition_data
                    .into_iter()
                    .map(|row| {
                        let batch = row.records.unwrap_or_default();
                        let count =
                            BatchHeader::parse(&batch).map_or(0, |batch| batch.record_count);
                        PRODUCED.batches.fetch_add(1, Ordering::Relaxed);
                        PRODUCED.records.fetch_add(count.unsigned_abs().into(), Ordering::Relaxed);
                        PRODUCED.bytes.fetch_add(batch.len() as u64, Ordering::Relaxed);
                        PartitionProduceResponse {
                            index: row.index,
                            base_offset: NEXT_OFFSET.fetch_add(i64::from(count), Ordering::Relaxed),
                            ..Default::default()
                        }
                    })
                    .collect(),
                ..Default::default()
            });
            let response = ProduceResponse { responses: responses.collect(), ..Default::default() };
            encode(&header, api, version, &response)?
        }
        ApiKey::Fetch => {
            let request = FetchRequest::decode(&mut reader, version)?;
            let mut left = usize::try_from(request.max_bytes)?;
            let mut row = |row: &FetchPartition| {
                let room = left.min(usize::try_from(row.partition_max_bytes).unwrap_or(0));
                let records = match room {
                    0 => Bytes::new(),
                    _ => fetched(setup, row.fetch_offset, room),
                };
                left = left.saturating_sub(records.len());
                PartitionData {
                    partition_index: row.partition,
                    high_watermark: i64::MAX / 2,
                    last_stable_offset: i64::MAX / 2,
                    log_start_offset: 0,
                    records: Some(records),
                    ..Default::default()
                }
            };
            let topics = request.topics.iter().map(|topic| FetchableTopicResponse {
                topic: topic.topic.clone(),
                partitions: topic.partitions.iter().map(&mut row).collect(),
                ..Default::default()
            });
            let response = FetchResponse { responses: topics.collect(), ..Default::default() };
            encode(&header, api, version, &response)?
        }
        ApiKey::ListOffsets => {
            let request = ListOffsetsRequest::decode(&mut reader, version)?;
            let topics = request.topics.into_iter().map(|topic| ListOffsetsTopicResponse {
                name: topic.name,
                partitions: topic
                    .partitions
                    .iter()
                    .map(|row| ListOffsetsPartitionResponse {
                        partition_index: row.partition_index,
                        offset: 0,
                        leader_epoch: 0,
                        ..Default::default()
                    })
                    .collect(),
                ..Default::default()
            });
            let response = ListOffsetsResponse { topics: topics.collect(), ..Default::default() };
            encode(&header, api, version, &response)?
        }
        ApiKey::FindCoordinator => {
            let request = FindCoordinatorRequest::decode(&mut reader, version)?;
            // There are no groups here.
            let error_code = ErrorCode::CoordinatorNotAvailable;
            let keys = request.coordinator_keys.into_iter();
            let response = FindCoordinatorResponse {
                error_code: if version < 4 { error_code } else { ErrorCode::None },
                coordinators: keys
                    .map(|key| Coordinator { key, error_code, ..Default::default() })
                    .collect(),
                ..Default::default()
            };
            encode(&header, api, version, &response)?
        }
        other => bail!("{} was not advertised", other.name()),
    };
    Ok(Some(body))
}

fn encode(
    header: &RequestHeader,
    api: ApiKey,
    version: i16,
    response: &impl Message,
) -> anyhow::Result<Vec<u8>> {
    framed(header.correlation_id, api.response_header_version(version), response, version)
}

fn framed(
    correlation_id: i32,
    header_version: i16,
    response: &impl Message,
    version: i16,
) -> anyhow::Result<Vec<u8>> {
    let mut out = vec![0; 4];
    ResponseHeader { correlation_id, ..Default::default() }.encode(&mut out, header_version)?;
    response.encode(&mut out, version)?;
    let length = i32::try_from(out.len() - 4)?;
    out[..4].copy_from_slice(&length.to_be_bytes());
    Ok(out)
}
