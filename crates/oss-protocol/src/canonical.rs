//! Percent encoding as signatures and URLs need it.
//!
//! The unreserved characters are those of RFC 3986 (`A-Z a-z 0-9 - _ . ~`); everything else becomes `%XX` of its UTF-8
//! bytes with upper-case digits. The same encoding serves the request line and the canonical request, so a signed path
//! and the path on the wire cannot differ.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
const PATH: &AsciiSet = &QUERY.remove(b'/');

/// Why an encoded text could not be decoded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// A `%` is not followed by two hexadecimal digits.
    #[error("'%' without two hexadecimal digits in {text:?}")]
    Escape {
        /// The encoded text.
        text: String,
    },
    /// The decoded bytes are not UTF-8.
    #[error("{text:?} does not decode to UTF-8")]
    Utf8 {
        /// The encoded text.
        text: String,
    },
}

/// Returns `key` percent-encoded for a path: `/` stays as it is.
pub fn encode_path(key: &str) -> Cow<'_, str> {
    utf8_percent_encode(key, PATH).into()
}

/// Returns `value` percent-encoded for a query name or value: `/` becomes `%2F`, a space `%20`.
pub fn encode_query(value: &str) -> Cow<'_, str> {
    utf8_percent_encode(value, QUERY).into()
}

/// Appends what [`encode_query`] returns, without memory of its own.
pub(crate) fn push_encoded_query(out: &mut String, value: &str) {
    out.extend(utf8_percent_encode(value, QUERY));
}

/// Returns `text` with its percent escapes decoded; a `+` stays a `+`.
pub fn decode(text: &str) -> Result<Cow<'_, str>, DecodeError> {
    if !text.contains('%') {
        return Ok(Cow::Borrowed(text));
    }
    if !escapes_are_whole(text.as_bytes()) {
        return Err(DecodeError::Escape { text: text.to_owned() });
    }
    percent_decode_str(text).decode_utf8().map_err(|_| DecodeError::Utf8 { text: text.to_owned() })
}

/// Returns `text` decoded as HTML forms encode it: `+` is a space, then percent escapes.
pub fn decode_form(text: &str) -> Result<Cow<'_, str>, DecodeError> {
    if text.contains('+') {
        let spaced = text.replace('+', " ");
        return decode(&spaced).map(|decoded| Cow::Owned(decoded.into_owned()));
    }
    decode(text)
}

/// Returns the decoded name and value pairs of a raw query string, in their order.
///
/// A name without `=` has an empty value, which is how OSS treats sub-resources (`?acl` and `?acl=` are the same). A
/// `+` is a space, since `requests` and Go's `net/url` send spaces so; a literal plus sign is always sent as `%2B`.
pub fn parse_query(raw: &str) -> Result<Vec<(String, String)>, DecodeError> {
    raw.split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((decode_form(name)?.into_owned(), decode_form(value)?.into_owned()))
        })
        .collect()
}

/// Returns `query` as a raw query string, without a leading `?`; an empty value gives a bare name.
pub fn format_query(query: &[(String, String)]) -> String {
    let mut raw = String::new();
    for (name, value) in query {
        if !raw.is_empty() {
            raw.push('&');
        }
        raw.push_str(&encode_query(name));
        if !value.is_empty() {
            raw.push('=');
            raw.push_str(&encode_query(value));
        }
    }
    raw
}

fn escapes_are_whole(bytes: &[u8]) -> bool {
    bytes.iter().enumerate().all(|(at, &byte)| {
        byte != b'%' || bytes.get(at + 1..at + 3).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn path_keeps_slash_and_query_does_not() {
        assert_eq!(encode_path("1234+-/123/1.txt"), "1234%2B-/123/1.txt");
        assert_eq!(encode_path("数据/a+b~.txt"), "%E6%95%B0%E6%8D%AE/a%2Bb~.txt");
        assert_eq!(encode_query("a/b c/"), "a%2Fb%20c%2F");
        assert_eq!(encode_query("-_.~"), "-_.~");
        assert!(matches!(encode_path("plain/key-1.bin"), Cow::Borrowed(_)));
    }

    #[test]
    fn plus_is_a_space_only_in_forms() {
        assert_eq!(decode("a+b%20c").unwrap(), "a+b c");
        assert_eq!(decode_form("a+b%20c%2B").unwrap(), "a b c+");
    }

    #[test]
    fn broken_escapes_and_broken_utf8_are_errors() {
        for text in ["%", "a%2", "%zz", "%2%41", "%+1"] {
            assert!(matches!(decode(text), Err(DecodeError::Escape { .. })), "{text}");
        }
        assert!(matches!(decode("%FF"), Err(DecodeError::Utf8 { .. })));
        assert!(parse_query("a=%").is_err());
    }

    #[test]
    fn query_strings_parse_into_pairs() {
        let query = parse_query("list-type=2&prefix=a%2Fb+c&acl&empty=&&x=1=2").unwrap();
        let pairs: Vec<(&str, &str)> = query.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        assert_eq!(pairs, [("list-type", "2"), ("prefix", "a/b c"), ("acl", ""), ("empty", ""), ("x", "1=2")]);
        assert_eq!(parse_query("").unwrap(), []);
        assert_eq!(format_query(&query), "list-type=2&prefix=a%2Fb%20c&acl&empty&x=1%3D2");
    }

    proptest! {
        #[test]
        fn encoding_round_trips(text in any::<String>()) {
            let path = encode_path(&text);
            prop_assert_eq!(decode(&path).unwrap(), text.as_str());
            let query = encode_query(&text);
            prop_assert!(query.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.~%".contains(&b)));
            prop_assert_eq!(decode(&query).unwrap(), text.as_str());
            prop_assert_eq!(decode_form(&query).unwrap(), text.as_str());
        }

        #[test]
        fn queries_round_trip(query in proptest::collection::vec(("[^=&]{1,8}", any::<String>()), 0..6)) {
            prop_assert_eq!(parse_query(&format_query(&query)).unwrap(), query);
        }

        #[test]
        fn decoding_never_panics(text in "[%+0-9a-gé&=]{0,12}") {
            let _ = decode(&text);
            let _ = parse_query(&text);
        }
    }
}
