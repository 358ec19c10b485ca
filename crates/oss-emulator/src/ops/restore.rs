//! Archived objects: they cannot be read until they are restored, for some days.

use std::time::{Duration, SystemTime};

use http::{HeaderName, StatusCode};
use oss_protocol::error_code::ErrorCode;
use oss_protocol::header;
use oss_protocol::time::format_http_date;
use oss_protocol::xml::Document;
use oss_protocol::xml::restore::RestoreRequest;

use super::{Context, object};
use crate::ingest::receive_document;
use crate::request::Request;
use crate::response::{Response, ServiceError, empty, set};
use crate::store::{Object, Restoration, StorageClass, whole_seconds};

/// For how many days a restored object may be kept: a limit of the service.
const MOST_DAYS: u32 = 365;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Largest request. Real ones have some hundred bytes.
const LARGEST_DOCUMENT: usize = 64 * 1024;

/// How urgently a cold object is restored, in the answer.
const PRIORITY: HeaderName = HeaderName::from_static("x-oss-object-restore-priority");

pub(super) async fn restore(context: &Context, request: &mut Request<'_>) -> Result<Response, ServiceError> {
    let found = object::find(context, request)?;
    let body = receive_document(request, LARGEST_DOCUMENT).await?;
    let wanted = RestoreRequest::parse(&body).map_err(|_| ServiceError::new(ErrorCode::MalformedXML))?;
    let days = wanted.days.unwrap_or(1);
    if !(1..=MOST_DAYS).contains(&days) {
        return Err(ServiceError::invalid_argument("Days", &days.to_string()));
    }
    // Each class has its own tiers; the first archive class has none.
    let tiers: &[&str] = match found.storage_class {
        StorageClass::Archive if wanted.tier.is_some() => {
            return Err(ServiceError::new(ErrorCode::MalformedXML)
                .with_message("JobParameters are for objects of the class ColdArchive or DeepColdArchive."));
        }
        StorageClass::DeepColdArchive => &["Expedited", "Standard"],
        _ => &["Expedited", "Standard", "Bulk"],
    };
    let tier = wanted.tier.as_deref().unwrap_or("Standard");
    if !tiers.contains(&tier) {
        return Err(ServiceError::invalid_argument("Tier", tier));
    }
    let delay = context.restore_delay;
    let now = SystemTime::now();
    let mut status = StatusCode::ACCEPTED;
    if restored(&found, now) {
        status = StatusCode::OK;
    }
    let key = request.key.clone();
    object::change(context, request, move |object: &mut Object| {
        if !object.storage_class.is_archive() {
            return Err(ServiceError::new(ErrorCode::OperationNotSupported)
                .with_message("The operation is not supported for this resource")
                .with_field("Key", &key));
        }
        let ready = match state(object, now) {
            State::Ongoing => {
                return Err(ServiceError::new(ErrorCode::RestoreAlreadyInProgress).with_field("Key", &key));
            }
            State::Restored(restoration) => restoration.ready,
            State::Archived => now + delay,
        };
        let expiry = whole_seconds(ready.max(now) + DAY * days);
        object.restoration = Some(Box::new(Restoration { ready, expiry }));
        Ok(())
    })
    .await?;
    let mut response = empty(status);
    if status == StatusCode::ACCEPTED && found.storage_class != StorageClass::Archive {
        set(&mut response, PRIORITY, tier);
    }
    Ok(response)
}

enum State {
    Archived,
    Ongoing,
    Restored(Restoration),
}

fn state(object: &Object, now: SystemTime) -> State {
    match object.restoration.as_deref() {
        Some(restoration) if now < restoration.ready => State::Ongoing,
        Some(restoration) if now < restoration.expiry => State::Restored(*restoration),
        _ => State::Archived,
    }
}

fn restored(object: &Object, now: SystemTime) -> bool {
    matches!(state(object, now), State::Restored(_))
}

/// Refuses to read an archived object that is not restored.
pub(super) fn check_readable(object: &Object, key: &str) -> Result<(), ServiceError> {
    if !object.storage_class.is_archive() || restored(object, SystemTime::now()) {
        return Ok(());
    }
    Err(ServiceError::new(ErrorCode::InvalidObjectState)
        .with_message("The operation is not valid for the object's state")
        .with_field("Key", key))
}

/// Adds the header `x-oss-restore` with the progress of a restoration.
pub(super) fn describe(response: &mut Response, object: &Object) {
    if let Some(progress) = progress(object) {
        set(response, header::RESTORE, progress);
    }
}

/// How far a restoration is, as `x-oss-restore` says; nothing for an object that nobody asked to restore.
pub(super) fn progress(object: &Object) -> Option<String> {
    object.restoration.as_ref()?;
    match state(object, SystemTime::now()) {
        State::Archived => None,
        State::Ongoing => Some("ongoing-request=\"true\"".to_owned()),
        State::Restored(restoration) => {
            let expiry = format_http_date(restoration.expiry);
            Some(format!("ongoing-request=\"false\", expiry-date=\"{expiry}\""))
        }
    }
}
