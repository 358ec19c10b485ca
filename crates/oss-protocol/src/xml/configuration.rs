//! Configurations of buckets that rule other requests. A server keeps the others as the documents they came in.

use serde::{Deserialize, Serialize};

use super::{Cursor, Document, XmlError};

/// One rule for requests of web pages of other origins.
///
/// <https://www.alibabacloud.com/help/en/oss/developer-reference/putbucketcors>
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct CorsRule {
    /// Origins that the rule is for; one `*` in each stands for anything.
    #[serde(rename = "AllowedOrigin")]
    pub allowed_origins: Vec<String>,
    /// Methods in upper case.
    #[serde(rename = "AllowedMethod")]
    pub allowed_methods: Vec<String>,
    /// Headers that a request may carry; one `*` in each stands for anything.
    #[serde(rename = "AllowedHeader")]
    pub allowed_headers: Vec<String>,
    /// Headers of an answer that a page may read.
    #[serde(rename = "ExposeHeader")]
    pub expose_headers: Vec<String>,
    /// For how many seconds a browser may remember the answer to a preflight request.
    #[serde(rename = "MaxAgeSeconds", skip_serializing_if = "Option::is_none")]
    pub max_age_seconds: Option<u32>,
}

/// The rules of a bucket for requests of web pages of other origins: the body of `PutBucketCors`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct CorsConfiguration {
    /// The first rule that fits a request counts.
    #[serde(rename = "CORSRule")]
    pub rules: Vec<CorsRule>,
    /// Whether answers always carry `Vary: Origin`.
    #[serde(rename = "ResponseVary")]
    pub response_vary: bool,
}

impl Document for CorsConfiguration {
    const ROOT: &'static str = "CORSConfiguration";

    fn check(&self) -> Result<(), XmlError> {
        if self.rules.is_empty() {
            return Err(XmlError::Missing { element: "CORSRule" });
        }
        self.rules.iter().try_for_each(CorsRule::check)
    }
}

impl CorsRule {
    fn check(&self) -> Result<(), XmlError> {
        if self.allowed_origins.is_empty() {
            return Err(XmlError::Missing { element: "AllowedOrigin" });
        }
        if self.allowed_methods.is_empty() {
            return Err(XmlError::Missing { element: "AllowedMethod" });
        }
        let known = |method: &&String| ["GET", "PUT", "DELETE", "POST", "HEAD"].contains(&method.as_str());
        match self.allowed_methods.iter().find(|method| !known(method)) {
            None => Ok(()),
            Some(method) => Err(XmlError::Invalid {
                element: "AllowedMethod",
                value: method.clone(),
                expected: "GET, PUT, DELETE, POST or HEAD",
            }),
        }
    }
}

/// How objects of a bucket are encrypted that name nothing else.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct DefaultEncryption {
    /// `AES256`, `KMS` or `SM4`.
    #[serde(rename = "SSEAlgorithm")]
    pub algorithm: String,
    /// The key of the key management service.
    #[serde(rename = "KMSMasterKeyID", skip_serializing_if = "Option::is_none")]
    pub key_id: Option<String>,
    /// The algorithm that the key of the key management service is used with.
    #[serde(rename = "KMSDataEncryption", skip_serializing_if = "Option::is_none")]
    pub data_encryption: Option<String>,
}

/// The body of `PutBucketEncryption`.
///
/// <https://www.alibabacloud.com/help/en/oss/developer-reference/putbucketencryption>
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct EncryptionRule {
    /// The rule.
    #[serde(rename = "ApplyServerSideEncryptionByDefault")]
    pub default: DefaultEncryption,
}

impl Document for EncryptionRule {
    const ROOT: &'static str = "ServerSideEncryptionRule";

    fn check(&self) -> Result<(), XmlError> {
        let algorithm = &self.default.algorithm;
        if ["AES256", "KMS", "SM4"].contains(&algorithm.as_str()) {
            return Ok(());
        }
        Err(XmlError::Invalid { element: "SSEAlgorithm", value: algorithm.clone(), expected: "AES256, KMS or SM4" })
    }
}

/// Whether access for everyone is blocked: the body of `PutBucketPublicAccessBlock`.
///
/// <https://www.alibabacloud.com/help/en/oss/developer-reference/putbucketpublicaccessblock>
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct PublicAccessBlock {
    /// Whether it is.
    pub block_public_access: bool,
}

impl Document for PublicAccessBlock {
    const ROOT: &'static str = "PublicAccessBlockConfiguration";
}

/// Days or a date after which something happens to objects.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct LifecycleAction {
    /// Days after the object was last written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub days: Option<u32>,
    /// Objects that were written before this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_before_date: Option<String>,
    /// The storage class of a transition.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage_class: Option<String>,
}

/// A tag that objects must have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct LifecycleTag {
    /// The key.
    pub key: String,
    /// The value.
    pub value: String,
}

/// One rule of a lifecycle, as far as its parts must fit each other.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct LifecycleRule {
    /// When objects are deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expiration: Option<LifecycleAction>,
    /// When objects change their storage class.
    #[serde(rename = "Transition")]
    pub transitions: Vec<LifecycleAction>,
    /// Tags that objects must have.
    #[serde(rename = "Tag")]
    pub tags: Vec<LifecycleTag>,
}

/// The body of `PutBucketLifecycle`.
///
/// <https://www.alibabacloud.com/help/en/oss/developer-reference/putbucketlifecycle>
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct LifecycleConfiguration {
    /// The rules.
    #[serde(rename = "Rule")]
    pub rules: Vec<LifecycleRule>,
}

impl Document for LifecycleConfiguration {
    const ROOT: &'static str = "LifecycleConfiguration";

    fn check(&self) -> Result<(), XmlError> {
        if self.rules.is_empty() { Err(XmlError::Missing { element: "Rule" }) } else { Ok(()) }
    }
}

/// How much a bucket may hold: the body of `PutBucketQosInfo` of older SDKs, which call it the storage capacity.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct BucketUserQos {
    /// In GB; -1 for no limit.
    pub storage_capacity: String,
}

impl BucketUserQos {
    /// The limit in GB; `None` for no limit.
    pub fn gigabytes(&self) -> Option<u64> {
        self.storage_capacity.parse().ok()
    }
}

impl Document for BucketUserQos {
    const ROOT: &'static str = "BucketUserQos";

    fn check(&self) -> Result<(), XmlError> {
        if self.storage_capacity == "-1" || self.gigabytes().is_some() {
            return Ok(());
        }
        Err(XmlError::Invalid {
            element: "StorageCapacity",
            value: self.storage_capacity.clone(),
            expected: "-1 or a number of GB",
        })
    }
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
        assert_eq!((found.default.algorithm.as_str(), found.default.key_id.as_deref()), ("KMS", Some("k")));
        assert!(EncryptionRule::parse(b"<ServerSideEncryptionRule/>").is_err());
        let block = |text: &str| {
            let body = format!("<PublicAccessBlockConfiguration>{text}</PublicAccessBlockConfiguration>");
            PublicAccessBlock::parse(body.as_bytes()).map(|found| found.block_public_access)
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
