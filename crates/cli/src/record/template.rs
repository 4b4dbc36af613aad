//! Format strings as kcat has them.
//!
//! | | |
//! |---|---|
//! | `%v`, `%s` | value |
//! | `%k` | key |
//! | `%t` `%p` `%o` | topic, partition, offset |
//! | `%T` | timestamp in milliseconds since 1970, -1 if there is none |
//! | `%D` | timestamp as RFC 3339 in UTC |
//! | `%h` | headers as `name=value`, with commas between |
//! | `%S`, `%V` and `%K` | length of value and key in bytes, -1 for null |
//! | `%%` | a per cent sign |
//! | `\n` `\r` `\t` `\\` `\0` `\xHH` | what they are in C |

use super::Found;
use crate::time;

/// A format string that was understood.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Template(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Bytes(Vec<u8>),
    Key,
    KeyLength,
    Value,
    ValueLength,
    Topic,
    Partition,
    Offset,
    Timestamp,
    Date,
    Headers,
}

impl Template {
    /// Understands a format string.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut bytes = Vec::new();
        let mut characters = text.chars();
        while let Some(character) = characters.next() {
            let part = match character {
                '%' => match characters.next() {
                    Some('%') => {
                        bytes.push(b'%');
                        continue;
                    }
                    Some('k') => Part::Key,
                    Some('K') => Part::KeyLength,
                    Some('v' | 's') => Part::Value,
                    Some('V' | 'S') => Part::ValueLength,
                    Some('t') => Part::Topic,
                    Some('p') => Part::Partition,
                    Some('o') => Part::Offset,
                    Some('T') => Part::Timestamp,
                    Some('D') => Part::Date,
                    Some('h') => Part::Headers,
                    Some(other) => return Err(format!("%{other} is not a part of a record")),
                    None => return Err("% at the end; a per cent sign is %%".to_owned()),
                },
                '\\' => {
                    escape(&mut characters, &mut bytes)?;
                    continue;
                }
                other => {
                    bytes.extend(other.encode_utf8(&mut [0; 4]).as_bytes());
                    continue;
                }
            };
            if !bytes.is_empty() {
                parts.push(Part::Bytes(std::mem::take(&mut bytes)));
            }
            parts.push(part);
        }
        if !bytes.is_empty() {
            parts.push(Part::Bytes(bytes));
        }
        Ok(Self(parts))
    }

    /// Appends a record; `null` stands for a key, value or header value that is null.
    pub(crate) fn render(&self, record: &Found<'_>, null: &str, out: &mut Vec<u8>) {
        for part in &self.0 {
            match part {
                Part::Bytes(bytes) => out.extend(bytes),
                Part::Key => nullable(record.key, null, out),
                Part::KeyLength => length(record.key, out),
                Part::Value => nullable(record.value, null, out),
                Part::ValueLength => length(record.value, out),
                Part::Topic => out.extend(record.topic.as_bytes()),
                Part::Partition => out.extend(record.partition.to_string().as_bytes()),
                Part::Offset => out.extend(record.offset.to_string().as_bytes()),
                Part::Timestamp => {
                    out.extend(record.timestamp.unwrap_or(-1).to_string().as_bytes());
                }
                Part::Date => {
                    let date = record.timestamp.map(time::format_ms);
                    out.extend(date.as_deref().unwrap_or(null).as_bytes());
                }
                Part::Headers => {
                    for (at, (name, value)) in record.headers.iter().enumerate() {
                        if at > 0 {
                            out.push(b',');
                        }
                        out.extend(name.as_bytes());
                        out.push(b'=');
                        nullable(*value, null, out);
                    }
                }
            }
        }
    }
}

fn nullable(bytes: Option<&[u8]>, null: &str, out: &mut Vec<u8>) {
    out.extend(bytes.unwrap_or(null.as_bytes()));
}

fn length(bytes: Option<&[u8]>, out: &mut Vec<u8>) {
    match bytes {
        Some(bytes) => out.extend(bytes.len().to_string().as_bytes()),
        None => out.extend(b"-1"),
    }
}

/// Text with the escapes of a format string, and nothing else special.
pub(crate) fn unescape(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if character == '\\' {
            escape(&mut characters, &mut bytes)?;
        } else {
            bytes.extend(character.encode_utf8(&mut [0; 4]).as_bytes());
        }
    }
    Ok(bytes)
}

fn escape(characters: &mut std::str::Chars<'_>, bytes: &mut Vec<u8>) -> Result<(), String> {
    bytes.push(match characters.next() {
        Some('n') => b'\n',
        Some('r') => b'\r',
        Some('t') => b'\t',
        Some('0') => 0,
        Some('\\') => b'\\',
        Some('x') => {
            let digits: String = characters.by_ref().take(2).collect();
            u8::from_str_radix(&digits, 16)
                .ok()
                .filter(|_| digits.len() == 2 && digits.bytes().all(|b| b.is_ascii_hexdigit()))
                .ok_or_else(|| format!("\\x{digits} is not an escape: two hex digits follow \\x"))?
        }
        Some(other) => return Err(format!("\\{other} is not an escape")),
        None => return Err("\\ at the end; a backslash is \\\\".to_owned()),
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn rendered(format: &str, record: &Found<'_>) -> String {
        let mut out = Vec::new();
        Template::parse(format).unwrap().render(record, "NULL", &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_part_is_written() {
        let nothing = Found {
            topic: "orders",
            partition: 3,
            offset: 7,
            leader_epoch: None,
            timestamp: None,
            key: None,
            value: None,
            headers: Vec::new(),
        };
        let record = Found {
            key: Some(b"k"),
            value: Some(b"value"),
            headers: vec![("a".into(), Some(b"1")), ("b".into(), None)],
            timestamp: Some(1000),
            ..nothing.clone()
        };
        assert_eq!(
            rendered(r"%t[%p]@%o %T %D %K:%k %S:%s|%v %h 100%%\t\x41\\\n", &record),
            "orders[3]@7 1000 1970-01-01T00:00:01.000Z 1:k 5:value|value a=1,b=NULL 100%\tA\\\n"
        );
        assert_eq!(rendered("%k %K %v %V %T %D %h.", &nothing), "NULL -1 NULL -1 -1 NULL .");
        assert_eq!(rendered("é", &record), "é");
    }

    #[test]
    fn what_is_no_format_is_refused() {
        for text in ["%", "%q", "\\", "\\q", "\\x4", "\\x+4", "\\xé"] {
            assert!(Template::parse(text).is_err(), "{text}");
        }
        assert_eq!(unescape(r"%\t").unwrap(), b"%\t");
    }
}
