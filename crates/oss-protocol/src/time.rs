//! The four spellings of a timestamp on the wire.
//!
//! Signatures use `20231216T162057Z`, HTTP headers RFC 1123, XML bodies `2023-12-16T16:20:57.000Z`, and credential
//! files the same without milliseconds. Years outside 1970 to 9999 do not fit the formats and are clamped.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use time::{Date, Month, OffsetDateTime, Time};

/// The last second of the year 9999, after which the formats run out of digits.
const LAST_SECOND: u64 = 253_402_300_799;

/// A text is not a timestamp of the expected form.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a timestamp like {example}")]
pub struct TimeError {
    /// The text as given.
    pub text: String,
    /// A well-formed example.
    pub example: &'static str,
}

/// Returns the whole seconds since 1970 of `time`, clamped to what the formats can show.
pub fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()).min(LAST_SECOND)
}

/// Returns the time `seconds` after the start of 1970, clamped to what the formats can show.
pub fn from_unix_seconds(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds.min(LAST_SECOND))
}

/// Returns `time` as the `x-oss-date` of a V4 signature, `20231216T162057Z`.
pub fn format_oss_date(time: SystemTime) -> String {
    let mut text = String::with_capacity(16);
    let fields = Fields::of(time);
    push_digits(&mut text, fields.year, 4);
    push_digits(&mut text, fields.month, 2);
    push_digits(&mut text, fields.day, 2);
    text.push('T');
    push_digits(&mut text, fields.hour, 2);
    push_digits(&mut text, fields.minute, 2);
    push_digits(&mut text, fields.second, 2);
    text.push('Z');
    text
}

/// Parses the `x-oss-date` of a V4 signature.
pub fn parse_oss_date(text: &str) -> Result<SystemTime, TimeError> {
    let b = text.as_bytes();
    let parse = || {
        if b.len() != 16 || b[8] != b'T' || b[15] != b'Z' {
            return None;
        }
        assemble([&b[..4], &b[4..6], &b[6..8], &b[9..11], &b[11..13], &b[13..15]])
    };
    parse().ok_or_else(|| TimeError { text: text.to_owned(), example: "20231216T162057Z" })
}

/// Returns `time` for an HTTP header, `Sat, 16 Dec 2023 16:20:57 GMT`.
pub fn format_http_date(time: SystemTime) -> String {
    httpdate::fmt_http_date(from_unix_seconds(unix_seconds(time)))
}

/// Parses the date of an HTTP header.
pub fn parse_http_date(text: &str) -> Result<SystemTime, TimeError> {
    httpdate::parse_http_date(text)
        .map_err(|_| TimeError { text: text.to_owned(), example: "Sat, 16 Dec 2023 16:20:57 GMT" })
}

/// Returns `time` for an XML body, `2023-12-16T16:20:57.000Z`. OSS keeps whole seconds and always writes `.000`.
pub fn format_xml_timestamp(time: SystemTime) -> String {
    let mut text = iso_seconds(time);
    text.push_str(".000Z");
    text
}

/// Returns `time` for a credential file, `2023-12-16T16:20:57Z`.
pub fn format_expiration(time: SystemTime) -> String {
    let mut text = iso_seconds(time);
    text.push('Z');
    text
}

/// Parses the timestamp of an XML body; the fraction is optional.
pub fn parse_xml_timestamp(text: &str) -> Result<SystemTime, TimeError> {
    parse_iso(text).ok_or_else(|| TimeError { text: text.to_owned(), example: "2023-12-16T16:20:57.000Z" })
}

/// Parses the `Expiration` of a credential file; a fraction is allowed.
pub fn parse_expiration(text: &str) -> Result<SystemTime, TimeError> {
    parse_iso(text).ok_or_else(|| TimeError { text: text.to_owned(), example: "2023-12-16T16:20:57Z" })
}

fn iso_seconds(time: SystemTime) -> String {
    let mut text = String::with_capacity(24);
    let fields = Fields::of(time);
    push_digits(&mut text, fields.year, 4);
    text.push('-');
    push_digits(&mut text, fields.month, 2);
    text.push('-');
    push_digits(&mut text, fields.day, 2);
    text.push('T');
    push_digits(&mut text, fields.hour, 2);
    text.push(':');
    push_digits(&mut text, fields.minute, 2);
    text.push(':');
    push_digits(&mut text, fields.second, 2);
    text
}

/// Listings carry one timestamp per key, so this reads digits at fixed places instead of a format description.
fn parse_iso(text: &str) -> Option<SystemTime> {
    let b = text.as_bytes();
    let (date_time, tail) = b.split_at_checked(19)?;
    let separators = [date_time[4], date_time[7], date_time[10], date_time[13], date_time[16]];
    if separators != *b"--T::" {
        return None;
    }
    let d = date_time;
    let whole = assemble([&d[..4], &d[5..7], &d[8..10], &d[11..13], &d[14..16], &d[17..19]])?;
    let fraction = tail.strip_suffix(b"Z")?;
    match fraction {
        [] => Some(whole),
        [b'.', digits @ ..] if (1..=9).contains(&digits.len()) => {
            let mut nanos = number(digits)?;
            for _ in digits.len()..9 {
                nanos *= 10;
            }
            Some(whole + Duration::from_nanos(u64::from(nanos)))
        }
        _ => None,
    }
}

