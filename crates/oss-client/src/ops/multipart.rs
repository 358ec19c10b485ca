//! The requests that an upload in parts is made of.

use std::time::SystemTime;

use bytes::Bytes;
use http::Method;
use oss_protocol::{
    crc64,
    xml::{
        Document,
        multipart::{
            CompleteMultipartUpload, CompleteMultipartUploadResult, CompletedPart, InitiateMultipartUploadResult,
            ListMultipartUploadsResult, ListPartsResult,
        },
    },
};

use super::{exchange, incomplete, put::PutOptions, put::compare_crc64, set_header};
use crate::{client::Client, error::Result, request::Request};

/// Answers to the requests about one upload hold a few names.
const ANSWER_LIMIT: usize = 64 << 10;

/// A page of at most 1,000 uploads.
const PAGE_LIMIT: usize = 16 << 20;

/// A part that the server has confirmed.
#[derive(Clone, Debug)]
pub struct Part {
    /// Its number, from 1.
    pub number: u32,
    /// Its ETag.
    pub etag: String,
    /// Its length in bytes.
    pub length: u64,
    /// Its CRC-64, if it is known.
    pub crc64: Option<u64>,
}

/// CRC-64 of all parts joined, in the order of their numbers.
pub(crate) fn folded(parts: &[Part]) -> Option<u64> {
    parts.iter().try_fold(0, |crc, part| Some(crc64::combine(crc, part.crc64?, part.length)))
}

/// An upload that was begun and neither completed nor aborted.
#[derive(Clone, Debug)]
pub struct OpenUpload {
    /// Key it would publish.
    pub key: String,
    /// Its id.
    pub upload_id: String,
    /// When it was begun.
    pub initiated: SystemTime,
}

impl Client {
    /// Begins an upload and returns its id.
    pub async fn initiate_multipart(&self, bucket: &str, key: &str, options: &PutOptions) -> Result<String> {
        let mut request = Request::object(Method::POST, bucket, key).query("uploads", "");
        options.apply_to_first(&mut request)?;
        let (result, ()) =
            exchange(self, &request, ANSWER_LIMIT, |_| Ok(()), InitiateMultipartUploadResult::parse).await?;
        Ok(result.upload_id)
    }

    /// Uploads one part; its checksum is compared with the server's.
    pub async fn upload_part(
        &self,
        bucket: &str,
        key: &str,
        upload_id: &str,
        number: u32,
        bytes: Bytes,
    ) -> Result<Part> {
        let (length, checksum) = (bytes.len() as u64, crc64::checksum(&bytes));
        let mut request = Request::object(Method::PUT, bucket, key)
            .query("partNumber", number.to_string())
            .query("uploadId", upload_id)
            .with_body(bytes);
        set_header(&mut request.headers, http::header::CONTENT_TYPE, "application/octet-stream")?;
        let mut budget = self.budget();
        loop {
            let response = self.send_within(&request, &mut budget).await?;
            match compare_crc64(&request, &response, checksum) {
                Ok(()) => {
                    let etag = response.etag().ok_or_else(|| incomplete(&request, "ETag"))?.to_owned();
                    response.body.finish().await?;
                    return Ok(Part { number, etag, length, crc64: Some(checksum) });
                }
                Err(error) => budget.wait_after(error).await?,
            }
        }
    }

    /// Joins the parts in the order of their numbers, and publishes the object; returns its ETag. Its checksum must be
    /// `crc64`.
    ///
    /// If it fails, the object may have been published all the same: see [`crate::upload`].
    pub async fn complete_multipart(
        &self,
        bucket: &str,
        key: &str,
        upload_id: &str,
        parts: &[Part],
        crc64: Option<u64>,
        options: &PutOptions,
    ) -> Result<String> {
        let uploaded =
            parts.iter().map(|part| CompletedPart { part_number: part.number, etag: part.etag.clone() }).collect();
        let body = CompleteMultipartUpload { parts: uploaded }.to_xml();
        let mut request = Request::object(Method::POST, bucket, key).query("uploadId", upload_id).with_body(body);
        options.apply_to_last(&mut request)?;
        set_header(&mut request.headers, http::header::CONTENT_TYPE, "application/xml")?;
        let compare = |response: &_| crc64.map_or(Ok(()), |crc64| compare_crc64(&request, response, crc64));
        let (result, ()) =
            exchange(self, &request, ANSWER_LIMIT, compare, CompleteMultipartUploadResult::parse).await?;
        Ok(result.etag)
    }

    /// The parts of an upload that have arrived, in the order of their numbers.
    pub async fn list_parts(&self, bucket: &str, key: &str, upload_id: &str) -> Result<Vec<Part>> {
        let mut parts: Vec<Part> = Vec::new();
        let mut marker = 0;
        loop {
            let request = Request::object(Method::GET, bucket, key)
                .query("uploadId", upload_id)
                .query("encoding-type", "url")
                .query("part-number-marker", marker.to_string());
            let (page, ()) = exchange(self, &request, PAGE_LIMIT, |_| Ok(()), ListPartsResult::parse).await?;
            parts.extend(page.parts.into_iter().map(|part| Part {
                number: part.part_number,
                etag: part.etag,
                length: part.size,
                crc64: part.hash_crc64ecma,
            }));
            if !page.is_truncated {
                return Ok(parts);
            }
            match page.next_part_number_marker {
                Some(next) if next > marker => marker = next,
                _ => return Err(incomplete(&request, "NextPartNumberMarker")),
            }
        }
    }

    /// Aborts an upload and removes its parts. It is not an error if it does not exist.
    pub async fn abort_multipart(&self, bucket: &str, key: &str, upload_id: &str) -> Result<()> {
        let request = Request::object(Method::DELETE, bucket, key).query("uploadId", upload_id);
        match self.send(&request).await {
            Ok(response) => response.body.finish().await,
            Err(error) if error.is_not_found() => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Uploads under a prefix that were neither completed nor aborted.
    pub async fn list_multipart_uploads(&self, bucket: &str, prefix: &str) -> Result<Vec<OpenUpload>> {
        let mut uploads = Vec::new();
        let mut markers: Option<(String, String)> = None;
        loop {
            let mut request = Request::bucket(Method::GET, bucket)
                .query("uploads", "")
                .query("encoding-type", "url")
                .query("prefix", prefix);
            if let Some((key, upload_id)) = &markers {
                request = request.query("key-marker", key.as_str()).query("upload-id-marker", upload_id.as_str());
            }
            let (page, ()) =
                exchange(self, &request, PAGE_LIMIT, |_| Ok(()), ListMultipartUploadsResult::parse).await?;
            uploads.extend(page.uploads.into_iter().map(|upload| OpenUpload {
                key: upload.key,
                upload_id: upload.upload_id,
                initiated: upload.initiated,
            }));
            let next = page.next_key_marker.zip(page.next_upload_id_marker);
            if !page.is_truncated {
                return Ok(uploads);
            }
            // The markers ascend. Without this a server's mistake would make the listing endless or, worse, silently
            // short.
            if next <= markers {
                return Err(incomplete(&request, "NextKeyMarker and NextUploadIdMarker"));
            }
            markers = next;
        }
    }
}
