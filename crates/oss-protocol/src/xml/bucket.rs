//! Buckets: creating them, listing them and describing them.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::configuration::DefaultEncryption;
use super::{Cursor, Document, Owner, Writer, XmlError, non_empty, only_child, present, timestamp};
use crate::time::format_xml_timestamp;

/// The body of `PutBucket`.
///
/// <https://www.alibabacloud.com/help/en/oss/developer-reference/putbucket>
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct CreateBucketConfiguration {
    /// The storage class of objects that were written without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage_class: Option<String>,
    /// `LRS` or `ZRS`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_redundancy_type: Option<String>,
}

impl Document for CreateBucketConfiguration {
    const ROOT: &'static str = "CreateBucketConfiguration";

    /// An empty body asks for the defaults.
    fn from_nothing() -> Option<Self> {
        Some(Self::default())
    }
}

/// The answer to `GetBucketInfo`.
///
/// <https://www.alibabacloud.com/help/en/oss/developer-reference/getbucketinfo>
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketInfo {
    /// The bucket's name.
    pub name: String,
    /// The region with the prefix `oss-`, which region IDs lack: `oss-cn-hangzhou`.
    pub location: String,
    /// When the bucket was created.
    pub creation_date: SystemTime,
    /// The endpoint on the internet.
    pub extranet_endpoint: String,
    /// The endpoint inside the cloud.
    pub intranet_endpoint: String,
    /// The storage class of objects that were written without one.
    pub storage_class: String,
    /// `LRS` or `ZRS`.
    pub data_redundancy_type: String,
    /// The owner.
    pub owner: Owner,
    /// The access rule: `private`, `public-read` or `public-read-write`.
    pub acl: String,
    /// `Enabled` or `Suspended`; absent if the bucket never kept versions.
    pub versioning: Option<String>,
    /// How objects are encrypted that name nothing else.
    pub encryption: Option<DefaultEncryption>,
    /// All other elements with text, such as `Comment` and `TransferAcceleration`.
    pub extra: Vec<(String, String)>,
}

impl BucketInfo {
    const ROOT: &'static str = "BucketInfo";

    /// Reads a body.
    pub fn parse(body: &[u8]) -> Result<Self, XmlError> {
        let mut cursor = Cursor::open(body, Self::ROOT)?;
        let mut result = None;
        while let Some(name) = cursor.child()? {
            match name.local() {
                "Bucket" => result = Some(Self::read(&mut cursor)?),
                _ => cursor.skip()?,
            }
        }
        result.ok_or(XmlError::Missing { element: "Bucket" })
    }

    fn read(cursor: &mut Cursor<'_>) -> Result<Self, XmlError> {
        let (mut bucket_name, mut creation_date) = (None, None);
        let mut info = Self {
            name: String::new(),
            location: String::new(),
            creation_date: SystemTime::UNIX_EPOCH,
            extranet_endpoint: String::new(),
            intranet_endpoint: String::new(),
            storage_class: String::new(),
            data_redundancy_type: String::new(),
            owner: Owner::default(),
            acl: String::new(),
            versioning: None,
            encryption: None,
            extra: Vec::new(),
        };
        while let Some(name) = cursor.child()? {
            match name.local() {
                "Name" => bucket_name = Some(cursor.text()?),
                "Location" => info.location = cursor.text()?,
                "CreationDate" => creation_date = Some(cursor.time("CreationDate")?),
                "ExtranetEndpoint" => info.extranet_endpoint = cursor.text()?,
                "IntranetEndpoint" => info.intranet_endpoint = cursor.text()?,
                "StorageClass" => info.storage_class = cursor.text()?,
                "DataRedundancyType" => info.data_redundancy_type = cursor.text()?,
                "Owner" => info.owner = Owner::read(cursor)?,
                "AccessControlList" => {
                    while let Some(name) = cursor.child()? {
                        match name.local() {
                            "Grant" => info.acl = cursor.text()?,
                            _ => cursor.skip()?,
                        }
                    }
                }
                "Versioning" => info.versioning = non_empty(cursor.text()?),
                "ServerSideEncryptionRule" => info.encryption = read_encryption(cursor)?,
                "BucketPolicy" => cursor.skip()?,
                other => {
                    let value = cursor.text()?;
                    info.extra.push((other.to_owned(), value));
                }
            }
        }
        info.name = bucket_name.ok_or(XmlError::Missing { element: "Name" })?;
        info.creation_date = creation_date.ok_or(XmlError::Missing { element: "CreationDate" })?;
        Ok(info)
    }

