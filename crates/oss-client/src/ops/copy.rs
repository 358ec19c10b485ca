//! Copying inside the service.

use std::ops::Range;

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use oss_protocol::{
    canonical,
    error_code::ErrorCode,
    header as oss_header,
    xml::{
        Document,
        multipart::{CopyObjectResult, CopyPartResult},
        tagging::Tagging,
    },
};

use super::{exchange, head::ObjectMeta, multipart::Part, put::PutOptions, set_header};
use crate::{
    client::Client,
    error::{Error, ErrorKind, Result},
    request::Request,
    transport::Response,
};

/// A copy's answer holds an ETag and a date; that about tags, ten of 384 characters.
const ANSWER_LIMIT: usize = 64 << 10;

/// The headers that come along with a copy, beside the user's own metadata.
const DESCRIBING: [HeaderName; 6] = [
    header::CONTENT_TYPE,
    header::CACHE_CONTROL,
    header::CONTENT_DISPOSITION,
    header::CONTENT_ENCODING,
    header::CONTENT_LANGUAGE,
    header::EXPIRES,
];

/// The version of an object that is to be copied.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub(crate) bucket: String,
    pub(crate) key: String,
    pub(crate) meta: ObjectMeta,
    /// Its description without its tags, as headers of a write.
    pub(crate) headers: HeaderMap,
    pub(crate) has_tags: bool,
}

impl Source {
    fn path(&self) -> String {
        source_path(&self.bucket, &self.key)
    }

    /// Whether it is a symbolic link. The copy of a link is a link, whatever the size of its target.
    pub(crate) fn is_link(&self) -> bool {
        self.meta.object_type.as_deref() == Some("Symlink")
    }
}

impl Client {
    /// Copies an object in one request, only the version with an ETag if one is given; returns the ETag of the copy.
    pub(crate) async fn copy_object(
        &self,
        (source_bucket, source_key, version): (&str, &str, Option<&str>),
        bucket: &str,
        key: &str,
        put: &PutOptions,
    ) -> Result<String> {
        let mut request = Request::object(Method::PUT, bucket, key);
        request.headers.extend(put.headers.clone());
        if put.forbid_overwrite {
            set_header(&mut request.headers, oss_header::FORBID_OVERWRITE, "true")?;
        }
        if describes(&put.headers) {
            set_header(&mut request.headers, oss_header::METADATA_DIRECTIVE, "REPLACE")?;
        }
        if put.headers.contains_key(oss_header::TAGGING) {
            set_header(&mut request.headers, oss_header::TAGGING_DIRECTIVE, "Replace")?;
        }
        set_header(&mut request.headers, oss_header::COPY_SOURCE, &source_path(source_bucket, source_key))?;
        if let Some(version) = version {
            set_header(&mut request.headers, oss_header::COPY_SOURCE_IF_MATCH, version)?;
        }
        let exchanged = exchange(self, &request, ANSWER_LIMIT, |_| Ok(()), CopyObjectResult::parse).await;
        let (result, ()) = exchanged.map_err(|error| about_source(error, source_bucket, source_key, version))?;
        Ok(result.etag)
    }

    /// Copies bytes of an object into a part of an upload. They are those of the version that `source` describes.
    pub(crate) async fn upload_part_copy(
        &self,
        bucket: &str,
        key: &str,
        upload_id: &str,
        number: u32,
        source: &Source,
        range: Range<u64>,
    ) -> Result<Part> {
        let mut request = Request::object(Method::PUT, bucket, key)
            .query("partNumber", number.to_string())
            .query("uploadId", upload_id);
        let headers = &mut request.headers;
        set_header(headers, oss_header::COPY_SOURCE, &source.path())?;
        set_header(headers, oss_header::COPY_SOURCE_RANGE, &format!("bytes={}-{}", range.start, range.end - 1))?;
        set_header(headers, oss_header::COPY_SOURCE_IF_MATCH, &source.meta.etag)?;
        let crc64 = |response: &Response| response.crc64().map_err(|error| error.on(Some(bucket), Some(key)));
        let exchanged = exchange(self, &request, ANSWER_LIMIT, crc64, CopyPartResult::parse).await;
        let (result, crc64) =
            exchanged.map_err(|error| about_source(error, &source.bucket, &source.key, Some(&source.meta.etag)))?;
        Ok(Part { number, etag: result.etag, length: range.end - range.start, crc64 })
    }

    /// Describes an object for [`Client::upload_part_copy`].
    pub(crate) async fn copy_source(&self, bucket: &str, key: &str) -> Result<Source> {
        let request = Request::object(Method::HEAD, bucket, key);
        let response = self.send(&request).await?;
        let meta = self.described(&request, &response).await?;
        let has_tags = response.header(&oss_header::TAGGING_COUNT).is_some_and(|count| count != "0");
        Ok(Source { bucket: bucket.to_owned(), key: key.to_owned(), meta, headers: description(&response), has_tags })
    }

    /// The tags of an object, as a write names them.
    pub async fn tagging(&self, bucket: &str, key: &str) -> Result<String> {
        let request = Request::object(Method::GET, bucket, key).query("tagging", "");
        let (tagging, ()) = exchange(self, &request, ANSWER_LIMIT, |_| Ok(()), Tagging::parse).await?;
        Ok(canonical::format_query(&tagging.tags))
    }
}

fn source_path(bucket: &str, key: &str) -> String {
    format!("/{bucket}/{}", canonical::encode_path(key))
}

/// An error about the source names it, not the destination, which would mislead. `version` is the ETag that was asked for.
fn about_source(error: Error, bucket: &str, key: &str, version: Option<&str>) -> Error {
    match version {
        Some(etag) if error.status() == Some(StatusCode::PRECONDITION_FAILED) => {
            let text = format!(
                "the object was replaced while it was being copied (it no longer has ETag {etag}); copy it again"
            );
            Error::new(ErrorKind::Changed(text)).on(Some(bucket), Some(key))
        }
        _ if error.code() == Some(&ErrorCode::NoSuchKey) => error.about(bucket, key),
        _ => error,
    }
}

/// Whether headers hold something that a copy takes from its source, or all of it from the request.
pub(crate) fn describes(headers: &HeaderMap) -> bool {
    headers.keys().any(is_description)
}

fn is_description(name: &HeaderName) -> bool {
    DESCRIBING.contains(name) || name.as_str().starts_with(oss_header::META_PREFIX)
}

fn description(response: &Response) -> HeaderMap {
    // The parser of responses refuses names and values that a request cannot have.
    let named = response.headers.iter().filter_map(|(name, value)| Some((HeaderName::from_bytes(name).ok()?, value)));
    let described = named.filter(|(name, _)| is_description(name));
    described.filter_map(|(name, value)| Some((name, HeaderValue::from_bytes(value).ok()?))).collect()
}
