//! Data without a known end, item by item, in the same formats as a [`Report`](super::Report).

use std::io::{self, Write};

use super::{Format, Value, csv, yaml};

/// What comes before the first item. The formats for people have nothing of the kind.
pub(crate) fn begin(
    out: &mut impl Write,
    format: Format,
    kind: &str,
    columns: &[&str],
) -> io::Result<()> {
    match format {
        Format::Json => {
            write!(out, "{{\n  \"kind\": \"{kind}\",\n  \"version\": 1,\n  \"data\": [")
        }
        Format::Yaml => write!(out, "kind: {kind}\nversion: 1\ndata:"),
        Format::Csv => csv::write_row(out, columns.iter().map(|column| (*column).to_owned())),
        Format::Jsonl | Format::Table | Format::Wide => Ok(()),
    }
}

/// An item; `flat` gives its cells.
pub(crate) fn item(
    out: &mut impl Write,
    format: Format,
    value: &Value,
    is_first: bool,
    flat: impl FnOnce(&Value) -> Vec<Value>,
) -> io::Result<()> {
    match format {
        Format::Json => {
            out.write_all(if is_first { b"\n    " } else { b",\n    " })?;
            Ok(serde_json::to_writer(out, value)?)
        }
        Format::Jsonl => {
            serde_json::to_writer(&mut *out, value)?;
            out.write_all(b"\n")
        }
        Format::Yaml => {
            if is_first {
                out.write_all(b"\n")?;
            }
            yaml::write(out, &Value::List(vec![value.clone()]))
        }
        Format::Csv => csv::write_row(out, flat(value).iter().map(csv::cell)),
        Format::Table | Format::Wide => Ok(()),
    }
}

/// What comes after the last item.
pub(crate) fn end(out: &mut impl Write, format: Format, is_empty: bool) -> io::Result<()> {
    match (format, is_empty) {
        (Format::Json, true) => out.write_all(b"]\n}\n"),
        (Format::Json, false) => out.write_all(b"\n  ]\n}\n"),
        (Format::Yaml, true) => out.write_all(b" []\n"),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::output::object;

    fn written(format: Format, items: i64) -> String {
        let mut out = Vec::new();
        begin(&mut out, format, "kavka.test", &["a"]).unwrap();
        for at in 0..items {
            let value = object([("a", at.into())]);
            item(&mut out, format, &value, at == 0, |_| vec![at.into()]).unwrap();
        }
        end(&mut out, format, items == 0).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn an_envelope_is_whole_with_any_number_of_items() {
        for items in 0..3 {
            let document: serde_json::Value =
                serde_json::from_str(&written(Format::Json, items)).unwrap();
            assert_eq!(document["data"].as_array().unwrap().len(), usize::try_from(items).unwrap());
        }
        assert_eq!(written(Format::Yaml, 0), "kind: kavka.test\nversion: 1\ndata: []\n");
        assert_eq!(
            written(Format::Yaml, 2),
            "kind: kavka.test\nversion: 1\ndata:\n- a: 0\n- a: 1\n"
        );
        assert_eq!(written(Format::Csv, 2), "a\n0\n1\n");
        assert_eq!(written(Format::Jsonl, 2), "{\"a\":0}\n{\"a\":1}\n");
    }
}
