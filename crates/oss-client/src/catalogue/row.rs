//! How one row is written.
//!
//! A row is a byte of flags, then what they announce: the key's length and the key, the bucket's number, the size, the
//! ETag, the label, the archive's number and the offset. Numbers are LEB128; texts stand behind their length. An ETag
//! of OSS, `"<32 hexadecimal digits>"` with or without `-<parts>`, takes 16 bytes and its parts.

use std::sync::Arc;

use super::{
    entry::{Entry, Span},
    names::Names,
};

const HAS_SIZE: u8 = 1;
const HAS_BUCKET: u8 = 2;
const HAS_LABEL: u8 = 4;
const HAS_SPAN: u8 = 8;
const ETAG_KIND: u8 = 0x30;
const ETAG_NONE: u8 = 0;
const ETAG_DIGEST: u8 = 0x10;
const ETAG_PARTS: u8 = 0x20;
const ETAG_TEXT: u8 = 0x30;

/// A row before it is packed.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// Bucket it lies in.
    pub bucket: &'a str,
    /// Its key.
    pub key: &'a str,
    /// Size in bytes, if known.
    pub size: Option<u64>,
    /// ETag, if known.
    pub etag: Option<&'a str>,
    /// Label, if it has one.
    pub label: Option<&'a str>,
    /// Archive and offset, if it is a member of one.
    pub span: Option<(&'a str, u64)>,
}

impl<'a> From<&'a Entry> for Row<'a> {
    fn from(entry: &'a Entry) -> Self {
        Self {
            bucket: &entry.bucket,
            key: &entry.key,
            size: entry.size,
            etag: entry.etag.as_deref(),
            label: entry.label.as_deref(),
            span: entry.span.as_ref().map(|span| (&*span.archive, span.offset)),
        }
    }
}

impl Row<'_> {
    /// Appends the row.
    pub(super) fn encode(&self, names: &mut Names, bytes: &mut Vec<u8>) {
        let bucket = names.number(self.bucket);
        let etag = Etag::of(self.etag);
        let label = self.label.filter(|label| !label.is_empty());
        let flag = |set: bool, flag: u8| if set { flag } else { 0 };
        bytes.push(
            flag(self.size.is_some(), HAS_SIZE)
                | flag(bucket != 0, HAS_BUCKET)
                | flag(label.is_some(), HAS_LABEL)
                | flag(self.span.is_some(), HAS_SPAN)
                | etag.kind(),
        );
        put_text(bytes, self.key);
        if bucket != 0 {
            put_number(bytes, u64::from(bucket));
        }
        if let Some(size) = self.size {
            put_number(bytes, size);
        }
        match etag {
            Etag::None => {}
            Etag::Digest(digest, parts) => {
                bytes.extend_from_slice(&digest);
                if let Some(parts) = parts {
                    put_number(bytes, u64::from(parts));
                }
            }
            Etag::Text(text) => put_text(bytes, text),
        }
        if let Some(label) = label {
            put_text(bytes, label);
        }
        if let Some((archive, offset)) = self.span {
            put_number(bytes, u64::from(names.number(archive)));
            put_number(bytes, offset);
        }
    }

    /// Appends the bytes that the digest of a catalogue covers. They are the same for equal rows, wherever these are
    /// stored: each part in turn, or a zero if the row does not have it.
    pub(super) fn canonical(&self, bytes: &mut Vec<u8>) {
        put_text(bytes, self.bucket);
        put_text(bytes, self.key);
        // No size is the largest number, which no object has.
        put_number(bytes, self.size.map_or(0, |size| size.wrapping_add(1)));
        for text in [self.etag, self.label.filter(|label| !label.is_empty()), self.span.map(|(archive, _)| archive)] {
            match text {
                None => put_number(bytes, 0),
                Some(text) => {
                    put_number(bytes, text.len() as u64 + 1);
                    bytes.extend_from_slice(text.as_bytes());
                }
            }
        }
        put_number(bytes, self.span.map_or(0, |(_, offset)| offset));
    }
}

/// Reads a row; `None` if these bytes are not one.
pub(super) fn decode(mut bytes: &[u8], names: &[Arc<str>]) -> Option<Entry> {
    let bytes = &mut bytes;
    let (flags, rest) = bytes.split_first()?;
    *bytes = rest;
    let key = text(bytes)?.into();
    let bucket = if flags & HAS_BUCKET != 0 { number(bytes)? } else { 0 };
    let size = if flags & HAS_SIZE != 0 { Some(number(bytes)?) } else { None };
    let etag = match flags & ETAG_KIND {
        ETAG_NONE => None,
        ETAG_TEXT => Some(text(bytes)?.into()),
        kind => {
            let (digest, rest) = bytes.split_first_chunk::<16>()?;
            *bytes = rest;
            let parts = if kind == ETAG_PARTS { Some(number(bytes)?) } else { None };
            Some(quoted(*digest, parts))
        }
    };
    let label = if flags & HAS_LABEL != 0 { Some(text(bytes)?.into()) } else { None };
    let span = if flags & HAS_SPAN != 0 {
        let archive = names.get(usize::try_from(number(bytes)?).ok()?)?;
        Some(Span { archive: Arc::clone(archive), offset: number(bytes)? })
    } else {
        None
    };
    let bucket = Arc::clone(names.get(usize::try_from(bucket).ok()?)?);
    bytes.is_empty().then_some(Entry { bucket, key, size, etag, label, span })
}

enum Etag<'a> {
    None,
    Digest([u8; 16], Option<u32>),
    Text(&'a str),
}

impl<'a> Etag<'a> {
    fn of(text: Option<&'a str>) -> Self {
        match text {
            None => Self::None,
            Some(text) => Self::packed(text).unwrap_or(Self::Text(text)),
        }
    }

    /// Only a form that comes back letter by letter is packed.
    fn packed(text: &str) -> Option<Self> {
        let inner = text.strip_prefix('"')?.strip_suffix('"')?.as_bytes();
        let (digits, rest) = inner.split_at_checked(32)?;
        let mut digest = [0; 16];
        for (byte, pair) in digest.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = hex(pair[0])? << 4 | hex(pair[1])?;
        }
        let parts = match rest {
            [] => None,
            [b'-', parts @ ..] => {
                let number: u32 = std::str::from_utf8(parts).ok()?.parse().ok()?;
                (number.to_string().as_bytes() == parts).then_some(Some(number))?
            }
            _ => return None,
        };
        Some(Self::Digest(digest, parts))
    }

    fn kind(&self) -> u8 {
        match self {
            Self::None => ETAG_NONE,
            Self::Digest(_, None) => ETAG_DIGEST,
            Self::Digest(_, Some(_)) => ETAG_PARTS,
            Self::Text(_) => ETAG_TEXT,
        }
    }
}

fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

fn quoted(digest: [u8; 16], parts: Option<u64>) -> Box<str> {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let mut text = String::with_capacity(40);
    text.push('"');
    for byte in digest {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    if let Some(parts) = parts {
        text.push('-');
        text.push_str(&parts.to_string());
    }
    text.push('"');
    text.into()
}

pub(super) fn put_number(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

pub(super) fn put_text(bytes: &mut Vec<u8>, text: &str) {
    put_number(bytes, text.len() as u64);
    bytes.extend_from_slice(text.as_bytes());
}

pub(super) fn number(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

pub(super) fn text<'a>(bytes: &mut &'a [u8]) -> Option<&'a str> {
    let length = usize::try_from(number(bytes)?).ok()?;
    let (text, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    std::str::from_utf8(text).ok()
}
