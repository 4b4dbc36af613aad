//! Points and spans of time as people write them on a command line, in milliseconds. No time zones beyond offsets: without
//! one, a time is UTC, as in Kafka's tools.

use std::time::{SystemTime, UNIX_EPOCH};

const SECOND: i64 = 1000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// Now, in milliseconds since 1970.
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// A date, or a date and a time: `2026-11-21`, `2026-11-21T18:30`, `2026-11-21 18:30:15.250+01:00`. Anything left out is zero.
pub(crate) fn parse_datetime(text: &str) -> Option<i64> {
    let mut reader = Reader(text);
    let mut ms = reader.date()?;
    if reader.0.is_empty() {
        return Some(ms);
    }
    if !reader.take('T') && !reader.take('t') && !reader.take(' ') {
        return None;
    }
    ms += reader.number(2, 23)? * HOUR;
    reader.expect(':')?;
    ms += reader.number(2, 59)? * MINUTE;
    if reader.take(':') {
        ms += reader.number(2, 59)? * SECOND;
        if reader.take('.') {
            ms += reader.fraction()?;
        }
    }
    Some(ms - reader.zone()?)
}

/// The one form that Kafka's tools take: `yyyy-MM-ddTHH:mm:ss.SSS`, with or without a zone.
pub(crate) fn parse_kafka_datetime(text: &str) -> Option<i64> {
    let is_number = |c: char| if c.is_ascii_digit() { '0' } else { c };
    let shape: String = text.chars().take(23).map(is_number).collect();
    if shape != "0000-00-00T00:00:00.000" {
        return None;
    }
    parse_datetime(text)
}

/// A span such as `90s`, `2h30m`, `1d`, `250ms`.
pub(crate) fn parse_span(text: &str) -> Option<i64> {
    let mut total = 0_i64;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: i64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let factor = match &rest[..unit] {
            "ms" => 1,
            "s" => SECOND,
            "m" | "min" => MINUTE,
            "h" => HOUR,
            "d" => DAY,
            "w" => 7 * DAY,
            _ => return None,
        };
        total = total.checked_add(number.checked_mul(factor)?)?;
        rest = &rest[unit..];
    }
    (!text.is_empty()).then_some(total)
}

/// A duration of ISO 8601 as Java reads it: `PnDTnHnMnS`, each with an own sign, seconds with a fraction.
pub(crate) fn parse_iso_duration(text: &str) -> Option<i64> {
    let (negative, rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let rest = rest.strip_prefix(['P', 'p'])?;
    let (days, clock) = match rest.split_once(['T', 't']) {
        Some((_, "")) => return None,
        Some((days, clock)) => (days, clock),
        None => (rest, ""),
    };
    let mut total = 0_i64;
    let mut parts = 0;
    for (text, units) in
        [(days, &[('D', DAY)][..]), (clock, &[('H', HOUR), ('M', MINUTE), ('S', SECOND)][..])]
    {
        let mut rest = text;
        let mut units = units.iter();
        while !rest.is_empty() {
            let end = rest.find(|c: char| c.is_ascii_alphabetic())?;
            let unit = rest[end..].chars().next()?.to_ascii_uppercase();
            let (_, factor) = units.find(|(name, _)| *name == unit)?;
            let number = &rest[..end];
            let ms = match number.split_once(['.', ',']) {
                Some((whole, fraction)) if unit == 'S' => {
                    let ms = Reader(fraction).fraction().filter(|_| fraction.len() <= 9)?;
                    let whole_ms = whole.parse::<i64>().ok()?.checked_mul(SECOND)?;
                    if whole.starts_with('-') { whole_ms - ms } else { whole_ms + ms }
                }
                Some(_) => return None,
                None => number.parse::<i64>().ok()?.checked_mul(*factor)?,
            };
            total = total.checked_add(ms)?;
            parts += 1;
            rest = &rest[end + 1..];
        }
    }
    (parts > 0).then_some(if negative { -total } else { total })
}

/// The point as RFC 3339 has it, in UTC with milliseconds; the bare number where the year does not fit.
pub(crate) fn format_ms(ms: i64) -> String {
    let (year, month, day) = civil(ms.div_euclid(DAY));
    if !(0..=9999).contains(&year) {
        return ms.to_string();
    }
    let of_day = ms.rem_euclid(DAY);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:03}Z",
        of_day / HOUR,
        of_day / MINUTE % 60,
        of_day / SECOND % 60,
        of_day % SECOND
    )
}

/// What is left of a text.
struct Reader<'a>(&'a str);

