//! Deleting objects, one or many.

use http::StatusCode;
use oss_protocol::error_code::ErrorCode;
use oss_protocol::uri::validate_key;
use oss_protocol::xml::delete::{DeleteObjects, DeleteResult, DeletedObject, MAX_KEYS};

use super::Context;
use crate::ingest::receive_document;
use crate::request::Request;
use crate::response::{Response, ServiceError, empty, xml};
use crate::rights;

/// Largest body of a request to delete many objects, a limit of the service.
const LARGEST_BODY: usize = 2 * 1024 * 1024;

/// Deletes one object. Deleting what does not exist succeeds.
pub(super) async fn object(context: &Context, request: &Request<'_>) -> Result<Response, ServiceError> {
    let bucket = context.bucket(&request.bucket)?;
    context.store.remove(&bucket, vec![request.key.clone()]).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

pub(super) async fn multiple(context: &Context, request: &mut Request<'_>) -> Result<Response, ServiceError> {
    let bucket = context.bucket(&request.bucket)?;
    let encoding_type = request.query.encoding_type()?;
    if !request.headers.contains_key("content-md5") {
        return Err(ServiceError::new(ErrorCode::MissingArgument).with_field("ArgumentName", "Content-MD5"));
    }
    let body = receive_document(request, LARGEST_BODY).await?;
    let malformed = || ServiceError::new(ErrorCode::MalformedXML);
    let delete = DeleteObjects::parse(&body).map_err(|_| malformed())?;
    if delete.objects.is_empty() || delete.objects.len() > MAX_KEYS {
        return Err(malformed());
    }
    let mut keys = Vec::with_capacity(delete.objects.len());
    for object in delete.objects {
        // The one version of an object is called `null`; there is no other to delete.
        if object.version_id.is_some_and(|id| id != "null") {
            continue;
        }
        validate_key(&object.key)
            .map_err(|_| ServiceError::new(ErrorCode::InvalidObjectName).with_field("ObjectName", &object.key))?;
        rights::check_object(context, request, "DeleteObject", &request.bucket, &object.key)?;
        keys.push(object.key);
    }
    context.store.remove(&bucket, keys.clone()).await?;
    if delete.quiet {
        return Ok(empty(StatusCode::OK));
    }
    let deleted = keys.into_iter().map(|key| DeletedObject { key, ..DeletedObject::default() }).collect();
    Ok(xml(DeleteResult { encoding_type, deleted }.to_xml()))
}
