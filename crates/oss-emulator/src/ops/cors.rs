//! Preflight requests of browsers.

use http::{HeaderMap, Method, StatusCode, header as standard};
use oss_protocol::error_code::ErrorCode;

use super::Context;
use crate::request::Request;
use crate::response::{Response, ServiceError, empty};

pub(super) fn preflight(context: &Context, request: &Request<'_>) -> Result<Response, ServiceError> {
    let bucket = context.bucket(&request.bucket)?;
    let needed = |name: &http::HeaderName, message: &'static str| match request.header(name)? {
        Some(text) if !text.is_empty() => Ok(text),
        _ => Err(ServiceError::new(ErrorCode::BadRequest).with_message(message)),
    };
    let origin = needed(&standard::ORIGIN, "Insufficient information. Origin request header needed.")?;
    let method = needed(
        &standard::ACCESS_CONTROL_REQUEST_METHOD,
        "Insufficient information. Request Access-Control-Request-Method header needed.",
    )?;
    let headers = request.header(&standard::ACCESS_CONTROL_REQUEST_HEADERS)?.unwrap_or_default();
    let rules = bucket.configurations().cors.clone();
    let allowed = rules.as_ref().and_then(|rules| rules.preflight(origin, method, headers));
    let Some(allowed) = allowed else {
        let message = if rules.is_none() {
            "CORSResponse: CORS is not enabled for this bucket."
        } else {
            "CORSResponse: This CORS request is not allowed. This is usually because the evaluation of Origin, request \
             method / Access-Control-Request-Method or Access-Control-Request-Headers are not whitelisted by the \
             resource's CORS spec."
        };
        return Err(ServiceError::new(ErrorCode::AccessForbidden)
            .with_message(message)
            .with_field("Method", method)
            .with_field("ResourceType", if request.key.is_empty() { "Bucket" } else { "Object" }));
    };
    let mut response = empty(StatusCode::OK);
    response.headers_mut().extend(allowed);
    Ok(response)
}

/// The headers that a bucket's rules add to an answer for a page of another origin.
pub(crate) fn answer_headers(context: &Context, bucket: &str, method: &Method, headers: &HeaderMap) -> HeaderMap {
    let Some(origin) = headers.get(standard::ORIGIN).and_then(|origin| origin.to_str().ok()) else {
        return HeaderMap::new();
    };
    let rules = context.store.bucket(bucket).and_then(|bucket| bucket.configurations().cors.clone());
    rules.map(|rules| rules.answer(origin, method.as_str())).unwrap_or_default()
}