    /// Writes a body.
    pub fn to_xml(&self) -> String {
        let mut writer = Writer::document(Self::ROOT);
        writer.open("Bucket");
        writer.leaf("CreationDate", &format_xml_timestamp(self.creation_date));
        writer.leaf("ExtranetEndpoint", &self.extranet_endpoint);
        writer.leaf("IntranetEndpoint", &self.intranet_endpoint);
        writer.leaf("Location", &self.location);
        writer.leaf("StorageClass", &self.storage_class);
        writer.leaf("Name", &self.name);
        self.owner.write(&mut writer);
        writer.open("AccessControlList");
        writer.leaf("Grant", &self.acl);
        writer.close("AccessControlList");
        writer.leaf("DataRedundancyType", &self.data_redundancy_type);
        writer.leaf_option("Versioning", self.versioning.as_deref());
        writer.open("ServerSideEncryptionRule");
        let encryption = self.encryption.as_ref();
        writer.leaf("SSEAlgorithm", encryption.map_or("None", |found| &found.algorithm));
        writer.leaf_option("KMSMasterKeyID", encryption.and_then(|found| found.key_id.as_deref()));
        writer.leaf_option("KMSDataEncryption", encryption.and_then(|found| found.data_encryption.as_deref()));
        writer.close("ServerSideEncryptionRule");
        writer.markup("<BucketPolicy><LogBucket></LogBucket><LogPrefix></LogPrefix></BucketPolicy>");
        for (name, value) in &self.extra {
            writer.leaf(name, value);
        }
        writer.close("Bucket");
        writer.finish(Self::ROOT)
    }
}

/// `None` is what an unencrypted bucket says.
fn read_encryption(cursor: &mut Cursor<'_>) -> Result<Option<DefaultEncryption>, XmlError> {
    let mut found = DefaultEncryption { algorithm: String::new(), key_id: None, data_encryption: None };
    while let Some(name) = cursor.child()? {
        match name.local() {
            "SSEAlgorithm" => found.algorithm = cursor.text()?,
            "KMSMasterKeyID" => found.key_id = non_empty(cursor.text()?),
            "KMSDataEncryption" => found.data_encryption = non_empty(cursor.text()?),
            _ => cursor.skip()?,
        }
    }
    Ok((!["", "None"].contains(&found.algorithm.as_str())).then_some(found))
}

/// The answer to `GetBucketLocation`.
///
/// <https://www.alibabacloud.com/help/en/oss/developer-reference/getbucketlocation>
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LocationConstraint {
    /// The region with the prefix `oss-`, which region IDs lack: `oss-cn-hangzhou`.
    pub location: String,
}

impl LocationConstraint {
    const ROOT: &'static str = "LocationConstraint";

    /// Reads a body.
    pub fn parse(body: &[u8]) -> Result<Self, XmlError> {
        let location = Cursor::open(body, Self::ROOT)?.text()?;
        Ok(Self { location: location.trim().to_owned() })
    }

    /// Writes a body.
    pub fn to_xml(&self) -> String {
        let mut writer = Writer::document(Self::ROOT);
        writer.text(&self.location);
        writer.finish(Self::ROOT)
    }
}

only_child!(bucket_elements, "Bucket");

/// One bucket in a listing.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct BucketSummary {
    /// When the bucket was created.
    #[serde(with = "timestamp")]
    pub creation_date: SystemTime,
    /// The endpoint on the internet.
    #[serde(default)]
    pub extranet_endpoint: String,
    /// The endpoint inside the cloud.
    #[serde(default)]
    pub intranet_endpoint: String,
    /// The region with the prefix `oss-`, which region IDs lack: `oss-cn-hangzhou`.
    #[serde(default)]
    pub location: String,
    /// The bucket's name.
    pub name: String,
    /// The region ID.
    #[serde(default)]
    pub region: String,
    /// The resource group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_group_id: Option<String>,
    /// The storage class of objects that were written without one.
    #[serde(default)]
    pub storage_class: String,
}

