//! Appending to objects.

use http::{HeaderValue, StatusCode, header as standard};
use oss_protocol::crc64::combine;
use oss_protocol::error_code::ErrorCode;
use oss_protocol::header;

use super::{Context, attributes};
use crate::config::EtagMode;
use crate::ingest::{LARGEST_CONTENT, fast_etag, receive};
use crate::request::Request;
use crate::response::{Response, ServiceError, empty, set};
use crate::store::{Object, ObjectKind, StorageClass};

pub(super) async fn append(context: &Context, request: &mut Request<'_>) -> Result<Response, ServiceError> {
    let bucket = context.bucket(&request.bucket)?;
    let position = match request.query.text("position").map(|text| (text, text.parse::<u64>())) {
        None => return Err(ServiceError::new(ErrorCode::MissingArgument).with_field("ArgumentName", "position")),
        Some((text, Err(_))) => return Err(ServiceError::invalid_argument("position", text)),
        Some((_, Ok(position))) => position,
    };
    let present = bucket.object(&request.key);
    if present.is_some() {
        // The first append decides about tags; the service does not look at those of later ones.
        request.headers.remove(header::TAGGING);
    }
    let attributes = attributes::read(request, &bucket)?;
    let storage_class = attributes.storage_class.unwrap_or(bucket.storage_class);
    if matches!(storage_class, StorageClass::ColdArchive | StorageClass::DeepColdArchive) {
        return Err(ServiceError::new(ErrorCode::OperationNotSupported)
            .with_message(format!("AppendObject does not support the storage class {}.", storage_class.as_str()))
            .with_ec("0016-00000503"));
    }
    // If possible, a client learns before it sends gigabytes that they will be refused. Only the check at the end decides.
    if present.is_some_and(|object| object.size() == position) {
        check_grown(position, request.content_length()?.unwrap_or(0))?;
    }
    // An appended object has no MD5 of its own, so there is none to compute.
    let received = receive(request, &context.store, EtagMode::Fast).await?;
    let object = context
        .store
        .replace(&bucket, &request.key, move |before| {
            let size = before.map_or(0, Object::size);
            if before.is_some_and(|object| object.kind != ObjectKind::Appendable) {
                return Err(ServiceError::new(ErrorCode::ObjectNotAppendable));
            }
            if position != size {
                return Err(ServiceError::new(ErrorCode::PositionNotEqualToLength)
                    .with_header(header::NEXT_APPEND_POSITION, HeaderValue::from(size)));
            }
            check_grown(size, received.content.size())?;
            let (content, crc64, attributes, storage_class) = match before {
                None => (received.content, received.crc64, attributes, storage_class),
                // The first append decides what the object is like; later ones only add bytes.
                Some(object) => (
                    object.content.followed_by(&received.content),
                    combine(object.crc64, received.crc64, received.content.size()),
                    object.attributes.clone(),
                    object.storage_class,
                ),
            };
            let etag = fast_etag(crc64, content.size());
            Ok(Object::new(content, &etag, None, crc64, ObjectKind::Appendable, attributes, storage_class))
        })
        .await?;
    let mut response = empty(StatusCode::OK);
    set(&mut response, standard::ETAG, object.etag());
    set(&mut response, header::HASH_CRC64ECMA, object.crc64.to_string());
    set(&mut response, header::NEXT_APPEND_POSITION, object.size().to_string());
    attributes::echo_encryption(&mut response, &object.attributes);
    Ok(response)
}

/// Refuses to make an object larger than it may be.
fn check_grown(size: u64, more: u64) -> Result<(), ServiceError> {
    if size.saturating_add(more) > LARGEST_CONTENT {
        return Err(ServiceError::new(ErrorCode::EntityTooLarge)
            .with_message("An appended object may have 5 GB. Write the rest to another object."));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_grows_to_five_gigabytes() {
        assert!(check_grown(LARGEST_CONTENT - 1, 1).is_ok());
        let refused = check_grown(LARGEST_CONTENT, 1).unwrap_err();
        assert_eq!(refused.code(), &ErrorCode::EntityTooLarge);
        assert!(check_grown(1, u64::MAX).is_err());
    }
}
