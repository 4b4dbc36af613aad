//! Configuration files: TOML, and Java properties as Kafka's own `server.properties` is written.
//!
//! Both yield the same: names, values as text, and the line of each.

use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::ConfigError;

/// One setting of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The name, nested tables joined with dots.
    pub name: String,
    /// The value as text.
    pub value: String,
    /// From 1.
    pub line: usize,
}

/// Reads a file; its extension says which kind it is.
pub(super) fn read(path: &Path) -> Result<Vec<Line>, ConfigError> {
    let parse = match path.extension().and_then(|extension| extension.to_str()) {
        Some("toml") => parse_toml,
        Some("properties") => parse_properties,
        _ => return Err(ConfigError::FileType { path: path.to_owned() }),
    };
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    parse(&text).map_err(|(line, message)| ConfigError::Syntax {
        path: path.to_owned(),
        line,
        message,
    })
}

/// A line, and what is wrong there.
pub type SyntaxError = (usize, String);

/// Reads TOML. Names with dots are written as nested tables or as quoted keys, in any mixture.
///
/// # Errors
/// It is no TOML, or a value is no text, number, truth value or list of these.
pub fn parse_toml(text: &str) -> Result<Vec<Line>, SyntaxError> {
    let line_of = |offset: usize| text[..offset.min(text.len())].matches('\n').count() + 1;
    let table = DeTable::parse(text).map_err(|error| {
        let line = error.span().map_or(1, |span| line_of(span.start));
        (line, error.message().to_owned())
    })?;
    let mut lines = Vec::new();
    flatten("", table.get_ref(), &line_of, &mut lines)?;
    lines.sort_by_key(|line| line.line);
    Ok(lines)
}

fn flatten(
    prefix: &str,
    table: &DeTable<'_>,
    line_of: &dyn Fn(usize) -> usize,
    lines: &mut Vec<Line>,
) -> Result<(), SyntaxError> {
    for (key, value) in table {
        let name = if prefix.is_empty() {
            key.get_ref().to_string()
        } else {
            format!("{prefix}.{}", key.get_ref())
        };
        if let DeValue::Table(inner) = value.get_ref() {
            flatten(&name, inner, line_of, lines)?;
            continue;
        }
        let line = line_of(key.span().start);
        let value = match value.get_ref() {
            DeValue::Array(items) => {
                let words: Option<Vec<_>> = items.iter().map(scalar).collect();
                words.map(|words| words.join(","))
            }
            _ => scalar(value),
        };
        let value = value.ok_or_else(|| {
            (line, format!("{name} has to be text, a number, true or false, or a list of these"))
        })?;
        lines.push(Line { name, value, line });
    }
    Ok(())
}

