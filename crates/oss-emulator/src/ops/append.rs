//! Appending to objects.

use http::{HeaderValue, StatusCode, header as standard};
use oss_protocol::crc64::combine;
use oss_protocol::error_code::ErrorCode;
use oss_protocol::header;

use super::{Context, attributes};
use crate::config::EtagMode;
use crate::ingest::{fast_etag, receive};
use crate::request::Request;
use crate::response::{Response, ServiceError, empty, set};
use crate::store::{Object, ObjectKind};

pub(super) async fn append(context: &Context, request: &mut Request<'_>) -> Result<Response, ServiceError> {
    let bucket = context.bucket(&request.bucket)?;
    let position = match request.query.text("position").map(|text| (text, text.parse::<u64>())) {
        None => return Err(ServiceError::new(ErrorCode::MissingArgument).with_field("ArgumentName", "position")),
        Some((text, Err(_))) => return Err(ServiceError::invalid_argument("position", text)),
        Some((_, Ok(position))) => position,
    };
    if bucket.object(&request.key).is_some() {
        // The first append decides about tags; the service does not look at those of later ones.
        request.headers.remove(header::TAGGING);
    }
    let attributes = attributes::read(request, &bucket)?;
    // An appended object has no MD5 of its own, so there is none to compute.
    let received = receive(request, &context.store, EtagMode::Fast).await?;
    let storage_class = attributes.storage_class.unwrap_or(bucket.storage_class);
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
