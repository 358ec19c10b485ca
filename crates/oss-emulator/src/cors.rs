//! Requests of web pages of other origins: what a bucket's rules allow them, and the headers that say so.

use http::{HeaderMap, HeaderName, HeaderValue, header as standard};
use oss_protocol::xml::Document;
use oss_protocol::xml::configuration::{CorsConfiguration, CorsRule};

use crate::pattern::matches;

/// The rules of a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CorsRules(CorsConfiguration);

impl CorsRules {
    pub(crate) fn parse(document: &[u8]) -> Result<Self, String> {
        CorsConfiguration::parse(document).map(Self).map_err(|error| error.to_string())
    }

    /// The headers of the answer to a preflight request; `None` if no rule allows what it asks for.
    pub(crate) fn preflight(&self, origin: &str, method: &str, headers: &str) -> Option<HeaderMap> {
        let wanted: Vec<&str> = headers.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
        let rule =
            self.0.rules.iter().find(|rule| {
                allows(rule, origin, method) && wanted.iter().all(|name| any(&rule.allowed_headers, name))
            })?;
        let mut answer = self.headers(rule, origin);
        set(&mut answer, standard::ACCESS_CONTROL_ALLOW_METHODS, &rule.allowed_methods.join(", "));
        if !wanted.is_empty() {
            set(&mut answer, standard::ACCESS_CONTROL_ALLOW_HEADERS, &wanted.join(", "));
        }
        if let Some(seconds) = rule.max_age_seconds {
            answer.insert(standard::ACCESS_CONTROL_MAX_AGE, seconds.into());
        }
        Some(answer)
    }

    /// The headers that the answer to a request carries; none if no rule fits it.
    pub(crate) fn answer(&self, origin: &str, method: &str) -> HeaderMap {
        let rule = self.0.rules.iter().find(|rule| allows(rule, origin, method));
        let mut answer = rule.map(|rule| self.headers(rule, origin)).unwrap_or_default();
        if self.0.response_vary {
            answer.insert(standard::VARY, HeaderValue::from_static("Origin"));
        }
        answer
    }

    fn headers(&self, rule: &CorsRule, origin: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let everyone = rule.allowed_origins.iter().any(|allowed| allowed == "*");
        set(&mut headers, standard::ACCESS_CONTROL_ALLOW_ORIGIN, if everyone { "*" } else { origin });
        if !everyone || self.0.response_vary {
            headers.insert(standard::VARY, HeaderValue::from_static("Origin"));
        }
        if !rule.expose_headers.is_empty() {
            set(&mut headers, standard::ACCESS_CONTROL_EXPOSE_HEADERS, &rule.expose_headers.join(", "));
        }
        headers
    }
}

fn allows(rule: &CorsRule, origin: &str, method: &str) -> bool {
    any(&rule.allowed_origins, origin) && rule.allowed_methods.iter().any(|allowed| allowed == method)
}

fn any(patterns: &[String], text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    patterns.iter().any(|pattern| matches(&pattern.to_ascii_lowercase(), &text))
}

fn set(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}
