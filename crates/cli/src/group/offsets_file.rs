//! Files of offsets as Kafka's `kafka-consumer-groups --export` and `--from-file` have them: comma separated values without a
//! header, `topic,partition,offset`, or `group,topic,partition,offset` for several groups.

use std::collections::BTreeMap;

use kavka_client::{ByteString, TopicPartition};

/// Offsets of one group.
pub(crate) type Offsets = BTreeMap<TopicPartition, i64>;

/// A line that is not understood: its number and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BadLine {
    pub(crate) line: usize,
    pub(crate) text: String,
}

/// Reads lines of three fields for the group, or of four for several. Which of the two, the first line says.
pub(crate) fn parse(text: &str, group: &str) -> Result<BTreeMap<ByteString, Offsets>, BadLine> {
    let mut groups: BTreeMap<ByteString, Offsets> = BTreeMap::new();
    let mut width = None;
    for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let bad = || BadLine { line: at + 1, text: line.to_owned() };
        let fields = fields(line).ok_or_else(bad)?;
        let (group, topic, partition, offset) = match fields.as_slice() {
            [topic, partition, offset] => (group, topic, partition, offset),
            [group, topic, partition, offset] => (group.as_str(), topic, partition, offset),
            _ => return Err(bad()),
        };
        if *width.get_or_insert(fields.len()) != fields.len() {
            return Err(bad());
        }
        let partition = partition.trim().parse::<i32>().ok().filter(|partition| *partition >= 0);
        let place = TopicPartition::new(topic.as_str(), partition.ok_or_else(bad)?);
        let offset = offset.trim().parse::<i64>().map_err(|_| bad())?;
        groups.entry(group.into()).or_default().insert(place, offset);
    }
    Ok(groups)
}

/// A line, without its end.
pub(crate) fn line(group: Option<&str>, place: &TopicPartition, offset: i64) -> String {
    let group = group.map(|group| format!("{},", quoted(group))).unwrap_or_default();
    format!("{group}{},{},{offset}", quoted(&place.topic), place.partition)
}

/// As Jackson quotes, which Kafka's tool uses: also what is long, without looking closer.
fn quoted(text: &str) -> String {
    const LONG: usize = 24;
    if text.encode_utf16().count() > LONG || text.contains(|character| character < '-') {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

/// The fields of a line; none if a quote is not closed.
fn fields(line: &str) -> Option<Vec<String>> {
    let mut fields = vec![String::new()];
    let mut characters = line.chars().peekable();
    let mut quoted = false;
    while let Some(character) = characters.next() {
        let field = fields.last_mut()?;
        match character {
            '"' if quoted && characters.peek() == Some(&'"') => {
                characters.next();
                field.push('"');
            }
            '"' if quoted => quoted = false,
            '"' if field.is_empty() => quoted = true,
            ',' if !quoted => fields.push(String::new()),
            other => field.push(other),
        }
    }
    (!quoted).then_some(fields)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_exported_is_read_again() {
        let place = TopicPartition::new("orders", 3);
        let with_group = line(Some("a \"b\", c"), &place, 7);
        assert_eq!(with_group, "\"a \"\"b\"\", c\",orders,3,7");
        let groups = parse(&format!("{with_group}\nother,orders,0,1\n"), "x").unwrap();
        assert_eq!(groups.len(), 2);
        assert_eq!(groups["a \"b\", c"], BTreeMap::from([(place.clone(), 7)]));
        let groups = parse(&line(None, &place, 7), "x").unwrap();
        assert_eq!(groups["x"], BTreeMap::from([(place, 7)]));
    }

    #[test]
    fn lines_that_are_no_offsets_are_named() {
        for (text, line) in [
            ("orders,0,1\norders,one,1", 2),
            ("orders,0", 1),
            ("orders,0,1\ng,orders,0,1", 2),
            ("\"orders,0,1", 1),
            ("orders,-1,1", 1),
            ("\n\norders,0,x", 3),
        ] {
            assert_eq!(parse(text, "g").unwrap_err().line, line, "{text}");
        }
    }
}
