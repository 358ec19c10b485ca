//! The tags of an object.

use super::{Cursor, Writer, XmlError};

const ROOT: &str = "Tagging";

/// The body of `PutObjectTagging` and the answer to `GetObjectTagging`.
///
/// <https://www.alibabacloud.com/help/en/oss/developer-reference/putobjecttagging>
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tagging {
    /// Keys and values in their order. OSS takes up to ten, of 128 and 256 bytes; reading takes any.
    pub tags: Vec<(String, String)>,
}

impl Tagging {
    /// Reads a body.
    pub fn parse(body: &[u8]) -> Result<Self, XmlError> {
        let mut cursor = Cursor::open(body, ROOT)?;
        let mut result = Self::default();
        while let Some(name) = cursor.child()? {
            match name.local() {
                "TagSet" => result.read_set(&mut cursor)?,
                _ => cursor.skip()?,
            }
        }
        Ok(result)
    }

    fn read_set(&mut self, cursor: &mut Cursor<'_>) -> Result<(), XmlError> {
        while let Some(name) = cursor.child()? {
            match name.local() {
                "Tag" => self.tags.push(read_tag(cursor)?),
                _ => cursor.skip()?,
            }
        }
        Ok(())
    }

    /// Writes a body.
    pub fn to_xml(&self) -> String {
        let mut writer = Writer::document(ROOT);
        writer.open("TagSet");
        for (key, value) in &self.tags {
            writer.open("Tag");
            writer.leaf("Key", key);
            writer.leaf("Value", value);
            writer.close("Tag");
        }
        writer.close("TagSet");
        writer.finish(ROOT)
    }
}

fn read_tag(cursor: &mut Cursor<'_>) -> Result<(String, String), XmlError> {
    let (mut key, mut value) = (None, String::new());
    while let Some(name) = cursor.child()? {
        match name.local() {
            "Key" => key = Some(cursor.text()?),
            "Value" => value = cursor.text()?,
            _ => cursor.skip()?,
        }
    }
    Ok((key.ok_or(XmlError::Missing { element: "Key" })?, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_round_trip() {
        let body = "<Tagging><TagSet><Tag><Key>a</Key><Value>1</Value></Tag><Tag><Key>b&amp;</Key><Value/></Tag></TagSet></Tagging>";
        let tagging = Tagging::parse(body.as_bytes()).unwrap();
        assert_eq!(tagging.tags, [("a".to_owned(), "1".to_owned()), ("b&".to_owned(), String::new())]);
        assert_eq!(Tagging::parse(tagging.to_xml().as_bytes()).unwrap(), tagging);
        assert_eq!(Tagging::parse(b"<Tagging><TagSet/></Tagging>").unwrap().tags, []);
    }

    #[test]
    fn a_tag_needs_a_key() {
        let body = b"<Tagging><TagSet><Tag><Value>1</Value></Tag></TagSet></Tagging>";
        assert_eq!(Tagging::parse(body), Err(XmlError::Missing { element: "Key" }));
    }
}
