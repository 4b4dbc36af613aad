//! What tests of clients share: reading back what stands in a partition, without the client's own consumer.
#![allow(clippy::unwrap_used, dead_code, unreachable_pub)]

use kavka_protocol::{
    ErrorCode, Uuid,
    records::{BatchHeader, Decompressor, split_bytes},
};
use kavka_testkit::{
    TestBroker,
    raw::{self, RawClient},
};

/// A record as it stands in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    pub offset: i64,
    pub timestamp_ms: i64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Stored {
    pub fn text(&self) -> &str {
        std::str::from_utf8(self.value.as_deref().unwrap()).unwrap()
    }
}

/// All of a partition: batch headers and records, in the order of the log.
pub async fn read_all(
    broker: &TestBroker,
    topic_id: Uuid,
    partition: i32,
) -> (Vec<BatchHeader>, Vec<Stored>) {
    let mut client = RawClient::connect(broker.addr()).await.with_client_id("reader");
    let (mut headers, mut records) = (Vec::new(), Vec::new());
    let mut decompressor = Decompressor::new(64 << 20);
    let mut next = 0;
    loop {
        let response = client.call(raw::fetch_request(topic_id, partition, next)).await;
        let row = &response.responses[0].partitions[0];
        assert_eq!(row.error_code, ErrorCode::None);
        let bytes = row.records.clone().unwrap_or_default();
        let before = next;
        for batch in split_bytes(bytes) {
            let (header, bytes) = batch.unwrap();
            assert_eq!(header.base_offset, next, "batches follow each other");
            next = header.next_offset();
            for record in decompressor.records(&header, &bytes).unwrap() {
                let record = record.unwrap();
                let stored_header = |header: kavka_protocol::records::RecordHeader<'_>| {
                    (header.key_str().into_owned(), header.value.map(<[u8]>::to_vec))
                };
                records.push(Stored {
                    offset: record.offset,
                    timestamp_ms: record.timestamp,
                    key: record.key.map(<[u8]>::to_vec),
                    value: record.value.map(<[u8]>::to_vec),
                    headers: record.headers().map(stored_header).collect(),
                });
            }
            headers.push(header);
        }
        if next == before {
            return (headers, records);
        }
    }
}

/// Checks what holds for the batches of an idempotent producer: sequences without gap within each epoch (invariant S19).
pub fn check_sequences(headers: &[BatchHeader]) {
    let mut expected = None;
    for header in headers {
        let identity = (header.producer_id, header.producer_epoch);
        assert!(header.has_producer_id(), "{header:?}");
        match expected {
            Some((same, next)) if same == identity => assert_eq!(header.base_sequence, next),
            _ => assert_eq!(header.base_sequence, 0, "a new epoch begins at 0"),
        }
        expected = Some((identity, header.last_sequence() + 1));
    }
}
