//! Writing: appends elements to a text, and escapes their content.

use std::fmt::Write;

use crate::canonical::push_encoded_query;

/// The first line of every body.
pub(super) const DECLARATION: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n";

/// A body that is being written.
#[derive(Debug)]
pub(super) struct Writer {
    out: String,
}

impl Writer {
    /// Starts a document with its declaration and root element.
    pub(super) fn document(root: &str) -> Self {
        let mut writer = Self { out: String::from(DECLARATION) };
        writer.open(root);
        writer
    }

    /// Ends the document.
    pub(super) fn finish(mut self, root: &str) -> String {
        self.close(root);
        self.out
    }

    pub(super) fn reserve(&mut self, bytes: usize) {
        self.out.reserve(bytes);
    }

    /// The text written so far.
    pub(super) fn written(&self) -> &str {
        &self.out
    }

    /// Writes markup as it is.
    pub(super) fn markup(&mut self, markup: &str) {
        self.out.push_str(markup);
    }

    /// Writes text percent-encoded into the open element. That leaves nothing to escape.
    pub(super) fn encoded(&mut self, text: &str) {
        push_encoded_query(&mut self.out, text);
    }

    /// Writes a number into the open element.
    pub(super) fn number(&mut self, value: u64) {
        self.out.push_str(itoa::Buffer::new().format(value));
    }

    pub(super) fn open(&mut self, name: &str) {
        self.out.push('<');
        self.out.push_str(name);
        self.out.push('>');
    }

    pub(super) fn close(&mut self, name: &str) {
        self.out.push_str("</");
        self.out.push_str(name);
        self.out.push('>');
    }

    /// Writes text into the open element.
    pub(super) fn text(&mut self, text: &str) {
        push_escaped(&mut self.out, text);
    }

    /// Writes an element that holds text.
    pub(super) fn leaf(&mut self, name: &str, text: &str) {
        self.open(name);
        push_escaped(&mut self.out, text);
        self.close(name);
    }

    pub(super) fn leaf_option(&mut self, name: &str, text: Option<&str>) {
        if let Some(text) = text {
            self.leaf(name, text);
        }
    }

    /// Writes an element that holds a number or truth value, in which nothing needs escaping.
    pub(super) fn plain(&mut self, name: &str, value: impl std::fmt::Display) {
        // Writing into a String cannot fail.
        let _ = write!(self.out, "<{name}>{value}</{name}>");
    }
}

/// Quotes need no escape outside attributes, and OSS does not escape those of entity tags either.
fn push_escaped(out: &mut String, text: &str) {
    // Looking at every byte, without an early end, takes several at a time; few texts have anything to escape.
    if text.bytes().fold(0, |found, byte| found | u8::from(is_special(byte))) == 0 {
        out.push_str(text);
        return;
    }
    let mut rest = text;
    while let Some(at) = rest.bytes().position(is_special) {
        let (before, special) = rest.split_at(at);
        out.push_str(before);
        let mut characters = special.chars();
        match characters.next() {
            Some('&') => out.push_str("&amp;"),
            Some('<') => out.push_str("&lt;"),
            Some('>') => out.push_str("&gt;"),
            Some(control) => push_control(out, control),
            None => {}
        }
        rest = characters.as_str();
    }
    out.push_str(rest);
}

/// Writes a control character as a reference. A bare carriage return would be read back as a line feed.
pub(super) fn push_control(out: &mut String, control: char) {
    // Writing into a String cannot fail.
    let _ = write!(out, "&#{};", u32::from(control));
}

/// All of these are ASCII, so they cut no character.
fn is_special(byte: u8) -> bool {
    matches!(byte, b'&' | b'<' | b'>') || byte.is_ascii_control()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_characters_are_escaped() {
        let mut out = String::new();
        push_escaped(&mut out, "a<b>&\"c'\r\n\u{1}数");
        assert_eq!(out, "a&lt;b&gt;&amp;\"c'&#13;&#10;&#1;数");
    }

    #[test]
    fn a_document_is_one_line_after_its_declaration() {
        let mut writer = Writer::document("R");
        writer.leaf("T", "x");
        writer.plain("N", 3);
        writer.leaf_option("O", None);
        assert_eq!(writer.finish("R"), "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<R><T>x</T><N>3</N></R>");
    }
}
