//! `oss://bucket/key`.

use std::fmt;
use std::str::FromStr;

/// The longest key in bytes of UTF-8.
pub const MAX_KEY_BYTES: usize = 1023;

/// A bucket and a key; the key is empty if the URI names a whole bucket.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OssUri {
    /// The bucket's name.
    pub bucket: String,
    /// The object's key or a prefix of keys, without a leading slash.
    pub key: String,
}

/// Why a text is not an OSS address. Each message names the text, the fault and the remedy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UriError {
    /// Nothing was given.
    #[error("the URI is empty; write oss://bucket/key")]
    Empty,
    /// `oss:/bucket/key`, which is what `pathlib` makes of a URI.
    #[error("{text:?} looks like a pathlib.Path made from an oss:// URI, which loses a slash; pass the string")]
    LostSlash {
        /// The text as given.
        text: String,
    },
    /// Another scheme than `oss`.
    #[error("{text:?} has the scheme {scheme:?}; only oss://bucket/key is understood")]
    Scheme {
        /// The text as given.
        text: String,
        /// Its scheme.
        scheme: String,
    },
    /// Neither `oss://` nor a leading slash.
    #[error("{text:?} names no bucket; write oss://bucket/key")]
    NotAbsolute {
        /// The text as given.
        text: String,
    },
    /// The bucket's name breaks a naming rule.
    #[error("{name:?} is not a bucket name: {reason}; use 3 to 63 of a-z, 0-9 and '-', with no '-' at either end")]
    Bucket {
        /// The name as given.
        name: String,
        /// The rule it breaks.
        reason: &'static str,
    },
    /// The key breaks a naming rule.
    #[error("{key:?} is not an object key: {reason}")]
    Key {
        /// The key as given, cut to its first hundred characters.
        key: String,
        /// The rule it breaks.
        reason: &'static str,
    },
}

impl OssUri {
    /// Parses `oss://bucket/key`, `oss://bucket` and `/bucket/key`.
    ///
    /// The key is taken literally, percent signs and question marks included. It may be empty.
    pub fn parse(text: &str) -> Result<Self, UriError> {
        let rest = without_scheme(text)?;
        let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
        validate_bucket(bucket)?;
        if !key.is_empty() {
            validate_key(key)?;
        }
        Ok(Self { bucket: bucket.to_owned(), key: key.to_owned() })
    }
}

fn without_scheme(text: &str) -> Result<&str, UriError> {
    if text.is_empty() {
        return Err(UriError::Empty);
    }
    if let Some((scheme, rest)) = text.split_once("://")
        && !scheme.contains('/')
    {
        if scheme.eq_ignore_ascii_case("oss") {
            return Ok(rest);
        }
        return Err(UriError::Scheme { text: without_query(text), scheme: scheme.to_owned() });
    }
    if text.starts_with("oss:/") {
        return Err(UriError::LostSlash { text: without_query(text) });
    }
    text.strip_prefix('/').ok_or_else(|| UriError::NotAbsolute { text: without_query(text) })
}

/// A URI for a message: the query of a presigned URL is a secret.
pub fn without_query(text: &str) -> String {
    text.split_once('?').map_or_else(|| text.to_owned(), |(shown, _)| format!("{shown}?..."))
}

impl fmt::Display for OssUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "oss://{}/{}", self.bucket, self.key)
    }
}

impl FromStr for OssUri {
    type Err = UriError;

    fn from_str(text: &str) -> Result<Self, UriError> {
        Self::parse(text)
    }
}

/// Checks the rules for bucket names: 3 to 63 of `a-z`, `0-9` and `-`, with no `-` at either end.
pub fn validate_bucket(name: &str) -> Result<(), UriError> {
    let reason = if name.is_empty() {
        "it is empty"
    } else if !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
        "it has another character"
    } else if name.len() < 3 {
        "it is too short"
    } else if name.len() > 63 {
        "it is too long"
    } else if name.starts_with('-') || name.ends_with('-') {
        "it starts or ends with '-'"
    } else {
        return Ok(());
    };
    Err(UriError::Bucket { name: without_query(name), reason })
}

