//! The headers with which a writer describes an object.

use http::{HeaderMap, HeaderName, HeaderValue, header as standard};
use oss_protocol::error_code::ErrorCode;
use oss_protocol::header;

use super::tagging;
use crate::condition::ConditionHeaders;
use crate::request::{Request, header_text};
use crate::response::{Response, ServiceError};
use crate::store::{Acl, Attributes, Bucket, Headers, StorageClass};

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
pub(super) fn read(request: &Request<'_>, bucket: &Bucket) -> Result<Attributes, ServiceError> {
    let headers = &request.headers;
    refuse_unsupported(headers)?;
    let algorithm = request.header(&header::SERVER_SIDE_ENCRYPTION)?;
    let mut kept = Headers::default();
    for name in KEPT {
        // It is for keys of the key management service; the service ignores it otherwise.
        if name == header::SERVER_SIDE_DATA_ENCRYPTION && algorithm != Some("KMS") {
            continue;
        }
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
    match algorithm {
        Some(algorithm) => {
            check_algorithm(algorithm)?;
            if algorithm == "KMS" && !headers.contains_key(header::SERVER_SIDE_ENCRYPTION_KEY_ID) {
                kept.push((header::SERVER_SIDE_ENCRYPTION_KEY_ID, HeaderValue::from_static(DEFAULT_KEY_ID)));
            }
        }
        None => {
            if let Some(rule) = bucket.configurations().encryption.clone() {
                let key_id = rule.key_id.as_deref().or((rule.algorithm == "KMS").then_some(DEFAULT_KEY_ID));
                let named = [Some(rule.algorithm.as_str()), key_id, rule.data_encryption.as_deref()];
                for (name, value) in ENCRYPTION.into_iter().zip(named) {
                    if let Some(value) = value.and_then(|value| HeaderValue::from_str(value).ok()) {
                        kept.push((name, value));
                    }
                }
            }
        }
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
    let acl = acl(request)?.unwrap_or_default();
    check_acl(bucket, acl)?;
    Ok(Attributes { headers: kept, acl, storage_class: storage_class(request)?, tags: tagging::from_header(request)? })
}

/// The refusal of what would open something to everyone while the bucket blocks that.
pub(super) fn public_access_is_blocked(message: &'static str) -> ServiceError {
    ServiceError::new(ErrorCode::AccessDenied).with_message(message)
}

/// Refuses an access control list that opens an object to everyone while its bucket blocks that.
pub(super) fn check_acl(bucket: &Bucket, acl: Acl) -> Result<(), ServiceError> {
    if acl.is_public() && bucket.blocks_public_access() {
        return Err(public_access_is_blocked("Put public object acl is not allowed"));
    }
    Ok(())
}

/// Refuses an algorithm that the service does not know.
pub(super) fn check_algorithm(algorithm: &str) -> Result<(), ServiceError> {
    if ["AES256", "KMS", "SM4"].contains(&algorithm) {
        return Ok(());
    }
    Err(ServiceError::new(ErrorCode::InvalidEncryptionAlgorithmError))
}

/// The key of the key management service for those who name none: the service makes one for each account.
const DEFAULT_KEY_ID: &str = "00000000-0000-4000-8000-000000000000";

/// Refuses a request that belongs to an upload and says how the object is encrypted: the first request has said it.
pub(super) fn refuse_encryption(request: &Request<'_>) -> Result<(), ServiceError> {
    match request.header(&header::SERVER_SIDE_ENCRYPTION)? {
        None => Ok(()),
        Some(algorithm) => Err(ServiceError::invalid_argument(header::SERVER_SIDE_ENCRYPTION.as_str(), algorithm)),
    }
}

/// The headers that say how an object is encrypted.
pub(super) const ENCRYPTION: [HeaderName; 3] =
    [header::SERVER_SIDE_ENCRYPTION, header::SERVER_SIDE_ENCRYPTION_KEY_ID, header::SERVER_SIDE_DATA_ENCRYPTION];

/// Adds how an object is encrypted to the answer to a write.
pub(super) fn echo_encryption(response: &mut Response, attributes: &Attributes) {
    for (name, value) in &attributes.headers {
        if ENCRYPTION.contains(name) {
            response.headers_mut().insert(name, value.clone());
        }
    }
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
