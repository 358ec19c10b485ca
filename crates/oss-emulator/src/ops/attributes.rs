//! The headers with which a writer describes an object.

use http::{HeaderMap, HeaderName, HeaderValue, header as standard};
use oss_protocol::error_code::ErrorCode;
use oss_protocol::header;

use super::tagging;
use crate::condition::ConditionHeaders;
use crate::request::{Request, header_text};
use crate::response::ServiceError;
use crate::store::{Acl, Attributes, Headers, StorageClass};

/// Headers kept and returned as they came.
const KEPT: [HeaderName; 9] = [
    standard::CONTENT_TYPE,
    standard::CACHE_CONTROL,
    standard::CONTENT_DISPOSITION,
    standard::CONTENT_ENCODING,
    standard::CONTENT_LANGUAGE,
    standard::EXPIRES,
    header::SERVER_SIDE_ENCRYPTION,
    header::SERVER_SIDE_ENCRYPTION_KEY_ID,
    header::SERVER_SIDE_DATA_ENCRYPTION,
];

/// The user's metadata may take 8 KB, names and values together.
const LARGEST_METADATA: usize = 8 * 1024;

/// Reads the attributes of an object that is about to be written.
pub(super) fn read(request: &Request<'_>) -> Result<Attributes, ServiceError> {
    let headers = &request.headers;
    refuse_unsupported(headers)?;
    let mut kept = Headers::default();
    for name in KEPT {
        match headers.get(&name) {
            Some(value) if !value.is_empty() => {
                header_text(headers, &name)?;
                kept.push((name, value.clone()));
            }
            _ if name == standard::CONTENT_TYPE => {
                kept.push((name, HeaderValue::from_static("application/octet-stream")));
            }
            _ => {}
        }
    }
    if let Some(algorithm) = request.header(&header::SERVER_SIDE_ENCRYPTION)?
        && !["AES256", "KMS", "SM4"].contains(&algorithm)
    {
        return Err(ServiceError::new(ErrorCode::InvalidEncryptionAlgorithmError));
    }
    let mut size = 0;
    for (name, value) in headers {
        let Some(suffix) = name.as_str().strip_prefix(header::META_PREFIX) else { continue };
        if suffix.is_empty() || !suffix.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
            return Err(ServiceError::invalid_argument(name.as_str(), suffix));
        }
        header_text(headers, name)?;
        size += suffix.len() + value.len();
        kept.push((name.clone(), value.clone()));
    }
    if size > LARGEST_METADATA {
        return Err(
            ServiceError::new(ErrorCode::InvalidArgument).with_message("The user metadata is larger than 8 KB.")
        );
    }
    Ok(Attributes {
        headers: kept,
        acl: acl(request)?.unwrap_or_default(),
        storage_class: storage_class(request)?,
        tags: tagging::from_header(request)?,
    })
}

/// The access control list named by `x-oss-object-acl`.
pub(super) fn acl(request: &Request<'_>) -> Result<Option<Acl>, ServiceError> {
    let Some(text) = request.header(&header::OBJECT_ACL)? else { return Ok(None) };
    match Acl::parse(text) {
        Some(acl) => Ok(Some(acl)),
        None => Err(ServiceError::invalid_argument(header::OBJECT_ACL.as_str(), text)),
    }
}

/// The storage class named by `x-oss-storage-class`.
pub(super) fn storage_class(request: &Request<'_>) -> Result<Option<StorageClass>, ServiceError> {
    match request.header(&header::STORAGE_CLASS)? {
        None => Ok(None),
        Some(text) => check_storage_class(text).map(Some),
    }
}

/// The storage class of that name.
pub(super) fn check_storage_class(text: &str) -> Result<StorageClass, ServiceError> {
    StorageClass::parse(text).ok_or_else(|| ServiceError::invalid_argument(header::STORAGE_CLASS.as_str(), text))
}

/// Headers whose effect would be missed if they were ignored.
fn refuse_unsupported(headers: &HeaderMap) -> Result<(), ServiceError> {
    let name = ConditionHeaders::READ
        .first_present(headers)
        .cloned()
        .or_else(|| headers.contains_key(header::CALLBACK).then_some(header::CALLBACK));
    match name {
        None => Ok(()),
        Some(name) => Err(ServiceError::new(ErrorCode::NotImplemented).with_field("Header", name.as_str())),
    }
}
