//! What any bytes must survive.
//!
//! One function for each kind of bytes that come from elsewhere. They panic where a promise is broken: decoding panics, or what was
//! read is not written and read again as it was. libFuzzer runs them from `targets/`, and the tests of `kavka-protocol` run the same
//! functions over mutated seeds for a bounded time.

use bytes::Bytes;
use kavka_protocol::{
    ApiKey, Message, Reader,
    messages::{self, Visitor},
    records::{Compression, Compressor, Decompressor, message_set},
    wire::DecodeErrorKind,
};

/// The most that one batch may decompress to here.
const MAX_DECOMPRESSED_BYTES: usize = 1 << 20;

/// Int16 API, int16 version, body.
pub fn request(data: &[u8]) {
    let Some((api, version, body)) = api_and_version(data) else { return };
    messages::visit_request(api, RoundTrip { version, body });
}

/// Int16 API, int16 version, body.
pub fn response(data: &[u8]) {
    let Some((api, version, body)) = api_and_version(data) else { return };
    messages::visit_response(api, RoundTrip { version, body });
}

/// Int16 index into [`messages::NAMES`], int16 version, body.
pub fn message(data: &[u8]) {
    let Some((index, version, body)) = two_int16(data) else { return };
    let name = usize::try_from(index).ok().and_then(|index| messages::NAMES.get(index));
    let Some(name) = name else { return };
    messages::visit(name, RoundTrip { version, body });
}

/// Batches of any magic: every header, every record, every header of a record.
pub fn batches(data: &[u8]) {
    let mut decompressor = Decompressor::new(MAX_DECOMPRESSED_BYTES);
    let mut size = 0;
    for batch in message_set(data) {
        let Ok(batch) = batch else { return };
        size += batch.size_in_bytes();
        assert!(size <= data.len(), "batches reach beyond the bytes");
        let _ = batch.verify_crc();
        let Ok(records) = batch.records(&mut decompressor) else { continue };
        for record in records {
            let Ok(record) = record else { break };
            record.headers().for_each(drop);
        }
    }
}

/// The codec's id in one byte, then the bytes to decompress, and then to compress.
pub fn codec(data: &[u8]) {
    let Some((&id, data)) = data.split_first() else { return };
    let Ok(codec) = Compression::from_id(id) else { return };
    let mut decompressor = Decompressor::new(MAX_DECOMPRESSED_BYTES);
    if let Ok(decompressed) = decompressor.decompress(codec, data) {
        assert!(decompressed.len() <= MAX_DECOMPRESSED_BYTES, "more than the cap");
    }

    let Ok(mut compressor) = Compressor::new(codec, None) else { return };
    let mut compressed = Vec::new();
    compressor.compress(data, &mut compressed);
    let decompressed = decompressor.decompress(codec, &compressed);
    assert_eq!(decompressed.as_deref(), Ok(data), "{codec:?}: not what was compressed");
}

fn two_int16(data: &[u8]) -> Option<(i16, i16, Bytes)> {
    let (first, rest) = data.split_first_chunk()?;
    let (second, body) = rest.split_first_chunk()?;
    let body = Bytes::copy_from_slice(body);
    Some((i16::from_be_bytes(*first), i16::from_be_bytes(*second), body))
}

fn api_and_version(data: &[u8]) -> Option<(ApiKey, i16, Bytes)> {
    let (api, version, body) = two_int16(data)?;
    Some((ApiKey::from_code(api)?, version, body))
}

/// Reads a message; one that is read is written, read again and written the same.
struct RoundTrip {
    version: i16,
    body: Bytes,
}

impl Visitor for RoundTrip {
    type Output = ();

    fn visit<M: Message>(self) {
        let Ok(message) = M::decode(&mut Reader::new(self.body), self.version) else { return };
        let written = message.to_bytes(self.version);
        let written = written.unwrap_or_else(|error| panic!("read but not written: {error}"));
        let again = match M::decode(&mut Reader::new(written.clone()), self.version) {
            Ok(again) => again,
            // The bytes as they came may have been longer, and their budget larger.
            Err(error) if error.kind == DecodeErrorKind::TooDense => return,
            Err(error) => panic!("written but not read: {error}"),
        };
        assert_eq!(again.to_bytes(self.version), Ok(written), "{}: not the same again", M::NAME);
    }
}
