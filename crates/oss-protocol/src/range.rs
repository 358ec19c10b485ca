//! Byte ranges: what `Range` asks, what OSS makes of it, and what `Content-Range` answers.
//!
//! OSS reads ranges in two ways. By default a range that does not fit the object is ignored and the whole object is
//! sent with status 200. With `x-oss-range-behavior: standard` it follows RFC 9110.

use std::fmt;

/// One byte range as asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ByteRange {
    /// `bytes=a-b`, both ends included; `a <= b`.
    FromTo(u64, u64),
    /// `bytes=a-`.
    From(u64),
    /// `bytes=-n`: the last n bytes.
    Suffix(u64),
}

/// The meaning of a range for an object of a known size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResolvedRange {
    /// The whole object, with status 200 and no `Content-Range`.
    Full,
    /// A part, with status 206.
    Partial {
        /// The first byte.
        start: u64,
        /// The last byte.
        end_inclusive: u64,
    },
    /// Nothing: status 416, code `InvalidRange`.
    Unsatisfiable,
}

impl ByteRange {
    /// Parses a `Range` header: the first range of several, `None` when malformed.
    pub fn parse(header: &str) -> Option<Self> {
        let (unit, ranges) = header.split_once('=')?;
        if !unit.trim().eq_ignore_ascii_case("bytes") {
            return None;
        }
        let first = ranges.split(',').next()?.trim();
        let (start, end) = first.split_once('-')?;
        let (start, end) = (start.trim(), end.trim());
        match (start.is_empty(), end.is_empty()) {
            (true, true) => None,
            (true, false) => decimal(end).map(Self::Suffix),
            (false, true) => decimal(start).map(Self::From),
            (false, false) => {
                let (start, end) = (decimal(start)?, decimal(end)?);
                (start <= end).then_some(Self::FromTo(start, end))
            }
        }
    }

    /// Returns the range of `length` bytes from `offset`; `None` when `length` is zero.
    pub fn of_length(offset: u64, length: u64) -> Option<Self> {
        let last = length.checked_sub(1)?;
        Some(Self::FromTo(offset, offset.saturating_add(last)))
    }

    /// Returns what the range means for an object of `size` bytes. `standard` says whether the request carried
    /// `x-oss-range-behavior: standard`.
    pub fn resolve(self, size: u64, standard: bool) -> ResolvedRange {
        let misfit = if standard { ResolvedRange::Unsatisfiable } else { ResolvedRange::Full };
        let Some(last) = size.checked_sub(1) else {
            return misfit;
        };
        match self {
            Self::FromTo(start, end) if start <= last && end <= last && start <= end => {
                ResolvedRange::Partial { start, end_inclusive: end }
            }
            Self::FromTo(start, end) if standard && start <= last && start <= end => {
                ResolvedRange::Partial { start, end_inclusive: last }
            }
            Self::From(start) if start <= last => ResolvedRange::Partial { start, end_inclusive: last },
            Self::Suffix(length) if length > 0 && (length <= size || standard) => {
                ResolvedRange::Partial { start: size.saturating_sub(length), end_inclusive: last }
            }
            _ => misfit,
        }
    }
}

impl fmt::Display for ByteRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FromTo(start, end) => write!(f, "bytes={start}-{end}"),
            Self::From(start) => write!(f, "bytes={start}-"),
            Self::Suffix(length) => write!(f, "bytes=-{length}"),
        }
    }
}

/// A `Content-Range` header: the part that was sent, and of how much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentRange {
    /// The first byte sent.
    pub start: u64,
    /// The last byte sent.
    pub end: u64,
    /// The size of the whole object.
    pub total: u64,
}

impl ContentRange {
    /// Parses `bytes a-b/total`; `None` when malformed or when the numbers contradict each other.
    pub fn parse(header: &str) -> Option<Self> {
        let (unit, rest) = header.trim().split_once(' ')?;
        if !unit.eq_ignore_ascii_case("bytes") {
            return None;
        }
        let (range, total) = rest.trim().split_once('/')?;
        let (start, end) = range.split_once('-')?;
        let parsed = Self { start: decimal(start)?, end: decimal(end)?, total: decimal(total)? };
        (parsed.start <= parsed.end && parsed.end < parsed.total).then_some(parsed)
    }

    /// Returns how many bytes were sent.
    pub fn length(&self) -> u64 {
        self.end.saturating_sub(self.start).saturating_add(1)
    }

    /// Returns the header of a 416 answer, `bytes */total`.
    pub fn unsatisfied(total: u64) -> String {
        format!("bytes */{total}")
    }
}

impl fmt::Display for ContentRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bytes {}-{}/{}", self.start, self.end, self.total)
    }
}

