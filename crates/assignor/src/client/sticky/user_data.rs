//! The bytes that the sticky assignors put beside a subscription.
//!
//! ```text
//! sticky               array { topic string, partitions array of int32 }, and since version 1: generation int32
//! cooperative-sticky   generation int32
//! ```
//! There is no version in front: whoever reads finds out by the length, as Java's does. Owns no judgement of what is claimed.

use bytes::{BufMut, Bytes};
use bytestring::ByteString;
use kavka_protocol::{DecodeError, Reader};

use crate::assignor::LastAssignment;

/// What a member says it had.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Owned {
    pub(super) partitions: Vec<(ByteString, Vec<i32>)>,
    /// -1 if it is not said.
    pub(super) generation: i32,
}

impl Default for Owned {
    fn default() -> Self {
        Self { partitions: Vec::new(), generation: -1 }
    }
}

pub(super) fn encode_owned(last: LastAssignment<'_>) -> Bytes {
    let mut out = Vec::new();
    out.put_i32(last.partitions.len() as i32);
    for topic in last.partitions {
        // Topic names have at most 249 bytes; this one came in an assignment, where a name has an int16 length.
        out.put_i16(topic.topic.len() as i16);
        out.put_slice(topic.topic.as_bytes());
        out.put_i32(topic.partitions.len() as i32);
        for number in &topic.partitions {
            out.put_i32(*number);
        }
    }
    out.put_i32(last.generation);
    out.into()
}

pub(super) fn decode_owned(bytes: &Bytes) -> Result<Owned, DecodeError> {
    let mut reader = Reader::new(bytes.clone());
    let partitions = reader.array(false, 6, "StickyUserData.partitions", |r| {
        let topic = r.string(false, "StickyUserData.topic")?;
        let numbers =
            r.array(false, 4, "StickyUserData.numbers", |r| r.int32("StickyUserData.number"))?;
        Ok((topic, numbers))
    })?;
    let generation =
        if reader.remaining() < 4 { -1 } else { reader.int32("StickyUserData.generation")? };
    Ok(Owned { partitions, generation: generation.max(-1) })
}

pub(super) fn encode_generation(generation: i32) -> Bytes {
    Bytes::copy_from_slice(&generation.to_be_bytes())
}

pub(super) fn decode_generation(bytes: &Bytes) -> Result<i32, DecodeError> {
    let generation = Reader::new(bytes.clone()).int32("CooperativeStickyUserData.generation")?;
    Ok(generation.max(-1))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn user_data_of_version_0_has_no_generation() {
        let bytes = Bytes::from_static(b"\0\0\0\x01\0\x01t\0\0\0\x01\0\0\0\x07");
        let owned = Owned { partitions: vec![("t".into(), vec![7])], generation: -1 };
        assert_eq!(decode_owned(&bytes).unwrap(), owned);
    }

    #[test]
    fn user_data_that_lies_about_its_length_is_an_error() {
        for bytes in [&b"\x7f\xff\xff\xff"[..], b"\0\0\0\x01\0\x01t\x7f\0\0\0", b"\0"] {
            decode_owned(&Bytes::from_static(bytes)).unwrap_err();
        }
        decode_generation(&Bytes::from_static(b"\0\0\0")).unwrap_err();
    }
}
