//! Removing objects.

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderName, Method};
use md5::{Digest, Md5};
use oss_protocol::xml::delete::{DeleteObjects, DeleteResult, MAX_KEYS, ObjectIdentifier};

use super::{parse_body, set_header};
use crate::{
    client::Client,
    error::{Error, ErrorKind, Result},
    request::Request,
};

/// An answer names each deleted key once: 1,000 keys of 1,023 bytes, percent-encoded, with their elements.
const ANSWER_LIMIT: usize = 8 << 20;

fn delete_body(keys: &[String]) -> String {
    let objects = keys.iter().map(|key| ObjectIdentifier { key: key.clone(), version_id: None }).collect();
    DeleteObjects { quiet: false, objects }.to_xml()
}

impl Client {
    /// Removes an object; one that does not exist counts as removed.
    pub async fn delete(&self, bucket: &str, key: &str) -> Result<()> {
        let response = self.send(&Request::object(Method::DELETE, bucket, key)).await?;
        response.body.finish().await
    }

    /// Removes many objects, 1,000 by request.
    ///
    /// # Errors
    /// The server did not confirm a key; the keys before it were deleted.
    pub async fn delete_many(&self, bucket: &str, keys: &[String]) -> Result<()> {
        for keys in keys.chunks(MAX_KEYS) {
            let body = delete_body(keys);
            let digest = STANDARD.encode(Md5::digest(body.as_bytes()));
            let mut request =
                Request::bucket(Method::POST, bucket).query("delete", "").query("encoding-type", "url").with_body(body);
            set_header(&mut request.headers, HeaderName::from_static("content-md5"), &digest)?;
            set_header(&mut request.headers, http::header::CONTENT_TYPE, "application/xml")?;
            let response = self.send(&request).await?;
            let result = parse_body(&request, response, ANSWER_LIMIT, DeleteResult::parse).await?;
            let deleted: std::collections::HashSet<&str> =
                result.deleted.iter().map(|object| object.key.as_str()).collect();
            if let Some(key) = keys.iter().find(|key| !deleted.contains(key.as_str())) {
                let text = "the server did not confirm that the object was deleted".to_owned();
                return Err(Error::new(ErrorKind::InvalidReply(text)).on(Some(bucket), Some(key)));
            }
        }
        Ok(())
    }
}
