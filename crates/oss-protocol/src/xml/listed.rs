//! A packed page of a listing: only the fields that are needed for millions of objects.

use std::{borrow::Cow, time::SystemTime};

use super::{Cursor, EncodingType, XmlError, cursor::number, list::ROOT, non_empty};
use crate::{canonical::decode, time::parse_xml_timestamp};

/// The smallest size of one `Contents` element in XML, so that one allocation is enough for the rows of a page.
const SHORTEST_CONTENTS: usize = 128;

/// Keys, sizes and entity tags of one page of `ListObjectsV2`, in one piece of memory.
///
/// [`ListObjectsV2Result`](super::list::ListObjectsV2Result) holds everything that the answer says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListedObjects {
    /// Keys and entity tags, one after the other.
    text: String,
    rows: Vec<Row>,
    details: Option<Details>,
    /// The token of the next page; absent on the last page.
    pub continuation: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Row {
    key_end: u32,
    etag_end: u32,
    size: u64,
}

/// What a program asks for that shows a listing, and a dataset does not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Details {
    /// When each object was last written, and the number of its kind.
    rows: Vec<(SystemTime, u32)>,
    /// Types with storage classes: few, whatever the number of objects.
    kinds: Vec<(String, String)>,
}

impl Details {
    fn push(&mut self, modified: SystemTime, object_type: &str, storage_class: &str) {
        let known = self.kinds.iter().rposition(|(kind, class)| kind == object_type && class == storage_class);
        let kind = known.unwrap_or_else(|| {
            self.kinds.push((object_type.to_owned(), storage_class.to_owned()));
            self.kinds.len() - 1
        });
        self.rows.push((modified, kind as u32));
    }
}

/// What a page with details says of one object besides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObjectDetails<'a> {
    /// When it was last written.
    pub last_modified: SystemTime,
    /// `Normal`, `Multipart`, `Appendable` or `Symlink`.
    pub object_type: &'a str,
    /// The storage class.
    pub storage_class: &'a str,
}

/// One object of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListedObject<'a> {
    /// The key.
    pub key: &'a str,
    /// The size in bytes.
    pub size: u64,
    /// The entity tag, with its quotes; empty if the answer has none.
    pub etag: &'a str,
}

impl ListedObjects {
    /// Reads a body.
    pub fn parse(body: &[u8]) -> Result<Self, XmlError> {
        Self::read(body, None)
    }

    /// Reads a body, with what [`ListedObjects::details`] returns.
    pub fn parse_detailed(body: &[u8]) -> Result<Self, XmlError> {
        Self::read(body, Some(Details::default()))
    }

    fn read(body: &[u8], details: Option<Details>) -> Result<Self, XmlError> {
        if u32::try_from(body.len()).is_err() {
            return Err(XmlError::Malformed { reason: "it is longer than 4 GiB".to_owned() });
        }
        let mut cursor = Cursor::open(body, ROOT)?;
        let mut page = Self {
            text: String::with_capacity(body.len() / 2),
            rows: Vec::with_capacity(body.len() / SHORTEST_CONTENTS),
            details,
            continuation: None,
        };
        let (mut is_truncated, mut encoding, mut announced_late) = (None, EncodingType::None, false);
        while let Some(name) = cursor.child()? {
            match name.local() {
                "Contents" => page.read_object(&mut cursor, encoding)?,
                "EncodingType" => {
                    announced_late |= encoding == EncodingType::None && !page.is_empty();
                    encoding = EncodingType::read(&mut cursor)?;
                }
                "IsTruncated" => is_truncated = Some(cursor.boolean("IsTruncated")?),
                "NextContinuationToken" => page.continuation = non_empty(cursor.text()?),
                _ => cursor.skip()?,
            }
        }
        encoding.decode_option("NextContinuationToken", &mut page.continuation)?;
        match is_truncated.ok_or(XmlError::Missing { element: "IsTruncated" })? {
            true if page.continuation.is_none() => {
                return Err(XmlError::Missing { element: "NextContinuationToken" });
            }
            true => {}
            false => page.continuation = None,
        }
        if encoding == EncodingType::Url && announced_late { page.decoded() } else { Ok(page) }
    }

