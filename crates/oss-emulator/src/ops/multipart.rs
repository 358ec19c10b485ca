//! Multipart uploads, from the first request to the last.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use http::{HeaderValue, StatusCode, header as standard};
use md5::{Digest, Md5};
use oss_protocol::crc64::combine;
use oss_protocol::error_code::ErrorCode;
use oss_protocol::xml::multipart::{
    CompleteMultipartUpload, CompleteMultipartUploadResult, CompletedPart, InitiateMultipartUploadResult,
    ListMultipartUploadsResult, ListPartsResult, MAX_PARTS, MIN_PART_BYTES, Part as PartEntry, Upload as UploadEntry,
};
use oss_protocol::xml::{Document, EncodingType};
use oss_protocol::{canonical, header};

use super::list::bounded;
use super::page::{self, Selection};
use super::{Context, attributes, check_overwrite, object};
use crate::ingest::{Digests, Received, receive, receive_document};
use crate::request::Request;
use crate::response::{Response, ServiceError, empty, set, xml};
use crate::store::{Bucket, Content, Object, ObjectKind, Part, Upload, whole_seconds};

/// Largest list of parts: 10,000 of them at some hundred bytes each, with room for generous white space.
const LARGEST_LIST: usize = 4 * 1024 * 1024;

/// Parts or uploads on a page when the client does not say, which is also the most.
const MOST_ENTRIES: u32 = 1000;

pub(super) async fn initiate(context: &Context, request: &Request<'_>) -> Result<Response, ServiceError> {
    let bucket = context.bucket(&request.bucket)?;
    let encoding_type = request.query.encoding_type()?;
    let attributes = attributes::read(request, &bucket)?;
    if request.flag(&header::FORBID_OVERWRITE)? {
        check_overwrite(true, bucket.object(&request.key).as_deref())?;
    }
    let id = format!("{:032X}", rand::random::<u128>());
    let (key, now) = (Arc::from(request.key.as_str()), whole_seconds(SystemTime::now()));
    let upload = Upload::new(id, key, now, attributes, request.query.has("sequential"));
    let upload = context.store.add_upload(&bucket, upload).await?;
    let result = InitiateMultipartUploadResult {
        encoding_type,
        bucket: bucket.name.clone(),
        key: request.key.clone(),
        upload_id: upload.id.clone(),
    };
    let mut response = xml(result.to_xml());
    attributes::echo_encryption(&mut response, &upload.attributes);
    Ok(response)
}

pub(super) async fn upload_part(context: &Context, request: &mut Request<'_>) -> Result<Response, ServiceError> {
    let bucket = context.bucket(&request.bucket)?;
    let number = part_number(request)?;
    let upload = find_upload(&bucket, request)?;
    attributes::refuse_encryption(request)?;
    let received = receive(request, &context.store, context.etag).await?;
    let etag = received.etag();
    let Received { content, crc64, md5 } = received;
    let part = Part { content, etag: etag.clone(), crc64, last_modified: whole_seconds(SystemTime::now()) };
    let added = context.store.add_part(&bucket, &upload, number, part).await;
    added.map_err(|error| for_upload(error.into(), &upload.id))?;
    let mut response = empty(StatusCode::OK);
    set(&mut response, standard::ETAG, etag);
    set(&mut response, header::HASH_CRC64ECMA, crc64.to_string());
    attributes::echo_encryption(&mut response, &upload.attributes);
    if let Some(md5) = md5 {
        object::set_content_md5(&mut response, md5);
    }
    Ok(response)
}

