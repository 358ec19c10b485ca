//! Multipart uploads.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

pub use super::copy::{CopyObjectResult, CopyPartResult};
use super::{Cursor, Document, EncodingType, Writer, XmlError, non_empty, read_common_prefix, write_common_prefixes};
use crate::time::format_xml_timestamp;

/// The limit of parts of an upload. Part numbers start at 1.
pub const MAX_PARTS: u32 = 10_000;

/// The smallest size of a part in bytes. Only the last part may be smaller.
pub const MIN_PART_BYTES: u64 = 100 * 1024;

/// The answer to `InitiateMultipartUpload`.
///
/// <https://www.alibabacloud.com/help/en/oss/developer-reference/initiatemultipartupload>
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InitiateMultipartUploadResult {
    /// How the key is encoded in the body. The fields here are always decoded.
    pub encoding_type: EncodingType,
    /// The bucket.
    pub bucket: String,
    /// The key.
    pub key: String,
    /// The upload's ID. Each later request of the upload contains it.
    pub upload_id: String,
}

impl InitiateMultipartUploadResult {
    const ROOT: &'static str = "InitiateMultipartUploadResult";

    /// Reads a body.
    pub fn parse(body: &[u8]) -> Result<Self, XmlError> {
        let mut cursor = Cursor::open(body, Self::ROOT)?;
        let mut result = Self::default();
        let mut upload_id = None;
        while let Some(name) = cursor.child()? {
            match name.local() {
                "EncodingType" => result.encoding_type = EncodingType::read(&mut cursor)?,
                "Bucket" => result.bucket = cursor.text()?,
                "Key" => result.key = cursor.text()?,
                "UploadId" => upload_id = non_empty(cursor.text()?),
                _ => cursor.skip()?,
            }
        }
        result.upload_id = upload_id.ok_or(XmlError::Missing { element: "UploadId" })?;
        result.encoding_type.decode("Key", &mut result.key)?;
        Ok(result)
    }

    /// Writes a body.
    pub fn to_xml(&self) -> String {
        let mut writer = Writer::document(Self::ROOT);
        self.encoding_type.write(&mut writer);
        writer.leaf("Bucket", &self.bucket);
        self.encoding_type.write_leaf(&mut writer, "Key", &self.key);
        writer.leaf("UploadId", &self.upload_id);
        writer.finish(Self::ROOT)
    }
}

/// A part as the request to complete an upload names it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct CompletedPart {
    /// The number of the part.
    pub part_number: u32,
    /// The entity tag in the answer to its upload.
    #[serde(rename = "ETag")]
    pub etag: String,
}

/// The body of `CompleteMultipartUpload`.
///
/// <https://www.alibabacloud.com/help/en/oss/developer-reference/completemultipartupload>
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct CompleteMultipartUpload {
    /// The parts as the body lists them. The server requires ascending numbers.
    #[serde(rename = "Part")]
    pub parts: Vec<CompletedPart>,
}

impl Document for CompleteMultipartUpload {
    const ROOT: &'static str = "CompleteMultipartUpload";
}

/// The answer to `CompleteMultipartUpload`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CompleteMultipartUploadResult {
    /// How the key is encoded in the body. The fields here are always decoded.
    pub encoding_type: EncodingType,
    /// The URL of the object.
    pub location: String,
    /// The bucket.
    pub bucket: String,
    /// The key.
    pub key: String,
    /// The entity tag of the object, with its quotes.
    pub etag: String,
}

impl CompleteMultipartUploadResult {
    const ROOT: &'static str = "CompleteMultipartUploadResult";

    /// Reads a body.
    pub fn parse(body: &[u8]) -> Result<Self, XmlError> {
        let mut cursor = Cursor::open(body, Self::ROOT)?;
        let mut result = Self::default();
        while let Some(name) = cursor.child()? {
            match name.local() {
                "EncodingType" => result.encoding_type = EncodingType::read(&mut cursor)?,
                "Location" => result.location = cursor.text()?,
                "Bucket" => result.bucket = cursor.text()?,
                "Key" => result.key = cursor.text()?,
                "ETag" => result.etag = cursor.text()?,
                _ => cursor.skip()?,
            }
        }
        result.encoding_type.decode("Key", &mut result.key)?;
        Ok(result)
    }