    fn read_object(&mut self, cursor: &mut Cursor<'_>, encoding: EncodingType) -> Result<(), XmlError> {
        let (mut key, mut size, mut etag) = (None, None, None);
        let (mut modified, mut object_type, mut storage_class) = (None, Cow::Borrowed(""), Cow::Borrowed(""));
        let detailed = self.details.is_some();
        loop {
            cursor.plain_children(|name, text| {
                match name {
                    "Key" => key = Some(Cow::Borrowed(text)),
                    "Size" => size = Some(number(text, "Size")?),
                    "ETag" => etag = Some(Cow::Borrowed(text)),
                    "LastModified" if detailed => modified = parse_xml_timestamp(text.trim()).ok(),
                    "Type" if detailed => object_type = Cow::Borrowed(text),
                    "StorageClass" if detailed => storage_class = Cow::Borrowed(text),
                    _ => {}
                }
                Ok(())
            })?;
            let Some(name) = cursor.child()? else { break };
            match name.local() {
                "Key" => key = Some(cursor.borrowed_text()?),
                "Size" => size = Some(cursor.number("Size")?),
                "ETag" => etag = Some(cursor.borrowed_text()?),
                "LastModified" if detailed => modified = Some(cursor.time("LastModified")?),
                "Type" if detailed => object_type = cursor.borrowed_text()?,
                "StorageClass" if detailed => storage_class = cursor.borrowed_text()?,
                _ => cursor.skip()?,
            }
        }
        if let Some(details) = &mut self.details {
            let modified = modified.ok_or(XmlError::Missing { element: "LastModified" })?;
            details.push(modified, &object_type, &storage_class);
        }
        let key = key.ok_or(XmlError::Missing { element: "Key" })?;
        let key = if encoding == EncodingType::Url { decoded(&key)? } else { key };
        self.push(&key, size.ok_or(XmlError::Missing { element: "Size" })?, etag.as_deref().unwrap_or_default());
        Ok(())
    }

    /// Adds an object, without details.
    pub fn push(&mut self, key: &str, size: u64, etag: &str) {
        self.text.push_str(key);
        let key_end = self.text.len() as u32;
        self.text.push_str(etag);
        self.rows.push(Row { key_end, etag_end: self.text.len() as u32, size });
    }

    /// Decodes the keys, for a body that names the encoding after them.
    fn decoded(self) -> Result<Self, XmlError> {
        let mut page = Self {
            text: String::with_capacity(self.text.len()),
            rows: Vec::with_capacity(self.rows.len()),
            details: self.details.clone(),
            continuation: self.continuation.clone(),
        };
        for object in self.iter() {
            page.push(&decoded(object.key)?, object.size, object.etag);
        }
        Ok(page)
    }

    /// The number of objects.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether the page names no object.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The object at `index`, `None` past the end.
    pub fn get(&self, index: usize) -> Option<ListedObject<'_>> {
        let row = *self.rows.get(index)?;
        let start = index.checked_sub(1).map_or(0, |before| self.rows[before].etag_end);
        Some(ListedObject {
            key: &self.text[start as usize..row.key_end as usize],
            size: row.size,
            etag: &self.text[row.key_end as usize..row.etag_end as usize],
        })
    }

    /// What the page says besides of the object at `index`: `None` past the end, and of a page without details.
    pub fn details(&self, index: usize) -> Option<ObjectDetails<'_>> {
        let details = self.details.as_ref()?;
        let (last_modified, kind) = *details.rows.get(index)?;
        let (object_type, storage_class) = details.kinds.get(kind as usize)?;
        Some(ObjectDetails { last_modified, object_type, storage_class })
    }

    /// The last object.
    pub fn last(&self) -> Option<ListedObject<'_>> {
        self.get(self.len().checked_sub(1)?)
    }

    /// The objects in their order.
    pub fn iter(&self) -> impl Iterator<Item = ListedObject<'_>> {
        (0..self.len()).filter_map(|index| self.get(index))
    }

    /// Keeps only the first `count` objects.
    pub fn truncate(&mut self, count: usize) {
        self.rows.truncate(count);
        if let Some(details) = &mut self.details {
            details.rows.truncate(count);
        }
        self.text.truncate(self.rows.last().map_or(0, |row| row.etag_end as usize));
    }

    /// The memory that the page takes, in bytes.
    pub fn memory(&self) -> usize {
        let details = self.details.as_ref().map_or(0, |details| details.rows.capacity());
        self.text.capacity() + self.rows.capacity() * size_of::<Row>() + details * size_of::<(SystemTime, u32)>()
    }
}

