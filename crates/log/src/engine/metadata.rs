//! `partition.metadata`: which topic id a partition directory belongs to.
//!
//! The first two lines are Kafka's. A third holds a checksum, which Kafka does not read and does not
//! write; a file without it comes from Kafka and is believed.

use kavka_protocol::Uuid;
use kavka_protocol::records::crc32c;

/// What a metadata file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Metadata {
    /// The directory belongs to this topic id.
    TopicId(Uuid),
    /// The file's bytes never reached the disk: its creation was cut short, before anything in
    /// the directory could have been acknowledged.
    Unwritten,
    /// Neither Kafka nor we wrote these bytes.
    Damaged,
}

/// Longest file that is looked at.
pub(crate) const MAX_BYTES: usize = 512;

pub(crate) fn encode(topic_id: Uuid) -> String {
    let lines = format!("version: 0\ntopic_id: {topic_id}\n");
    let crc = crc32c(lines.as_bytes());
    format!("{lines}crc32c: {crc:08x}\n")
}

pub(crate) fn decode(bytes: &[u8]) -> Metadata {
    if bytes.iter().all(|&byte| byte == 0) {
        return Metadata::Unwritten;
    }
    parse(bytes).map_or(Metadata::Damaged, Metadata::TopicId)
}

fn parse(bytes: &[u8]) -> Option<Uuid> {
    let text = std::str::from_utf8(bytes).ok()?;
    let mut lines = text.lines();
    if lines.next()?.trim() != "version: 0" {
        return None;
    }
    let topic_id = lines.next()?.strip_prefix("topic_id:")?.trim().parse().ok()?;
    match lines.next() {
        None => Some(topic_id),
        Some(_) => (text == encode(topic_id)).then_some(topic_id),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_its_own_and_kafkas_files() {
        let id = Uuid::from_bytes(*b"0123456789abcdef");
        let own = encode(id);
        assert_eq!(decode(own.as_bytes()), Metadata::TopicId(id));
        let kafkas = format!("version: 0\ntopic_id: {id}");
        assert_eq!(decode(kafkas.as_bytes()), Metadata::TopicId(id));
    }

    #[test]
    fn tells_unwritten_from_damaged() {
        assert_eq!(decode(b""), Metadata::Unwritten);
        assert_eq!(decode(&[0; 64]), Metadata::Unwritten);
        let mut own = encode(Uuid::from_bytes([7; 16])).into_bytes();
        own[25] ^= 1;
        assert_eq!(decode(&own), Metadata::Damaged);
        assert_eq!(decode(b"\xff\xfe"), Metadata::Damaged);
    }
}
