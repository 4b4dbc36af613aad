//! Every line of `record_batches.jsonl`: batches that Apache Kafka's own classes wrote, and what they read from them.
//!
//! `GOLDEN_DIR` may name a directory with another file of that name, not compressed.

// The file has batches of all codecs.
#![cfg(feature = "zstd")]
#![allow(clippy::unwrap_used)]

mod golden;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kavka_protocol::records::{
    AnyBatch, BatchBuilder, Compressor, ControlType, Decompressor, EndTxnMarker, RecordError,
    TimestampType, message_set,
};
use serde_json::{Map, Value, json};

const CAP: usize = 1 << 20;

#[test]
fn every_line_reads_as_in_apache_kafka() {
    let lines = golden::lines("record_batches.jsonl");
    assert!(!lines.is_empty());
    let mut decompressor = Decompressor::new(CAP);
    for line in &lines {
        let what = line["description"].as_str().unwrap();
        let bytes = golden::bytes(&line["hex"]);
        let (batches, error) = read(&mut decompressor, &bytes);
        assert_eq!(Value::Array(batches), line["batches"], "{what}");
        match (line.get("error").and_then(Value::as_str), error) {
            (None, None) => {}
            (Some(expected), Some(error)) => {
                let corrupt = expected == "CorruptRecordException";
                assert_eq!(is_corrupt(&error), corrupt, "{what}: {expected}, but {error}");
            }
            (expected, error) => panic!("{what}: Kafka says {expected:?}, this says {error:?}"),
        }
    }
}

/// Compaction that keeps every record must give back Kafka's bytes, also with a delete horizon and
/// without records. Compressed bytes may differ, what is in them may not.
#[test]
fn rebuilding_gives_back_the_same_batch() {
    let mut decompressor = Decompressor::new(CAP);
    let (mut equal, mut compressed) = (0, 0);
    for line in golden::lines("record_batches.jsonl") {
        let what = line["description"].as_str().unwrap();
        let bytes = golden::bytes(&line["hex"]);
        if line.get("error").is_some() || what.contains("byte") || what.contains("instead of") {
            // Broken on purpose, or written in a way that this builder does not write.
            continue;
        }
        for batch in message_set(&bytes) {
            let AnyBatch::V2(header, original) = batch.unwrap() else { continue };
            let mut builder = BatchBuilder::rebuilding(&header);
            for record in decompressor.records(&header, original).unwrap() {
                builder.append_view(&record.unwrap()).unwrap();
            }
            let codec = header.compression().unwrap();
            let mut compressor = Compressor::new(codec, None).unwrap();
            let rebuilt = builder.build_with(&mut compressor).unwrap();
            let log_append_time = header.timestamp_type() == TimestampType::LogAppendTime;
            if codec.id() == 0 && !log_append_time {
                assert_eq!(rebuilt, original, "{what}");
                equal += 1;
            } else {
                let (mut before, _) = read(&mut decompressor, original);
                let (mut after, error) = read(&mut decompressor, &rebuilt);
                assert_eq!(error, None, "{what}");
                for batch in before.iter_mut().chain(&mut after) {
                    let batch = batch.as_object_mut().unwrap();
                    batch.remove("crc");
                    batch.remove("sizeInBytes");
                    if log_append_time {
                        // Deltas from the producer's time became deltas from the broker's.
                        batch.remove("firstTimestamp");
                    }
                }
                assert_eq!(before, after, "{what}");
                compressed += 1;
            }
        }
    }
    assert!(equal > 10 && compressed > 40, "{equal} and {compressed}");
}

#[test]
fn markers_are_written_as_kafka_writes_them() {
    let mut decompressor = Decompressor::new(CAP);
    let mut markers = 0;
    for line in golden::lines("record_batches.jsonl") {
        let bytes = golden::bytes(&line["hex"]);
        for batch in message_set(&bytes).map_while(Result::ok) {
            let AnyBatch::V2(header, original) = batch else { continue };
            if !header.is_control() || line.get("error").is_some() {
                continue;
            }
            let record = decompressor.records(&header, original).unwrap().next().unwrap().unwrap();
            let Some(marker) = EndTxnMarker::parse(&record).unwrap() else { continue };
            let mut written = marker
                .to_batch(
                    header.base_offset,
                    record.timestamp,
                    header.producer_id,
                    header.producer_epoch,
                )
                .unwrap()
                .to_vec();
            kavka_protocol::records::patch_leader_epoch(
                &mut written,
                header.partition_leader_epoch,
            );
            assert_eq!(written, original, "{}", line["description"]);
            markers += 1;
        }
    }
    assert!(markers >= 5, "{markers}");
}

