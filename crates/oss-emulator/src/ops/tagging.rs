//! Tags of objects, in the header of a write and as a sub-resource.

use http::StatusCode;
use oss_protocol::canonical;
use oss_protocol::error_code::ErrorCode;
use oss_protocol::header;
use oss_protocol::xml::tagging::Tagging;

use super::{Context, object};
use crate::ingest::receive_document;
use crate::request::Request;
use crate::response::{Response, ServiceError, empty, xml};
use crate::store::Object;

/// Tags of one object, and the characters of a key and of a value: limits of the service.
/// <https://www.alibabacloud.com/help/en/oss/user-guide/0010-00000217>
const MOST_TAGS: usize = 10;
const LONGEST_KEY: usize = 128;
const LONGEST_VALUE: usize = 256;

/// Largest set of tags: ten of the longest, every character escaped, with room for white space.
const LARGEST_DOCUMENT: usize = 64 * 1024;

pub(super) type Tags = Option<Box<[(String, String)]>>;

pub(super) async fn put(context: &Context, request: &mut Request<'_>) -> Result<Response, ServiceError> {
    let body = receive_document(request, LARGEST_DOCUMENT).await?;
    let tagging = Tagging::parse(&body).map_err(|_| ServiceError::new(ErrorCode::MalformedXML))?;
    let tags = check(tagging.tags)?;
    replace(context, request, tags).await?;
    Ok(empty(StatusCode::OK))
}

pub(super) fn get(context: &Context, request: &Request<'_>) -> Result<Response, ServiceError> {
    let object = object::find(context, request)?;
    let tags = object.attributes.tags.as_deref().unwrap_or_default().to_vec();
    Ok(xml(Tagging { tags }.to_xml()))
}

pub(super) async fn delete(context: &Context, request: &Request<'_>) -> Result<Response, ServiceError> {
    replace(context, request, None).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

async fn replace(context: &Context, request: &Request<'_>, tags: Tags) -> Result<(), ServiceError> {
    object::change(context, request, move |object: &mut Object| {
        object.attributes.tags = tags;
        Ok(())
    })
    .await
}

/// The tags named by `x-oss-tagging`, in form encoding.
pub(super) fn from_header(request: &Request<'_>) -> Result<Tags, ServiceError> {
    let Some(text) = request.header(&header::TAGGING)? else { return Ok(None) };
    let invalid = || {
        refusal("0010-00000219", "The header x-oss-tagging is not in the form key=value&key=value.")
            .with_field(header::TAGGING.as_str(), text)
    };
    let decode = |text: &str| canonical::decode_form(text).map(std::borrow::Cow::into_owned).map_err(|_| invalid());
    let tags = text
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            if value.contains('=') {
                return Err(invalid());
            }
            Ok((decode(key)?, decode(value)?))
        })
        .collect::<Result<_, ServiceError>>()?;
    check(tags)
}

fn check(tags: Vec<(String, String)>) -> Result<Tags, ServiceError> {
    if tags.len() > MOST_TAGS {
        return Err(refusal("0010-00000217", "An object has at most 10 tags."));
    }
    for (at, (key, value)) in tags.iter().enumerate() {
        if key.chars().count() > LONGEST_KEY {
            return Err(refusal("0010-00000209", "The key of a tag is too long.").with_field("TagKey", key));
        }
        if value.chars().count() > LONGEST_VALUE {
            return Err(refusal("0010-00000214", "The value of a tag is too long.").with_field("TagValue", value));
        }
        check_characters(key, value)?;
        if tags[..at].iter().any(|(earlier, _)| earlier == key) {
            return Err(refusal("0010-00000217", "Two tags have the same key.").with_field("TagKey", key));
        }
    }
    Ok((!tags.is_empty()).then(|| tags.into_boxed_slice()))
}

/// Refuses a tag with characters that tags must not have.
pub(super) fn check_characters(key: &str, value: &str) -> Result<(), ServiceError> {
    if key.is_empty() || !key.chars().all(is_allowed) {
        return Err(refusal("0010-00000217", "The key of a tag is invalid.").with_field("TagKey", key));
    }
    if !value.chars().all(is_allowed) {
        return Err(refusal("0010-00000217", "The value of a tag is invalid.").with_field("TagValue", value));
    }
    Ok(())
}

fn refusal(ec: &'static str, message: &'static str) -> ServiceError {
    ServiceError::new(ErrorCode::InvalidTag).with_ec(ec).with_message(message)
}

/// Letters and digits of any script, spaces and a few signs.
fn is_allowed(character: char) -> bool {
    character.is_alphanumeric() || " +-=._:/".contains(character)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(key: &str, value: &str) -> (String, String) {
        (key.to_owned(), value.to_owned())
    }

    #[test]
    fn limits_of_tags() {
        assert_eq!(check(Vec::new()).unwrap(), None);
        let most: Vec<_> = (0..10).map(|number| tag(&format!("k{number}"), "")).collect();
        assert_eq!(check(most.clone()).unwrap().unwrap().len(), 10);
        let allowed = tag(&"k".repeat(128), &"v".repeat(256));
        check(vec![allowed, tag("a b+-=._:/", ""), tag("数据", "中文")]).unwrap();
        for refused in [
            [most, vec![tag("one-more", "")]].concat(),
            vec![tag("", "v")],
            vec![tag("a", "1"), tag("a", "2")],
            vec![tag(&"k".repeat(129), "")],
            vec![tag("k", &"v".repeat(257))],
            vec![tag("a*", "")],
            vec![tag("a", "\n")],
        ] {
            assert_eq!(check(refused).unwrap_err().code(), &ErrorCode::InvalidTag);
        }
    }
}
