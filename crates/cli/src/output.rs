//! What a command shows: values in rows and columns, in one of several formats.
//!
//! A command builds a [`Report`] and knows nothing of formats. Data goes to standard output; everything else goes through
//! [`Notes`] to standard error. JSON and YAML carry an envelope with kind and version, whose schemas are in `docs/cli/schemas`:
//! a field that goes or changes its meaning raises the version, a new one does not.

mod csv;
mod notes;
pub(crate) mod stream;
mod table;
mod value;
mod yaml;

use std::io::{self, BufWriter, IsTerminal, Write};

use serde::{Serialize, Serializer, ser::SerializeStruct};

pub(crate) use self::{
    notes::{Notes, tell_failure},
    table::escaped,
    value::{Value, object},
};
use crate::failure::Failure;

/// How data is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// Columns for people
    #[default]
    Table,
    /// More columns
    Wide,
    /// One JSON document with kind and version
    Json,
    /// One JSON object a line, without an envelope
    Jsonl,
    /// One YAML document with kind and version
    Yaml,
    /// Comma separated values with a header line (RFC 4180)
    Csv,
}

/// A column of a [`Table`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Column {
    /// Its name in JSON, YAML and CSV, in snake case; tables show it in capitals with hyphens.
    pub(crate) name: &'static str,
    /// Whether only the wide table shows it.
    pub(crate) wide: bool,
}

/// A column that every format shows.
pub(crate) const fn column(name: &'static str) -> Column {
    Column { name, wide: false }
}

/// A column that the narrow table leaves out.
pub(crate) const fn wide(name: &'static str) -> Column {
    Column { name, wide: true }
}

/// Rows of values under columns.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<Value>>,
}

impl Table {
    /// No rows yet.
    pub(crate) fn new(columns: impl Into<Vec<Column>>) -> Self {
        Self { columns: columns.into(), rows: Vec::new() }
    }

    /// Adds a row.
    pub(crate) fn push(&mut self, row: impl Into<Vec<Value>>) {
        let row = row.into();
        assert_eq!(row.len(), self.columns.len(), "a row has a value for each column");
        self.rows.push(row);
    }

    /// Whether there is nothing to see.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The rows, each with a value for every column.
    pub(crate) fn rows(&self) -> &[Vec<Value>] {
        &self.rows
    }

    /// The rows as objects with the columns' names.
    pub(crate) fn objects(&self) -> Vec<Value> {
        let names = || self.columns.iter().map(|column| column.name);
        self.rows.iter().map(|row| object(names().zip(row.iter().cloned()))).collect()
    }
}

/// A part of what the table formats show.
#[derive(Clone, Debug)]
pub(crate) struct Section {
    /// A line above.
    pub(crate) heading: Option<String>,
    /// The rows.
    pub(crate) table: Table,
}

/// What a command shows.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    kind: &'static str,
    version: u32,
    data: Vec<Value>,
    flat: Table,
    sections: Vec<Section>,
}

impl Report {
    /// A list: rows in every format.
    pub(crate) fn list(kind: &'static str, table: Table) -> Self {
        let data = table.objects();
        let sections = vec![Section { heading: None, table: table.clone() }];
        Self { kind, version: 1, data, flat: table, sections }
    }

    /// Things with parts: objects for JSON and YAML, sections for tables, and the rows that CSV shows.
    pub(crate) fn nested(
        kind: &'static str,
        data: Vec<Value>,
        sections: Vec<Section>,
        flat: Table,
    ) -> Self {
        Self { kind, version: 1, data, flat, sections }
    }

    /// Writes to standard output.
    pub(crate) fn print(&self, format: Format) -> Result<(), Failure> {
        let stdout = io::stdout();
        let bold = stdout.is_terminal() && wants_colour();
        let mut out = BufWriter::new(stdout.lock());
        self.write(&mut out, format, bold)?;
        out.flush()?;
        Ok(())
    }

