//! Tagged fields (KIP-482): those nobody here knows are kept, and written again in their place.

use bytes::Bytes;

use super::{EncodeError, Sink};

/// Tagged fields that the schema does not know, in rising order of tags.
///
/// One pointer wide, because nearly every structure has none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(clippy::box_collection)]
pub struct UnknownTags(Option<Box<Vec<(u32, Bytes)>>>);

impl UnknownTags {
    /// What keeping one costs at most, growth of the list included.
    pub(super) const COST: usize = 4 * size_of::<(u32, Bytes)>() + size_of::<Vec<(u32, Bytes)>>();

    /// The tags and their values.
    pub fn iter(&self) -> impl Iterator<Item = &(u32, Bytes)> {
        self.0.iter().flat_map(|tags| tags.iter())
    }

    /// Adds a tag. Tags are written in the order they were added, which has to be rising.
    pub fn push(&mut self, tag: u32, value: Bytes) {
        self.0.get_or_insert_default().push((tag, value));
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

    pub(crate) fn begin<S: Sink>(&self, sink: &mut S) -> Result<(), EncodeError> {
        sink.put_unsigned_varint(self.count);
        Ok(())
    }

    /// The head of a known tag; the caller writes its `size` bytes next.
    pub(crate) fn known<S: Sink>(
        &mut self,
        sink: &mut S,
        tag: u32,
        size: usize,
    ) -> Result<(), EncodeError> {
        while let Some(((before, value), rest)) = self.unknown.split_first() {
            if *before > tag {
                break;
            }
            write_tag(sink, *before, value)?;
            self.unknown = rest;
        }
        sink.put_unsigned_varint(tag);
        sink.put_unsigned_varint(tag_size(size)?);
        Ok(())
    }

    pub(crate) fn finish<S: Sink>(self, sink: &mut S) -> Result<(), EncodeError> {
        self.unknown.iter().try_for_each(|(tag, value)| write_tag(sink, *tag, value))
    }
}

fn write_tag<S: Sink>(sink: &mut S, tag: u32, value: &Bytes) -> Result<(), EncodeError> {
    sink.put_unsigned_varint(tag);
    sink.put_unsigned_varint(tag_size(value.len())?);
    sink.put_slice(value);
    Ok(())
}

fn tag_size(size: usize) -> Result<u32, EncodeError> {
    u32::try_from(size).map_err(|_| EncodeError::TooLong { field: "tagged field", length: size })
}
