//! The XML bodies of OSS, read and written.
//!
//! Readers ignore namespaces, unknown elements and the order of elements. Elements that a program needs (a key, a size,
//! whether a listing is truncated) are required; all others may be absent. Writers produce one line without a namespace,
//! because the parsers of the official SDKs look up elements by their bare names.
//!
//! Most bodies are a [`Document`]: a struct with serde's derives. Bodies with encoded keys, or with elements that nobody
//! knows beforehand, use the cursor and the writer directly, and so do listings, for speed.

pub mod bucket;
pub mod configuration;
pub mod copy;
mod cursor;
pub mod delete;
mod document;
pub mod error;
pub mod list;
pub mod listed;
pub mod multipart;
pub mod restore;
pub mod tagging;
pub mod versions;
mod writer;

pub use document::Document;

use cursor::Cursor;
use document::{only_child, present, timestamp};
use serde::{Deserialize, Serialize};
use writer::Writer;

use crate::canonical::decode;

/// Why a body could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum XmlError {
    /// The bytes are not UTF-8.
    #[error("the body is not UTF-8")]
    NotUtf8,
    /// The body is not well-formed XML.
    #[error("the body is not well-formed XML: {reason}")]
    Malformed {
        /// The reason.
        reason: String,
    },
    /// The body ends before its root element ends.
    #[error("the body ends before its last element does")]
    Truncated,
    /// The root element is the one of another document.
    #[error("the body is <{found}>, not <{expected}>")]
    UnexpectedRoot {
        /// The expected root element.
        expected: &'static str,
        /// The root element of the body.
        found: String,
    },
    /// A required element is absent.
    #[error("<{element}> is missing")]
    Missing {
        /// The element.
        element: &'static str,
    },
    /// The text of an element has the wrong form.
    #[error("<{element}> holds {value:?}, which is not {expected}")]
    Invalid {
        /// The element.
        element: &'static str,
        /// Its text.
        value: String,
        /// The form that it should have.
        expected: &'static str,
    },
}

/// The owner of a bucket or object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Owner {
    /// The account's id.
    #[serde(rename = "ID")]
    pub id: String,
    /// The account's name; OSS repeats the id.
    pub display_name: String,
}

impl Owner {
    fn read(cursor: &mut Cursor<'_>) -> Result<Self, XmlError> {
        let mut owner = Self::default();
        while let Some(name) = cursor.child()? {
            match name.local() {
                "ID" => owner.id = cursor.text()?,
                "DisplayName" => owner.display_name = cursor.text()?,
                _ => cursor.skip()?,
            }
        }
        Ok(owner)
    }

    fn write(&self, writer: &mut Writer) {
        writer.open("Owner");
        writer.leaf("ID", &self.id);
        writer.leaf("DisplayName", &self.display_name);
        writer.close("Owner");
    }
}

/// How the keys in a body are encoded: as `EncodingType` says.
///
/// XML 1.0 has no way to write most control characters, so clients ask for `url` and keys are percent-encoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EncodingType {
    /// As they are.
    #[default]
    None,
    /// Percent-encoded.
    Url,
}

impl EncodingType {
    /// Returns the encoding that the value of `encoding-type` names, `None` when there is no such encoding.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "" => Some(Self::None),
            "url" => Some(Self::Url),
            _ => None,
        }
    }

    fn read(cursor: &mut Cursor<'_>) -> Result<Self, XmlError> {
        let text = cursor.text()?;
        Self::parse(&text).ok_or(XmlError::Invalid { element: "EncodingType", value: text, expected: "url" })
    }

    /// Writes the element that announces the encoding, if keys are encoded.
    fn write(self, writer: &mut Writer) {
        if self == Self::Url {
            writer.leaf("EncodingType", "url");
        }
    }

    /// Writes an element whose text is encoded.
    fn write_leaf(self, writer: &mut Writer, name: &str, text: &str) {
        writer.open(name);
        self.write_text(writer, text);
        writer.close(name);
    }

    /// Writes encoded text into the open element.
    fn write_text(self, writer: &mut Writer, text: &str) {
        match self {
            Self::None => writer.text(text),
            Self::Url => writer.encoded(text),
        }
    }

    fn write_option(self, writer: &mut Writer, name: &str, text: Option<&str>) {
        if let Some(text) = text {
            self.write_leaf(writer, name, text);
        }
    }

    /// Decodes `text` in place. Bodies name their encoding before or after the keys, so this comes last.
    fn decode(self, element: &'static str, text: &mut String) -> Result<(), XmlError> {
        if self == Self::None || !text.contains('%') {
            return Ok(());
        }
        let decoded = decode(text)
            .map_err(|_| XmlError::Invalid { element, value: text.clone(), expected: "percent-encoded UTF-8" })?
            .into_owned();
        *text = decoded;
        Ok(())
    }

    fn decode_option(self, element: &'static str, text: &mut Option<String>) -> Result<(), XmlError> {
        text.as_mut().map_or(Ok(()), |text| self.decode(element, text))
    }
}

/// Each common prefix has an element of its own.
fn read_common_prefix(cursor: &mut Cursor<'_>, prefixes: &mut Vec<String>) -> Result<(), XmlError> {
    while let Some(name) = cursor.child()? {
        match name.local() {
            "Prefix" => prefixes.push(cursor.text()?),
            _ => cursor.skip()?,
        }
    }
    Ok(())
}

fn write_common_prefixes(writer: &mut Writer, encoding: EncodingType, prefixes: &[String]) {
    for prefix in prefixes {
        writer.open("CommonPrefixes");
        encoding.write_leaf(writer, "Prefix", prefix);
        writer.close("CommonPrefixes");
    }
}

/// Returns `None` for an empty text: OSS writes an absent marker, prefix or delimiter as an empty element.
fn non_empty(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}