/// Digits only: `u64::from_str` alone would let a leading `+` pass.
fn decimal(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The outcome of a header on a 1000-byte object: status and range sent.
    fn outcome(header: &str, size: u64, standard: bool) -> (u16, Option<(u64, u64)>) {
        let resolved = ByteRange::parse(header).map_or(ResolvedRange::Full, |range| range.resolve(size, standard));
        match resolved {
            ResolvedRange::Full => (200, None),
            ResolvedRange::Partial { start, end_inclusive } => (206, Some((start, end_inclusive))),
            ResolvedRange::Unsatisfiable => (416, None),
        }
    }

    #[test]
    fn table_of_a_thousand_bytes() {
        let full = (200, None);
        let part = |start, end| (206, Some((start, end)));
        for (header, by_default, standard) in [
            ("bytes=0-499", part(0, 499), part(0, 499)),
            ("bytes=500-999", part(500, 999), part(500, 999)),
            ("bytes=500-", part(500, 999), part(500, 999)),
            ("bytes=0-", part(0, 999), part(0, 999)),
            ("bytes=-500", part(500, 999), part(500, 999)),
            ("bytes=500-2000", full, part(500, 999)),
            ("bytes=1000-2000", full, (416, None)),
            ("bytes=1000-", full, (416, None)),
            ("bytes=-2000", full, part(0, 999)),
            ("bytes=-1000", part(0, 999), part(0, 999)),
            ("bytes=-0", full, (416, None)),
            ("byte=0-9", full, full),
            ("bytes=9-0", full, full),
        ] {
            assert_eq!(outcome(header, 1000, false), by_default, "{header} by default");
            assert_eq!(outcome(header, 1000, true), standard, "{header} standard");
        }
    }

    #[test]
    fn empty_objects_have_no_ranges() {
        for header in ["bytes=0-0", "bytes=0-", "bytes=-1"] {
            assert_eq!(outcome(header, 0, false), (200, None), "{header}");
            assert_eq!(outcome(header, 0, true), (416, None), "{header}");
        }
    }

    #[test]
    fn first_of_several_ranges_counts() {
        assert_eq!(ByteRange::parse("bytes=0-9, 20-29"), Some(ByteRange::FromTo(0, 9)));
        assert_eq!(ByteRange::parse("Bytes= 5-"), Some(ByteRange::From(5)));
    }

    #[test]
    fn malformed_headers_are_none() {
        for header in
            ["", "bytes", "bytes=", "bytes=-", "bytes=a-b", "bytes=+1-2", "bytes=1", "bytes=0-99999999999999999999"]
        {
            assert_eq!(ByteRange::parse(header), None, "{header}");
        }
    }

    #[test]
    fn ranges_by_length() {
        assert_eq!(ByteRange::of_length(10, 5), Some(ByteRange::FromTo(10, 14)));
        assert_eq!(ByteRange::of_length(10, 0), None);
        assert_eq!(ByteRange::of_length(u64::MAX, 5), Some(ByteRange::FromTo(u64::MAX, u64::MAX)));
    }

    #[test]
    fn content_ranges_are_checked() {
        let range = ContentRange::parse("bytes 0-99/1000").unwrap();
        assert_eq!((range.start, range.end, range.total, range.length()), (0, 99, 1000, 100));
        for header in
            ["bytes */1000", "bytes 0-99/*", "bytes 9-0/10", "bytes 0-10/10", "0-9/10", "bytes 0-9", "items 0-9/10"]
        {
            assert_eq!(ContentRange::parse(header), None, "{header}");
        }
        assert_eq!(ContentRange::unsatisfied(1000), "bytes */1000");
    }

    fn any_range() -> impl Strategy<Value = ByteRange> {
        prop_oneof![
            (0u64..50, 0u64..50).prop_map(|(a, b)| ByteRange::FromTo(a.min(b), a.max(b))),
            (0u64..50).prop_map(ByteRange::From),
            (0u64..50).prop_map(ByteRange::Suffix),
        ]
    }

    proptest! {
        #[test]
        fn ranges_format_and_parse_back(range in any_range()) {
            prop_assert_eq!(ByteRange::parse(&range.to_string()), Some(range));
        }

        #[test]
        fn standard_agrees_with_a_plain_reading(range in any_range(), size in 0u64..40) {
            let wanted: Vec<u64> = (0..size)
                .filter(|&at| match range {
                    ByteRange::FromTo(start, end) => start <= at && at <= end,
                    ByteRange::From(start) => start <= at,
                    ByteRange::Suffix(length) => at + length >= size,
                })
                .collect();
            let expected = match (wanted.first(), wanted.last()) {
                (Some(&start), Some(&end_inclusive)) => ResolvedRange::Partial { start, end_inclusive },
                _ => ResolvedRange::Unsatisfiable,
            };
            prop_assert_eq!(range.resolve(size, true), expected);
            // By default a range is served exactly as asked or not at all.
            let exact = match range {
                ByteRange::FromTo(_, end) => end < size,
                ByteRange::From(start) => start < size,
                ByteRange::Suffix(length) => length > 0 && length <= size,
            };
            prop_assert_eq!(range.resolve(size, false), if exact { expected } else { ResolvedRange::Full });
        }

        #[test]
        fn content_ranges_format_and_parse_back(start in 0u64..1000, length in 1u64..1000, after in 0u64..1000) {
            let range = ContentRange { start, end: start + length - 1, total: start + length + after };
            prop_assert_eq!(ContentRange::parse(&range.to_string()), Some(range));
        }
    }
}
