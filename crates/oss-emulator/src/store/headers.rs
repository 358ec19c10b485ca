//! The headers that objects carry, in little room: millions of objects with the same few headers share one list.

use std::borrow::Borrow;
use std::collections::HashSet;
use std::ops::Deref;
use std::slice;
use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use parking_lot::Mutex;

/// One header.
pub(crate) type Header = (HeaderName, HeaderValue);

/// A list of headers. Clones share it until one of them changes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Headers(Arc<Vec<Header>>);

impl Headers {
    pub(crate) fn push(&mut self, header: Header) {
        Arc::make_mut(&mut self.0).push(header);
    }

    pub(crate) fn extend(&mut self, headers: impl IntoIterator<Item = Header>) {
        Arc::make_mut(&mut self.0).extend(headers);
    }

    /// The same with values of their own. Those of a request are slices of the buffer it was read into, some kilobytes that
    /// would stay for as long as the object.
    fn detached(&self) -> Self {
        let own = |(name, value): &Header| {
            let value = HeaderValue::from_bytes(value.as_bytes()).unwrap_or_else(|_| value.clone());
            (name.clone(), value)
        };
        self.iter().map(own).collect()
    }
}

impl Deref for Headers {
    type Target = [Header];

    fn deref(&self) -> &[Header] {
        &self.0
    }
}

impl Borrow<[Header]> for Headers {
    fn borrow(&self) -> &[Header] {
        self
    }
}

impl FromIterator<Header> for Headers {
    fn from_iter<I: IntoIterator<Item = Header>>(headers: I) -> Self {
        Self(Arc::new(headers.into_iter().collect()))
    }
}

impl<'a> IntoIterator for &'a Headers {
    type Item = &'a Header;
    type IntoIter = slice::Iter<'a, Header>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Lists remembered. A data set has a handful of content types; where every object has metadata of its own nothing can be
/// shared, and what is remembered in vain should stay small.
const REMEMBERED: usize = 256;

/// The lists seen lately.
#[derive(Debug, Default)]
pub(crate) struct SharedHeaders(Mutex<HashSet<Headers>>);

impl SharedHeaders {
    /// An equal list, shared with earlier callers if possible.
    pub(crate) fn share(&self, headers: &Headers) -> Headers {
        let mut known = self.0.lock();
        if let Some(found) = known.get(&**headers) {
            return found.clone();
        }
        let own = headers.detached();
        if known.len() == REMEMBERED {
            known.clear();
        }
        known.insert(own.clone());
        own
    }
}

#[cfg(test)]
mod tests {
    use http::header::CONTENT_TYPE;

    use super::*;

    fn headers(kind: &str) -> Headers {
        [(CONTENT_TYPE, HeaderValue::from_str(kind).unwrap())].into_iter().collect()
    }

    #[test]
    fn equal_lists_are_one_and_a_change_parts_them() {
        let shared = SharedHeaders::default();
        let first = shared.share(&headers("image/jpeg"));
        let mut second = shared.share(&headers("image/jpeg"));
        let third = shared.share(&headers("image/png"));
        assert!(Arc::ptr_eq(&first.0, &second.0));
        assert!(!Arc::ptr_eq(&first.0, &third.0));
        second.push((HeaderName::from_static("x-oss-meta-a"), HeaderValue::from_static("1")));
        assert_eq!(first, headers("image/jpeg"));
        assert_eq!((second.len(), third), (2, headers("image/png")));
    }

    #[test]
    fn few_are_remembered() {
        let shared = SharedHeaders::default();
        for number in 0..=REMEMBERED {
            assert_eq!(shared.share(&headers(&number.to_string())), headers(&number.to_string()));
        }
        assert_eq!(shared.0.lock().len(), 1);
    }
}
