//! A rule: the requests that it selects, and what the emulator does to them.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::action::{Delay, LONGEST_SECONDS, Position};
use crate::route::Operation;

/// Largest bandwidth of a rule: a terabyte per second, which never limits anything.
const LARGEST_RATE: f64 = 1e12;

/// Longest error code of a rule. The codes of OSS have up to 40 letters.
const LONGEST_CODE: usize = 64;

/// Selects requests and says how they fail. In a file a rule is a JSON object with the names of these fields. A field that
/// is left out selects every request, or does nothing.
///
/// A rule matches a request if `operation`, `bucket` and `key` match. Among the matching requests, `nth`, `every`,
/// `probability` and `times` choose those that the rule acts on.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FaultRule {
    /// Operations by their names in the OSS API reference. Empty means all. A file may have one name instead of a list.
    #[serde(deserialize_with = "operations", serialize_with = "names", skip_serializing_if = "Vec::is_empty")]
    pub operation: Vec<Operation>,
    /// Pattern for the bucket: `*` stands for any characters, `?` for exactly one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bucket: Option<String>,
    /// Pattern for the key. A request without a key, such as a listing, does not match.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Numbers of the matching requests, counted from 1. Empty means all. A file may have one number instead of a list.
    #[serde(deserialize_with = "one_or_many", skip_serializing_if = "Vec::is_empty")]
    pub nth: Vec<u64>,
    /// Act on every n-th matching request: 3 means the 3rd, the 6th, the 9th and so on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub every: Option<u64>,
    /// Act on this fraction of the matching requests, from 0 to 1. The choice depends on the seed, the request, and how
    /// often the same request came before. Therefore the same requests fail in every run, in any order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probability: Option<f64>,
    /// Seed of the random numbers of this rule.
    #[serde(skip_serializing_if = "is_default")]
    pub seed: u64,
    /// Act on at most this many requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub times: Option<u64>,

    /// Wait before answering, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay: Option<Delay>,
    /// Limit each request to this many bytes per second, in both directions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bandwidth: Option<f64>,
    /// Limit all requests of the rule together to this many bytes per second, in both directions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shared_bandwidth: Option<f64>,
    /// Answer with this error code, such as `InternalError`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// HTTP status of the error, if it differs from the status that OSS sends with the code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Answer with status 503, and ask the client in `x-oss-qos-delay-time` to wait this many seconds. The error code is
    /// `error`, or `TotalQpsLimitExceeded` if `error` is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub throttle: Option<f64>,
    /// Answer that the security token has expired.
    #[serde(skip_serializing_if = "is_default")]
    pub expired_token: bool,
    /// Check the date of the request with a clock that is this many seconds ahead (behind if negative). The `Date` header
    /// of the answer shows the same clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock_skew: Option<f64>,
    /// Reset the connection at this position.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reset: Option<Position>,
    /// Close the connection at this position, although `Content-Length` announced the whole body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub truncate: Option<Position>,
    /// Stop sending at this position, and keep the connection open.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stall: Option<Position>,
    /// Execute the request, then reset the connection without an answer.
    #[serde(skip_serializing_if = "is_default")]
    pub lose_reply: bool,
    /// Change one bit of the body at this position. The checksum in the header stays correct.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flip: Option<Position>,
    /// Send a wrong CRC-64 in the header. The body stays correct.
    #[serde(skip_serializing_if = "is_default")]
    pub wrong_crc: bool,
}

/// The reason why a rule is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct FaultRuleError(String);

impl FaultRule {
    /// Reads one rule, or a list of rules, from JSON.
    pub fn parse_list(json: &str) -> Result<Vec<Self>, FaultRuleError> {
        let value: serde_json::Value = serde_json::from_str(json).map_err(|error| FaultRuleError(error.to_string()))?;
        let values = match value {
            serde_json::Value::Array(values) => values,
            one => vec![one],
        };
        let rules = values.into_iter().enumerate().map(|(index, value)| {
            let name = format!("rule {}", index + 1);
            let rule: Self =
                serde_json::from_value(value).map_err(|error| FaultRuleError(format!("{name}: {error}")))?;
            rule.check().map_err(|error| FaultRuleError(format!("{name}: {error}")))?;
            Ok(rule)
        });
        rules.collect()
    }

