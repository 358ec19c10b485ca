//! Answers in the format of gzip. The service packs texts for a client that accepts it; here the bytes are wrapped and not made
//! smaller, since what a client notices is the format.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header as standard};

use crate::response::Response;

/// Smallest object that is packed.
const SMALLEST: u64 = 1024;

/// The types that are packed.
const TYPES: [&str; 12] = [
    "application/javascript",
    "application/json",
    "application/rss+xml",
    "application/x-javascript",
    "application/xml",
    "text/cache-manifest",
    "text/css",
    "text/html",
    "text/javascript",
    "text/json",
    "text/plain",
    "text/xml",
];

/// The first bytes: the magic number, deflate, no name and no time.
const HEAD: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];

/// The most bytes that a stored block holds.
const LARGEST_BLOCK: usize = u16::MAX as usize;

/// Packs the answer to a read of a whole object if the client accepts it and the type of the object is a text. Nothing
/// identifies what is sent then: the ETag is that of the object.
pub(crate) fn pack_if_accepted(response: &mut Response, sent: &HeaderMap) {
    let Some(accepted) = sent.get(standard::ACCEPT_ENCODING) else { return };
    // What rules out most requests comes first.
    if response.body().len() < SMALLEST || !accepts_gzip(accepted) {
        return;
    }
    let headers = response.headers();
    let is_text = headers.get(standard::CONTENT_TYPE).is_some_and(|value| {
        let kind = value.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        TYPES.iter().any(|known| known.as_bytes().eq_ignore_ascii_case(kind))
    });
    if !is_text || headers.contains_key(standard::CONTENT_ENCODING) {
        return;
    }
    response.body_mut().pack();
    response.headers_mut().remove(standard::ETAG);
    response.headers_mut().insert(standard::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
}

fn accepts_gzip(accepted: &HeaderValue) -> bool {
    if !accepted.as_bytes().windows(4).any(|name| name.eq_ignore_ascii_case(b"gzip")) {
        return false;
    }
    accepted.to_str().unwrap_or_default().split(',').any(|entry| {
        let (name, quality) = entry.split_once(';').unwrap_or((entry, ""));
        let quality = quality.trim().strip_prefix("q=").and_then(|text| text.trim().parse::<f32>().ok());
        name.trim().eq_ignore_ascii_case("gzip") && quality != Some(0.0)
    })
}

/// A stream of bytes on its way into the format.
#[derive(Debug, Default)]
pub(crate) struct Gzip {
    crc32: u32,
    size: u32,
    begun: bool,
    ended: bool,
}

impl Gzip {
    /// The next bytes, packed.
    pub(crate) fn pack(&mut self, bytes: &[u8]) -> Bytes {
        let blocks = bytes.chunks(LARGEST_BLOCK);
        let mut packed = Vec::with_capacity(HEAD.len() + bytes.len() + blocks.len() * 5);
        if !std::mem::replace(&mut self.begun, true) {
            packed.extend_from_slice(&HEAD);
        }
        for block in blocks {
            put_block(&mut packed, false, block);
        }
        self.crc32 = bytes.iter().fold(!self.crc32, |crc, byte| CRC32[usize::from(crc as u8 ^ byte)] ^ (crc >> 8));
        self.crc32 = !self.crc32;
        // The format counts modulo 2^32.
        self.size = self.size.wrapping_add(bytes.len() as u32);
        packed.into()
    }

    /// The last bytes.
    pub(crate) fn end(&mut self) -> Bytes {
        self.ended = true;
        let mut last = Vec::with_capacity(13);
        put_block(&mut last, true, &[]);
        last.extend_from_slice(&self.crc32.to_le_bytes());
        last.extend_from_slice(&self.size.to_le_bytes());
        last.into()
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended
    }
}

fn put_block(packed: &mut Vec<u8>, last: bool, block: &[u8]) {
    let length = block.len() as u16;
    packed.push(last.into());
    packed.extend_from_slice(&length.to_le_bytes());
    packed.extend_from_slice(&(!length).to_le_bytes());
    packed.extend_from_slice(block);
}

/// The steps of the checksum of gzip for each value of a byte.
const CRC32: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut value = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 { (value >> 1) ^ 0xedb8_8320 } else { value >> 1 };
            bit += 1;
        }
        table[byte] = value;
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_wrapped() {
        let mut gzip = Gzip::default();
        let mut packed = gzip.pack(b"12345").to_vec();
        packed.extend_from_slice(&gzip.pack(b"6789"));
        packed.extend_from_slice(&gzip.end());
        let mut expected = HEAD.to_vec();
        expected.extend_from_slice(b"\x00\x05\x00\xfa\xff12345\x00\x04\x00\xfb\xff6789\x01\x00\x00\xff\xff");
        // The check value of CRC-32, and the size.
        expected.extend_from_slice(b"\x26\x39\xf4\xcb\x09\x00\x00\x00");
        assert_eq!(packed, expected);
    }

    #[test]
    fn a_client_says_what_it_accepts() {
        for (text, accepted) in [
            ("gzip", true),
            ("deflate, GZIP;q=0.5", true),
            ("gzip;q=0", false),
            ("gzip; q=0.0", false),
            ("identity", false),
            ("", false),
        ] {
            assert_eq!(accepts_gzip(&HeaderValue::from_static(text)), accepted, "{text}");
        }
    }
}
