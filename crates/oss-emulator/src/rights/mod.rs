//! Who may do what: the policies of keys, and the policies and access control lists of buckets and objects.
//!
//! A key without a policy belongs to the account that owns everything, and may do everything that no bucket policy denies
//! to everyone. A key with a policy is a user of that account: it may do what its policy or a bucket's policy allows and
//! neither denies. A request without a key may do what a bucket's policy or an access control list opens to everyone.

mod action;
mod policy;

use std::borrow::Cow;

use http::header as standard;
use oss_protocol::error_code::ErrorCode;

pub use policy::PolicyError;
pub(crate) use policy::{Circumstances, LARGEST_POLICY, Policy, Question, Verdict, Who};

use crate::ops::{Context, ruling_acl};
use crate::request::{Request, Sender};
use crate::response::ServiceError;
use crate::route::Operation;
use crate::store::Bucket;

/// Refuses a request whose sender has no right to it. What only access control lists can open is left to
/// [`Permission::ByAccessControlList`].
pub(crate) fn check(
    context: &Context,
    operation: Operation,
    request: &Request<'_>,
) -> Result<Permission, ServiceError> {
    let bucket = context.store.bucket(&request.bucket);
    let bucket_policy = bucket.as_ref().and_then(|bucket| bucket.policy());
    // The many requests of an account that uses no policies.
    if matches!(request.sender, Sender::Owner) && bucket_policy.is_none() {
        return Ok(Permission::Granted);
    }
    let bucket = bucket.as_deref();
    // Each key of the list is asked about when the list has been read.
    if operation == Operation::DeleteMultipleObjects && !request.is_anonymous() {
        return Ok(Permission::Granted);
    }
    let permission =
        judge(bucket, bucket_policy.as_deref(), request, action::of_operation(operation), &resource(request))?;
    for (extra, key) in further_actions(operation, request) {
        judge(bucket, bucket_policy.as_deref(), request, extra, &format!("{}/{key}", request.bucket))?;
    }
    Ok(permission)
}

/// Refuses an object that a request reaches beside the one it names: the source of a copy, the target of a link, or one of
/// several to delete.
pub(crate) fn check_object(
    context: &Context,
    request: &Request<'_>,
    action: &str,
    bucket: &str,
    key: &str,
) -> Result<(), ServiceError> {
    let found = context.store.bucket(bucket);
    let bucket_policy = found.as_ref().and_then(|bucket| bucket.policy());
    if matches!(request.sender, Sender::Owner) && bucket_policy.is_none() {
        return Ok(());
    }
    let resource = format!("{bucket}/{key}");
    let permission = judge(found.as_deref(), bucket_policy.as_deref(), request, action, &resource)?;
    // No policy opens this object to everyone, whatever opened the request itself.
    let write = action != "GetObject";
    let is_open = || {
        found.is_some_and(|bucket| {
            let object = bucket.object(key);
            !bucket.blocks_public_access() && ruling_acl(&bucket, object.as_deref(), write).allows_anyone(write)
        })
    };
    if permission == Permission::ByAccessControlList && !is_open() {
        return Err(refusal("You have no right to access this object because of bucket acl.", action));
    }
    Ok(())
}

/// How a request that was not refused may go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Permission {
    Granted,
    /// No policy speaks of it; the sender has no key, so an access control list has to open it.
    ByAccessControlList,
}

fn judge(
    bucket: Option<&Bucket>,
    bucket_policy: Option<&Policy>,
    request: &Request<'_>,
    action: &str,
    resource: &str,
) -> Result<Permission, ServiceError> {
    let who = match &request.sender {
        Sender::Anyone => Who::Anyone,
        Sender::Owner => Who::Key(""),
        Sender::User { access_key_id, .. } => Who::Key(access_key_id),
    };
    let circumstances = Circumstances {
        source: Some(request.source.ip()),
        secure: request.secure,
        prefix: request.query.get("prefix"),
        delimiter: request.query.get("delimiter"),
        user_agent: request.headers.get(standard::USER_AGENT).and_then(|value| value.to_str().ok()),
    };
    let question = Question { action, resource, who, circumstances };
    let by_bucket = match bucket_policy {
        None => Verdict::Silent,
        // Blocking public access takes from a policy what it opens to everyone.
        Some(policy) if who == Who::Anyone && bucket.is_some_and(Bucket::blocks_public_access) => {
            match policy.judge(&question) {
                Verdict::Allowed => Verdict::Silent,
                other => other,
            }
        }
        Some(policy) => policy.judge(&question),
    };
    if by_bucket == Verdict::Denied {
        return Err(refusal("Access denied by bucket policy.", action));
    }
    match &request.sender {
        Sender::Owner => Ok(Permission::Granted),
        Sender::Anyone if by_bucket == Verdict::Allowed => Ok(Permission::Granted),
        Sender::Anyone => Ok(Permission::ByAccessControlList),
        Sender::User { policy, .. } => match policy.judge(&question) {
            Verdict::Denied => Err(refusal("Access denied by authorizer's policy.", action)),
            Verdict::Allowed => Ok(Permission::Granted),
            Verdict::Silent if by_bucket == Verdict::Allowed => Ok(Permission::Granted),
            Verdict::Silent => Err(refusal("You have no right to access this object because of bucket acl.", action)),
        },
    }
}

/// The refusal, with the action that a right is missing to.
fn refusal(message: &'static str, action: &str) -> ServiceError {
    ServiceError::new(ErrorCode::AccessDenied).with_message(message).with_field("AuthAction", format!("oss:{action}"))
}

fn resource<'a>(request: &'a Request<'_>) -> Cow<'a, str> {
    match (request.bucket.is_empty(), request.key.is_empty()) {
        (true, _) => Cow::Borrowed("*"),
        (false, true) => Cow::Borrowed(&request.bucket),
        (false, false) => Cow::Owned(format!("{}/{}", request.bucket, request.key)),
    }
}

/// Rights that headers of a write need beside the right to write.
fn further_actions<'a>(
    operation: Operation,
    request: &'a Request<'_>,
) -> impl Iterator<Item = (&'static str, &'a str)> {
    use oss_protocol::header;
    let writes = action::of_operation(operation) == "PutObject";
    let named = |name: &http::HeaderName| writes && request.headers.contains_key(name);
    [named(&header::OBJECT_ACL).then_some("PutObjectAcl"), named(&header::TAGGING).then_some("PutObjectTagging")]
        .into_iter()
        .flatten()
        .map(|action| (action, request.key.as_str()))
}
