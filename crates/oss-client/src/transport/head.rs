//! Heads: the request's as bytes, the response's parsed, and how long the body after it is.

use std::mem::MaybeUninit;

use http::{Method, StatusCode, Version, header};

use crate::headers::{Headers, text_of};

/// Most headers of a response: OSS sends about fifteen, and one for each piece of user metadata.
const MOST_HEADERS: usize = 128;

/// The head of a request as it is sent. Nothing is checked here: the values are valid in a head.
pub(crate) struct RequestHead {
    method: Method,
    bytes: Vec<u8>,
    repeatable: bool,
}

impl RequestHead {
    /// Starts one with a path and query, which have been encoded.
    pub(crate) fn new(method: Method, path: &str) -> Self {
        // A GET with a V4 signature takes about 500 bytes beside its path.
        let mut bytes = Vec::with_capacity(640 + path.len());
        for piece in [method.as_str(), " ", path, " HTTP/1.1\r\n\r\n"] {
            bytes.extend_from_slice(piece.as_bytes());
        }
        let repeatable = method != Method::POST;
        Self { method, bytes, repeatable }
    }

    /// Adds a header before the empty line.
    pub(crate) fn header(&mut self, name: &str, value: &[u8]) {
        self.bytes.truncate(self.bytes.len() - 2);
        for piece in [name.as_bytes(), b": ", value, b"\r\n\r\n"] {
            self.bytes.extend_from_slice(piece);
        }
    }

    pub(crate) fn method(&self) -> &Method {
        &self.method
    }

    /// A second request may have another result, so it must be known to have been sent twice.
    pub(crate) fn not_repeatable(&mut self) {
        self.repeatable = false;
    }

    pub(super) fn is_repeatable(&self) -> bool {
        self.repeatable
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// What ends a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// Its length in bytes.
    Length(u64),
    /// Its last chunk.
    Chunked,
    /// The end of the connection.
    UntilClose,
}

/// The head of a response.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) status: StatusCode,
    pub(super) headers: Headers,
    pub(super) framing: Framing,
    /// Whether another request may follow over the same connection.
    pub(super) keep_alive: bool,
}

/// Parses a response's head at the start of `bytes`; also returns its length. `None` if it is not complete.
pub(super) fn parse(bytes: &[u8], method: &Method) -> Result<Option<(Head, usize)>, String> {
    // Filling the space before it is written would take as long as parsing does.
    let mut space = [const { MaybeUninit::uninit() }; MOST_HEADERS];
    let mut parsed = httparse::Response::new(&mut []);
    let outcome = httparse::ParserConfig::default().parse_response_with_uninit_headers(&mut parsed, bytes, &mut space);
    let length = match outcome.map_err(|error| error.to_string())? {
        httparse::Status::Partial => return Ok(None),
        httparse::Status::Complete(length) => length,
    };
    let status = StatusCode::from_u16(parsed.code.unwrap_or_default()).map_err(|error| error.to_string())?;
    let version = if parsed.version == Some(1) { Version::HTTP_11 } else { Version::HTTP_10 };
    let headers = Headers::new(&bytes[..length], parsed.headers);
    let framing = framing(&headers, status, method)?;
    let keep_alive = framing != Framing::UntilClose && keep_alive(&headers, version);
    Ok(Some((Head { status, headers, framing, keep_alive }, length)))
}

/// What ends the body, by RFC 9112 section 6.3.
fn framing(headers: &Headers, status: StatusCode, method: &Method) -> Result<Framing, String> {
    if method == Method::HEAD || status.is_informational() || matches!(status.as_u16(), 204 | 304) {
        return Ok(Framing::Length(0));
    }
    if let Some(last) = headers.all(&header::TRANSFER_ENCODING).next_back() {
        let last = text_of(last).and_then(|text| tokens(text).next_back());
        let chunked = last.is_some_and(|coding| coding.eq_ignore_ascii_case("chunked"));
        return Ok(if chunked { Framing::Chunked } else { Framing::UntilClose });
    }
    let mut lengths = headers.all(&header::CONTENT_LENGTH);
    let Some(first) = lengths.next() else { return Ok(Framing::UntilClose) };
    if lengths.any(|other| other != first) {
        return Err("two different Content-Length headers".to_owned());
    }
    let digits = text_of(first).filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    match digits.and_then(|text| text.parse().ok()) {
        Some(length) => Ok(Framing::Length(length)),
        None => Err(format!("Content-Length {:?} is not a number", String::from_utf8_lossy(first))),
    }
}

fn keep_alive(headers: &Headers, version: Version) -> bool {
    let says = |word| {
        let mut values = headers.all(&header::CONNECTION).filter_map(text_of);
        values.any(|value| tokens(value).any(|token| token.eq_ignore_ascii_case(word)))
    };
    // A body that names its length twice may have been cut in two by something on the way.
    let ambiguous = headers.get(&header::TRANSFER_ENCODING).is_some() && headers.get(&header::CONTENT_LENGTH).is_some();
    !ambiguous && !says("close") && (version == Version::HTTP_11 || says("keep-alive"))
}

fn tokens(text: &str) -> impl DoubleEndedIterator<Item = &str> {
    text.split(',').map(str::trim)
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
