//! Removing objects.

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderName, Method};
use md5::{Digest, Md5};
use oss_protocol::xml::delete::{DeleteObjects, DeleteResult, MAX_KEYS, ObjectIdentifier};

use super::{exchange, set_header};
use crate::{
    client::Client,
    error::{Error, ErrorKind, Result},
    request::Request,
};

/// An answer names each deleted key once: 1,000 keys of 1,023 bytes, percent-encoded, with their elements.
const ANSWER_LIMIT: usize = 8 << 20;

/// OSS refuses a longer body.
const BODY_LIMIT: usize = 2_000_000;
/// The elements around a key.
const AROUND_KEY: usize = "<Object><Key></Key></Object>".len();
/// The longest escape of a byte, such as `&quot;`.
const LONGEST_ESCAPE: usize = 6;

/// Whether XML 1.0 can hold a character, escaped or not: <https://www.w3.org/TR/xml/#charsets>.
fn is_xml(character: char) -> bool {
    !matches!(character, '\0'..='\x08' | '\x0b' | '\x0c' | '\x0e'..='\x1f' | '\u{fffe}' | '\u{ffff}')
}

/// Divides keys into those of each request.
fn requests<'key>(keys: &'key [&'key String]) -> impl Iterator<Item = &'key [&'key String]> {
    let mut bytes = 0;
    let mut count = 0;
    keys.chunk_by(move |key, next| {
        // Room for the key that follows, too.
        bytes += key.len() * LONGEST_ESCAPE + AROUND_KEY;
        count += 1;
        let same = count < MAX_KEYS && bytes + next.len() * LONGEST_ESCAPE + AROUND_KEY < BODY_LIMIT;
        if !same {
            (bytes, count) = (0, 0);
        }
        same
    })
}

fn delete_body(keys: &[&String]) -> String {
    let objects = keys.iter().map(|key| ObjectIdentifier { key: (*key).clone(), version_id: None }).collect();
    DeleteObjects { quiet: false, objects }.to_xml()
}

impl Client {
    /// Removes an object; one that does not exist counts as removed.
    pub async fn delete(&self, bucket: &str, key: &str) -> Result<()> {
        let response = self.send(&Request::object(Method::DELETE, bucket, key)).await?;
        response.body.finish().await
    }

    /// Removes many objects, up to 1,000 by request. Keys that XML cannot hold have requests of their own.
    ///
    /// # Errors
    /// The server did not confirm a key; the keys before it were deleted.
    pub async fn delete_many(&self, bucket: &str, keys: &[String]) -> Result<()> {
        let (named, others): (Vec<_>, Vec<_>) = keys.iter().partition(|key| key.chars().all(is_xml));
        for keys in requests(&named) {
            let body = delete_body(keys);
            let digest = STANDARD.encode(Md5::digest(body.as_bytes()));
            let mut request =
                Request::bucket(Method::POST, bucket).query("delete", "").query("encoding-type", "url").with_body(body);
            set_header(&mut request.headers, HeaderName::from_static("content-md5"), &digest)?;
            set_header(&mut request.headers, http::header::CONTENT_TYPE, "application/xml")?;
            let (result, ()) = exchange(self, &request, ANSWER_LIMIT, |_| Ok(()), DeleteResult::parse).await?;
            let deleted: std::collections::HashSet<&str> =
                result.deleted.iter().map(|object| object.key.as_str()).collect();
            if let Some(key) = keys.iter().find(|key| !deleted.contains(key.as_str())) {
                let text = "the server did not confirm that the object was deleted".to_owned();
                return Err(Error::new(ErrorKind::InvalidReply(text)).on(Some(bucket), Some(key)));
            }
        }
        for key in others {
            self.delete(bucket, key).await?;
        }
        Ok(())
    }
}