/// The batches in the golden file's JSON form, up to the first error.
fn read(decompressor: &mut Decompressor, bytes: &[u8]) -> (Vec<Value>, Option<RecordError>) {
    let mut batches = Vec::new();
    for batch in message_set(bytes) {
        match batch.and_then(|batch| to_json(decompressor, &batch)) {
            Ok(batch) => batches.push(batch),
            Err(error) => return (batches, Some(error)),
        }
    }
    (batches, None)
}

fn to_json(decompressor: &mut Decompressor, batch: &AnyBatch<'_>) -> Result<Value, RecordError> {
    batch.verify_crc()?;
    let is_control = matches!(batch, AnyBatch::V2(header, _) if header.is_control());
    let mut records = Vec::new();
    for record in batch.records(decompressor)? {
        let record = record?;
        let headers: Vec<_> = record
            .headers()
            .map(|header| json!([header.key_str(), header.value.map(base64)]))
            .collect();
        let mut object = Map::new();
        object.insert("offset".into(), record.offset.into());
        object.insert("timestamp".into(), record.timestamp.into());
        object.insert("key_b64".into(), record.key.map(base64).into());
        object.insert("value_b64".into(), record.value.map(base64).into());
        object.insert("headers".into(), headers.into());
        if is_control {
            let name = match ControlType::parse(&record)? {
                ControlType::Abort => "ABORT",
                ControlType::Commit => "COMMIT",
                ControlType::LeaderChange => "LEADER_CHANGE",
                ControlType::SnapshotHeader => "SNAPSHOT_HEADER",
                ControlType::SnapshotFooter => "SNAPSHOT_FOOTER",
                ControlType::KraftVersion => "KRAFT_VERSION",
                ControlType::KraftVoters => "KRAFT_VOTERS",
                _ => "UNKNOWN",
            };
            object.insert("controlType".into(), name.into());
            if let Some(marker) = EndTxnMarker::parse(&record)? {
                object.insert("coordinatorEpoch".into(), marker.coordinator_epoch.into());
            }
        }
        records.push(Value::Object(object));
    }
    let mut object = match batch {
        AnyBatch::V2(header, _) => {
            let mut object = json!({
                "baseOffset": header.base_offset,
                "nextOffset": header.next_offset(),
                "lastOffsetDelta": header.last_offset_delta,
                "magic": header.magic,
                "crc": header.crc,
                "attributes": header.attributes.0,
                "codec": header.compression()?.name(),
                "timestampType": header.timestamp_type().to_string(),
                "producerId": header.producer_id,
                "producerEpoch": header.producer_epoch,
                "baseSequence": header.base_sequence,
                "lastSequence": header.last_sequence(),
                "partitionLeaderEpoch": header.partition_leader_epoch,
                "firstTimestamp": header.base_timestamp,
                "maxTimestamp": header.max_timestamp,
                "isTransactional": header.is_transactional(),
                "isControl": header.is_control(),
                "count": header.record_count,
            });
            if let Some(horizon) = header.delete_horizon_ms() {
                object["deleteHorizonMs"] = horizon.into();
            }
            object
        }
        AnyBatch::Legacy(message) => json!({
            "baseOffset": records[0]["offset"],
            "nextOffset": message.offset + 1,
            "magic": message.magic,
            "crc": message.crc,
            "attributes": message.attributes,
            "codec": message.compression()?.name(),
            "timestampType": match message.timestamp_type() {
                None => "NoTimestampType".to_owned(),
                Some(timestamp_type) => timestamp_type.to_string(),
            },
            "producerId": -1,
            "producerEpoch": -1,
            "baseSequence": -1,
            "lastSequence": -1,
            "partitionLeaderEpoch": -1,
            "maxTimestamp": message.timestamp,
            "isTransactional": false,
            "isControl": false,
        }),
    };
    object["lastOffset"] = batch.last_offset().into();
    object["sizeInBytes"] = batch.size_in_bytes().into();
    object["records"] = records.into();
    Ok(object)
}

fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// Damage to the frame of a batch, for which Kafka throws another class than for damage inside. Which
/// one it throws for damage inside depends on how far its streams have read.
fn is_corrupt(error: &RecordError) -> bool {
    matches!(
        error,
        RecordError::InvalidBatchLength { .. }
            | RecordError::CrcMismatch { .. }
            | RecordError::UnsupportedMagic { .. }
    )
}
