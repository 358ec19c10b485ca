//! One page of a listing: its start, the keys that it groups by a delimiter, and the start of the next page.

use std::ops::Bound;
use std::sync::Arc;

use crate::store::{Bucket, Object, Upload, Walk};

/// The selection of a page.
#[derive(Debug, Clone, Copy)]
pub(super) struct Selection<'a> {
    pub(super) prefix: &'a str,
    /// Empty for none.
    pub(super) delimiter: &'a str,
    /// Keys and common prefixes together.
    pub(super) limit: usize,
}

impl Selection<'_> {
    /// The prefix under which a key is grouped, up to and with the first delimiter after the selected prefix.
    fn common_prefix<'k>(&self, key: &'k str) -> Option<&'k str> {
        if self.delimiter.is_empty() {
            return None;
        }
        let rest = key.strip_prefix(self.prefix)?;
        let end = rest.find(self.delimiter)? + self.delimiter.len();
        Some(&key[..self.prefix.len() + end])
    }

    /// The start of the page after `after`. A common prefix stands for all keys below it. `None` if nothing can follow.
    fn start(&self, after: &str) -> Option<Bound<String>> {
        if after < self.prefix {
            return Some(Bound::Included(self.prefix.to_owned()));
        }
        if after.is_empty() {
            return Some(Bound::Unbounded);
        }
        if self.common_prefix(after) == Some(after) {
            return successor(after).map(Bound::Included);
        }
        Some(Bound::Excluded(after.to_owned()))
    }
}

/// A page of objects.
#[derive(Debug, Default)]
pub(super) struct ObjectPage {
    pub(super) objects: Vec<(Arc<str>, Arc<Object>)>,
    pub(super) prefixes: Vec<String>,
    /// The last key or common prefix of the page, if more follow.
    pub(super) next: Option<String>,
}

impl ObjectPage {
    /// The last key or common prefix so far. Both come in order, so it is the greater.
    fn last(&self) -> Option<&str> {
        let object = self.objects.last().map(|(key, _)| key.as_ref());
        object.max(self.prefixes.last().map(String::as_str))
    }
}

/// Reads the page of objects after `after`, which is empty for the first.
pub(super) fn objects(bucket: &Bucket, selection: Selection<'_>, after: &str) -> ObjectPage {
    let mut page = ObjectPage::default();
    let Some(start) = selection.start(after) else { return page };
    page.objects.reserve(selection.limit);
    bucket.walk_objects(start, |key, object| {
        if !key.starts_with(selection.prefix) {
            return Walk::Stop;
        }
        if page.objects.len() + page.prefixes.len() == selection.limit {
            page.next = page.last().map(str::to_owned);
            return Walk::Stop;
        }
        let Some(common) = selection.common_prefix(key) else {
            page.objects.push((Arc::clone(key), Arc::clone(object)));
            return Walk::Next;
        };
        page.prefixes.push(common.to_owned());
        successor(common).map_or(Walk::Stop, Walk::Seek)
    });
    page
}

/// A page of uploads.
#[derive(Debug, Default)]
pub(super) struct UploadPage {
    pub(super) uploads: Vec<Arc<Upload>>,
    pub(super) prefixes: Vec<String>,
    /// The last key and upload, or the last common prefix; empty for a page without entries.
    pub(super) last: (String, String),
    /// Whether more follow.
    pub(super) is_truncated: bool,
}

/// Reads the page of uploads after an upload of a key, or after all uploads of the key when `id` is empty.
pub(super) fn uploads(bucket: &Bucket, selection: Selection<'_>, key: &str, id: &str) -> UploadPage {
    let mut page = UploadPage::default();
    let Some(start) = selection.start(key) else { return page };
    let start = match start {
        Bound::Unbounded => Bound::Unbounded,
        Bound::Included(key) => Bound::Included((Arc::from(key), String::new())),
        // The least key after `key` is the key and a NUL.
        Bound::Excluded(key) if id.is_empty() => Bound::Included((Arc::from(key + "\0"), String::new())),
        Bound::Excluded(key) => Bound::Excluded((Arc::from(key), id.to_owned())),
    };
    bucket.walk_uploads(start, |upload| {
        if !upload.key.starts_with(selection.prefix) {
            return Walk::Stop;
        }
        if page.uploads.len() + page.prefixes.len() == selection.limit {
            page.is_truncated = true;
            return Walk::Stop;
        }
        let Some(common) = selection.common_prefix(&upload.key) else {
            page.last = (upload.key.as_ref().to_owned(), upload.id.clone());
            page.uploads.push(Arc::clone(upload));
            return Walk::Next;
        };
        page.last = (common.to_owned(), String::new());
        page.prefixes.push(common.to_owned());
        successor(common).map_or(Walk::Stop, Walk::Seek)
    });
    page
}

/// The least text that is greater than every text that starts with `prefix`. UTF-8 sorts as code points do.
fn successor(prefix: &str) -> Option<String> {
    let mut text = prefix.to_owned();
    while let Some(last) = text.pop() {
        let next = match last {
            char::MAX => continue,
            '\u{D7FF}' => '\u{E000}',
            other => char::from_u32(u32::from(other) + 1)?,
        };
        text.push(next);
        return Some(text);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn successors_pass_every_extension() {
        assert_eq!(successor("a/").as_deref(), Some("a0"));
        assert_eq!(successor("\u{D7FF}").as_deref(), Some("\u{E000}"));
        assert_eq!(successor("a\u{10FFFF}").as_deref(), Some("b"));
        assert_eq!(successor("\u{10FFFF}"), None);
        assert_eq!(successor(""), None);
        assert!("数/\u{10FFFF}\u{10FFFF}" < successor("数/").unwrap().as_str());
    }

    #[test]
    fn a_page_starts_after_its_marker() {
        let selection = Selection { prefix: "p/", delimiter: "/", limit: 10 };
        assert_eq!(selection.start(""), Some(Bound::Included("p/".to_owned())));
        assert_eq!(selection.start("a"), Some(Bound::Included("p/".to_owned())));
        assert_eq!(selection.start("p/x"), Some(Bound::Excluded("p/x".to_owned())));
        assert_eq!(selection.start("p/x/"), Some(Bound::Included("p/x0".to_owned())));
        assert_eq!(selection.start("p/x/y"), Some(Bound::Excluded("p/x/y".to_owned())));
        let all = Selection { prefix: "", delimiter: "", limit: 10 };
        assert_eq!(all.start(""), Some(Bound::Unbounded));
        assert_eq!(all.start("a/"), Some(Bound::Excluded("a/".to_owned())));
    }
}