/// The answer to `ListBuckets`.
///
/// <https://www.alibabacloud.com/help/en/oss/developer-reference/listbuckets>
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ListBucketsResult {
    /// The beginning that all names have in common.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// The name after which the listing starts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub marker: Option<String>,
    /// The limit of entries in a page.
    #[serde(deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub max_keys: Option<u32>,
    /// Whether there is another page. Answers that contain all buckets leave it out.
    pub is_truncated: bool,
    /// The name after which the next page starts, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_marker: Option<String>,
    /// The owner of all buckets.
    pub owner: Owner,
    /// The buckets.
    #[serde(with = "bucket_elements")]
    pub buckets: Vec<BucketSummary>,
}

impl Document for ListBucketsResult {
    const ROOT: &'static str = "ListAllMyBucketsResult";

    fn check(&self) -> Result<(), XmlError> {
        if self.is_truncated && self.next_marker.is_none() {
            return Err(XmlError::Missing { element: "NextMarker" });
        }
        Ok(())
    }
}

/// The answer to `GetBucketStat`.
///
/// <https://www.alibabacloud.com/help/en/oss/developer-reference/getbucketstat>
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct BucketStat {
    /// The bytes stored.
    pub storage: u64,
    /// The number of objects.
    pub object_count: u64,
    /// The number of uploads that are neither complete nor aborted.
    pub multipart_upload_count: u64,
    /// The number of live channels.
    pub live_channel_count: u64,
    /// When the numbers were counted, in seconds since 1970.
    pub last_modified_time: u64,
    /// The bytes of objects of the class Standard.
    pub standard_storage: u64,
    /// The number of objects of the class Standard.
    pub standard_object_count: u64,
    /// The bytes of objects of the class IA that are paid for.
    pub infrequent_access_storage: u64,
    /// The bytes of objects of the class IA.
    pub infrequent_access_real_storage: u64,
    /// The number of objects of the class IA.
    pub infrequent_access_object_count: u64,
    /// The bytes of objects of the class Archive that are paid for.
    pub archive_storage: u64,
    /// The bytes of objects of the class Archive.
    pub archive_real_storage: u64,
    /// The number of objects of the class Archive.
    pub archive_object_count: u64,
    /// The bytes of objects of the class `ColdArchive` that are paid for.
    pub cold_archive_storage: u64,
    /// The bytes of objects of the class `ColdArchive`.
    pub cold_archive_real_storage: u64,
    /// The number of objects of the class `ColdArchive`.
    pub cold_archive_object_count: u64,
    /// The bytes of objects of the class `DeepColdArchive` that are paid for.
    pub deep_cold_archive_storage: u64,
    /// The bytes of objects of the class `DeepColdArchive`.
    pub deep_cold_archive_real_storage: u64,
    /// The number of objects of the class `DeepColdArchive`.
    pub deep_cold_archive_object_count: u64,
    /// The number of markers of deleted versions.
    pub delete_marker_count: u64,
}

impl Document for BucketStat {
    const ROOT: &'static str = "BucketStat";
}

only_child!(grant_element, "Grant");

/// The answer to `GetBucketAcl` and `GetObjectACL`.
///
/// <https://www.alibabacloud.com/help/en/oss/developer-reference/getbucketacl>
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct AccessControlPolicy {
    /// The owner.
    pub owner: Owner,
    /// The access rule: `private`, `public-read` or `public-read-write`, and `default` for objects.
    #[serde(rename = "AccessControlList", with = "grant_element")]
    pub grant: String,
}

impl Document for AccessControlPolicy {
    const ROOT: &'static str = "AccessControlPolicy";