    /// Writes a body.
    pub fn to_xml(&self) -> String {
        let mut writer = Writer::document(Self::ROOT);
        self.encoding_type.write(&mut writer);
        writer.leaf("Location", &self.location);
        writer.leaf("Bucket", &self.bucket);
        self.encoding_type.write_leaf(&mut writer, "Key", &self.key);
        writer.leaf("ETag", &self.etag);
        writer.finish(Self::ROOT)
    }
}

/// A part that was uploaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The number of the part.
    pub part_number: u32,
    /// When it was uploaded.
    pub last_modified: SystemTime,
    /// Its entity tag, with its quotes.
    pub etag: String,
    /// The CRC-64/XZ of its bytes.
    pub hash_crc64ecma: Option<u64>,
    /// Its size in bytes.
    pub size: u64,
}

impl Part {
    fn read(cursor: &mut Cursor<'_>) -> Result<Self, XmlError> {
        let (mut part_number, mut last_modified, mut size) = (None, None, None);
        let (mut etag, mut hash_crc64ecma) = (String::new(), None);
        while let Some(name) = cursor.child()? {
            match name.local() {
                "PartNumber" => part_number = Some(cursor.number("PartNumber")?),
                "LastModified" => last_modified = Some(cursor.time("LastModified")?),
                "ETag" => etag = cursor.text()?,
                "HashCrc64ecma" => hash_crc64ecma = Some(cursor.number("HashCrc64ecma")?),
                "Size" => size = Some(cursor.number("Size")?),
                _ => cursor.skip()?,
            }
        }
        Ok(Self {
            part_number: part_number.ok_or(XmlError::Missing { element: "PartNumber" })?,
            last_modified: last_modified.ok_or(XmlError::Missing { element: "LastModified" })?,
            etag,
            hash_crc64ecma,
            size: size.ok_or(XmlError::Missing { element: "Size" })?,
        })
    }

    fn write(&self, writer: &mut Writer) {
        writer.open("Part");
        writer.plain("PartNumber", self.part_number);
        writer.leaf("LastModified", &format_xml_timestamp(self.last_modified));
        writer.leaf("ETag", &self.etag);
        if let Some(crc64) = self.hash_crc64ecma {
            writer.plain("HashCrc64ecma", crc64);
        }
        writer.plain("Size", self.size);
        writer.close("Part");
    }
}

/// The answer to `ListParts`.
///
/// <https://www.alibabacloud.com/help/en/oss/developer-reference/listparts>
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListPartsResult {
    /// How the key is encoded in the body. The fields here are always decoded.
    pub encoding_type: EncodingType,
    /// The bucket.
    pub bucket: String,
    /// The key.
    pub key: String,
    /// The upload's id.
    pub upload_id: String,
    /// The part after which the listing starts.
    pub part_number_marker: u32,
    /// The part after which the next page starts, if there is one.
    pub next_part_number_marker: Option<u32>,
    /// The limit of entries in a page.
    pub max_parts: u32,
    /// Whether there is another page.
    pub is_truncated: bool,
    /// The storage class that the object will have.
    pub storage_class: String,
    /// The parts.
    pub parts: Vec<Part>,
}

impl ListPartsResult {
    const ROOT: &'static str = "ListPartsResult";

    /// Reads a body.
    pub fn parse(body: &[u8]) -> Result<Self, XmlError> {
        let mut cursor = Cursor::open(body, Self::ROOT)?;
        let mut result = Self::default();
        let mut is_truncated = None;
        while let Some(name) = cursor.child()? {
            match name.local() {
                "EncodingType" => result.encoding_type = EncodingType::read(&mut cursor)?,
                "Bucket" => result.bucket = cursor.text()?,
                "Key" => result.key = cursor.text()?,
                "UploadId" => result.upload_id = cursor.text()?,
                "PartNumberMarker" => result.part_number_marker = cursor.number("PartNumberMarker")?,
                "NextPartNumberMarker" => result.next_part_number_marker = read_part_marker(&mut cursor)?,
                "MaxParts" => result.max_parts = cursor.number("MaxParts")?,
                "IsTruncated" => is_truncated = Some(cursor.boolean("IsTruncated")?),
                "StorageClass" => result.storage_class = cursor.text()?,
                "Part" => result.parts.push(Part::read(&mut cursor)?),
                _ => cursor.skip()?,
            }
        }
        result.is_truncated = is_truncated.ok_or(XmlError::Missing { element: "IsTruncated" })?;
        if result.is_truncated && result.next_part_number_marker.is_none() {
            return Err(XmlError::Missing { element: "NextPartNumberMarker" });
        }
        result.encoding_type.decode("Key", &mut result.key)?;
        Ok(result)
    }

