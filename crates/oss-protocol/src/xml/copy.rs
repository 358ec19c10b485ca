//! Copies of objects and of parts.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::{Document, timestamp};

/// The answer to `CopyObject`.
///
/// <https://www.alibabacloud.com/help/en/oss/developer-reference/copyobject>
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct CopyObjectResult {
    /// The entity tag of the copy, with its quotes.
    #[serde(rename = "ETag")]
    pub etag: String,
    /// When the copy was made.
    #[serde(with = "timestamp")]
    pub last_modified: SystemTime,
}

impl Document for CopyObjectResult {
    const ROOT: &'static str = "CopyObjectResult";
}

/// The answer to `UploadPartCopy`.
///
/// <https://www.alibabacloud.com/help/en/oss/developer-reference/uploadpartcopy>
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct CopyPartResult {
    /// The entity tag of the part, with its quotes.
    #[serde(rename = "ETag")]
    pub etag: String,
    /// When the part was made.
    #[serde(with = "timestamp")]
    pub last_modified: SystemTime,
}

impl Document for CopyPartResult {
    const ROOT: &'static str = "CopyPartResult";
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::from_unix_seconds;
    use crate::xml::XmlError;

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
