//! Making, describing and deleting buckets.

use http::StatusCode;
use oss_protocol::error_code::ErrorCode;
use oss_protocol::header;

use super::{Context, attributes};
use crate::ingest::receive_document;
use crate::request::Request;
use crate::response::{Response, ServiceError, empty, xml};
use crate::store::Acl;

pub(super) async fn put(context: &Context, request: &mut Request) -> Result<Response, ServiceError> {
    let acl = acl(request)?.unwrap_or(Acl::Private);
    context.store.create_bucket(&request.bucket, acl, "Standard").await?;
    Ok(empty(StatusCode::OK))
}

pub(super) async fn delete(context: &Context, request: &Request) -> Result<Response, ServiceError> {
    context
        .store
        .delete_bucket(&request.bucket)
        .await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

pub(super) fn list(_context: &Context, _request: &Request) -> Result<Response, ServiceError> { Err(ServiceError::new(ErrorCode::NotImplemented)) }
pub(super) fn info(_context: &Context, _request: &Request) -> Result<Response, ServiceError> { Err(ServiceError::new(ErrorCode::NotImplemented)) }
pub(super) fn location(_context: &Context, _request: &Request) -> Result<Response, ServiceError> { Err(ServiceError::new(ErrorCode::NotImplemented)) }
pub(super) fn stat(_context: &Context, _request: &Request) -> Result<Response, ServiceError> { Err(ServiceError::new(ErrorCode::NotImplemented)) }
pub(super) fn get_acl(_context: &Context, _request: &Request) -> Result<Response, ServiceError> { Err(ServiceError::new(ErrorCode::NotImplemented)) }
pub(super) fn acl_response(_acl: Acl) -> Response { empty(StatusCode::OK) }

pub(super) async fn put_acl(context: &Context, request: &Request) -> Result<Response, ServiceError> {
    let bucket = context.bucket(&request.bucket)?;
    let Some(acl) = acl(request)? else {
        return Err(ServiceError::new(ErrorCode::MissingArgument).with_field("ArgumentName", header::ACL.as_str()));
    };
    context.store.set_bucket_acl(&bucket, acl).await?;
    Ok(empty(StatusCode::OK))
}

/// The access control list named by `x-oss-acl`.
fn acl(request: &Request) -> Result<Option<Acl>, ServiceError> {
    let Some(text) = request.header(&header::ACL)? else { return Ok(None) };
    match Acl::parse(text) {
        Some(acl) if acl != Acl::Default => Ok(Some(acl)),
        _ => Err(ServiceError::invalid_argument(header::ACL.as_str(), text)),
    }
}