pub(super) async fn complete(context: &Context, request: &mut Request<'_>) -> Result<Response, ServiceError> {
    let bucket = context.bucket(&request.bucket)?;
    let encoding_type = request.query.encoding_type()?;
    let forbid = request.flag(&header::FORBID_OVERWRITE)?;
    let acl = attributes::acl(request)?;
    attributes::refuse_encryption(request)?;
    let upload = find_upload(&bucket, request)?;
    let body = receive_document(request, LARGEST_LIST).await?;
    let uploaded = upload.parts();
    let chosen = match request.header(&header::COMPLETE_ALL)? {
        Some("yes") if body.is_empty() => uploaded.into_values().collect(),
        Some("yes") => {
            return Err(ServiceError::new(ErrorCode::InvalidArgument)
                .with_message("Complete all must not carry a list of parts."));
        }
        Some(other) => return Err(ServiceError::invalid_argument(header::COMPLETE_ALL.as_str(), other)),
        None => {
            let list = CompleteMultipartUpload::parse(&body).map_err(|_| ServiceError::new(ErrorCode::MalformedXML))?;
            if upload.sequential && list.parts.len() < uploaded.len() {
                return Err(ServiceError::new(ErrorCode::PartNotSequential));
            }
            choose(uploaded, &list.parts)?
        }
    };
    if chosen.is_empty() {
        return Err(ServiceError::new(ErrorCode::MalformedXML).with_message("The list of parts is empty."));
    }
    check_sizes(&chosen)?;
    let mut attributes = upload.attributes.clone();
    if let Some(acl) = acl {
        attributes::check_acl(&bucket, acl)?;
        attributes.acl = acl;
    }
    let storage_class = attributes.storage_class.unwrap_or(bucket.storage_class);
    let etag = combined_etag(&chosen);
    let crc64 = chosen.iter().fold(0, |crc, part| combine(crc, part.crc64, part.content.size()));
    let content = Content::new(chosen.iter().flat_map(|part| part.content.segments().iter().cloned()).collect());
    // Parts that come in order can be hashed while they arrive. Therefore the service returns the MD5 of these objects.
    if upload.sequential
        && let Some(md5) = Digests::of(&content, context.etag).await?.md5
        && let Ok(value) = HeaderValue::try_from(object::encode_md5(md5))
    {
        attributes.headers.push((object::CONTENT_MD5, value));
    }
    let object = Object::new(content, &etag, None, crc64, ObjectKind::Multipart, attributes, storage_class);
    let object = context
        .store
        .complete(&bucket, &upload, move |before| {
            check_overwrite(forbid, before)?;
            Ok::<_, ServiceError>(object)
        })
        .await
        .map_err(|error| for_upload(error, &upload.id))?;
    let result = CompleteMultipartUploadResult {
        encoding_type,
        location: location(context, &bucket.name, &request.key, encoding_type),
        bucket: bucket.name.clone(),
        key: request.key.clone(),
        etag: object.etag(),
    };
    let mut response = xml(result.to_xml());
    object::set_checksums(&mut response, &object);
    attributes::echo_encryption(&mut response, &object.attributes);
    if let Some((name, value)) = object.attributes.headers.iter().find(|(name, _)| *name == object::CONTENT_MD5) {
        response.headers_mut().insert(name, value.clone());
    }
    Ok(response)
}

/// The address of the object. Its key is percent-encoded if the client asked for that, as everywhere in the answer.
fn location(context: &Context, bucket: &str, key: &str, encoding: EncodingType) -> String {
    let key = match encoding {
        EncodingType::None => key.into(),
        EncodingType::Url => canonical::encode_query(key),
    };
    format!("{}://{}/{bucket}/{key}", context.scheme, context.address)
}

pub(super) async fn abort(context: &Context, request: &Request<'_>) -> Result<Response, ServiceError> {
    let bucket = context.bucket(&request.bucket)?;
    let upload = find_upload(&bucket, request)?;
    context
        .store
        .remove_upload(&bucket, &upload.key, &upload.id)
        .await
        .map_err(|error| for_upload(error.into(), &upload.id))?;
    Ok(empty(StatusCode::NO_CONTENT))
}

