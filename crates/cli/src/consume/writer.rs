//! Records in each format, one after the other: the envelope of JSON and YAML is written around them as they come.

use std::io::{self, Write};

use crate::{
    output::{Format, Value, stream},
    record::{Found, Template, to_value},
};

/// What a kind of records is called in an envelope.
const KIND: &str = "kavka.consume";

/// Writes records.
#[derive(Debug)]
pub(super) struct Writer {
    format: Format,
    template: Template,
    null: String,
    line: Vec<u8>,
    is_first: bool,
}

impl Writer {
    /// A template goes before the formats for people.
    pub(super) fn new(format: Format, template: Option<Template>, null: String) -> Self {
        let parse = |text| Template::parse(text).ok();
        let template = template.or_else(|| match format {
            Format::Wide => parse("%t[%p]@%o %D %k: %v\\n"),
            _ => parse("%v\\n"),
        });
        let template = template.unwrap_or_default();
        Self { format, template, null, line: Vec::new(), is_first: true }
    }

    /// What comes before the first record.
    pub(super) fn begin(&self, out: &mut impl Write) -> io::Result<()> {
        stream::begin(out, self.format, KIND, &COLUMNS)
    }

    /// A record.
    pub(super) fn write(&mut self, out: &mut impl Write, record: &Found<'_>) -> io::Result<()> {
        if let Format::Table | Format::Wide = self.format {
            self.line.clear();
            self.template.render(record, &self.null, &mut self.line);
            return out.write_all(&self.line);
        }
        let is_first = std::mem::replace(&mut self.is_first, false);
        stream::item(out, self.format, &to_value(record), is_first, flat)
    }

    /// What comes after the last one.
    pub(super) fn end(&self, out: &mut impl Write) -> io::Result<()> {
        stream::end(out, self.format, self.is_first)
    }
}

const COLUMNS: [&str; 8] =
    ["topic", "partition", "offset", "timestamp", "leader_epoch", "key", "value", "headers"];

/// The cells of a record: what is base64 is in the column of the text.
fn flat(record: &Value) -> Vec<Value> {
    let Value::Object(fields) = record else { return Vec::new() };
    fields.iter().map(|(_, value)| value.clone()).collect()
}
