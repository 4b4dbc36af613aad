//! No client: one request after the other over a blocking socket. What is above this is the client's.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use bytes::Bytes;
use kavka_protocol::{
    ApiKey, ErrorCode, Message, Reader,
    messages::{
        OffsetCommitRequest, OffsetCommitResponse, RequestHeader, ResponseHeader,
        offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic},
    },
};

use crate::{
    Load,
    usage::{Measured, Meter},
};

/// The newest with names of topics.
const VERSION: i16 = 8;

/// Commits of a simple consumer. The bootstrap address has to be the group's coordinator.
pub(crate) fn commit(load: &Load) -> anyhow::Result<(Measured, Vec<Duration>)> {
    let mut stream = TcpStream::connect(&load.bootstrap)?;
    stream.set_nodelay(true)?;
    commit_one(&mut stream, load, 0)?;
    let mut latencies = Vec::with_capacity(load.records as usize);
    let meter = Meter::start();
    for offset in 1..=load.records as i64 {
        let began = Instant::now();
        commit_one(&mut stream, load, offset)?;
        latencies.push(began.elapsed());
    }
    Ok((meter.stop()?, latencies))
}

fn commit_one(stream: &mut TcpStream, load: &Load, offset: i64) -> anyhow::Result<()> {
    let request = OffsetCommitRequest {
        group_id: load.group.as_str().into(),
        generation_id_or_member_epoch: -1,
        topics: vec![OffsetCommitRequestTopic {
            name: load.topic.as_str().into(),
            partitions: vec![OffsetCommitRequestPartition {
                partition_index: 0,
                committed_offset: offset,
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    let api = ApiKey::OffsetCommit;
    let header = RequestHeader {
        request_api_key: api.code(),
        request_api_version: VERSION,
        correlation_id: offset as i32,
        client_id: Some("raw".into()),
        ..Default::default()
    };
    let mut frame = vec![0; 4];
    header.encode(&mut frame, api.request_header_version(VERSION))?;
    request.encode(&mut frame, VERSION)?;
    let length = u32::try_from(frame.len() - 4)?;
    frame[..4].copy_from_slice(&length.to_be_bytes());
    stream.write_all(&frame)?;

    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let mut answer = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut answer)?;
    let mut reader = Reader::new(Bytes::from(answer));
    ResponseHeader::decode(&mut reader, api.response_header_version(VERSION))?;
    let response = OffsetCommitResponse::decode(&mut reader, VERSION)?;
    let topic = response.topics.first().context("an answer without topic")?;
    let partition = topic.partitions.first().context("an answer without partition")?;
    ensure!(partition.error_code == ErrorCode::None, "commit refused: {:?}", partition.error_code);
    Ok(())
}
