//! Tagged fields (KIP-482): those nobody here knows are kept, and written again in their place.

use bytes::Bytes;

use super::{Counter, EncodeError, Sink};

/// Tagged fields that the schema does not know, in rising order of tags.
///
/// One pointer wide, because nearly every structure has none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(clippy::box_collection)]
pub struct UnknownTags(Option<Box<Vec<(u32, Bytes)>>>);

impl UnknownTags {
    /// The memory that room for `count` tags takes.
    pub(super) const fn cost(count: usize) -> usize {
        count
            .saturating_mul(size_of::<(u32, Bytes)>())
            .saturating_add(size_of::<Vec<(u32, Bytes)>>())
    }

    /// Makes room for exactly `count` tags.
    pub(super) fn with_capacity(count: usize) -> Self {
        Self(Some(Box::new(Vec::with_capacity(count))))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.as_ref().is_none_or(|tags| tags.is_empty())
    }

    /// The tags and their values, in rising order.
    pub fn iter(&self) -> impl Iterator<Item = &(u32, Bytes)> {
        self.0.iter().flat_map(|tags| tags.iter())
    }

    /// Adds a tag behind the others.
    ///
    /// # Panics
    /// The tag is not above the last one: on the wire tags rise.
    pub fn push(&mut self, tag: u32, value: Bytes) {
        let tags = self.0.get_or_insert_default();
        assert!(tags.last().is_none_or(|(last, _)| *last < tag), "tag {tag} is out of order");
        tags.push((tag, value));
    }
}

/// Writes the tags of one structure, known and unknown ones merged in rising order.
pub(crate) struct TagWriter<'a> {
    count: u32,
    unknown: &'a [(u32, Bytes)],
}

impl<'a> TagWriter<'a> {
    pub(crate) fn new(unknown: &'a UnknownTags) -> Self {
        let unknown = unknown.0.as_ref().map_or(&[][..], |tags| tags.as_slice());
        Self { count: unknown.len() as u32, unknown }
    }

    pub(crate) fn count(&mut self, more: u32) {
        self.count += more;
    }

    pub(crate) fn begin(&self, sink: &mut dyn Sink) {
        sink.put_unsigned_varint(self.count);
    }

    /// A known tag, the unknown ones below it first. `write` writes the value; it runs twice, first to learn the size.
    pub(crate) fn known(
        &mut self,
        sink: &mut dyn Sink,
        tag: u32,
        write: &dyn Fn(&mut dyn Sink) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        while let Some(((before, value), rest)) = self.unknown.split_first() {
            if *before > tag {
                break;
            }
            write_tag(sink, *before, value)?;
            self.unknown = rest;
        }
        let mut counter = Counter::default();
        write(&mut counter)?;
        sink.put_unsigned_varint(tag);
        sink.put_unsigned_varint(tag_size(counter.size())?);
        write(sink)
    }

    pub(crate) fn finish(self, sink: &mut dyn Sink) -> Result<(), EncodeError> {
        self.unknown.iter().try_for_each(|(tag, value)| write_tag(sink, *tag, value))
    }
}

fn write_tag(sink: &mut dyn Sink, tag: u32, value: &Bytes) -> Result<(), EncodeError> {
    sink.put_unsigned_varint(tag);
    sink.put_unsigned_varint(tag_size(value.len())?);
    sink.put_shared(value);
    Ok(())
}

fn tag_size(size: usize) -> Result<u32, EncodeError> {
    match i32::try_from(size) {
        Ok(size) => Ok(size.unsigned_abs()),
        Err(_) => Err(EncodeError::TooLong { field: "tagged field", length: size }),
    }
}