    /// Writes a body.
    pub fn to_xml(&self) -> String {
        let mut writer = Writer::document(Self::ROOT);
        self.encoding_type.write(&mut writer);
        writer.leaf("Bucket", &self.bucket);
        self.encoding_type.write_leaf(&mut writer, "Key", &self.key);
        writer.leaf("UploadId", &self.upload_id);
        writer.leaf("StorageClass", &self.storage_class);
        writer.plain("PartNumberMarker", self.part_number_marker);
        if let Some(marker) = self.next_part_number_marker {
            writer.plain("NextPartNumberMarker", marker);
        }
        writer.plain("MaxParts", self.max_parts);
        writer.plain("IsTruncated", self.is_truncated);
        for part in &self.parts {
            part.write(&mut writer);
        }
        writer.finish(Self::ROOT)
    }
}

/// OSS writes an empty element if there is no next page.
fn read_part_marker(cursor: &mut Cursor<'_>) -> Result<Option<u32>, XmlError> {
    let Some(text) = non_empty(cursor.text()?) else {
        return Ok(None);
    };
    text.trim().parse().map(Some).map_err(|_| XmlError::Invalid {
        element: "NextPartNumberMarker",
        value: text,
        expected: "a whole number in range",
    })
}

/// An upload that is neither complete nor aborted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upload {
    /// The key.
    pub key: String,
    /// The upload's id.
    pub upload_id: String,
    /// When it was started.
    pub initiated: SystemTime,
}

impl Upload {
    fn read(cursor: &mut Cursor<'_>) -> Result<Self, XmlError> {
        let (mut key, mut upload_id, mut initiated) = (None, None, None);
        while let Some(name) = cursor.child()? {
            match name.local() {
                "Key" => key = Some(cursor.text()?),
                "UploadId" => upload_id = Some(cursor.text()?),
                "Initiated" => initiated = Some(cursor.time("Initiated")?),
                _ => cursor.skip()?,
            }
        }
        Ok(Self {
            key: key.ok_or(XmlError::Missing { element: "Key" })?,
            upload_id: upload_id.ok_or(XmlError::Missing { element: "UploadId" })?,
            initiated: initiated.ok_or(XmlError::Missing { element: "Initiated" })?,
        })
    }

    fn write(&self, writer: &mut Writer, encoding: EncodingType) {
        writer.open("Upload");
        encoding.write_leaf(writer, "Key", &self.key);
        writer.leaf("UploadId", &self.upload_id);
        writer.leaf("Initiated", &format_xml_timestamp(self.initiated));
        writer.close("Upload");
    }
}

/// The answer to `ListMultipartUploads`.
///
/// <https://www.alibabacloud.com/help/en/oss/developer-reference/listmultipartuploads>
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListMultipartUploadsResult {
    /// How keys are encoded in the body. The fields here are always decoded.
    pub encoding_type: EncodingType,
    /// The bucket.
    pub bucket: String,
    /// The key after which the listing starts.
    pub key_marker: String,
    /// The upload of that key after which the listing starts.
    pub upload_id_marker: String,
    /// The key after which the next page starts.
    pub next_key_marker: Option<String>,
    /// The upload of that key after which the next page starts.
    pub next_upload_id_marker: Option<String>,
    /// The text that ends a common prefix.
    pub delimiter: Option<String>,
    /// The beginning that all keys have in common.
    pub prefix: String,
    /// The limit of entries in a page.
    pub max_uploads: u32,
    /// Whether there is another page.
    pub is_truncated: bool,
    /// The uploads.
    pub uploads: Vec<Upload>,
    /// The groups of keys up to the delimiter.
    pub common_prefixes: Vec<String>,
}

impl ListMultipartUploadsResult {
    const ROOT: &'static str = "ListMultipartUploadsResult";