    /// Refuses a rule that is wrong, with the reason.
    pub(super) fn check(&self) -> Result<(), FaultRuleError> {
        let wrong = |text: &str| Err(FaultRuleError(text.to_owned()));
        if self.nth.contains(&0) || self.every == Some(0) {
            return wrong("nth and every count from 1: 0 is not allowed");
        }
        if self.probability.is_some_and(|probability| !(0.0..=1.0).contains(&probability)) {
            return wrong("probability must be from 0 to 1");
        }
        if self.delay.is_some_and(|delay| !delay.is_valid()) {
            return wrong(
                "delay is in seconds: it must be from 0 to 86400 (a day), and a range must begin with its smaller number",
            );
        }
        for rate in [self.bandwidth, self.shared_bandwidth].into_iter().flatten() {
            // A slower request would never end. `stall` does that.
            if !(1.0..=LARGEST_RATE).contains(&rate) {
                return wrong("bandwidth and shared_bandwidth must be at least 1 byte per second, and at most 1e12");
            }
        }
        if self.throttle.is_some_and(|seconds| !(0.0..=LONGEST_SECONDS).contains(&seconds)) {
            return wrong("throttle is in seconds: it must be from 0 to 86400 (a day)");
        }
        if self.clock_skew.is_some_and(|seconds| !(-LONGEST_SECONDS..=LONGEST_SECONDS).contains(&seconds)) {
            return wrong("clock_skew is in seconds: it must be from -86400 to 86400 (a day)");
        }
        if self.error.as_ref().is_some_and(|code| !is_code(code)) {
            return wrong("error must be a code of up to 64 letters and digits, such as InternalError");
        }
        if let Some(status) = self.status {
            if self.error.is_none() {
                return wrong("status needs error: add the code that the answer has");
            }
            if !(400..600).contains(&status) {
                return wrong("status must be from 400 to 599");
            }
        }
        if self.flip == Some(Position::Before) {
            return wrong("flip must be a position in the body: \"middle\" or a number of bytes");
        }
        let refusals = [self.error.is_some() || self.throttle.is_some(), self.expired_token, self.lose_reply];
        if count(&refusals) > 1 {
            return wrong(
                "error or throttle, expired_token and lose_reply exclude each other: keep one, or make two rules",
            );
        }
        let ends = [self.reset.is_some(), self.truncate.is_some(), self.stall.is_some(), self.lose_reply];
        if count(&ends) > 1 {
            return wrong("reset, truncate, stall and lose_reply exclude each other: keep one, or make two rules");
        }
        if !self.acts() {
            return wrong("the rule does nothing: add delay, error, reset or another action");
        }
        Ok(())
    }

    fn acts(&self) -> bool {
        self.delay.is_some()
            || self.bandwidth.is_some()
            || self.shared_bandwidth.is_some()
            || self.error.is_some()
            || self.throttle.is_some()
            || self.expired_token
            || self.clock_skew.is_some()
            || self.reset.is_some()
            || self.truncate.is_some()
            || self.stall.is_some()
            || self.lose_reply
            || self.flip.is_some()
            || self.wrong_crc
    }

    /// Whether the rule matches a request, and therefore counts it.
    pub(super) fn matches(&self, operation: Operation, bucket: Option<&str>, key: Option<&str>) -> bool {
        (self.operation.is_empty() || self.operation.contains(&operation))
            && matches(self.bucket.as_deref(), bucket)
            && matches(self.key.as_deref(), key)
    }
}

fn matches(wanted: Option<&str>, found: Option<&str>) -> bool {
    wanted.is_none_or(|wanted| found.is_some_and(|found| crate::pattern::matches(wanted, found)))
}

fn is_code(code: &str) -> bool {
    !code.is_empty() && code.len() <= LONGEST_CODE && code.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

fn count(flags: &[bool]) -> usize {
    flags.iter().filter(|flag| **flag).count()
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}

fn one_or_many<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    OneOrMany::deserialize(deserializer).map(|found| match found {
        OneOrMany::One(one) => vec![one],
        OneOrMany::Many(many) => many,
    })
}

fn operations<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Operation>, D::Error> {
    let names: Vec<String> = one_or_many(deserializer)?;
    let find = |name: &String| {
        Operation::ALL.iter().copied().find(|operation| operation.as_str() == name).ok_or_else(|| {
            let known: Vec<&str> = Operation::ALL.iter().map(|operation| operation.as_str()).collect();
            serde::de::Error::custom(format!("{name:?} is no operation; use one of {}", known.join(", ")))
        })
    };
    names.iter().map(find).collect()
}