/// Checks the rules for keys: 1 to [`MAX_KEY_BYTES`] bytes, starting with neither `/` nor `\`.
pub fn validate_key(key: &str) -> Result<(), UriError> {
    let reason = if key.is_empty() {
        "it is empty"
    } else if key.len() > MAX_KEY_BYTES {
        "it is longer than 1023 bytes"
    } else if key.starts_with('/') {
        "it starts with '/'; remove the slash"
    } else if key.starts_with('\\') {
        "it starts with '\\'; remove the backslash"
    } else {
        return Ok(());
    };
    // An error message is for reading; the first hundred characters tell which key it is.
    Err(UriError::Key { key: without_query(&key.chars().take(100).collect::<String>()), reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str) -> (String, String) {
        let uri = OssUri::parse(text).unwrap();
        (uri.bucket, uri.key)
    }

    #[test]
    fn accepted_spellings() {
        for (text, bucket, key) in [
            ("oss://examplebucket/dir/a.bin", "examplebucket", "dir/a.bin"),
            ("oss://examplebucket", "examplebucket", ""),
            ("oss://examplebucket/", "examplebucket", ""),
            ("/examplebucket/dir/", "examplebucket", "dir/"),
            ("OSS://examplebucket/a", "examplebucket", "a"),
            ("oss://examplebucket/a%20b?c#d+é", "examplebucket", "a%20b?c#d+é"),
            ("/examplebucket/a://b", "examplebucket", "a://b"),
            ("oss://examplebucket/a//b", "examplebucket", "a//b"),
        ] {
            assert_eq!(parts(text), (bucket.to_owned(), key.to_owned()), "{text}");
        }
    }

    #[test]
    fn display_parses_back() {
        let uri = OssUri::parse("/examplebucket/a b").unwrap();
        assert_eq!(uri.to_string(), "oss://examplebucket/a b");
        assert_eq!(uri.to_string().parse::<OssUri>().unwrap(), uri);
    }

    #[test]
    fn path_objects_are_recognised() {
        let error = OssUri::parse("oss:/bucket/key").unwrap_err();
        assert_eq!(
            error.to_string(),
            "\"oss:/bucket/key\" looks like a pathlib.Path made from an oss:// URI, which loses a slash; pass the string"
        );
    }

    #[test]
    fn refused_texts() {
        assert_eq!(OssUri::parse(""), Err(UriError::Empty));
        assert!(matches!(OssUri::parse("s3://bucket/key"), Err(UriError::Scheme { scheme, .. }) if scheme == "s3"));
        assert!(matches!(OssUri::parse("bucket/key"), Err(UriError::NotAbsolute { .. })));
        assert!(matches!(OssUri::parse("oss:///key"), Err(UriError::Bucket { reason: "it is empty", .. })));
        assert!(matches!(OssUri::parse("oss://"), Err(UriError::Bucket { .. })));
        assert!(matches!(OssUri::parse("oss://Bucket/key"), Err(UriError::Bucket { .. })));
        assert!(matches!(OssUri::parse("oss://bucket//key"), Err(UriError::Key { .. })));
        assert!(matches!(OssUri::parse("oss://bucket/\\key"), Err(UriError::Key { .. })));
    }

    #[test]
    fn bucket_name_limits() {
        assert!(validate_bucket("abc").is_ok());
        assert!(validate_bucket(&"a".repeat(63)).is_ok());
        for name in ["ab", "-abc", "abc-", "a_bc", "a.bc", "abç", &"a".repeat(64)] {
            assert!(validate_bucket(name).is_err(), "{name}");
        }
    }

    #[test]
    fn key_limits_count_bytes() {
        assert!(validate_key(&"a".repeat(1023)).is_ok());
        assert!(validate_key(&"a".repeat(1024)).is_err());
        assert!(validate_key(&"数".repeat(341)).is_ok());
        assert!(validate_key(&"数".repeat(342)).is_err());
        assert!(validate_key(".hidden").is_ok());
        assert!(validate_key("").is_err());
    }
}