    /// Reads a body.
    pub fn parse(body: &[u8]) -> Result<Self, XmlError> {
        let mut cursor = Cursor::open(body, Self::ROOT)?;
        let mut result = Self::default();
        let mut is_truncated = None;
        while let Some(name) = cursor.child()? {
            match name.local() {
                "EncodingType" => result.encoding_type = EncodingType::read(&mut cursor)?,
                "Bucket" => result.bucket = cursor.text()?,
                "KeyMarker" => result.key_marker = cursor.text()?,
                "UploadIdMarker" => result.upload_id_marker = cursor.text()?,
                "NextKeyMarker" => result.next_key_marker = non_empty(cursor.text()?),
                "NextUploadIdMarker" => result.next_upload_id_marker = non_empty(cursor.text()?),
                "Delimiter" => result.delimiter = non_empty(cursor.text()?),
                "Prefix" => result.prefix = cursor.text()?,
                "MaxUploads" => result.max_uploads = cursor.number("MaxUploads")?,
                "IsTruncated" => is_truncated = Some(cursor.boolean("IsTruncated")?),
                "Upload" => result.uploads.push(Upload::read(&mut cursor)?),
                "CommonPrefixes" => read_common_prefix(&mut cursor, &mut result.common_prefixes)?,
                _ => cursor.skip()?,
            }
        }
        result.is_truncated = is_truncated.ok_or(XmlError::Missing { element: "IsTruncated" })?;
        if result.is_truncated && result.next_key_marker.is_none() {
            return Err(XmlError::Missing { element: "NextKeyMarker" });
        }
        result.decode()?;
        Ok(result)
    }

    fn decode(&mut self) -> Result<(), XmlError> {
        let encoding = self.encoding_type;
        encoding.decode("KeyMarker", &mut self.key_marker)?;
        encoding.decode_option("NextKeyMarker", &mut self.next_key_marker)?;
        encoding.decode_option("Delimiter", &mut self.delimiter)?;
        encoding.decode("Prefix", &mut self.prefix)?;
        for upload in &mut self.uploads {
            encoding.decode("Key", &mut upload.key)?;
        }
        for prefix in &mut self.common_prefixes {
            encoding.decode("Prefix", prefix)?;
        }
        Ok(())
    }

