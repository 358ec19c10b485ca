//! Deleting many objects with one request.

use super::{Cursor, EncodingType, Writer, XmlError, non_empty};

/// The limit of keys in one request.
pub const MAX_KEYS: usize = 1000;

const REQUEST_ROOT: &str = "Delete";
const RESULT_ROOT: &str = "DeleteResult";

/// An object to delete.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObjectIdentifier {
    /// The key.
    pub key: String,
    /// The version to delete; absent for the current one.
    pub version_id: Option<String>,
}

/// The body of `DeleteMultipleObjects`.
///
/// <https://www.alibabacloud.com/help/en/oss/developer-reference/deletemultipleobjects>
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteObjects {
    /// Whether the answer leaves out the deleted objects.
    pub quiet: bool,
    /// The objects. A server refuses more than [`MAX_KEYS`]; reading does not.
    pub objects: Vec<ObjectIdentifier>,
}

impl DeleteObjects {
    /// Reads a body.
    pub fn parse(body: &[u8]) -> Result<Self, XmlError> {
        let mut cursor = Cursor::open(body, REQUEST_ROOT)?;
        let mut result = Self::default();
        while let Some(name) = cursor.child()? {
            match name.local() {
                "Quiet" => result.quiet = cursor.boolean("Quiet")?,
                "Object" => result.objects.push(ObjectIdentifier::read(&mut cursor)?),
                _ => cursor.skip()?,
            }
        }
        Ok(result)
    }

    /// Writes a body.
    pub fn to_xml(&self) -> String {
        let mut writer = Writer::document(REQUEST_ROOT);
        writer.plain("Quiet", self.quiet);
        for object in &self.objects {
            writer.open("Object");
            writer.leaf("Key", &object.key);
            writer.leaf_option("VersionId", object.version_id.as_deref());
            writer.close("Object");
        }
        writer.finish(REQUEST_ROOT)
    }
}

impl ObjectIdentifier {
    fn read(cursor: &mut Cursor<'_>) -> Result<Self, XmlError> {
        let (mut key, mut version_id) = (None, None);
        while let Some(name) = cursor.child()? {
            match name.local() {
                "Key" => key = Some(cursor.text()?),
                "VersionId" => version_id = non_empty(cursor.text()?),
                _ => cursor.skip()?,
            }
        }
        Ok(Self { key: key.ok_or(XmlError::Missing { element: "Key" })?, version_id })
    }
}

/// An object that was deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeletedObject {
    /// The key.
    pub key: String,
    /// The version that was deleted.
    pub version_id: Option<String>,
    /// Whether a delete marker was left or removed.
    pub delete_marker: Option<bool>,
    /// The version of that delete marker.
    pub delete_marker_version_id: Option<String>,
}

impl DeletedObject {
    fn read(cursor: &mut Cursor<'_>) -> Result<Self, XmlError> {
        let mut key = None;
        let mut deleted = Self::default();
        while let Some(name) = cursor.child()? {
            match name.local() {
                "Key" => key = Some(cursor.text()?),
                "VersionId" => deleted.version_id = non_empty(cursor.text()?),
                "DeleteMarker" => deleted.delete_marker = Some(cursor.boolean("DeleteMarker")?),
                "DeleteMarkerVersionId" => deleted.delete_marker_version_id = non_empty(cursor.text()?),
                _ => cursor.skip()?,
            }
        }
        deleted.key = key.ok_or(XmlError::Missing { element: "Key" })?;
        Ok(deleted)
    }
}

/// The answer to `DeleteMultipleObjects`. A quiet answer has no body at all, which [`parse`](Self::parse) accepts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteResult {
    /// How keys are encoded in the body. The fields here are always decoded.
    pub encoding_type: EncodingType,
    /// The deleted objects.
    pub deleted: Vec<DeletedObject>,
}

impl DeleteResult {
    /// Reads a body.
    pub fn parse(body: &[u8]) -> Result<Self, XmlError> {
        let mut result = Self::default();
        if body.is_empty() {
            return Ok(result);
        }
        let mut cursor = Cursor::open(body, RESULT_ROOT)?;
        while let Some(name) = cursor.child()? {
            match name.local() {
                "EncodingType" => result.encoding_type = EncodingType::read(&mut cursor)?,
                "Deleted" => result.deleted.push(DeletedObject::read(&mut cursor)?),
                _ => cursor.skip()?,
            }
        }
        for deleted in &mut result.deleted {
            result.encoding_type.decode("Key", &mut deleted.key)?;
        }
        Ok(result)
    }

    /// Writes a body.
    pub fn to_xml(&self) -> String {
        let mut writer = Writer::document(RESULT_ROOT);
        self.encoding_type.write(&mut writer);
        for deleted in &self.deleted {
            writer.open("Deleted");
            self.encoding_type.write_leaf(&mut writer, "Key", &deleted.key);
            writer.leaf_option("VersionId", deleted.version_id.as_deref());
            if let Some(delete_marker) = deleted.delete_marker {
                writer.plain("DeleteMarker", delete_marker);
            }
            writer.leaf_option("DeleteMarkerVersionId", deleted.delete_marker_version_id.as_deref());
            writer.close("Deleted");
        }
        writer.finish(RESULT_ROOT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documented_request() {
        let body = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Delete>\n  <Quiet>true</Quiet>\n  <Object>\n    \
                    <Key>multipart.data</Key>\n  </Object>\n  <Object><Key>a&lt;b</Key><VersionId>v1</VersionId>\
                    </Object>\n</Delete>";
        let request = DeleteObjects::parse(body.as_bytes()).unwrap();
        assert!(request.quiet);
        assert_eq!(request.objects.len(), 2);
        assert_eq!(request.objects[0], ObjectIdentifier { key: "multipart.data".to_owned(), version_id: None });
        assert_eq!(request.objects[1].version_id.as_deref(), Some("v1"));
        assert_eq!(DeleteObjects::parse(request.to_xml().as_bytes()).unwrap(), request);
    }

    #[test]
    fn an_object_needs_a_key() {
        let body = b"<Delete><Object><VersionId>v</VersionId></Object></Delete>";
        assert_eq!(DeleteObjects::parse(body), Err(XmlError::Missing { element: "Key" }));
        let body = b"<Delete><Quiet>maybe</Quiet></Delete>";
        assert!(matches!(DeleteObjects::parse(body), Err(XmlError::Invalid { element: "Quiet", .. })));
    }

    #[test]
    fn a_quiet_answer_is_empty() {
        assert_eq!(DeleteResult::parse(b"").unwrap(), DeleteResult::default());
    }

    #[test]
    fn answers_are_decoded() {
        let body = "<DeleteResult><Deleted><Key>a%20b%2F%E6%95%B0</Key><DeleteMarker>true</DeleteMarker>\
                    <DeleteMarkerVersionId>m</DeleteMarkerVersionId></Deleted><EncodingType>url</EncodingType>\
                    </DeleteResult>";
        let result = DeleteResult::parse(body.as_bytes()).unwrap();
        assert_eq!(result.deleted[0].key, "a b/数");
        assert_eq!(result.deleted[0].delete_marker, Some(true));
        assert_eq!(DeleteResult::parse(result.to_xml().as_bytes()).unwrap(), result);
    }
}