fn decoded(key: &str) -> Result<Cow<'_, str>, XmlError> {
    decode(key).map_err(|_| XmlError::Invalid {
        element: "Key",
        value: key.to_owned(),
        expected: "percent-encoded UTF-8",
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xml::list::{ListObjectsV2Result, ObjectSummary};

    fn summary(key: &str, size: u64) -> ObjectSummary {
        ObjectSummary {
            key: key.to_owned(),
            size,
            etag: format!("\"{size:032X}\""),
            last_modified: std::time::UNIX_EPOCH,
            object_type: "Normal".to_owned(),
            storage_class: "Standard".to_owned(),
            owner: None,
        }
    }

    fn answer(encoding_type: EncodingType, keys: &[&str], token: Option<&str>) -> ListObjectsV2Result {
        ListObjectsV2Result {
            encoding_type,
            is_truncated: token.is_some(),
            next_continuation_token: token.map(str::to_owned),
            contents: keys.iter().zip(1..).map(|(key, size)| summary(key, size)).collect(),
            ..ListObjectsV2Result::default()
        }
    }

    #[test]
    fn a_page_says_the_same_packed_as_in_full() {
        let keys = ["", "a b/+?&%", "a%2Fb", "c<&>\"'", "数据/\u{10FFFF}", "\u{1}\n"];
        for (encoding, keys) in [(EncodingType::Url, &keys[..]), (EncodingType::None, &keys[..5])] {
            for token in [None, Some("CgJi%Yw--")] {
                let answer = answer(encoding, keys, token);
                let page = ListedObjects::parse(answer.to_xml().as_bytes()).unwrap();
                assert_eq!(page.continuation.as_deref(), token);
                assert_eq!((page.len(), page.is_empty()), (keys.len(), false));
                let rows: Vec<_> = page.iter().map(|row| (row.key, row.size, row.etag)).collect();
                let expected =
                    answer.contents.iter().map(|object| (object.key.as_str(), object.size, object.etag.as_str()));
                assert_eq!(rows, expected.collect::<Vec<_>>());
                assert_eq!(page.get(keys.len()), None);
            }
        }
    }

    #[test]
    fn details_are_those_of_each_object() {
        let mut answer = answer(EncodingType::Url, &["a", "b", "c"], None);
        answer.contents[1].storage_class = "IA".to_owned();
        answer.contents[1].last_modified += std::time::Duration::from_secs(1_700_000_000);
        answer.contents[2].object_type = "Appendable".to_owned();
        let xml = answer.to_xml();
        let different = xml.replace("<Type>", "<Type >").replace("<StorageClass>", "<StorageClass >");
        for xml in [&xml, &different.replace("<LastModified>", "<LastModified >")] {
            let mut page = ListedObjects::parse_detailed(xml.as_bytes()).unwrap();
            for (index, object) in answer.contents.iter().enumerate() {
                let expected = ObjectDetails {
                    last_modified: object.last_modified,
                    object_type: &object.object_type,
                    storage_class: &object.storage_class,
                };
                assert_eq!(page.details(index), Some(expected));
            }
            assert_eq!(page.details(3), None);
            page.truncate(1);
            assert_eq!(page.details(1), None);
        }
        assert_eq!(ListedObjects::parse(xml.as_bytes()).unwrap().details(0), None);
        let missing = xml.replacen("LastModified", "Other", 2);
        assert!(ListedObjects::parse_detailed(missing.as_bytes()).is_err());
    }

    #[test]
    fn it_makes_no_difference_how_elements_are_written() {
        let plain = "<Key>a%26b</Key><ETag>\"E\"</ETag><Size>7</Size><Owner><ID>1</ID></Owner>";
        let contents = [
            plain,
            "<Key >a%26b</Key ><ETag>&quot;E&quot;</ETag><Size>7</Size>",
            "\n  <!-- <Key>x</Key> --><Key><![CDATA[a%26b]]></Key>\n<Owner><Key>x</Key></Owner><ETag>\"E\"</ETag><Size> 7 </Size>",
            "<o:Key xmlns:o='x'>a%<!-- -->26b</o:Key><Size t='>'>7</Size><Nothing/><ETag>&#34;E\"</ETag>",
        ];
        for (before, after) in [("<EncodingType>url</EncodingType>", ""), ("", "<EncodingType>url</EncodingType>")] {
            for different in contents {
                let body = format!(
                    "<ListBucketResult>{before}<Contents>{plain}</Contents><Contents>{different}</Contents>\
                     <IsTruncated>false</IsTruncated>{after}</ListBucketResult>"
                );
                let page = ListedObjects::parse(body.as_bytes()).unwrap();
                let expected = ListedObject { key: "a&b", size: 7, etag: "\"E\"" };
                assert_eq!(page.iter().collect::<Vec<_>>(), [expected; 2], "{body}");
            }
        }
        for broken in ["<Key>a</Kex>", "<Key>a</Key", "<Key>a<b</Key>", "<Key>a&nothing;</Key>"] {
            let body = format!("<ListBucketResult><Contents>{broken}<Size>1</Size></Contents></ListBucketResult>");
            assert!(ListedObjects::parse(body.as_bytes()).is_err(), "{body}");
        }
    }

    #[test]
    fn a_page_is_cut_anywhere() {
        let xml = answer(EncodingType::Url, &["a", "b", "c"], Some("t")).to_xml();
        for count in 0..5 {
            let mut page = ListedObjects::parse(xml.as_bytes()).unwrap();
            page.truncate(count);
            let keys: Vec<_> = page.iter().map(|row| row.key).collect();
            assert_eq!(keys, ["a", "b", "c"][..count.min(3)]);
            assert_eq!(page.last().map(|row| row.key), keys.last().copied());
        }
        assert!(ListedObjects::default().is_empty());
    }

    #[test]
    fn required_elements_must_be_present() {
        let xml = answer(EncodingType::Url, &["a"], Some("t")).to_xml();
        for (element, expected) in [
            ("<Key>a</Key>", "Key"),
            ("<Size>1</Size>", "Size"),
            ("<IsTruncated>true</IsTruncated>", "IsTruncated"),
            ("<NextContinuationToken>t</NextContinuationToken>", "NextContinuationToken"),
        ] {
            let body = xml.replace(element, "");
            assert_ne!(body, xml);
            assert_eq!(ListedObjects::parse(body.as_bytes()), Err(XmlError::Missing { element: expected }));
        }
        let broken = xml.replace("<Key>a</Key>", "<Key>%zz</Key>");
        assert!(matches!(ListedObjects::parse(broken.as_bytes()), Err(XmlError::Invalid { element: "Key", .. })));
    }
}