pub(super) fn list_parts(context: &Context, request: &Request<'_>) -> Result<Response, ServiceError> {
    let bucket = context.bucket(&request.bucket)?;
    let query = &request.query;
    let encoding_type = query.encoding_type()?;
    let max_parts = query.number("max-parts", MOST_ENTRIES, 1, MOST_ENTRIES)?;
    let marker = query.number("part-number-marker", 0, 0, MAX_PARTS)?;
    let upload = find_upload(&bucket, request)?;
    let mut parts: Vec<PartEntry> = upload
        .parts()
        .into_iter()
        .filter(|(number, _)| u32::from(*number) > marker)
        .take(max_parts as usize + 1)
        .map(|(number, part)| PartEntry {
            part_number: number.into(),
            last_modified: part.last_modified,
            size: part.content.size(),
            etag: part.etag,
            hash_crc64ecma: Some(part.crc64),
        })
        .collect();
    let is_truncated = parts.len() > max_parts as usize;
    parts.truncate(max_parts as usize);
    let storage_class = upload.attributes.storage_class.unwrap_or(bucket.storage_class);
    let result = ListPartsResult {
        encoding_type,
        bucket: bucket.name.clone(),
        key: request.key.clone(),
        upload_id: upload.id.clone(),
        part_number_marker: marker,
        // Always there, even of a list without parts: one of the official SDKs insists.
        next_part_number_marker: Some(parts.last().map_or(marker, |part| part.part_number)),
        max_parts,
        is_truncated,
        storage_class: storage_class.as_str().to_owned(),
        parts,
    };
    Ok(xml(result.to_xml()))
}

pub(super) fn list_uploads(context: &Context, request: &Request<'_>) -> Result<Response, ServiceError> {
    let bucket = context.bucket(&request.bucket)?;
    let query = &request.query;
    let encoding_type = query.encoding_type()?;
    let max_uploads = query.number("max-uploads", MOST_ENTRIES, 1, MOST_ENTRIES)?;
    let prefix = bounded(query, "prefix")?;
    let delimiter = bounded(query, "delimiter")?;
    let key_marker = bounded(query, "key-marker")?;
    // An upload alone, without its key, is no place in the order.
    let id_marker = if key_marker.is_empty() { "" } else { bounded(query, "upload-id-marker")? };
    let selection = Selection { prefix, delimiter, limit: max_uploads as usize };
    let page = page::uploads(&bucket, selection, key_marker, id_marker);
    let is_truncated = page.is_truncated;
    // Of the last page, too: the service fills them in, and the clean-up code of an SDK goes by them.
    let (next_key, next_id) = page.last;
    let result = ListMultipartUploadsResult {
        encoding_type,
        bucket: bucket.name.clone(),
        key_marker: key_marker.to_owned(),
        upload_id_marker: id_marker.to_owned(),
        next_key_marker: Some(next_key),
        next_upload_id_marker: Some(next_id),
        delimiter: (!delimiter.is_empty()).then(|| delimiter.to_owned()),
        prefix: prefix.to_owned(),
        max_uploads,
        is_truncated,
        uploads: page
            .uploads
            .iter()
            .map(|upload| UploadEntry {
                key: upload.key.as_ref().to_owned(),
                upload_id: upload.id.clone(),
                initiated: upload.initiated,
            })
            .collect(),
        common_prefixes: page.prefixes,
    };
    Ok(xml(result.to_xml()))
}

/// The number of the part that a request sends.
pub(super) fn part_number(request: &Request<'_>) -> Result<u16, ServiceError> {
    let text = request.query.get("partNumber").unwrap_or_default();
    match text.parse::<u16>() {
        Ok(number) if (1..=MAX_PARTS).contains(&number.into()) => Ok(number),
        _ => Err(ServiceError::invalid_argument("partNumber", text)),
    }
}

/// The upload that a request names.
pub(super) fn find_upload(bucket: &Bucket, request: &Request<'_>) -> Result<Arc<Upload>, ServiceError> {
    let id = request.query.get("uploadId").unwrap_or_default();
    bucket.upload(&request.key, id).ok_or_else(|| ServiceError::no_such_upload(id))
}

/// Names the upload in the refusal, if it is about the upload.
fn for_upload(error: ServiceError, id: &str) -> ServiceError {
    if *error.code() == ErrorCode::NoSuchUpload { ServiceError::no_such_upload(id) } else { error }
}