fn names<S: Serializer>(operations: &[Operation], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(operations.iter().map(|operation| operation.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<FaultRule, String> {
        FaultRule::parse_list(json).map(|mut rules| rules.remove(0)).map_err(|error| error.to_string())
    }

    #[test]
    fn a_rule_reads_and_writes_the_same_form() {
        let rule = parse(
            r#"{"operation": "GetObject", "key": "a/*", "nth": [1, 3], "delay": 0.5, "reset": "middle", "wrong_crc": true}"#,
        )
        .unwrap();
        let expected = FaultRule {
            operation: vec![Operation::GetObject],
            key: Some("a/*".to_owned()),
            nth: vec![1, 3],
            delay: Some(Delay::Fixed(0.5)),
            reset: Some(Position::Middle),
            wrong_crc: true,
            ..FaultRule::default()
        };
        assert_eq!(rule, expected);
        let written = serde_json::to_string(&rule).unwrap();
        assert_eq!(parse(&written).unwrap(), rule);
        assert!(!written.contains("bucket"), "{written}");
    }

    #[test]
    fn a_list_of_rules_says_which_is_wrong() {
        assert_eq!(FaultRule::parse_list(r#"[{"delay": 1}, {"error": "InternalError"}]"#).unwrap().len(), 2);
        assert_eq!(FaultRule::parse_list("[]").unwrap(), []);
        let error = FaultRule::parse_list(r#"[{"delay": 1}, {"delay": -1}]"#).unwrap_err().to_string();
        assert!(error.starts_with("rule 2: delay is in seconds"), "{error}");
    }

    #[test]
    fn wrong_rules_are_refused_with_the_reason() {
        for (json, reason) in [
            ("", "EOF"),
            ("{}", "does nothing"),
            (r#"{"key": "a"}"#, "does nothing"),
            (r#"{"dellay": 1}"#, "unknown field `dellay`"),
            (r#"{"operation": "Get", "delay": 1}"#, "\"Get\" is no operation"),
            (r#"{"nth": 0, "delay": 1}"#, "count from 1"),
            (r#"{"every": 0, "delay": 1}"#, "count from 1"),
            (r#"{"probability": 1.5, "delay": 1}"#, "from 0 to 1"),
            (r#"{"bandwidth": 0}"#, "at least 1 byte"),
            (r#"{"throttle": -1}"#, "throttle"),
            (r#"{"clock_skew": 1e9}"#, "clock_skew"),
            (r#"{"error": "Internal Error"}"#, "letters and digits"),
            (r#"{"error": "InternalError", "status": 200}"#, "400 to 599"),
            (r#"{"delay": 1, "status": 500}"#, "needs error"),
            (r#"{"flip": "before"}"#, "in the body"),
            (r#"{"reset": 1, "stall": 2}"#, "exclude each other"),
            (r#"{"error": "InternalError", "lose_reply": true}"#, "exclude each other"),
            (r#"{"error": "InternalError", "expired_token": true}"#, "exclude each other"),
        ] {
            let error = parse(json).unwrap_err();
            assert!(error.contains(reason), "{json}: {error}");
        }
    }

    #[test]
    fn a_field_that_is_left_out_matches_every_request() {
        let rule = parse(r#"{"operation": ["GetObject", "HeadObject"], "key": "*.bin", "delay": 1}"#).unwrap();
        assert!(rule.matches(Operation::GetObject, Some("bucket"), Some("a.bin")));
        assert!(rule.matches(Operation::HeadObject, Some("bucket"), Some("a.bin")));
        assert!(!rule.matches(Operation::PutObject, Some("bucket"), Some("a.bin")));
        assert!(!rule.matches(Operation::GetObject, Some("bucket"), Some("a.txt")));
        assert!(!rule.matches(Operation::GetObject, Some("bucket"), None));
        let any = parse(r#"{"delay": 1}"#).unwrap();
        assert!(any.matches(Operation::ListBuckets, None, None));
        let bucket = parse(r#"{"bucket": "b*", "delay": 1}"#).unwrap();
        assert!(bucket.matches(Operation::ListObjects, Some("bucket"), None));
        assert!(!bucket.matches(Operation::ListBuckets, None, None));
    }
}