impl Reader<'_> {
    fn take(&mut self, wanted: char) -> bool {
        match self.0.strip_prefix(wanted) {
            Some(rest) => {
                self.0 = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, wanted: char) -> Option<()> {
        self.take(wanted).then_some(())
    }

    /// Exactly so many digits.
    fn number(&mut self, digits: usize, max: i64) -> Option<i64> {
        let head = self.0.get(..digits).filter(|head| head.bytes().all(|b| b.is_ascii_digit()))?;
        self.0 = &self.0[digits..];
        head.parse().ok().filter(|number| *number <= max)
    }

    /// Digits after a point, as milliseconds; what is finer is cut off.
    fn fraction(&mut self) -> Option<i64> {
        let end = self.0.find(|c: char| !c.is_ascii_digit()).unwrap_or(self.0.len());
        let digits = &self.0[..end];
        self.0 = &self.0[end..];
        let mut ms = digits.get(..3).unwrap_or(digits).to_owned();
        while ms.len() < 3 {
            ms.push('0');
        }
        if digits.is_empty() { None } else { ms.parse().ok() }
    }

    fn date(&mut self) -> Option<i64> {
        let year = self.number(4, 9999)?;
        self.expect('-')?;
        let month = self.number(2, 12)?;
        self.expect('-')?;
        let day = self.number(2, 31)?;
        let days = days_of(year, month, day);
        (civil(days) == (year, month, day)).then_some(days * DAY)
    }

    /// The rest: nothing, `Z`, `+01:00`, `+0100` or `+01`.
    fn zone(&mut self) -> Option<i64> {
        if self.0.is_empty() || self.0 == "Z" || self.0 == "z" {
            return Some(0);
        }
        let sign = if self.take('+') {
            1
        } else if self.take('-') {
            -1
        } else {
            return None;
        };
        let mut offset = self.number(2, 18)? * HOUR;
        if !self.0.is_empty() {
            self.take(':');
            offset += self.number(2, 59)? * MINUTE;
        }
        self.0.is_empty().then_some(sign * offset)
    }
}

/// Days since 1970-01-01 of a date in the Gregorian calendar, by Howard Hinnant's `days_from_civil`.
fn days_of(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// Year, month and day of such a number of days.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn dates_and_times_are_read_and_written() {
        for (text, ms) in [
            ("1970-01-01", 0),
            ("1970-01-01T00:00:00.001Z", 1),
            ("2000-02-29 12:00", 951_825_600_000),
            ("2026-11-21T18:30:15.250+01:00", 1_795_282_215_250),
            ("2026-11-21T18:30:15.25+0100", 1_795_282_215_250),
            ("2026-11-21T12:00:15.2509-0530", 1_795_282_215_250),
            ("1969-12-31T23:59:59.999", -1),
        ] {
            assert_eq!(parse_datetime(text), Some(ms), "{text}");
        }
        assert_eq!(format_ms(1_795_282_215_250), "2026-11-21T17:30:15.250Z");
        assert_eq!(format_ms(-1), "1969-12-31T23:59:59.999Z");
        assert_eq!(format_ms(i64::MAX), i64::MAX.to_string());
        for text in [
            "",
            "2026",
            "2025-02-29",
            "2026-13-01",
            "2026-01-01T24:00",
            "2026-01-01Z",
            "2026-01-01T1:00",
            "2026-01-01T10:00+1",
            "2026-01-01T10:00:00x",
            "é026-01-01",
        ] {
            assert_eq!(parse_datetime(text), None, "{text}");
        }
    }

    #[test]
    fn every_day_of_400_years_comes_back() {
        for day in -200 * 366..200 * 366 {
            let (year, month, of_month) = civil(day);
            assert_eq!(days_of(year, month, of_month), day);
        }
    }

    #[test]
    fn kafkas_form_needs_milliseconds() {
        assert_eq!(parse_kafka_datetime("1970-01-01T00:00:01.000"), Some(1000));
        assert_eq!(parse_kafka_datetime("1970-01-01T01:00:01.000+01"), Some(1000));
        for text in ["1970-01-01", "1970-01-01T00:00:01", "1970-01-01 00:00:01.000"] {
            assert_eq!(parse_kafka_datetime(text), None, "{text}");
        }
    }

    #[test]
    fn spans_have_units() {
        assert_eq!(parse_span("2h30m"), Some(9_000_000));
        assert_eq!(parse_span("250ms"), Some(250));
        assert_eq!(parse_span("1d"), Some(DAY));
        for text in ["", "5", "h", "2x", "-2h", "99999999999999999999s", "9223372036854775807d"] {
            assert_eq!(parse_span(text), None, "{text}");
        }
    }

    #[test]
    fn iso_durations_are_javas() {
        assert_eq!(parse_iso_duration("P1DT2H3M4.5S"), Some(DAY + 2 * HOUR + 3 * MINUTE + 4500));
        assert_eq!(parse_iso_duration("PT10M"), Some(10 * MINUTE));
        assert_eq!(parse_iso_duration("-PT1S"), Some(-1000));
        assert_eq!(parse_iso_duration("pt-1h"), Some(-HOUR));
        assert_eq!(parse_iso_duration("PT-0.5S"), Some(-500));
        for text in ["", "P", "PT", "1h", "PT1", "P1H", "PT1S1M", "P1W", "PT1.5M", "P1DT"] {
            assert_eq!(parse_iso_duration(text), None, "{text}");
        }
    }
}
