//! What a monitor asks: whether the server answers, and how much it did. Neither needs a key, and neither names an object.

use std::fmt::Write;

use http::{HeaderValue, Method, StatusCode, header as standard};

use crate::body::ResponseBody;
use crate::record::RequestLog;
use crate::response::{Response, empty};

const HEALTH: &str = "/-/health";
const METRICS: &str = "/-/metrics";

/// Answers a request to one of the two paths, which no bucket can have; `None` for any other.
pub(crate) fn answer(method: &Method, path: &str, log: &RequestLog) -> Option<Response> {
    let text = match path {
        HEALTH => "ok\n".to_owned(),
        METRICS => render(log),
        _ => return None,
    };
    if *method != Method::GET && *method != Method::HEAD {
        return Some(empty(StatusCode::METHOD_NOT_ALLOWED));
    }
    let mut response = Response::new(ResponseBody::full(text));
    // The version is that of Prometheus' text format.
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(standard::CONTENT_TYPE, kind);
    Some(response)
}

fn render(log: &RequestLog) -> String {
    let totals = log.totals();
    let mut text = String::new();
    let mut metric = |name: &str, kind: &str, help: &str, samples: &[(String, u64)]| {
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, value) in samples {
            let _ = writeln!(text, "{name}{labels} {value}");
        }
    };
    let requests: Vec<_> = totals
        .per_operation
        .iter()
        .map(|(operation, count)| (format!("{{operation=\"{operation}\"}}"), *count))
        .collect();
    metric("oss_requests_total", "counter", "Requests answered, by operation.", &requests);
    let statuses: Vec<_> =
        totals.per_status.iter().map(|(status, count)| (format!("{{status=\"{status}\"}}"), *count)).collect();
    metric("oss_responses_total", "counter", "Responses, by HTTP status.", &statuses);
    let bytes = [(String::new(), totals.response_bytes)];
    metric("oss_response_bytes_total", "counter", "Bytes of the bodies of all responses.", &bytes);
    let in_flight = [(String::new(), log.in_flight())];
    metric("oss_requests_in_flight", "gauge", "Requests that are being answered.", &in_flight);
    text
}
