//! Error bodies.

use super::{Cursor, Writer, XmlError};
use crate::error_code::ErrorCode;

const ROOT: &str = "Error";

/// The body of an answer that is an error.
///
/// <https://www.alibabacloud.com/help/en/oss/developer-reference/error-responses-2>
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ErrorBody {
    /// The code.
    pub code: String,
    /// The message for people.
    pub message: String,
    /// The request's id.
    pub request_id: String,
    /// The host that the request was sent to.
    pub host_id: String,
    /// The detailed error code, such as `0026-00000001`.
    pub ec: Option<String>,
    /// All other elements of the body, in order: `Key`, `BucketName`, `Endpoint`, `StringToSign` and the like.
    pub extra: Vec<(String, String)>,
}

impl ErrorBody {
    /// Reads a body.
    pub fn parse(body: &[u8]) -> Result<Self, XmlError> {
        let mut cursor = Cursor::open(body, ROOT)?;
        let mut result = Self::default();
        while let Some(name) = cursor.child()? {
            match name.local() {
                "Code" => result.code = cursor.text()?,
                "Message" => result.message = cursor.text()?,
                "RequestId" => result.request_id = cursor.text()?,
                "HostId" => result.host_id = cursor.text()?,
                "EC" => result.ec = Some(cursor.text()?),
                other => {
                    let value = cursor.text()?;
                    result.extra.push((other.to_owned(), value));
                }
            }
        }
        if result.code.is_empty() {
            return Err(XmlError::Missing { element: "Code" });
        }
        Ok(result)
    }

    /// Writes a body.
    pub fn to_xml(&self) -> String {
        let mut writer = Writer::document(ROOT);
        writer.leaf("Code", &self.code);
        writer.leaf("Message", &self.message);
        writer.leaf("RequestId", &self.request_id);
        writer.leaf("HostId", &self.host_id);
        for (name, value) in &self.extra {
            writer.leaf(name, value);
        }
        writer.leaf_option("EC", self.ec.as_deref());
        writer.finish(ROOT)
    }

    /// The code with its meaning.
    pub fn error_code(&self) -> ErrorCode {
        ErrorCode::from(self.code.as_str())
    }

    /// Returns an element beside the usual ones.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.extra.iter().find(|(candidate, _)| candidate == name).map(|(_, value)| value.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documented_body() {
        let body = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>NoSuchKey</Code><Message>The specified key \
                    does not exist.</Message><RequestId>5C3D9175B6FC201293AD4890</RequestId>\
                    <HostId>bucket.oss-cn-hangzhou.aliyuncs.com</HostId><Key>a&amp;b</Key><EC>0026-00000001</EC>\
                    <RecommendDoc>https://api.aliyun.com/troubleshoot?q=0026-00000001</RecommendDoc></Error>";
        let error = ErrorBody::parse(body.as_bytes()).unwrap();
        assert_eq!(error.error_code(), ErrorCode::NoSuchKey);
        assert_eq!(error.message, "The specified key does not exist.");
        assert_eq!(error.request_id, "5C3D9175B6FC201293AD4890");
        assert_eq!(error.ec.as_deref(), Some("0026-00000001"));
        assert_eq!(error.get("Key"), Some("a&b"));
        assert_eq!(ErrorBody::parse(error.to_xml().as_bytes()).unwrap(), error);
    }

    #[test]
    fn strings_to_sign_keep_their_lines() {
        let error = ErrorBody {
            code: "SignatureDoesNotMatch".to_owned(),
            extra: vec![("StringToSign".to_owned(), "GET\n\n\r\ndate\n/b/k<&>".to_owned())],
            ..ErrorBody::default()
        };
        assert_eq!(ErrorBody::parse(error.to_xml().as_bytes()).unwrap(), error);
    }

    #[test]
    fn a_body_without_a_code_is_no_error_body() {
        assert_eq!(ErrorBody::parse(b"<Error/>"), Err(XmlError::Missing { element: "Code" }));
        assert!(matches!(ErrorBody::parse(b"<html></html>"), Err(XmlError::UnexpectedRoot { .. })));
    }
}