fn assemble([year, month, day, hour, minute, second]: [&[u8]; 6]) -> Option<SystemTime> {
    let year = i32::try_from(number(year)?).ok()?;
    let month = Month::try_from(u8::try_from(number(month)?).ok()?).ok()?;
    let small = |digits| u8::try_from(number(digits)?).ok();
    let date = Date::from_calendar_date(year, month, small(day)?).ok()?;
    let time = Time::from_hms(small(hour)?, small(minute)?, small(second)?).ok()?;
    let seconds = OffsetDateTime::new_utc(date, time).unix_timestamp();
    Some(UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).ok()?))
}

fn number(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0u32, |value, &digit| digit.is_ascii_digit().then(|| value * 10 + u32::from(digit - b'0')))
}

fn push_digits(text: &mut String, value: u32, width: u32) {
    for place in (0..width).rev() {
        let digit = value / 10u32.pow(place) % 10;
        text.push(char::from(b'0' + digit as u8));
    }
}

struct Fields {
    year: u32,
    month: u32,
    day: u32,
    hour: u32,
    minute: u32,
    second: u32,
}

impl Fields {
    fn of(time: SystemTime) -> Self {
        let seconds = unix_seconds(time);
        let at = OffsetDateTime::UNIX_EPOCH
            .checked_add(time::Duration::seconds(seconds.cast_signed()))
            .unwrap_or(OffsetDateTime::UNIX_EPOCH);
        Self {
            year: at.year().unsigned_abs(),
            month: u32::from(u8::from(at.month())),
            day: u32::from(at.day()),
            hour: u32::from(at.hour()),
            minute: u32::from(at.minute()),
            second: u32::from(at.second()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const AT: u64 = 1_702_743_657;

    #[test]
    fn the_four_spellings_of_one_second() {
        let time = from_unix_seconds(AT);
        assert_eq!(format_oss_date(time), "20231216T162057Z");
        assert_eq!(format_http_date(time), "Sat, 16 Dec 2023 16:20:57 GMT");
        assert_eq!(format_xml_timestamp(time), "2023-12-16T16:20:57.000Z");
        assert_eq!(format_expiration(time), "2023-12-16T16:20:57Z");
    }

    #[test]
    fn documented_expiration_example() {
        let time = parse_expiration("2024-08-02T15:04:05Z").unwrap();
        assert_eq!(unix_seconds(time), 1_722_611_045);
    }

    #[test]
    fn fractions_keep_their_value() {
        let time = parse_xml_timestamp("1970-01-01T00:00:01.5Z").unwrap();
        assert_eq!(time, UNIX_EPOCH + Duration::from_millis(1500));
        assert_eq!(parse_xml_timestamp("1970-01-01T00:00:01Z").unwrap(), from_unix_seconds(1));
    }

    #[test]
    fn malformed_texts_are_errors() {
        for text in [
            "",
            "2023-12-16",
            "2023-12-16T16:20:57",
            "2023-12-16 16:20:57Z",
            "2023-13-16T16:20:57Z",
            "2023-02-29T16:20:57Z",
            "2023-12-16T24:20:57Z",
            "2023-12-16T16:20:57.Z",
            "2023-12-16T16:20:57.0000000000Z",
            "2023-12-16T16:20:57.1x3Z",
            "1969-12-31T23:59:59Z",
            "２023-12-16T16:20:57Z",
        ] {
            assert!(parse_xml_timestamp(text).is_err(), "{text}");
        }
        for text in ["", "20231216T162057", "20231216 162057Z", "20231316T162057Z", "2023121aT162057Z"] {
            assert!(parse_oss_date(text).is_err(), "{text}");
        }
        assert!(parse_http_date("yesterday").is_err());
    }

    #[test]
    fn times_outside_the_formats_are_clamped() {
        let before = UNIX_EPOCH - Duration::from_secs(5);
        assert_eq!(format_oss_date(before), "19700101T000000Z");
        let after = UNIX_EPOCH + Duration::from_secs(LAST_SECOND + 5);
        assert_eq!(format_xml_timestamp(after), "9999-12-31T23:59:59.000Z");
        assert_eq!(format_http_date(after), "Fri, 31 Dec 9999 23:59:59 GMT");
    }

    proptest! {
        #[test]
        fn every_spelling_parses_back(seconds in 0..=LAST_SECOND) {
            let time = from_unix_seconds(seconds);
            prop_assert_eq!(parse_oss_date(&format_oss_date(time)).unwrap(), time);
            prop_assert_eq!(parse_http_date(&format_http_date(time)).unwrap(), time);
            prop_assert_eq!(parse_xml_timestamp(&format_xml_timestamp(time)).unwrap(), time);
            prop_assert_eq!(parse_expiration(&format_expiration(time)).unwrap(), time);
        }

        #[test]
        fn parsing_never_panics(text in any::<String>()) {
            let _ = parse_xml_timestamp(&text);
            let _ = parse_oss_date(&text);
        }
    }
}