    /// Writes a body.
    pub fn to_xml(&self) -> String {
        let mut writer = Writer::document(Self::ROOT);
        let encoding = self.encoding_type;
        encoding.write(&mut writer);
        writer.leaf("Bucket", &self.bucket);
        encoding.write_leaf(&mut writer, "KeyMarker", &self.key_marker);
        writer.leaf("UploadIdMarker", &self.upload_id_marker);
        encoding.write_option(&mut writer, "NextKeyMarker", self.next_key_marker.as_deref());
        writer.leaf_option("NextUploadIdMarker", self.next_upload_id_marker.as_deref());
        encoding.write_leaf(&mut writer, "Delimiter", self.delimiter.as_deref().unwrap_or(""));
        encoding.write_leaf(&mut writer, "Prefix", &self.prefix);
        writer.plain("MaxUploads", self.max_uploads);
        writer.plain("IsTruncated", self.is_truncated);
        for upload in &self.uploads {
            upload.write(&mut writer, encoding);
        }
        write_common_prefixes(&mut writer, encoding, &self.common_prefixes);
        writer.finish(Self::ROOT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::from_unix_seconds;

    fn at() -> SystemTime {
        from_unix_seconds(1_702_743_657)
    }

    #[test]
    fn documented_initiate_answer() {
        let body = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<InitiateMultipartUploadResult \
                    xmlns=\"http://doc.oss-cn-hangzhou.aliyuncs.com\">\n<Bucket>oss-example</Bucket>\n\
                    <Key>multipart.data</Key>\n<UploadId>0004B9894A22E5B1888A1E29F8236E2D</UploadId>\n\
                    </InitiateMultipartUploadResult>";
        let result = InitiateMultipartUploadResult::parse(body.as_bytes()).unwrap();
        assert_eq!(result.bucket, "oss-example");
        assert_eq!(result.upload_id, "0004B9894A22E5B1888A1E29F8236E2D");
        assert!(matches!(
            InitiateMultipartUploadResult::parse(b"<InitiateMultipartUploadResult/>"),
            Err(XmlError::Missing { element: "UploadId" })
        ));
    }

    #[test]
    fn completions_keep_their_order() {
        let body = "<CompleteMultipartUpload><Part><PartNumber>5</PartNumber><ETag>\"A\"</ETag></Part>\
                    <Part><ETag>&quot;B&quot;</ETag><PartNumber> 1 </PartNumber></Part></CompleteMultipartUpload>";
        let request = CompleteMultipartUpload::parse(body.as_bytes()).unwrap();
        assert_eq!(
            request.parts,
            [
                CompletedPart { part_number: 5, etag: "\"A\"".to_owned() },
                CompletedPart { part_number: 1, etag: "\"B\"".to_owned() },
            ]
        );
        assert_eq!(CompleteMultipartUpload::parse(request.to_xml().as_bytes()).unwrap(), request);
        for part in ["<ETag>A</ETag>", "<PartNumber>1</PartNumber>", "<PartNumber>-1</PartNumber><ETag>A</ETag>"] {
            let body = format!("<CompleteMultipartUpload><Part>{part}</Part></CompleteMultipartUpload>");
            assert!(CompleteMultipartUpload::parse(body.as_bytes()).is_err(), "{part}");
        }
    }

    #[test]
    fn answers_round_trip_in_both_encodings() {
        for encoding_type in [EncodingType::None, EncodingType::Url] {
            let initiated = InitiateMultipartUploadResult {
                encoding_type,
                bucket: "b".to_owned(),
                key: "a b+%<&>数\r".to_owned(),
                upload_id: "ID".to_owned(),
            };
            assert_eq!(InitiateMultipartUploadResult::parse(initiated.to_xml().as_bytes()).unwrap(), initiated);
            let completed = CompleteMultipartUploadResult {
                encoding_type,
                location: "http://b.host/a%20b".to_owned(),
                bucket: "b".to_owned(),
                key: "a b%20".to_owned(),
                etag: "\"ABC-2\"".to_owned(),
            };
            assert_eq!(CompleteMultipartUploadResult::parse(completed.to_xml().as_bytes()).unwrap(), completed);
            let parts = ListPartsResult {
                encoding_type,
                bucket: "b".to_owned(),
                key: "k?#".to_owned(),
                upload_id: "ID".to_owned(),
                part_number_marker: 1,
                next_part_number_marker: Some(2),
                max_parts: 1,
                is_truncated: true,
                storage_class: "Standard".to_owned(),
                parts: vec![Part {
                    part_number: 2,
                    last_modified: at(),
                    etag: "\"E\"".to_owned(),
                    hash_crc64ecma: Some(u64::MAX),
                    size: 5,
                }],
            };
            assert_eq!(ListPartsResult::parse(parts.to_xml().as_bytes()).unwrap(), parts);
            let uploads = ListMultipartUploadsResult {
                encoding_type,
                bucket: "b".to_owned(),
                key_marker: "a/1 %".to_owned(),
                upload_id_marker: "U1".to_owned(),
                next_key_marker: Some("a/2 &".to_owned()),
                next_upload_id_marker: Some("U2".to_owned()),
                delimiter: Some("/".to_owned()),
                prefix: "a/".to_owned(),
                max_uploads: 1,
                is_truncated: true,
                uploads: vec![Upload { key: "a/2 &".to_owned(), upload_id: "U2".to_owned(), initiated: at() }],
                common_prefixes: vec!["a/b c/".to_owned()],
            };
            assert_eq!(ListMultipartUploadsResult::parse(uploads.to_xml().as_bytes()).unwrap(), uploads);
        }
    }

    #[test]
    fn truncated_answers_need_a_marker() {
        let body = b"<ListPartsResult><IsTruncated>true</IsTruncated><NextPartNumberMarker/></ListPartsResult>";
        assert_eq!(ListPartsResult::parse(body), Err(XmlError::Missing { element: "NextPartNumberMarker" }));
        let body = b"<ListPartsResult><IsTruncated>false</IsTruncated><NextPartNumberMarker/></ListPartsResult>";
        assert_eq!(ListPartsResult::parse(body).unwrap().next_part_number_marker, None);
        let body = b"<ListMultipartUploadsResult><IsTruncated>true</IsTruncated></ListMultipartUploadsResult>";
        assert!(ListMultipartUploadsResult::parse(body).is_err());
    }
}
