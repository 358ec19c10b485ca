//! Heads: the request's as bytes, the response's parsed, and how long the body after it is.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header};

/// Most headers of a response: OSS sends about fifteen, and one for each piece of user metadata.
const MOST_HEADERS: usize = 128;

/// Writes a request's head.
pub(super) fn write(request: &http::Request<()>) -> Vec<u8> {
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let headers = request.headers();
    let length: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    let mut head = Vec::with_capacity(length + path.len() + 32);
    for piece in [request.method().as_str(), " ", path, " HTTP/1.1\r\n"] {
        head.extend_from_slice(piece.as_bytes());
    }
    for (name, value) in headers {
        for piece in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            head.extend_from_slice(piece);
        }
    }
    head.extend_from_slice(b"\r\n");
    head
}

/// Where a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// After so many bytes.
    Length(u64),
    /// Where its chunks say so.
    Chunked,
    /// Where the server closes the connection.
    UntilClose,
}

/// The head of a response.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) framing: Framing,
    /// Whether another request may follow over the same connection.
    pub(super) keep_alive: bool,
}

/// Parses a response's head at the start of `bytes`; also returns its length. `None` where it goes on.
pub(super) fn parse(bytes: &[u8], method: &Method) -> Result<Option<(Head, usize)>, String> {
    let mut space = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let mut parsed = httparse::Response::new(&mut space);
    let length = match parsed.parse(bytes).map_err(|error| error.to_string())? {
        httparse::Status::Partial => return Ok(None),
        httparse::Status::Complete(length) => length,
    };
    let status = StatusCode::from_u16(parsed.code.unwrap_or_default()).map_err(|error| error.to_string())?;
    let version = if parsed.version == Some(1) { Version::HTTP_11 } else { Version::HTTP_10 };
    let mut headers = HeaderMap::with_capacity(parsed.headers.len());
    // All values share one allocation.
    let shared = Bytes::copy_from_slice(&bytes[..length]);
    for header in parsed.headers.iter() {
        let name = HeaderName::from_bytes(header.name.as_bytes()).map_err(|error| error.to_string())?;
        let start = header.value.as_ptr() as usize - bytes.as_ptr() as usize;
        let value = shared.slice(start..start + header.value.len());
        headers.append(name, HeaderValue::from_maybe_shared(value).map_err(|error| error.to_string())?);
    }
    let framing = framing(&headers, status, method)?;
    let keep_alive = framing != Framing::UntilClose && keep_alive(&headers, version);
    Ok(Some((Head { status, headers, framing, keep_alive }, length)))
}

/// Where the body ends, by RFC 9112 section 6.3.
fn framing(headers: &HeaderMap, status: StatusCode, method: &Method) -> Result<Framing, String> {
    if method == Method::HEAD || status.is_informational() || matches!(status.as_u16(), 204 | 304) {
        return Ok(Framing::Length(0));
    }
    if let Some(last) = headers.get_all(header::TRANSFER_ENCODING).iter().next_back() {
        let chunked =
            last.to_str().is_ok_and(|text| tokens(text).next_back().is_some_and(|coding| coding == "chunked"));
        return Ok(if chunked { Framing::Chunked } else { Framing::UntilClose });
    }
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    let Some(first) = lengths.next() else { return Ok(Framing::UntilClose) };
    if lengths.any(|other| other != first) {
        return Err("two different Content-Length headers".to_owned());
    }
    let digits = first.to_str().ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    match digits.and_then(|text| text.parse().ok()) {
        Some(length) => Ok(Framing::Length(length)),
        None => Err(format!("Content-Length {first:?} is no number")),
    }
}

fn keep_alive(headers: &HeaderMap, version: Version) -> bool {
    let says = |word| {
        let mut values = headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
        values.any(|value| tokens(value).any(|token| token == word))
    };
    // A body that names its length twice may have been cut in two by something on the way.
    let ambiguous = headers.contains_key(header::TRANSFER_ENCODING) && headers.contains_key(header::CONTENT_LENGTH);
    !ambiguous && !says("close") && (version == Version::HTTP_11 || says("keep-alive"))
}

fn tokens(text: &str) -> impl DoubleEndedIterator<Item = String> {
    text.split(',').map(|token| token.trim().to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str, method: &Method) -> Head {
        let (head, length) = parse(text.as_bytes(), method).unwrap().unwrap();
        assert_eq!(length, text.len());
        head
    }

    #[test]
    fn a_head_goes_on_until_its_empty_line() {
        let text = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
        for end in 0..text.len() {
            assert!(parse(&text.as_bytes()[..end], &Method::GET).unwrap().is_none(), "{end}");
        }
        let head = parsed(text, &Method::GET);
        assert_eq!((head.status, head.framing, head.keep_alive), (StatusCode::OK, Framing::Length(5), true));
    }

    #[test]
    fn bodies_end_where_the_head_says() {
        let framing = |headers: &str, method| parsed(&format!("HTTP/1.1 200 OK\r\n{headers}\r\n"), method).framing;
        assert_eq!(framing("Content-Length: 7\r\n", &Method::HEAD), Framing::Length(0));
        assert_eq!(framing("Content-Length: 7\r\nContent-Length: 7\r\n", &Method::GET), Framing::Length(7));
        assert_eq!(framing("Transfer-Encoding: gzip, Chunked\r\n", &Method::GET), Framing::Chunked);
        assert_eq!(framing("Transfer-Encoding: gzip\r\nContent-Length: 7\r\n", &Method::GET), Framing::UntilClose);
        assert_eq!(framing("", &Method::GET), Framing::UntilClose);
        assert_eq!(parsed("HTTP/1.1 204 No Content\r\n\r\n", &Method::PUT).framing, Framing::Length(0));
    }

    #[test]
    fn a_connection_is_kept_only_where_both_sides_agree_on_the_end() {
        let keep = |text: &str| parsed(text, &Method::GET).keep_alive;
        assert!(keep("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"));
        assert!(keep("HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: Keep-Alive\r\n\r\n"));
        assert!(!keep("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n"));
        assert!(!keep("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: x, Close\r\n\r\n"));
        assert!(!keep("HTTP/1.1 200 OK\r\n\r\n"));
        assert!(!keep("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"));
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "SSH-2.0-OpenSSH_9.2\r\n\r\n",
            "HTTP/1.1 99 Low\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\n",
            "HTTP/1.1 200 OK\r\nBad Header: 1\r\n\r\n",
        ] {
            assert!(parse(text.as_bytes(), &Method::GET).is_err(), "{text}");
        }
    }
}