/// The parts that the client lists, which must be there and in order. Gaps between the numbers are fine.
fn choose(mut uploaded: BTreeMap<u16, Part>, listed: &[CompletedPart]) -> Result<Vec<Part>, ServiceError> {
    let mut chosen = Vec::with_capacity(listed.len());
    let mut previous = 0;
    for entry in listed {
        if entry.part_number <= previous {
            return Err(ServiceError::new(ErrorCode::InvalidPartOrder));
        }
        previous = entry.part_number;
        let part = u16::try_from(entry.part_number).ok().and_then(|number| uploaded.remove(&number));
        match part {
            Some(part) if part.etag.trim_matches('"') == entry.etag.trim().trim_matches('"') => chosen.push(part),
            _ => {
                return Err(ServiceError::new(ErrorCode::InvalidPart)
                    .with_field("PartNumber", entry.part_number.to_string())
                    .with_field("PartEtag", &entry.etag));
            }
        }
    }
    Ok(chosen)
}

/// Every part but the last has a least size.
fn check_sizes(parts: &[Part]) -> Result<(), ServiceError> {
    let Some((_, all_but_last)) = parts.split_last() else { return Ok(()) };
    match all_but_last.iter().find(|part| part.content.size() < MIN_PART_BYTES) {
        None => Ok(()),
        Some(part) => Err(ServiceError::new(ErrorCode::EntityTooSmall)
            .with_field("ProposedSize", part.content.size().to_string())
            .with_field("MinSizeAllowed", MIN_PART_BYTES.to_string())),
    }
}

/// The ETag of an object made of parts: 32 digits, a hyphen and the number of parts. It is no MD5 of the content.
fn combined_etag(parts: &[Part]) -> String {
    let mut md5 = Md5::new();
    for part in parts {
        md5.update(part.etag.trim_matches('"'));
    }
    format!("\"{:032X}-{}\"", u128::from_be_bytes(md5.finalize().into()), parts.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(size: usize, etag: &str) -> Part {
        let bytes = bytes::Bytes::from(vec![0; size]);
        Part {
            content: Content::new(vec![crate::store::Segment::Memory(bytes)]),
            etag: format!("\"{etag}\""),
            crc64: 0,
            last_modified: SystemTime::UNIX_EPOCH,
        }
    }

    fn code(listed: &[(u32, &str)]) -> Result<usize, String> {
        let uploaded = BTreeMap::from([(1, part(1, "A")), (3, part(1, "B"))]);
        let listed: Vec<_> = listed
            .iter()
            .map(|(part_number, etag)| CompletedPart { part_number: *part_number, etag: (*etag).to_owned() })
            .collect();
        choose(uploaded, &listed).map(|chosen| chosen.len()).map_err(|error| error.code().as_str().to_owned())
    }

    #[test]
    fn listed_parts_must_exist_and_ascend() {
        assert_eq!(code(&[(1, "\"A\""), (3, "B")]), Ok(2));
        assert_eq!(code(&[(3, "B")]), Ok(1));
        assert_eq!(code(&[(1, "B")]), Err("InvalidPart".to_owned()));
        assert_eq!(code(&[(2, "A")]), Err("InvalidPart".to_owned()));
        assert_eq!(code(&[(70_000, "A")]), Err("InvalidPart".to_owned()));
        assert_eq!(code(&[(3, "B"), (1, "A")]), Err("InvalidPartOrder".to_owned()));
        assert_eq!(code(&[(1, "A"), (1, "A")]), Err("InvalidPartOrder".to_owned()));
    }

    #[test]
    fn only_the_last_part_may_be_small() {
        let least = MIN_PART_BYTES as usize;
        assert!(check_sizes(&[part(least, "A"), part(1, "B")]).is_ok());
        assert!(check_sizes(&[part(1, "B")]).is_ok());
        assert!(check_sizes(&[part(least - 1, "A"), part(1, "B")]).is_err());
    }

    #[test]
    fn the_combined_etag_counts_parts() {
        let etag = combined_etag(&[part(1, "A"), part(1, "B")]);
        assert!(etag.ends_with("-2\"") && etag.len() == 36, "{etag}");
    }
}
