//! The headers of a response, as slices of its head. There are about a dozen; filling a map would cost more than it
//! saves.

use std::{fmt, ops::Range};

use http::HeaderName;

/// Headers of a response, in the order in which they came.
#[derive(Clone, Default)]
pub struct Headers {
    head: Box<[u8]>,
    fields: Vec<Field>,
}

/// The places of a name and its value in the head.
#[derive(Clone)]
struct Field {
    name: Range<usize>,
    value: Range<usize>,
}

impl Headers {
    /// The headers of `head`, which a parser has checked and divided into slices.
    pub(crate) fn new(head: &[u8], fields: &[httparse::Header<'_>]) -> Self {
        let place = |part: &[u8]| {
            let start = part.as_ptr() as usize - head.as_ptr() as usize;
            start..start + part.len()
        };
        let fields = fields
            .iter()
            .map(|field| Field { name: place(field.name.as_bytes()), value: place(field.value) })
            .collect();
        Self { head: head.into(), fields }
    }

    /// The first value of a name.
    pub fn get(&self, name: &HeaderName) -> Option<&[u8]> {
        self.all(name).next()
    }

    /// The first value of a name as text, if it is readable.
    pub fn text(&self, name: &HeaderName) -> Option<&str> {
        text_of(self.get(name)?)
    }

    /// All values of a name.
    pub fn all(&self, name: &HeaderName) -> impl DoubleEndedIterator<Item = &[u8]> {
        let name = name.as_str().as_bytes();
        let fields = self.fields.iter().filter(move |field| {
            // Most names differ in their length already.
            field.name.len() == name.len() && self.head[field.name.clone()].eq_ignore_ascii_case(name)
        });
        fields.map(|field| &self.head[field.value.clone()])
    }

    /// All names, as they were sent, and values.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&[u8], &[u8])> {
        self.fields.iter().map(|field| (&self.head[field.name.clone()], &self.head[field.value.clone()]))
    }
}

/// A value as text: ASCII, since what other bytes mean is not defined.
pub(crate) fn text_of(value: &[u8]) -> Option<&str> {
    std::str::from_utf8(value).ok().filter(|text| text.is_ascii())
}

impl fmt::Debug for Headers {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |(name, value)| (String::from_utf8_lossy(name), String::from_utf8_lossy(value));
        formatter.debug_map().entries(self.iter().map(text)).finish()
    }
}
