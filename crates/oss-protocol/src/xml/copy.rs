//! Copies of objects and of parts.

use std::time::SystemTime;

use super::{Cursor, Writer, XmlError};
use crate::time::format_xml_timestamp;

/// The answer to `CopyObject`.
///
/// <https://www.alibabacloud.com/help/en/oss/developer-reference/copyobject>
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyObjectResult {
    /// The entity tag of the copy, with its quotes.
    pub etag: String,
    /// When the copy was made.
    pub last_modified: SystemTime,
}

impl CopyObjectResult {
    const ROOT: &'static str = "CopyObjectResult";

    /// Reads a body.
    pub fn parse(body: &[u8]) -> Result<Self, XmlError> {
        let (etag, last_modified) = parse(body, Self::ROOT)?;
        Ok(Self { etag, last_modified })
    }

    /// Writes a body.
    pub fn to_xml(&self) -> String {
        to_xml(Self::ROOT, &self.etag, self.last_modified)
    }
}

/// The answer to `UploadPartCopy`.
///
/// <https://www.alibabacloud.com/help/en/oss/developer-reference/uploadpartcopy>
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyPartResult {
    /// The entity tag of the part, with its quotes.
    pub etag: String,
    /// When the part was made.
    pub last_modified: SystemTime,
}

impl CopyPartResult {
    const ROOT: &'static str = "CopyPartResult";

    /// Reads a body.
    pub fn parse(body: &[u8]) -> Result<Self, XmlError> {
        let (etag, last_modified) = parse(body, Self::ROOT)?;
        Ok(Self { etag, last_modified })
    }

    /// Writes a body.
    pub fn to_xml(&self) -> String {
        to_xml(Self::ROOT, &self.etag, self.last_modified)
    }
}

fn parse(body: &[u8], root: &'static str) -> Result<(String, SystemTime), XmlError> {
    let mut cursor = Cursor::open(body, root)?;
    let (mut etag, mut last_modified) = (None, None);
    while let Some(name) = cursor.child()? {
        match name.local() {
            "ETag" => etag = Some(cursor.text()?),
            "LastModified" => last_modified = Some(cursor.time("LastModified")?),
            _ => cursor.skip()?,
        }
    }
    Ok((
        etag.ok_or(XmlError::Missing { element: "ETag" })?,
        last_modified.ok_or(XmlError::Missing { element: "LastModified" })?,
    ))
}

fn to_xml(root: &str, etag: &str, last_modified: SystemTime) -> String {
    let mut writer = Writer::document(root);
    writer.leaf("ETag", etag);
    writer.leaf("LastModified", &format_xml_timestamp(last_modified));
    writer.finish(root)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::from_unix_seconds;

    #[test]
    fn documented_answer() {
        let body = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<CopyObjectResult \
                    xmlns=\"http://doc.oss-cn-hangzhou.aliyuncs.com\">\n <LastModified>2013-02-24T07:18:48.000Z\
                    </LastModified>\n <ETag>\"5B3C1A2E053D763E1B002CC607C5A0FE\"</ETag>\n</CopyObjectResult>";
        let result = CopyObjectResult::parse(body.as_bytes()).unwrap();
        assert_eq!(result.etag, "\"5B3C1A2E053D763E1B002CC607C5A0FE\"");
        assert_eq!(result.last_modified, from_unix_seconds(1_361_690_328));
        assert_eq!(CopyObjectResult::parse(result.to_xml().as_bytes()).unwrap(), result);
    }

    #[test]
    fn parts_have_a_root_of_their_own() {
        let result = CopyPartResult { etag: "\"E\"".to_owned(), last_modified: from_unix_seconds(5) };
        let body = result.to_xml();
        assert_eq!(CopyPartResult::parse(body.as_bytes()).unwrap(), result);
        assert!(matches!(CopyObjectResult::parse(body.as_bytes()), Err(XmlError::UnexpectedRoot { .. })));
        assert!(CopyPartResult::parse(b"<CopyPartResult><ETag>E</ETag></CopyPartResult>").is_err());
    }
}