    /// Writes in a format; `bold` makes headers stand out.
    pub(crate) fn write(&self, out: &mut impl Write, format: Format, bold: bool) -> io::Result<()> {
        match format {
            Format::Table => self.write_sections(out, false, bold),
            Format::Wide => self.write_sections(out, true, bold),
            Format::Json => {
                serde_json::to_writer_pretty(&mut *out, self)?;
                out.write_all(b"\n")
            }
            Format::Jsonl => self.data.iter().try_for_each(|value| {
                serde_json::to_writer(&mut *out, value)?;
                out.write_all(b"\n")
            }),
            Format::Yaml => {
                let envelope = object([
                    ("kind", Value::from(self.kind)),
                    ("version", Value::from(i64::from(self.version))),
                    ("data", Value::List(self.data.clone())),
                ]);
                yaml::write(out, &envelope)
            }
            Format::Csv => csv::write(out, &self.flat),
        }
    }

    fn write_sections(&self, out: &mut impl Write, wide: bool, bold: bool) -> io::Result<()> {
        for (at, section) in self.sections.iter().enumerate() {
            if at > 0 {
                out.write_all(b"\n")?;
            }
            if let Some(heading) = &section.heading {
                writeln!(out, "{}", escaped(heading))?;
            }
            if !section.table.is_empty() {
                table::write(out, &section.table, wide, bold)?;
            }
        }
        Ok(())
    }
}

impl Serialize for Report {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut envelope = serializer.serialize_struct("Report", 3)?;
        envelope.serialize_field("kind", self.kind)?;
        envelope.serialize_field("version", &self.version)?;
        envelope.serialize_field("data", &self.data)?;
        envelope.end()
    }
}

/// Whether colour and bold are welcome at all, see <https://no-color.org>.
pub(crate) fn wants_colour() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn report() -> Report {
        let mut table =
            Table::new([column("group"), column("lag"), wide("client_id"), column("topics")]);
        table.push([
            "billing".into(),
            12.into(),
            Value::Null,
            Value::List(vec!["a".into(), "b".into()]),
        ]);
        table.push(["a \"b\", c\n".into(), Value::Null, "true".into(), Value::List(vec![])]);
        Report::list("kavka.test", table)
    }

    fn written(format: Format) -> String {
        let mut out = Vec::new();
        report().write(&mut out, format, false).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn tables_align_and_show_no_control_characters() {
        assert_eq!(
            written(Format::Table),
            "GROUP       LAG  TOPICS\nbilling      12  a,b\na \"b\", c\\n    -  -\n"
        );
        assert!(written(Format::Wide).starts_with("GROUP       LAG  CLIENT-ID  TOPICS\n"));
    }

    #[test]
    fn json_has_an_envelope_and_lines_have_none() {
        let value: serde_json::Value = serde_json::from_str(&written(Format::Json)).unwrap();
        assert_eq!(value["kind"], "kavka.test");
        assert_eq!(value["version"], 1);
        assert_eq!(value["data"][0]["topics"][1], "b");
        assert_eq!(value["data"][1]["lag"], serde_json::Value::Null);
        let lines = written(Format::Jsonl);
        assert_eq!(
            lines.lines().next().unwrap(),
            r#"{"group":"billing","lag":12,"client_id":null,"topics":["a","b"]}"#
        );
        assert_eq!(lines.lines().count(), 2);
    }

    #[test]
    fn yaml_quotes_what_would_be_something_else() {
        assert_eq!(
            written(Format::Yaml),
            concat!(
                "kind: kavka.test\nversion: 1\ndata:\n",
                "- group: billing\n  lag: 12\n  client_id: null\n  topics:\n  - a\n  - b\n",
                "- group: \"a \\\"b\\\", c\\n\"\n  lag: null\n  client_id: \"true\"\n  topics: []\n",
            )
        );
    }

    #[test]
    fn csv_quotes_as_the_rfc_says() {
        assert_eq!(
            written(Format::Csv),
            "group,lag,client_id,topics\nbilling,12,,\"a,b\"\n\"a \"\"b\"\", c\n\",,true,\n"
        );
    }
}
