//! Configurations of buckets that rule other requests. A server keeps the others as the documents they came in.

use super::{Cursor, XmlError};

/// One rule for requests of web pages of other origins.
///
/// <https://www.alibabacloud.com/help/en/oss/developer-reference/putbucketcors>
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CorsRule {
    /// Origins that the rule is for; one `*` in each stands for anything.
    pub allowed_origins: Vec<String>,
    /// Methods in upper case.
    pub allowed_methods: Vec<String>,
    /// Headers that a request may carry; one `*` in each stands for anything.
    pub allowed_headers: Vec<String>,
    /// Headers of an answer that a page may read.
    pub expose_headers: Vec<String>,
    /// For how many seconds a browser may remember the answer to a preflight request.
    pub max_age_seconds: Option<u32>,
}

/// The rules of a bucket for requests of web pages of other origins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CorsConfiguration {
    /// The first rule that fits a request counts.
    pub rules: Vec<CorsRule>,
    /// Whether answers always carry `Vary: Origin`.
    pub response_vary: bool,
}

impl CorsConfiguration {
    /// Reads the body of `PutBucketCors`.
    pub fn parse(body: &[u8]) -> Result<Self, XmlError> {
        let mut cursor = Cursor::open(body, "CORSConfiguration")?;
        let mut result = Self::default();
        while let Some(name) = cursor.child()? {
            match name.local() {
                "CORSRule" => result.rules.push(CorsRule::read(&mut cursor)?),
                "ResponseVary" => result.response_vary = cursor.boolean("ResponseVary")?,
                _ => cursor.skip()?,
            }
        }
        if result.rules.is_empty() {
            return Err(XmlError::Missing { element: "CORSRule" });
        }
        Ok(result)
    }
}

impl CorsRule {
    fn read(cursor: &mut Cursor<'_>) -> Result<Self, XmlError> {
        let mut rule = Self::default();
        while let Some(name) = cursor.child()? {
            match name.local() {
                "AllowedOrigin" => rule.allowed_origins.push(cursor.text()?),
                "AllowedMethod" => rule.allowed_methods.push(cursor.text()?),
                "AllowedHeader" => rule.allowed_headers.push(cursor.text()?),
                "ExposeHeader" => rule.expose_headers.push(cursor.text()?),
                "MaxAgeSeconds" => rule.max_age_seconds = Some(cursor.number("MaxAgeSeconds")?),
                _ => cursor.skip()?,
            }
        }
        if rule.allowed_origins.is_empty() {
            return Err(XmlError::Missing { element: "AllowedOrigin" });
        }
        if rule.allowed_methods.is_empty() {
            return Err(XmlError::Missing { element: "AllowedMethod" });
        }
        for method in &rule.allowed_methods {
            if !["GET", "PUT", "DELETE", "POST", "HEAD"].contains(&method.as_str()) {
                return Err(XmlError::Invalid {
                    element: "AllowedMethod",
                    value: method.clone(),
                    expected: "GET, PUT, DELETE, POST or HEAD",
                });
            }
        }
        Ok(rule)
    }
}

/// How objects of a bucket are encrypted that name nothing else.
///
/// <https://www.alibabacloud.com/help/en/oss/developer-reference/putbucketencryption>
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EncryptionRule {
    /// `AES256`, `KMS` or `SM4`.
    pub algorithm: String,
    /// The key of the key management service.
    pub key_id: Option<String>,
    /// The algorithm that the key of the key management service is used with.
    pub data_encryption: Option<String>,
}

impl EncryptionRule {
    /// Reads the body of `PutBucketEncryption`.
    pub fn parse(body: &[u8]) -> Result<Self, XmlError> {
        let mut cursor = Cursor::open(body, "ServerSideEncryptionRule")?;
        let mut found = None;
        while let Some(name) = cursor.child()? {
            match name.local() {
                "ApplyServerSideEncryptionByDefault" => found = Some(Self::read(&mut cursor)?),
                _ => cursor.skip()?,
            }
        }
        found.ok_or(XmlError::Missing { element: "ApplyServerSideEncryptionByDefault" })
    }

    fn read(cursor: &mut Cursor<'_>) -> Result<Self, XmlError> {
        let mut rule = Self::default();
        let named = |text: String| (!text.is_empty()).then_some(text);
        while let Some(name) = cursor.child()? {
            match name.local() {
                "SSEAlgorithm" => rule.algorithm = cursor.text()?,
                "KMSMasterKeyID" => rule.key_id = named(cursor.text()?),
                "KMSDataEncryption" => rule.data_encryption = named(cursor.text()?),
                _ => cursor.skip()?,
            }
        }
        if !["AES256", "KMS", "SM4"].contains(&rule.algorithm.as_str()) {
            return Err(XmlError::Invalid {
                element: "SSEAlgorithm",
                value: rule.algorithm,
                expected: "AES256, KMS or SM4",
            });
        }
        Ok(rule)
    }
}

