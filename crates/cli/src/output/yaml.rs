//! YAML in block style. Text is plain only where no version of YAML reads it as something else; else it is double quoted.

use std::io::{self, Write};

use super::Value;

/// A document.
pub(super) fn write(out: &mut impl Write, value: &Value) -> io::Result<()> {
    block(out, value, 0)
}

/// The lines of a list or an object; the cursor is where the first line begins, which is indented already.
fn block(out: &mut impl Write, value: &Value, indent: usize) -> io::Result<()> {
    match value {
        Value::List(values) if !values.is_empty() => {
            for (at, value) in values.iter().enumerate() {
                if at > 0 {
                    pad(out, indent)?;
                }
                out.write_all(b"- ")?;
                block(out, value, indent + 2)?;
            }
            Ok(())
        }
        Value::Object(fields) if !fields.is_empty() => {
            for (at, (name, value)) in fields.iter().enumerate() {
                if at > 0 {
                    pad(out, indent)?;
                }
                write!(out, "{}:", scalar(name))?;
                match value {
                    Value::List(values) if !values.is_empty() => {
                        out.write_all(b"\n")?;
                        pad(out, indent)?;
                        block(out, value, indent)?;
                    }
                    Value::Object(fields) if !fields.is_empty() => {
                        out.write_all(b"\n")?;
                        pad(out, indent + 2)?;
                        block(out, value, indent + 2)?;
                    }
                    _ => {
                        out.write_all(b" ")?;
                        block(out, value, indent)?;
                    }
                }
            }
            Ok(())
        }
        Value::List(_) => out.write_all(b"[]\n"),
        Value::Object(_) => out.write_all(b"{}\n"),
        Value::Null => out.write_all(b"null\n"),
        Value::Bool(value) => writeln!(out, "{value}"),
        Value::Int(value) => writeln!(out, "{value}"),
        Value::Text(text) => writeln!(out, "{}", scalar(text)),
    }
}

fn pad(out: &mut impl Write, indent: usize) -> io::Result<()> {
    write!(out, "{:indent$}", "")
}

fn scalar(text: &str) -> String {
    const WORDS: [&str; 8] = ["true", "false", "null", "yes", "no", "on", "off", "y"];
    let is_plain = text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "_./-".contains(c))
        && !text.eq_ignore_ascii_case("n")
        && !WORDS.iter().any(|word| text.eq_ignore_ascii_case(word));
    if is_plain {
        return text.to_owned();
    }
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            '\r' => quoted.push_str("\\r"),
            // Not printable in YAML, or a line break to it.
            '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' => {
                quoted.push_str(&format!("\\u{:04x}", u32::from(character)));
            }
            '\u{fffe}' | '\u{ffff}' => quoted.push_str(&format!("\\u{:04x}", u32::from(character))),
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::output::object;

    #[test]
    fn text_that_is_a_number_or_a_word_is_quoted() {
        for text in
            ["1", "1e3", "0x1f", "-", "~", "No", "n", "NULL", "", " a", "a:", "a #b", "[a", ".5"]
        {
            assert!(scalar(text).starts_with('"'), "{text}");
        }
        for text in ["orders", "orders.v1", "a-b_c/d"] {
            assert_eq!(scalar(text), text);
        }
        assert_eq!(scalar("\u{1b}[1m\u{85}é"), "\"\\u001b[1m\\u0085é\"");
    }

    #[test]
    fn nesting_indents() {
        let value = object([
            (
                "a",
                Value::List(vec![
                    Value::List(vec![1.into(), 2.into()]),
                    object([("b", 1.into()), ("c", object([("d", 2.into())]))]),
                ]),
            ),
            ("e", object::<&str>([])),
        ]);
        let mut out = Vec::new();
        write(&mut out, &value).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "a:\n- - 1\n  - 2\n- b: 1\n  c:\n    d: 2\ne: {}\n"
        );
    }
}
