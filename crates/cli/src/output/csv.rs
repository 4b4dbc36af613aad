//! Comma separated values as RFC 4180 has them, with `\n` at the end of lines.

use std::io::{self, Write};

use super::{Table, Value, value::flat};

pub(super) fn write(out: &mut impl Write, table: &Table) -> io::Result<()> {
    let header = table.columns.iter().map(|column| column.name.to_owned());
    write_row(out, header)?;
    table.rows.iter().try_for_each(|row| write_row(out, row.iter().map(cell)))
}

/// A cell's text; null is empty.
pub(super) fn cell(value: &Value) -> String {
    flat(value, "")
}

/// A row.
pub(super) fn write_row(
    out: &mut impl Write,
    cells: impl Iterator<Item = String>,
) -> io::Result<()> {
    for (at, cell) in cells.enumerate() {
        if at > 0 {
            out.write_all(b",")?;
        }
        if cell.contains([',', '"', '\n', '\r']) {
            write!(out, "\"{}\"", cell.replace('"', "\"\""))?;
        } else {
            out.write_all(cell.as_bytes())?;
        }
    }
    out.write_all(b"\n")
}