/// Whether access for everyone is blocked, as the body of `PutBucketPublicAccessBlock` says.
///
/// <https://www.alibabacloud.com/help/en/oss/developer-reference/putbucketpublicaccessblock>
pub fn parse_public_access_block(body: &[u8]) -> Result<bool, XmlError> {
    let mut cursor = Cursor::open(body, "PublicAccessBlockConfiguration")?;
    let mut blocked = None;
    while let Some(name) = cursor.child()? {
        match name.local() {
            "BlockPublicAccess" => blocked = Some(cursor.boolean("BlockPublicAccess")?),
            _ => cursor.skip()?,
        }
    }
    blocked.ok_or(XmlError::Missing { element: "BlockPublicAccess" })
}

/// Checks that a body is well-formed, that its root is `root`, and that the root has a child `child` if one is named.
pub fn check_document(body: &[u8], root: &'static str, child: Option<&'static str>) -> Result<(), XmlError> {
    let mut cursor = Cursor::open(body, root)?;
    let mut found = child.is_none();
    while let Some(name) = cursor.child()? {
        found |= Some(name.local()) == child;
        cursor.skip()?;
    }
    match (found, child) {
        (false, Some(element)) => Err(XmlError::Missing { element }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_for_other_origins() {
        let body = br"<CORSConfiguration><CORSRule><AllowedOrigin>*</AllowedOrigin><AllowedMethod>GET</AllowedMethod>
            <AllowedHeader>x-*</AllowedHeader><ExposeHeader>etag</ExposeHeader><MaxAgeSeconds>5</MaxAgeSeconds></CORSRule>
            <ResponseVary>true</ResponseVary></CORSConfiguration>";
        let found = CorsConfiguration::parse(body).unwrap();
        assert!(found.response_vary);
        assert_eq!(found.rules[0].allowed_headers, ["x-*"]);
        assert_eq!(found.rules[0].max_age_seconds, Some(5));
        for wrong in [
            "<CORSConfiguration></CORSConfiguration>",
            "<CORSConfiguration><CORSRule><AllowedOrigin>*</AllowedOrigin></CORSRule></CORSConfiguration>",
            "<CORSConfiguration><CORSRule><AllowedMethod>GET</AllowedMethod></CORSRule></CORSConfiguration>",
            "<CORSConfiguration><CORSRule><AllowedOrigin>*</AllowedOrigin><AllowedMethod>PATCH</AllowedMethod></CORSRule></CORSConfiguration>",
            "<CORSConfiguration><CORSRule>",
            "<Other/>",
        ] {
            assert!(CorsConfiguration::parse(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn encryption_and_the_block_of_public_access() {
        let body = b"<ServerSideEncryptionRule><ApplyServerSideEncryptionByDefault><SSEAlgorithm>KMS</SSEAlgorithm>\
            <KMSMasterKeyID>k</KMSMasterKeyID></ApplyServerSideEncryptionByDefault></ServerSideEncryptionRule>";
        let found = EncryptionRule::parse(body).unwrap();
        assert_eq!((found.algorithm.as_str(), found.key_id.as_deref()), ("KMS", Some("k")));
        assert!(EncryptionRule::parse(b"<ServerSideEncryptionRule/>").is_err());
        let block = |text: &str| {
            parse_public_access_block(
                format!("<PublicAccessBlockConfiguration>{text}</PublicAccessBlockConfiguration>").as_bytes(),
            )
        };
        assert_eq!(block("<BlockPublicAccess>true</BlockPublicAccess>"), Ok(true));
        assert!(block("<BlockPublicAccess>yes</BlockPublicAccess>").is_err());
        assert!(block("").is_err());
    }

    #[test]
    fn documents_that_are_only_kept() {
        let check = |text: &str, child| check_document(text.as_bytes(), "A", child);
        assert!(check("<A><B><C/></B></A>", Some("B")).is_ok());
        assert!(check("<A/>", None).is_ok());
        assert!(check("<A/>", Some("B")).is_err());
        assert!(check("<A><B></A>", None).is_err());
        assert!(check("<B/>", None).is_err());
    }
}
