//! The speed limit that a client sets for one request.

use http::HeaderMap;
use oss_protocol::header;

use crate::request::{Query, header_text};
use crate::response::ServiceError;

/// The least and the most bits per second that a client may ask for: limits of the service.
/// <https://www.alibabacloud.com/help/en/oss/user-guide/single-connection-bandwidth-throttling>
const LEAST: u32 = 819_200;
const MOST: u32 = 838_860_800;

/// The limit that `x-oss-traffic-limit` sets, in the header or the query, in bytes per second.
pub(crate) fn limit(headers: &HeaderMap, query: &Query) -> Result<Option<f64>, ServiceError> {
    let name = &header::TRAFFIC_LIMIT;
    let Some(text) = header_text(headers, name)?.or_else(|| query.text(name.as_str())) else { return Ok(None) };
    match text.parse() {
        Ok(bits) if (LEAST..=MOST).contains(&bits) => Ok(Some(f64::from(bits) / 8.0)),
        _ => Err(ServiceError::invalid_argument(name.as_str(), text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limited(header: Option<&str>, query: &str) -> Result<Option<f64>, ()> {
        let headers = header.map(|value| (header::TRAFFIC_LIMIT, value.parse().unwrap())).into_iter().collect();
        limit(&headers, &Query::parse(Some(query)).unwrap()).map_err(|_| ())
    }

    #[test]
    fn limits_have_limits() {
        assert_eq!(limited(None, ""), Ok(None));
        assert_eq!(limited(Some("819200"), ""), Ok(Some(102_400.0)));
        assert_eq!(limited(None, "x-oss-traffic-limit=838860800"), Ok(Some(104_857_600.0)));
        assert_eq!(limited(Some("819200"), "x-oss-traffic-limit=838860800"), Ok(Some(102_400.0)));
        for refused in ["819199", "838860801", "fast", "-1", ""] {
            assert_eq!(limited(Some(refused), ""), Err(()), "{refused:?}");
        }
    }
}
