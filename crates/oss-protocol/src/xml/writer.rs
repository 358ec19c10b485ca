//! Writing: elements one after the other into a text, with everything escaped that must be.

use std::fmt::Write;

/// A body in the making.
pub(super) struct Writer {
    out: String,
}

impl Writer {
    /// Starts a document with its declaration and root element.
    pub(super) fn document(root: &str) -> Self {
        let mut writer = Self { out: String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n") };
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
    let mut rest = text;
    while let Some(at) = rest.find(|c: char| matches!(c, '&' | '<' | '>') || c.is_ascii_control()) {
        let (before, special) = rest.split_at(at);
        out.push_str(before);
        let mut characters = special.chars();
        match characters.next() {
            Some('&') => out.push_str("&amp;"),
            Some('<') => out.push_str("&lt;"),
            Some('>') => out.push_str("&gt;"),
            // A bare carriage return would be read back as a line feed.
            Some(control) => {
                let _ = write!(out, "&#{};", u32::from(control));
            }
            None => {}
        }
        rest = characters.as_str();
    }
    out.push_str(rest);
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
