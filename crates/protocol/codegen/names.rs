//! How schema names become Rust names.

/// `JoinGroupRequest` → `join_group_request`; runs of capitals stay together (`KRaftVersionRecord` →
/// `k_raft_version_record`).
pub fn snake(name: &str) -> String {
    let chars: Vec<char> = name.chars().collect();
    let mut out = String::new();
    for (i, &c) in chars.iter().enumerate() {
        if c.is_ascii_uppercase() {
            let after_lower = i > 0 && !chars[i - 1].is_ascii_uppercase();
            let before_lower =
                i > 0 && chars.get(i + 1).is_some_and(|next| next.is_ascii_lowercase());
            if after_lower || before_lower {
                out.push('_');
            }
            out.push(c.to_ascii_lowercase());
        } else {
            out.push(c);
        }
    }
    out
}

/// `group_id` → `groupId`, the name in Kafka's JSON form.
pub fn camel(name: &str) -> String {
    let mut words = name.split('_');
    let mut out = words.next().unwrap_or_default().to_owned();
    for word in words {
        let (head, tail) = word.split_at(word.len().min(1));
        out.push_str(&head.to_ascii_uppercase());
        out.push_str(tail);
    }
    out
}

/// `UNKNOWN_TOPIC_OR_PARTITION` → `UnknownTopicOrPartition`.
pub fn camel_from_screaming(name: &str) -> String {
    name.split('_')
        .map(|word| {
            let (head, tail) = word.split_at(1);
            format!("{head}{}", tail.to_ascii_lowercase())
        })
        .collect()
}

/// A field's Rust identifier.
pub fn field(name: &str) -> String {
    if matches!(name, "type" | "match" | "ref") { format!("r#{name}") } else { name.to_owned() }
}
