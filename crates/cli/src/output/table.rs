//! Columns for people.

use std::{
    borrow::Cow,
    io::{self, Write},
};

use unicode_width::UnicodeWidthStr;

use super::{Column, Table, Value, value::flat};

const BOLD: &str = "\x1b[1m";
const PLAIN: &str = "\x1b[0m";

/// Two spaces between columns; numbers to the right; no spaces at the end of a line.
pub(super) fn write(out: &mut impl Write, table: &Table, wide: bool, bold: bool) -> io::Result<()> {
    let shown: Vec<usize> =
        (0..table.columns.len()).filter(|at| wide || !table.columns[*at].wide).collect();
    let header: Vec<String> = shown.iter().map(|at| title(&table.columns[*at])).collect();
    let rows: Vec<Vec<String>> =
        table.rows.iter().map(|row| shown.iter().map(|at| cell(&row[*at])).collect()).collect();
    let to_the_right: Vec<bool> = shown
        .iter()
        .map(|at| {
            let mut values = table.rows.iter().map(|row| &row[*at]);
            values.clone().any(|value| matches!(value, Value::Int(_)))
                && values.all(|value| matches!(value, Value::Int(_) | Value::Null))
        })
        .collect();
    let widths: Vec<usize> = (0..shown.len())
        .map(|at| {
            let cells = rows.iter().map(|row| row[at].width());
            cells.chain([header[at].width()]).max().unwrap_or(0)
        })
        .collect();
    let line = |cells: &[String]| {
        let mut line = String::new();
        for (at, cell) in cells.iter().enumerate() {
            let padding = widths[at] - cell.width();
            if at > 0 {
                line.push_str("  ");
            }
            if to_the_right[at] {
                line.push_str(&" ".repeat(padding));
                line.push_str(cell);
            } else {
                line.push_str(cell);
                line.push_str(&" ".repeat(padding));
            }
        }
        line.truncate(line.trim_end_matches(' ').len());
        line
    };
    if bold {
        writeln!(out, "{BOLD}{}{PLAIN}", line(&header))?;
    } else {
        writeln!(out, "{}", line(&header))?;
    }
    rows.iter().try_for_each(|row| writeln!(out, "{}", line(row)))
}

fn title(column: &Column) -> String {
    column.name.to_ascii_uppercase().replace('_', "-")
}

fn cell(value: &Value) -> String {
    let text = flat(value, "-");
    if text.is_empty() { "\"\"".to_owned() } else { escaped(&text).into_owned() }
}

/// The text with control characters written out: what others chose as client or group id must not steer a terminal.
pub(crate) fn escaped(text: &str) -> Cow<'_, str> {
    if !text.chars().any(char::is_control) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::new();
    for character in text.chars() {
        if character.is_control() {
            escaped.extend(character.escape_default());
        } else {
            escaped.push(character);
        }
    }
    Cow::Owned(escaped)
}
