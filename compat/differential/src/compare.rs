//! Two answers side by side: brought into one form, then field by field.

use std::sync::Arc;

use kavka_protocol::json::Value;

/// One field that differs.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Difference {
    /// What was asked, `JoinGroup v5`, or what was read, `record GroupMetadata`.
    pub(crate) subject: String,
    /// The API or record, `JoinGroup`.
    pub(crate) api: String,
    /// The way to the field, `.members[].metadata`, without the numbers of elements.
    pub(crate) path: String,
    pub(crate) apache: Value,
    pub(crate) kavka: Value,
    /// The whole answers, of Apache Kafka and of Kavka.
    pub(crate) answers: Arc<[Value; 2]>,
}

impl Difference {
    /// What stays the same when it is seen again.
    pub(crate) fn signature(&self) -> String {
        let short = |value: &Value| {
            let text = value.to_string();
            match text.char_indices().nth(160) {
                Some((at, _)) => format!("{}...", &text[..at]),
                None => text,
            }
        };
        let (apache, kavka) = (short(&self.apache), short(&self.kavka));
        format!("{} {}: Apache Kafka {apache}, Kavka {kavka}", self.subject, self.path)
    }
}

/// Every field in which the two differ, in the order of Apache Kafka's.
pub(crate) fn differences(
    subject: &str,
    api: &str,
    apache: &Value,
    kavka: &Value,
) -> Vec<Difference> {
    let mut found = Vec::new();
    if apache == kavka {
        return found;
    }
    let answers = Arc::new([apache.clone(), kavka.clone()]);
    walk(&mut String::new(), apache, kavka, &mut |path, apache, kavka| {
        found.push(Difference {
            subject: subject.to_owned(),
            api: api.to_owned(),
            path: path.to_owned(),
            apache: apache.clone(),
            kavka: kavka.clone(),
            answers: Arc::clone(&answers),
        });
    });
    found
}

fn walk(
    path: &mut String,
    apache: &Value,
    kavka: &Value,
    report: &mut impl FnMut(&str, &Value, &Value),
) {
    match (apache, kavka) {
        (Value::Object(left), Value::Object(right)) => {
            let only_right = right.keys().filter(|name| !left.contains_key(*name));
            for name in left.keys().chain(only_right) {
                let length = path.len();
                path.push('.');
                path.push_str(name);
                let (left, right) = (left.get(name), right.get(name));
                walk(path, left.unwrap_or(&Value::Null), right.unwrap_or(&Value::Null), report);
                path.truncate(length);
            }
        }
        (Value::Array(left), Value::Array(right)) if left.len() == right.len() => {
            let length = path.len();
            path.push_str("[]");
            for (left, right) in left.iter().zip(right) {
                walk(path, left, right, report);
            }
            path.truncate(length);
        }
        (left, right) => {
            if left != right {
                report(path, left, right);
            }
        }
    }
}

/// Sorts what Apache Kafka answers in the order of a hash table, and so in none.
///
/// `api` is the name of the API, or of the record.
pub(crate) fn sort_unordered(api: &str, value: &mut Value) {
    let Value::Object(fields) = value else { return };
    let by = |fields: &mut serde_json::Map<String, Value>, array: &str, key: &str| {
        if let Some(Value::Array(values)) = fields.get_mut(array) {
            values.sort_by_key(|value| value[key].to_string() + &value.to_string());
        }
    };
    match api {
        "JoinGroup" | "GroupMetadata" => by(fields, "members", "memberId"),
        "DescribeGroups" => {
            by(fields, "groups", "groupId");
            for group in elements(fields, "groups") {
                by(group, "members", "memberId");
            }
        }
        "DeleteGroups" => by(fields, "results", "groupId"),
        "ListGroups" => by(fields, "groups", "groupId"),
        "OffsetFetch" => {
            sort_offsets(fields);
            by(fields, "groups", "groupId");
            for group in elements(fields, "groups") {
                sort_offsets(group);
            }
        }
        "OffsetDelete" | "OffsetForLeaderEpoch" | "CreateTopics" | "DeleteTopics" => {
            let key = if api == "OffsetForLeaderEpoch" { "topic" } else { "name" };
            by(fields, "topics", key);
            by(fields, "responses", key);
        }
        "Metadata" => by(fields, "topics", "name"),
        _ => {}
    }
    if api == "CreateTopics" {
        for topic in elements(fields, "topics") {
            // By name, so that one that is not there does not make all differ.
            if let Some(Value::Array(configs)) = topic.get("configs") {
                let named = configs.iter().map(|config| {
                    (config["name"].as_str().unwrap_or_default().to_owned(), config.clone())
                });
                let named = named.collect();
                topic.insert("configs".to_owned(), Value::Object(named));
            }
        }
    }
    match api {
        "CreatePartitions" | "DescribeConfigs" => {
            for result in elements(fields, "results") {
                by(result, "configs", "name");
            }
        }
        _ => {}
    }
}

fn sort_offsets(fields: &mut serde_json::Map<String, Value>) {
    for topic in elements(fields, "topics") {
        if let Some(Value::Array(partitions)) = topic.get_mut("partitions") {
            partitions.sort_by_key(|partition| partition["partitionIndex"].as_i64());
        }
    }
    if let Some(Value::Array(topics)) = fields.get_mut("topics") {
        topics.sort_by_key(|topic| topic["name"].to_string() + &topic["topicId"].to_string());
    }
}

fn elements<'a>(
    fields: &'a mut serde_json::Map<String, Value>,
    array: &str,
) -> impl Iterator<Item = &'a mut serde_json::Map<String, Value>> {
    let values = fields.get_mut(array).and_then(Value::as_array_mut);
    values.into_iter().flatten().filter_map(Value::as_object_mut)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    #[test]
    fn every_field_that_differs_is_found() {
        let apache = json!({"errorCode": 0, "members": [{"a": 1, "b": 2}], "same": "x"});
        let kavka = json!({"errorCode": 27, "members": [{"a": 1, "b": 3}], "same": "x", "more": 1});
        let paths: Vec<_> = differences("Heartbeat v0", "Heartbeat", &apache, &kavka)
            .into_iter()
            .map(|difference| difference.path)
            .collect();
        assert_eq!(paths, [".errorCode", ".members[].b", ".more"]);
    }

    #[test]
    fn arrays_of_other_lengths_differ_as_a_whole() {
        let found = differences("x", "x", &json!({"m": [1]}), &json!({"m": [1, 2]}));
        assert_eq!((found[0].path.as_str(), &found[0].kavka), (".m", &json!([1, 2])));
    }

    #[test]
    fn what_has_no_order_is_sorted_and_what_has_one_is_not() {
        let mut join = json!({"members": [{"memberId": "b"}, {"memberId": "a"}]});
        sort_unordered("JoinGroup", &mut join);
        assert_eq!(join["members"][0]["memberId"], "a");
        let mut leave = json!({"members": [{"memberId": "b"}, {"memberId": "a"}]});
        sort_unordered("LeaveGroup", &mut leave);
        assert_eq!(leave["members"][0]["memberId"], "b");
    }
}
