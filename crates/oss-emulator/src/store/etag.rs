//! ETags in little room: most can be computed from checksums that are kept anyway.

use std::fmt;

/// The ETag of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Etag {
    /// The MD5 of the content.
    Md5([u8; 16]),
    /// Made of a CRC64 and a size.
    Fast { crc64: u64, size: u64 },
    /// Any other, with its quotes.
    Text(Box<str>),
}

/// Room for the text of an ETag that is not kept as text.
#[derive(Debug)]
pub(crate) struct EtagDigits([u8; 34]);

impl Default for EtagDigits {
    fn default() -> Self {
        Self([b'"'; 34])
    }
}

impl EtagDigits {
    /// Sets the 32 digits between the quotes. A listing does this for each of its objects.
    fn set(&mut self, bytes: [u8; 16]) -> &str {
        const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
        for (digits, byte) in self.0[1..33].chunks_exact_mut(2).zip(bytes) {
            digits[0] = DIGITS[usize::from(byte >> 4)];
            digits[1] = DIGITS[usize::from(byte & 15)];
        }
        // Digits and quotes are UTF-8.
        str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl Etag {
    /// The text, with quotes and in upper case.
    pub(crate) fn text<'a>(&'a self, digits: &'a mut EtagDigits) -> &'a str {
        match self {
            Self::Md5(md5) => digits.set(*md5),
            Self::Fast { crc64, size } => digits.set((u128::from(*crc64) << 64 | u128::from(*size)).to_be_bytes()),
            Self::Text(text) => text,
        }
    }

    /// The ETag with this text, which stays the same to the letter.
    pub(crate) fn from_text(text: &str, md5: Option<[u8; 16]>) -> Self {
        if let Some(md5) = md5.map(Self::Md5).filter(|etag| etag.to_string() == text) {
            return md5;
        }
        Self::parse_fast(text).filter(|etag| etag.to_string() == text).unwrap_or_else(|| Self::Text(text.into()))
    }

    fn parse_fast(text: &str) -> Option<Self> {
        let digits = text.strip_prefix('"')?.strip_suffix('"')?;
        let (crc64, size) = digits.split_at_checked(16)?;
        Some(Self::Fast { crc64: u64::from_str_radix(crc64, 16).ok()?, size: u64::from_str_radix(size, 16).ok()? })
    }

    pub(crate) fn md5(&self) -> Option<[u8; 16]> {
        match self {
            Self::Md5(md5) => Some(*md5),
            Self::Fast { .. } | Self::Text(_) => None,
        }
    }
}

impl fmt::Display for Etag {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.text(&mut EtagDigits::default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn etags_have_32_digits_in_quotes() {
        let md5 = 0x5EB6_3BBB_E01E_EED0_93CB_22BB_8F5A_CDC3_u128.to_be_bytes();
        assert_eq!(Etag::Md5(md5).to_string(), "\"5EB63BBBE01EEED093CB22BB8F5ACDC3\"");
        assert_eq!(Etag::Fast { crc64: 0xABC, size: 17 }.to_string(), "\"0000000000000ABC0000000000000011\"");
    }

    #[test]
    fn a_text_comes_back_to_the_letter() {
        let md5 = [0x5E; 16];
        for text in [
            "\"5E5E5E5E5E5E5E5E5E5E5E5E5E5E5E5E\"",
            "\"0000000000000ABC0000000000000011\"",
            "\"0000000000000abc0000000000000011\"",
            "\"5EB63BBBE01EEED093CB22BB8F5ACDC3-2\"",
            "\"+000000000000ABC+000000000000011\"",
            "\"ééééééééé\"",
            "",
            "\"",
        ] {
            for md5 in [None, Some(md5)] {
                assert_eq!(Etag::from_text(text, md5).to_string(), text);
            }
        }
        assert_eq!(Etag::from_text("\"5E5E5E5E5E5E5E5E5E5E5E5E5E5E5E5E\"", Some(md5)).md5(), Some(md5));
        assert_eq!(Etag::from_text("\"0000000000000ABC0000000000000011\"", Some(md5)).md5(), None);
    }
}
