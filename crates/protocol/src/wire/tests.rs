#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use proptest::prelude::*;

use super::*;

fn reader(bytes: &[u8]) -> Reader {
    Reader::new(Bytes::copy_from_slice(bytes))
}

#[test]
fn varints_have_five_bytes_at_most() {
    assert_eq!(reader(&[0x80, 0x80, 0x80, 0x80, 0x00]).unsigned_varint("n"), Ok(0));
    let error = reader(&[0x80, 0x80, 0x80, 0x80, 0x80, 0x00]).unsigned_varint("n").unwrap_err();
    assert_eq!(error.kind, DecodeErrorKind::VarintTooLong);
    let error = reader(&[0x80]).unsigned_varint("n").unwrap_err();
    assert_eq!(error.kind, DecodeErrorKind::Truncated { needed: 1, remaining: 0 });
}

#[test]
fn every_negative_length_is_null() {
    assert_eq!(reader(&[0xff, 0xfe]).nullable_string(false, true, "s"), Ok(None));
    assert_eq!(reader(&[0x80, 0, 0, 0]).nullable_bytes(false, true, "b"), Ok(None));
    let compact = [0xff, 0xff, 0xff, 0xff, 0x0f];
    assert_eq!(reader(&compact).nullable_bytes(true, true, "b"), Ok(None));
    assert_eq!(reader(&[0]).nullable_bytes(true, true, "b"), Ok(None));
    let error = reader(&[0]).nullable_bytes(true, false, "b").unwrap_err();
    assert_eq!(error.kind, DecodeErrorKind::UnexpectedNull);
}

#[test]
fn compact_strings_longer_than_an_int16_can_say_are_refused() {
    let mut frame = vec![0x81, 0x80, 0x02];
    frame.resize(40_000, b'x');
    let error = reader(&frame).string(true, "s").unwrap_err();
    assert_eq!(error.kind, DecodeErrorKind::InvalidLength(32_768));
    frame[..3].copy_from_slice(&[0x80, 0x80, 0x02]);
    assert_eq!(reader(&frame).string(true, "s").unwrap().len(), 32_767);

    let long = "x".repeat(32_768).into();
    let error = put_string(&mut Counter::default(), true, Some(&long), "s");
    assert_eq!(error, Err(EncodeError::TooLong { field: "s", length: 32_768 }));
}

#[test]
fn a_count_meets_the_bytes_that_remain_before_it_allocates() {
    let error = reader(&[0x7f, 0xff, 0xff, 0xff, 0, 0]).array(false, 2, "a", |r| r.int16("a"));
    let kind = DecodeErrorKind::CountTooLarge { count: 0x7fff_ffff, remaining: 2 };
    assert_eq!(error.unwrap_err().kind, kind);
}

/// The next value after a known tag starts where the tag's size says, and the tag's value ends there.
#[test]
fn a_tag_whose_size_is_not_its_values_is_refused() {
    let read = |bytes: &[u8]| {
        reader(bytes).tagged_fields("m", |r, tag| {
            if tag == 1 {
                r.int32("m.known")?;
            }
            Ok(tag == 1)
        })
    };
    assert!(read(&[1, 1, 4, 0, 0, 0, 0]).unwrap().is_empty());
    let error = read(&[1, 1, 5, 0, 0, 0, 0, 0]).unwrap_err();
    assert_eq!(error.kind, DecodeErrorKind::TagSize { tag: 1, size: 5 });
    let error = read(&[1, 1, 3, 0, 0, 0, 0]).unwrap_err();
    assert_eq!(error.kind, DecodeErrorKind::TagSize { tag: 1, size: 3 });
    assert_eq!(error.field, "m.known");
    // What is cut off is cut off, whatever the size says.
    let error = read(&[1, 1, 2, 0, 0]).unwrap_err();
    assert_eq!(error.kind, DecodeErrorKind::Truncated { needed: 4, remaining: 2 });
}

#[test]
#[should_panic(expected = "tag 3 is out of order")]
fn tags_are_added_in_rising_order() {
    let mut tags = UnknownTags::default();
    tags.push(3, Bytes::new());
    tags.push(3, Bytes::new());
}

proptest! {
    #[test]
    fn varints_lead_back(value: u32) {
        let mut counter = Counter::default();
        counter.put_unsigned_varint(value);
        let mut writer = Writer::for_counted(&counter);
        writer.put_unsigned_varint(value);
        let bytes = writer.into_pieces().concat();
        prop_assert_eq!(bytes.len(), counter.size());
        prop_assert_eq!(reader(&bytes).unsigned_varint("n"), Ok(value));
    }

    #[test]
    fn strings_and_bytes_lead_back(text in "\\PC{0,300}", compact: bool) {
        let mut writer = Writer::for_counted(&Counter::default());
        let string = text.as_str().into();
        put_string(&mut writer, compact, Some(&string), "s").unwrap();
        let bytes = Bytes::copy_from_slice(text.as_bytes());
        put_bytes(&mut writer, compact, Some(&bytes), "b").unwrap();
        let mut reader = reader(&writer.into_pieces().concat());
        prop_assert_eq!(reader.string(compact, "s"), Ok(string));
        prop_assert_eq!(reader.bytes(compact, "b"), Ok(bytes));
        prop_assert_eq!(reader.remaining(), 0);
    }
}
