//! Values of properties, as text, and the errors of those that cannot be.

use std::{fmt::Display, ops::RangeInclusive, str::FromStr, time::Duration};

use crate::{Error, ErrorKind};

/// An error about a property's value.
pub(crate) fn bad_value(name: &str, value: &str, expected: impl Display) -> Error {
    Error::new(ErrorKind::Config, format!("{name} is \"{value}\": expected {expected}"))
}

/// A whole number within a range.
pub(crate) fn integer<T>(name: &str, value: &str, range: RangeInclusive<T>) -> Result<T, Error>
where
    T: FromStr + PartialOrd + Display,
{
    let number = value.trim().parse::<T>().ok().filter(|number| range.contains(number));
    number.ok_or_else(|| {
        bad_value(
            name,
            value,
            format_args!("a whole number from {} to {}", range.start(), range.end()),
        )
    })
}

/// Milliseconds within a range.
pub(crate) fn duration_ms(
    name: &str,
    value: &str,
    range: RangeInclusive<u64>,
) -> Result<Duration, Error> {
    integer(name, value, range).map(Duration::from_millis)
}

/// `true` or `false`.
pub(crate) fn bool_value(name: &str, value: &str) -> Result<bool, Error> {
    match value.trim() {
        text if text.eq_ignore_ascii_case("true") => Ok(true),
        text if text.eq_ignore_ascii_case("false") => Ok(false),
        _ => Err(bad_value(name, value, "true or false")),
    }
}

/// One of some words, in any case.
pub(crate) fn one_of<T: Copy>(name: &str, value: &str, words: &[(&str, T)]) -> Result<T, Error> {
    let found = words.iter().find(|(word, _)| word.eq_ignore_ascii_case(value.trim()));
    found.map(|(_, meaning)| *meaning).ok_or_else(|| {
        let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        bad_value(name, value, format_args!("one of {}", words.join(", ")))
    })
}

/// The error for a name that nobody knows.
pub(crate) fn unknown_property<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Error {
    let nearest = known
        .map(|other| (strsim::damerau_levenshtein(name, other), other))
        .min()
        .filter(|(distance, other)| *distance <= 3.max(other.len() / 4));
    let hint = nearest.map(|(_, other)| format!("; did you mean {other}?")).unwrap_or_default();
    Error::new(ErrorKind::Config, format!("there is no property {name}{hint}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_out_of_range_are_refused_with_the_range() {
        assert_eq!(integer("a", " 5 ", 1..=9).ok(), Some(5));
        let error = integer("fetch.min.bytes", "-1", 0..=9).expect_err("negative");
        assert_eq!(
            error.to_string(),
            "fetch.min.bytes is \"-1\": expected a whole number from 0 to 9"
        );
        assert!(duration_ms("a", "1s", 0..=9).is_err());
        assert!(bool_value("a", "TRUE").is_ok_and(|value| value));
        assert!(bool_value("a", "yes").is_err());
        assert!(one_of("a", "b", &[("c", 1), ("d", 2)]).is_err());
    }

    #[test]
    fn a_misspelled_name_gets_a_suggestion() {
        let known = ["fetch.min.bytes", "group.id"];
        let error = unknown_property("fetch.mim.bytes", known.into_iter());
        assert_eq!(
            error.to_string(),
            "there is no property fetch.mim.bytes; did you mean fetch.min.bytes?"
        );
        let error = unknown_property("zzzzzzzzzzzz", known.into_iter());
        assert_eq!(error.to_string(), "there is no property zzzzzzzzzzzz");
    }
}