    fn check(&self) -> Result<(), XmlError> {
        if self.grant.is_empty() {
            return Err(XmlError::Missing { element: "Grant" });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::from_unix_seconds;

    #[test]
    fn configurations_may_be_empty() {
        assert_eq!(CreateBucketConfiguration::parse(b"").unwrap(), CreateBucketConfiguration::default());
        let configuration = CreateBucketConfiguration {
            storage_class: Some("IA".to_owned()),
            data_redundancy_type: Some("ZRS".to_owned()),
        };
        assert_eq!(CreateBucketConfiguration::parse(configuration.to_xml().as_bytes()).unwrap(), configuration);
    }

    #[test]
    fn documented_bucket_info() {
        let body = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<BucketInfo>\n  <Bucket>\n    \
            <AccessMonitor>Disabled</AccessMonitor><CreationDate>2013-07-31T10:56:21.000Z</CreationDate>\
            <ExtranetEndpoint>oss-cn-hangzhou.aliyuncs.com</ExtranetEndpoint>\
            <IntranetEndpoint>oss-cn-hangzhou-internal.aliyuncs.com</IntranetEndpoint>\
            <Location>oss-cn-hangzhou</Location><StorageClass>Standard</StorageClass><Name>oss-example</Name>\
            <ServerSideEncryptionRule><SSEAlgorithm>None</SSEAlgorithm></ServerSideEncryptionRule>\
            <Owner><DisplayName>u</DisplayName><ID>27183473914****</ID></Owner>\
            <AccessControlList><Grant>private</Grant></AccessControlList><Comment>test</Comment>\
            <DataRedundancyType>LRS</DataRedundancyType><BucketPolicy><LogBucket/></BucketPolicy>\
            </Bucket></BucketInfo>";
        let info = BucketInfo::parse(body.as_bytes()).unwrap();
        assert_eq!((info.name.as_str(), info.location.as_str()), ("oss-example", "oss-cn-hangzhou"));
        assert_eq!((info.acl.as_str(), info.owner.id.as_str()), ("private", "27183473914****"));
        assert_eq!(info.creation_date, from_unix_seconds(1_375_268_181));
        assert_eq!(
            info.extra,
            [("AccessMonitor".to_owned(), "Disabled".to_owned()), ("Comment".to_owned(), "test".to_owned())]
        );
        assert_eq!(BucketInfo::parse(info.to_xml().as_bytes()).unwrap(), info);
        assert_eq!(BucketInfo::parse(b"<BucketInfo/>"), Err(XmlError::Missing { element: "Bucket" }));
    }

    #[test]
    fn locations_are_the_text_of_the_root() {
        let location = LocationConstraint { location: "oss-cn-hangzhou".to_owned() };
        assert_eq!(
            location.to_xml(),
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<LocationConstraint>oss-cn-hangzhou</LocationConstraint>"
        );
        let body = b"<LocationConstraint xmlns=\"http://doc.oss-cn-hangzhou.aliyuncs.com\">\noss-cn-hangzhou\n</LocationConstraint >";
        assert_eq!(LocationConstraint::parse(body).unwrap(), location);
    }

    #[test]
    fn lists_of_buckets_round_trip() {
        let result = ListBucketsResult {
            owner: Owner { id: "1".to_owned(), display_name: "1".to_owned() },
            buckets: vec![BucketSummary {
                name: "examplebucket".to_owned(),
                location: "oss-cn-hangzhou".to_owned(),
                region: "cn-hangzhou".to_owned(),
                resource_group_id: None,
                creation_date: from_unix_seconds(1_702_743_657),
                storage_class: "Standard".to_owned(),
                extranet_endpoint: "oss-cn-hangzhou.aliyuncs.com".to_owned(),
                intranet_endpoint: "oss-cn-hangzhou-internal.aliyuncs.com".to_owned(),
            }],
            prefix: Some("e".to_owned()),
            marker: None,
            max_keys: Some(1),
            is_truncated: true,
            next_marker: Some("examplebucket".to_owned()),
        };
        assert_eq!(ListBucketsResult::parse(result.to_xml().as_bytes()).unwrap(), result);
        let all = b"<ListAllMyBucketsResult><Owner><ID>1</ID></Owner><Buckets/></ListAllMyBucketsResult>";
        assert!(!ListBucketsResult::parse(all).unwrap().is_truncated);
        let endless = b"<ListAllMyBucketsResult><IsTruncated>true</IsTruncated></ListAllMyBucketsResult>";
        assert_eq!(ListBucketsResult::parse(endless), Err(XmlError::Missing { element: "NextMarker" }));
    }

    #[test]
    fn statistics_and_policies_round_trip() {
        let stat = BucketStat { storage: 1 << 50, object_count: 3, multipart_upload_count: 1, ..BucketStat::default() };
        assert_eq!(BucketStat::parse(stat.to_xml().as_bytes()).unwrap(), stat);
        let policy = AccessControlPolicy {
            owner: Owner { id: "1".to_owned(), display_name: "n".to_owned() },
            grant: "public-read".to_owned(),
        };
        assert_eq!(AccessControlPolicy::parse(policy.to_xml().as_bytes()).unwrap(), policy);
        assert!(AccessControlPolicy::parse(b"<AccessControlPolicy/>").is_err());
    }
}
