//! The operations of OSS, each a thin function over [`crate::Client::send`].

pub mod bucket;
pub mod copy;
pub mod delete;
mod file;
pub mod get;
pub mod head;
pub mod list;
pub mod multipart;
pub mod presign;
pub mod put;

use http::{
    HeaderMap, Method,
    header::{HeaderName, HeaderValue},
};
use oss_protocol::{error_code::ErrorCode, header as oss_header, xml::error::ErrorBody};

use crate::{
    client::Client,
    error::{Error, ErrorKind, Result},
    request::Request,
    transport::Response,
};

/// Sets a header of a request; a value that HTTP cannot carry is the caller's mistake.
fn set_header(headers: &mut HeaderMap, name: HeaderName, value: &str) -> Result<()> {
    let value = HeaderValue::from_str(value)
        .map_err(|_| ErrorKind::Config(format!("{value:?} cannot be sent as header {name}")))?;
    headers.insert(name, value);
    Ok(())
}

/// Sends a request, and receives and parses its XML answer; also returns what `read_head` finds in its head.
///
/// OSS may have sent the head of a success before it found that it cannot succeed. An error in such an answer is retried
/// as its code would be. So is an answer that breaks off, if carrying out the request once more changes nothing.
async fn exchange<T, H, E: std::fmt::Display>(
    client: &Client,
    request: &Request,
    limit: usize,
    read_head: impl Fn(&Response) -> Result<H>,
    parse: impl Fn(&[u8]) -> std::result::Result<T, E>,
) -> Result<(T, H)> {
    let mut budget = client.budget();
    // The second attempt would not overwrite what the first one wrote; what a POST begins or ends is not there twice.
    let is_repeatable = request.method != Method::POST && !request.headers.contains_key(oss_header::FORBID_OVERWRITE);
    loop {
        let response = client.send_within(request, &mut budget).await?;
        let head = read_head(&response).map_err(|error| budget.give_up(error))?;
        match parse_body(request, response, limit, &parse).await {
            Err(error) if matches!(error.kind(), ErrorKind::Service { .. }) => budget.wait_after(error).await?,
            Err(error) if is_repeatable && error.is_retryable() => budget.wait_after(error).await?,
            // A request whose answer broke off was carried out: the caller decides.
            Err(error) => return Err(budget.give_up(error)),
            Ok(answer) => return Ok((answer, head)),
        }
    }
}

/// Receives and parses an XML answer.
async fn parse_body<T, E: std::fmt::Display>(
    request: &Request,
    response: Response,
    limit: usize,
    parse: impl FnOnce(&[u8]) -> std::result::Result<T, E>,
) -> Result<T> {
    let secrets = response.secrets;
    let on = |error: Error| {
        let error = match &secrets {
            Some(secrets) => secrets.hidden_in(error),
            None => error,
        };
        error.on(request.bucket.as_deref(), request.key.as_deref())
    };
    let status = response.status;
    let body = response.body.collect(limit).await.map_err(on)?;
    parse(&body).map_err(|cause| match ErrorBody::parse(&body) {
        Ok(said) => on(ErrorKind::Service {
            // The status that the answer would have had.
            status: match said.error_code() {
                ErrorCode::Other(_) => status,
                code => code.status(),
            },
            code: said.error_code(),
            message: said.message,
            ec: said.ec,
            request_id: Some(said.request_id).filter(|id| !id.is_empty()),
            retry_after: None,
        }
        .into()),
        Err(_) => {
            let text = format!("the answer is not the XML that OSS sends here: {cause}");
            on(ErrorKind::InvalidReply(text).into())
        }
    })
}

/// The error of an answer without something that the protocol promises.
fn incomplete(request: &Request, what: &str) -> Error {
    let text = format!("the answer has no readable {what}");
    Error::new(ErrorKind::InvalidReply(text)).on(request.bucket.as_deref(), request.key.as_deref())
}