fn scalar(value: &Spanned<DeValue<'_>>) -> Option<String> {
    match value.get_ref() {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Boolean(value) => Some(value.to_string()),
        DeValue::Float(number) => Some(number.as_str().to_owned()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .ok()
            .map(|number| number.to_string()),
        DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => None,
    }
}

/// Reads the syntax of `java.util.Properties`, in UTF-8.
///
/// # Errors
/// A `\\u` without four hex digits.
pub fn parse_properties(text: &str) -> Result<Vec<Line>, SyntaxError> {
    let mut lines = Vec::new();
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let mut natural = text.split('\n').enumerate();
    while let Some((index, first)) = natural.next() {
        let line = index + 1;
        let first = first.trim_start_matches(BLANK);
        if first.is_empty() || first.starts_with(['#', '!']) {
            continue;
        }
        let mut logical = first.to_owned();
        while ends_in_odd_backslashes(&logical) {
            logical.pop();
            match natural.next() {
                Some((_, next)) => logical.push_str(next.trim_start_matches(BLANK)),
                None => break,
            }
        }
        let (name, value) = split_property(&logical);
        let unescape = |part| unescape(part).map_err(|message| (line, message));
        lines.push(Line { name: unescape(name)?, value: unescape(value)?, line });
    }
    Ok(lines)
}

const BLANK: [char; 3] = [' ', '\t', '\u{c}'];

fn ends_in_odd_backslashes(line: &str) -> bool {
    line.bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1
}

/// The name ends at the first blank, `=` or `:` that is not escaped; blanks and one `=` or `:` then separate.
fn split_property(line: &str) -> (&str, &str) {
    let mut escaped = false;
    let end = line.find(|letter: char| {
        let ends = !escaped && (BLANK.contains(&letter) || matches!(letter, '=' | ':'));
        escaped = letter == '\\' && !escaped;
        ends
    });
    let (name, rest) = line.split_at(end.unwrap_or(line.len()));
    let rest = rest.trim_start_matches(BLANK);
    let value = rest.strip_prefix(['=', ':']).unwrap_or(rest);
    (name, value.trim_start_matches(BLANK))
}

fn unescape(text: &str) -> Result<String, String> {
    let mut result = String::with_capacity(text.len());
    let mut letters = text.chars();
    // The first half of a character beyond U+FFFF, which Java writes as two escapes.
    let mut units: Vec<u16> = Vec::new();
    while let Some(letter) = letters.next() {
        let escape = if letter == '\\' { letters.next() } else { None };
        if escape == Some('u') {
            let digits: String = letters.by_ref().take(4).collect();
            let unit = (digits.len() == 4).then(|| u16::from_str_radix(&digits, 16).ok()).flatten();
            units.push(unit.ok_or_else(|| {
                format!("\\u{digits} is not an escape: four hex digits follow \\u")
            })?);
            continue;
        }
        result.push_str(&String::from_utf16_lossy(&units));
        units.clear();
        result.push(match (letter, escape) {
            ('\\', Some('t')) => '\t',
            ('\\', Some('n')) => '\n',
            ('\\', Some('r')) => '\r',
            ('\\', Some('f')) => '\u{c}',
            ('\\', Some(other)) => other,
            (other, _) => other,
        });
    }
    result.push_str(&String::from_utf16_lossy(&units));
    Ok(result)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn pairs(lines: Vec<Line>) -> Vec<(String, String, usize)> {
        lines.into_iter().map(|line| (line.name, line.value, line.line)).collect()
    }

    fn owned(expected: &[(&str, &str, usize)]) -> Vec<(String, String, usize)> {
        expected
            .iter()
            .map(|(name, value, line)| ((*name).to_owned(), (*value).to_owned(), *line))
            .collect()
    }

    #[test]
    fn toml_keys_are_nested_or_quoted() {
        let text = "\"num.partitions\" = 3\nlog.dirs = \"/data\"\n\n[group]\nmax.size = 0x10\n[group.initial.rebalance]\n\"delay.ms\" = 0\n[log.cleaner]\nenable = false\nmin.cleanable.ratio = 0.25\n";
        assert_eq!(
            pairs(parse_toml(text).unwrap()),
            owned(&[
                ("num.partitions", "3", 1),
                ("log.dirs", "/data", 2),
                ("group.max.size", "16", 5),
                ("group.initial.rebalance.delay.ms", "0", 7),
                ("log.cleaner.enable", "false", 9),
                ("log.cleaner.min.cleanable.ratio", "0.25", 10),
            ])
        );
        assert_eq!(
            pairs(parse_toml("listeners = [\"A://:1\", \"B://:2\"]").unwrap()),
            owned(&[("listeners", "A://:1,B://:2", 1)])
        );
    }

    #[test]
    fn toml_that_is_none_names_the_line() {
        assert_eq!(parse_toml("a = 1\nb = \n").unwrap_err().0, 2);
        let (line, message) = parse_toml("a = 1\n\nb = 2020-01-01\n").unwrap_err();
        assert_eq!(line, 3);
        assert!(message.starts_with("b has to be text"), "{message}");
        assert!(parse_toml("a = [[1]]").is_err());
        assert!(parse_toml("a = 1\na = 2").is_err());
    }

    #[test]
    fn properties_are_read_as_java_reads_them() {
        let text = "# comment\n! comment\n\n  a=1\nb : 2\nc   3\nd=x \\\n   y\\\n\t z\ne\\ f\\=g=h=i\nj=\\u0041\\u00e9\\ud83d\\ude00!\nk=\\t\\q\\\\\nl\r\nm=last\\";
        assert_eq!(
            pairs(parse_properties(text).unwrap()),
            owned(&[
                ("a", "1", 4),
                ("b", "2", 5),
                ("c", "3", 6),
                ("d", "x yz", 7),
                ("e f=g", "h=i", 10),
                ("j", "A\u{e9}\u{1f600}!", 11),
                ("k", "\tq\\", 12),
                ("l", "", 13),
                ("m", "last", 14),
            ])
        );
    }

    #[test]
    fn a_comment_does_not_continue_and_a_continued_line_is_no_comment() {
        assert_eq!(
            pairs(parse_properties("# a \\\nb=1\nc=2\\\n#d").unwrap()),
            owned(&[("b", "1", 2), ("c", "2#d", 3)])
        );
    }

    #[test]
    fn a_bad_escape_names_the_line() {
        assert_eq!(parse_properties("a=1\nb=\\u12x4").unwrap_err().0, 2);
        assert_eq!(parse_properties("b=\\u12").unwrap_err().0, 1);
    }
}
