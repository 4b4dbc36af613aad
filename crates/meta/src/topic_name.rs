//! Rules for topic names, with the texts Kafka gives when they are broken.

/// The longest topic name, in characters (all of which are ASCII).
pub const MAX_TOPIC_NAME_LENGTH: usize = 249;

/// Checks a name: 1 to 249 of `[a-zA-Z0-9._-]`, and neither `.` nor `..`.
///
/// # Errors
/// The reason, as a sentence for people.
pub fn check_topic_name(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("Topic name is invalid: the empty string is not allowed".to_owned());
    }
    if name == "." || name == ".." {
        return Err(format!("Topic name is invalid: '{name}' is not allowed"));
    }
    let length = name.chars().count();
    if length > MAX_TOPIC_NAME_LENGTH {
        return Err(format!(
            "Topic name is invalid: the length of '{name}' is longer than the max allowed length {MAX_TOPIC_NAME_LENGTH}"
        ));
    }
    if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
    {
        return Err(format!(
            "Topic name is invalid: '{name}' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'"
        ));
    }
    Ok(())
}

/// The form of a name in which `.` and `_` are the same; two topics must not share it, because metric names would.
pub(crate) fn collision_key(name: &str) -> String {
    name.replace('.', "_")
}
