//! Policies as RAM and bucket policies write them: who may do what to which resource.
//!
//! <https://www.alibabacloud.com/help/en/ram/policy-structure-and-syntax>

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Deserialize;

use super::action;
use crate::pattern::matches;

/// Deepest nesting of JSON is bounded by its parser; this bounds the text. The service allows 16 KB for a bucket policy.
pub(crate) const LARGEST_POLICY: usize = 16 * 1024;

/// What a policy says of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Allowed,
    /// Explicitly; nothing else can allow it.
    Denied,
    /// The policy does not speak of it.
    Silent,
}

/// What is asked of a policy.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Question<'a> {
    /// Without `oss:`.
    pub(crate) action: &'a str,
    /// `bucket`, `bucket/key`, or `*` for the whole service.
    pub(crate) resource: &'a str,
    pub(crate) who: Who<'a>,
    pub(crate) circumstances: Circumstances<'a>,
}

/// Who sends a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who<'a> {
    /// Nobody that can be named.
    Anyone,
    /// The holder of an access key.
    Key(&'a str),
}

/// What conditions look at.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Circumstances<'a> {
    pub(crate) source: Option<IpAddr>,
    pub(crate) secure: bool,
    pub(crate) prefix: Option<&'a str>,
    pub(crate) delimiter: Option<&'a str>,
    pub(crate) user_agent: Option<&'a str>,
}

/// Why a text is no policy. The message names the statement.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// The text is no policy at all.
    #[error("the policy is malformed: {0}")]
    Malformed(String),
    /// A statement is wrong.
    #[error("{statement}: {reason}")]
    Statement {
        /// Its position, counted from 1, and its `Sid` if it has one.
        statement: String,
        /// What is wrong with it, and what to do.
        reason: String,
    },
}

/// A checked policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Policy {
    statements: Vec<Statement>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Statement {
    allows: bool,
    /// Patterns of actions without `oss:`, and whether they name what the statement is not about.
    actions: Vec<String>,
    not_actions: bool,
    /// Patterns of `bucket/key`.
    resources: Vec<String>,
    not_resources: bool,
    /// Empty in a policy that belongs to a user.
    principals: Vec<String>,
    conditions: Vec<Condition>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Condition {
    key: ConditionKey,
    test: Test,
    values: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ConditionKey {
    SourceIp,
    SecureTransport,
    UserAgent,
    Prefix,
    Delimiter,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Test {
    Equals { negated: bool, ignore_case: bool },
    Like { negated: bool },
    Address { negated: bool },
    Bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Document {
    version: String,
    statement: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Entry {
    sid: Option<String>,
    effect: String,
    action: Option<OneOrMore>,
    not_action: Option<OneOrMore>,
    resource: Option<OneOrMore>,
    not_resource: Option<OneOrMore>,
    principal: Option<OneOrMore>,
    #[serde(default)]
    condition: BTreeMap<String, BTreeMap<String, OneOrMore>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

impl From<OneOrMore> for Vec<String> {
    fn from(values: OneOrMore) -> Self {
        match values {
            OneOrMore::One(value) => vec![value],
            OneOrMore::More(values) => values,
        }
    }
}

impl Policy {
    /// Reads the policy of a user. One that allows nothing is refused: it would lock its user out.
    pub(crate) fn parse_of_user(text: &[u8]) -> Result<Self, PolicyError> {
        let policy = Self::parse(text, false)?;
        if !policy.statements.iter().any(|statement| statement.allows) {
            return Err(PolicyError::Statement {
                statement: "statement 1".to_owned(),
                reason: "no statement has the effect Allow, so the key could do nothing; add one".to_owned(),
            });
        }
        if let Some(at) = policy.statements.iter().position(Statement::denies_everything) {
            return Err(PolicyError::Statement {
                statement: format!("statement {}", at + 1),
                reason: "it denies everything, so the key could do nothing; deny some actions or resources".to_owned(),
            });
        }
        Ok(policy)
    }

    /// Reads the policy of a bucket.
    pub(crate) fn parse_of_bucket(text: &[u8]) -> Result<Self, PolicyError> {
        Self::parse(text, true)
    }

    /// Refuses a policy that would keep everybody from changing it, the owner of the bucket included.
    pub(crate) fn check_way_back(&self, bucket: &str) -> Result<(), PolicyError> {
        let denial = |action| {
            let question =
                Question { action, resource: bucket, who: Who::Anyone, circumstances: Circumstances::default() };
            self.statements.iter().position(|statement| {
                !statement.allows && statement.conditions.is_empty() && statement.is_about(&question)
            })
        };
        match (denial("PutBucketPolicy"), denial("DeleteBucketPolicy")) {
            (Some(put), Some(delete)) => Err(PolicyError::Statement {
                statement: format!("statement {}", put.max(delete) + 1),
                reason: "nobody could change the policy any more, the owner included; leave out PutBucketPolicy or \
                         DeleteBucketPolicy, or name principals"
                    .to_owned(),
            }),
            _ => Ok(()),
        }
    }

    fn parse(text: &[u8], of_bucket: bool) -> Result<Self, PolicyError> {
        if text.len() > LARGEST_POLICY {
            return Err(PolicyError::Malformed(format!("it has more than {LARGEST_POLICY} bytes")));
        }
        let document: Document =
            serde_json::from_slice(text).map_err(|error| PolicyError::Malformed(error.to_string()))?;
        if document.version != "1" {
            return Err(PolicyError::Malformed(format!("Version is {:?}, \"1\" is needed", document.version)));
        }
        if document.statement.is_empty() {
            return Err(PolicyError::Malformed("it has no statement".to_owned()));
        }
        let statements = document
            .statement
            .into_iter()
            .enumerate()
            .map(|(at, entry)| {
                let statement = match &entry.sid {
                    None => format!("statement {}", at + 1),
                    Some(sid) => format!("statement {} ({sid})", at + 1),
                };
                Statement::check(entry, of_bucket).map_err(|reason| PolicyError::Statement { statement, reason })
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { statements })
    }

    /// What the policy says of a request. A statement that denies wins over all that allow.
    pub(crate) fn judge(&self, question: &Question<'_>) -> Verdict {
        let mut verdict = Verdict::Silent;
        for statement in self.statements.iter().filter(|statement| statement.is_about(question)) {
            if !statement.allows {
                return Verdict::Denied;
            }
            verdict = Verdict::Allowed;
        }
        verdict
    }

    /// Whether a statement without conditions allows something to everyone.
    pub(crate) fn is_public(&self) -> bool {
        self.statements.iter().any(|statement| {
            statement.allows
                && statement.conditions.is_empty()
                && statement.principals.iter().any(|principal| principal == "*")
        })
    }
}

impl Statement {
    fn check(entry: Entry, of_bucket: bool) -> Result<Self, String> {
        let allows = match entry.effect.as_str() {
            "Allow" => true,
            "Deny" => false,
            other => return Err(format!("Effect is {other:?}, \"Allow\" or \"Deny\" is needed")),
        };
        let (actions, not_actions) = one_of("Action", entry.action, "NotAction", entry.not_action)?;
        let (resources, not_resources) = one_of("Resource", entry.resource, "NotResource", entry.not_resource)?;
        let principals = match (of_bucket, entry.principal.map(Vec::from)) {
            // The service takes a statement without principals for one about everyone.
            (true, None) => vec!["*".to_owned()],
            (true, Some(principals)) if principals.is_empty() => {
                return Err("Principal is empty; name users, or \"*\"".to_owned());
            }
            (false, Some(_)) => return Err("Principal belongs to policies of buckets; leave it out".to_owned()),
            (_, principals) => principals.unwrap_or_default(),
        };
        let actions = actions.iter().map(|action| check_action(action)).collect::<Result<_, _>>()?;
        let resources = resources.iter().map(|resource| check_resource(resource)).collect::<Result<_, _>>()?;
        let mut conditions = Vec::new();
        for (operator, keys) in entry.condition {
            let test = Test::parse(&operator)?;
            for (key, values) in keys {
                conditions.push(Condition::check(&key, test, values.into())?);
            }
        }
        Ok(Self { allows, actions, not_actions, resources, not_resources, principals, conditions })
    }

    fn names_action(&self, action: &str) -> bool {
        let named = self.actions.iter().any(|pattern| matches_ignoring_case(pattern, action));
        named != self.not_actions
    }

    fn denies_everything(&self) -> bool {
        !self.allows
            && self.conditions.is_empty()
            && action::all().all(|action| self.names_action(action))
            && !self.not_resources
            && self.resources.iter().any(|pattern| pattern.bytes().all(|byte| byte == b'*'))
    }

    fn is_about(&self, question: &Question<'_>) -> bool {
        let resource = self.resources.iter().any(|pattern| matches(pattern, question.resource));
        let principal = self.principals.is_empty()
            || self.principals.iter().any(|principal| match question.who {
                Who::Anyone => principal == "*",
                Who::Key(id) => principal == "*" || principal == id,
            });
        principal
            && self.names_action(question.action)
            && resource != self.not_resources
            && self.conditions.iter().all(|condition| condition.holds(&question.circumstances))
    }
}

/// The one of two fields that is there, and whether it is the negated one.
fn one_of(
    name: &str,
    values: Option<OneOrMore>,
    not_name: &str,
    not_values: Option<OneOrMore>,
) -> Result<(Vec<String>, bool), String> {
    let (values, negated) = match (values, not_values) {
        (Some(values), None) => (Vec::from(values), false),
        (None, Some(values)) => (Vec::from(values), true),
        _ => return Err(format!("one of {name} and {not_name} is needed, and only one")),
    };
    if values.is_empty() { Err(format!("{name} is empty")) } else { Ok((values, negated)) }
}

/// Returns the pattern without `oss:`.
fn check_action(text: &str) -> Result<String, String> {
    let pattern = match text.split_once(':') {
        None if text == "*" => "*",
        Some((service, pattern)) if service.eq_ignore_ascii_case("oss") => pattern,
        _ => return Err(format!("action {text:?} does not begin with \"oss:\"")),
    };
    if action::all().any(|action| matches_ignoring_case(pattern, action)) {
        return Ok(pattern.to_owned());
    }
    Err(format!("action {text:?} is unknown; the names are those of the OSS API, such as \"oss:GetObject\""))
}

/// Returns the pattern of bucket and key.
fn check_resource(text: &str) -> Result<String, String> {
    if text == "*" {
        return Ok("*".to_owned());
    }
    // acs:oss:REGION:ACCOUNT:BUCKET/KEY
    let mut fields = text.splitn(5, ':');
    match (fields.next(), fields.next(), fields.next(), fields.next(), fields.next()) {
        (Some("acs"), Some("oss"), Some(_), Some(_), Some(pattern)) if !pattern.is_empty() => Ok(pattern.to_owned()),
        _ => Err(format!("resource {text:?} is not of the form \"acs:oss:*:*:bucket/key\"")),
    }
}

fn matches_ignoring_case(pattern: &str, text: &str) -> bool {
    matches(&pattern.to_ascii_lowercase(), &text.to_ascii_lowercase())
}

impl Test {
    fn parse(operator: &str) -> Result<Self, String> {
        match operator {
            "StringEquals" => Ok(Self::Equals { negated: false, ignore_case: false }),
            "StringNotEquals" => Ok(Self::Equals { negated: true, ignore_case: false }),
            "StringEqualsIgnoreCase" => Ok(Self::Equals { negated: false, ignore_case: true }),
            "StringNotEqualsIgnoreCase" => Ok(Self::Equals { negated: true, ignore_case: true }),
            "StringLike" => Ok(Self::Like { negated: false }),
            "StringNotLike" => Ok(Self::Like { negated: true }),
            "IpAddress" => Ok(Self::Address { negated: false }),
            "NotIpAddress" => Ok(Self::Address { negated: true }),
            "Bool" => Ok(Self::Bool),
            other => Err(format!("the emulator does not know the condition operator {other:?}")),
        }
    }
}

impl Condition {
    fn check(key: &str, test: Test, values: Vec<String>) -> Result<Self, String> {
        let key = match key.to_ascii_lowercase().as_str() {
            "acs:sourceip" => ConditionKey::SourceIp,
            "acs:securetransport" => ConditionKey::SecureTransport,
            "acs:useragent" => ConditionKey::UserAgent,
            "oss:prefix" => ConditionKey::Prefix,
            "oss:delimiter" => ConditionKey::Delimiter,
            _ => return Err(format!("the emulator does not know the condition key {key:?}")),
        };
        if values.is_empty() {
            return Err("a condition has no values".to_owned());
        }
        let fits = match test {
            Test::Address { .. } => key == ConditionKey::SourceIp,
            Test::Bool => key == ConditionKey::SecureTransport,
            Test::Equals { .. } | Test::Like { .. } => {
                !matches!(key, ConditionKey::SourceIp | ConditionKey::SecureTransport)
            }
        };
        if !fits {
            return Err("a condition's operator does not fit its key".to_owned());
        }
        for value in &values {
            match test {
                Test::Address { .. } if Network::parse(value).is_none() => {
                    return Err(format!("{value:?} is no IP address or CIDR block"));
                }
                Test::Bool if !["true", "false"].contains(&value.as_str()) => {
                    return Err(format!("{value:?} is neither \"true\" nor \"false\""));
                }
                _ => {}
            }
        }
        Ok(Self { key, test, values })
    }

    fn holds(&self, circumstances: &Circumstances<'_>) -> bool {
        let text = match self.key {
            ConditionKey::SourceIp => {
                let Test::Address { negated } = self.test else { return false };
                let Some(source) = circumstances.source else { return false };
                let inside = self.values.iter().filter_map(|value| Network::parse(value));
                return inside.into_iter().any(|network| network.contains(source)) != negated;
            }
            ConditionKey::SecureTransport => {
                return self.values.iter().any(|value| value == if circumstances.secure { "true" } else { "false" });
            }
            ConditionKey::UserAgent => circumstances.user_agent,
            ConditionKey::Prefix => circumstances.prefix,
            ConditionKey::Delimiter => circumstances.delimiter,
        };
        // A listing without a prefix lists everything, which the empty prefix says as well.
        let text = text.unwrap_or_default();
        match self.test {
            Test::Equals { negated, ignore_case } => {
                let equal = |value: &String| {
                    if ignore_case { value.eq_ignore_ascii_case(text) } else { value == text }
                };
                self.values.iter().any(equal) != negated
            }
            Test::Like { negated } => self.values.iter().any(|value| matches(value, text)) != negated,
            Test::Address { .. } | Test::Bool => false,
        }
    }
}

/// A block of addresses.
#[derive(Debug, Clone, Copy)]
struct Network {
    address: IpAddr,
    bits: u32,
}

impl Network {
    fn parse(text: &str) -> Option<Self> {
        let (address, bits) = match text.split_once('/') {
            None => (text.parse().ok()?, None),
            Some((address, bits)) => (address.parse().ok()?, Some(bits.parse::<u32>().ok()?)),
        };
        let most = match address {
            IpAddr::V4(_) => 32,
            IpAddr::V6(_) => 128,
        };
        let bits = bits.unwrap_or(most);
        (bits <= most).then_some(Self { address, bits })
    }

    fn contains(self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                let mask = u32::MAX.checked_shl(32 - self.bits).unwrap_or(0);
                u32::from(network) & mask == u32::from(address) & mask
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                let mask = u128::MAX.checked_shl(128 - self.bits).unwrap_or(0);
                u128::from(network) & mask == u128::from(address) & mask
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(statements: &str) -> Policy {
        Policy::parse_of_user(format!(r#"{{"Version": "1", "Statement": [{statements}]}}"#).as_bytes()).unwrap()
    }

    fn wrong(statements: &str) -> String {
        let text = format!(r#"{{"Version": "1", "Statement": [{statements}]}}"#);
        Policy::parse_of_user(text.as_bytes()).unwrap_err().to_string()
    }

    fn ask<'a>(action: &'a str, resource: &'a str) -> Question<'a> {
        Question { action, resource, who: Who::Key("me"), circumstances: Circumstances::default() }
    }

    #[test]
    fn a_denial_wins_and_silence_is_no_right() {
        let policy = policy(
            r#"{"Effect": "Allow", "Action": ["oss:Get*", "oss:ListObjects"], "Resource": "acs:oss:*:*:b/*"},
               {"Effect": "Deny", "Action": "oss:*", "Resource": ["acs:oss:*:*:b/secret/*"]}"#,
        );
        assert_eq!(policy.judge(&ask("GetObject", "b/k")), Verdict::Allowed);
        assert_eq!(policy.judge(&ask("GetObject", "b/secret/k")), Verdict::Denied);
        assert_eq!(policy.judge(&ask("PutObject", "b/k")), Verdict::Silent);
        assert_eq!(policy.judge(&ask("GetObject", "bb/k")), Verdict::Silent);
        assert_eq!(policy.judge(&ask("ListObjects", "b")), Verdict::Silent);
    }

    #[test]
    fn negated_fields() {
        let policy =
            policy(r#"{"Effect": "Allow", "NotAction": "oss:Delete*", "NotResource": "acs:oss:*:*:b/private*"}"#);
        assert_eq!(policy.judge(&ask("PutObject", "b/k")), Verdict::Allowed);
        assert_eq!(policy.judge(&ask("DeleteObject", "b/k")), Verdict::Silent);
        assert_eq!(policy.judge(&ask("PutObject", "b/private/k")), Verdict::Silent);
    }

    #[test]
    fn conditions() {
        let policy = policy(
            r#"{"Effect": "Allow", "Action": "oss:ListObjects", "Resource": "*",
                "Condition": {"StringLike": {"oss:Prefix": ["a/*", "b"]}, "IpAddress": {"acs:SourceIp": "10.0.0.0/8"},
                              "Bool": {"acs:SecureTransport": "true"}}}"#,
        );
        let ask = |prefix, source: &str, secure| {
            let source = Some(source.parse().unwrap());
            let circumstances = Circumstances { source, secure, prefix, ..Circumstances::default() };
            policy.judge(&Question { circumstances, ..ask("ListObjects", "b") }) == Verdict::Allowed
        };
        assert!(ask(Some("a/x"), "10.1.2.3", true));
        assert!(ask(Some("b"), "10.1.2.3", true));
        assert!(!ask(Some("c"), "10.1.2.3", true));
        assert!(!ask(None, "10.1.2.3", true));
        assert!(!ask(Some("b"), "11.1.2.3", true));
        assert!(!ask(Some("b"), "10.1.2.3", false));
    }

    #[test]
    fn an_error_names_the_statement() {
        let good = r#"{"Effect": "Allow", "Action": "oss:*", "Resource": "*"}"#;
        for (statement, expected) in [
            (r#"{"Sid": "x", "Effect": "allow", "Action": "oss:*", "Resource": "*"}"#, "statement 2 (x): Effect is"),
            (
                r#"{"Effect": "Allow", "Action": "oss:GetObjekt", "Resource": "*"}"#,
                r#"statement 2: action "oss:GetObjekt""#,
            ),
            (r#"{"Effect": "Allow", "Action": "ecs:*", "Resource": "*"}"#, "begin with"),
            (r#"{"Effect": "Allow", "Action": "oss:*", "Resource": "bucket"}"#, "acs:oss"),
            (r#"{"Effect": "Allow", "Action": [], "Resource": "*"}"#, "Action is empty"),
            (r#"{"Effect": "Allow", "Resource": "*"}"#, "one of Action and NotAction"),
            (r#"{"Effect": "Allow", "Action": "*", "Resource": "*", "Principal": "*"}"#, "Principal"),
            (
                r#"{"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": {"DateLessThan": {"acs:CurrentTime": "x"}}}"#,
                "DateLessThan",
            ),
        ] {
            let message = wrong(&format!("{good}, {statement}"));
            assert!(message.contains(expected), "{message}");
        }
        assert!(wrong(r#"{"Effect": "Deny", "Action": "*", "Resource": "*"}"#).contains("Allow"));
        for text in ["", "{}", "[]", r#"{"Version": "2", "Statement": []}"#, r#"{"Version": "1", "Statement": []}"#] {
            assert!(Policy::parse_of_user(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn a_user_must_be_able_to_do_something() {
        let all = r#"{"Effect": "Allow", "Action": "oss:*", "Resource": "*"}"#;
        for denial in [
            r#"{"Effect": "Deny", "Action": "oss:*", "Resource": "*"}"#,
            r#"{"Effect": "Deny", "Action": ["oss:Get*", "*"], "Resource": ["acs:oss:*:*:b", "acs:oss:*:*:*"]}"#,
        ] {
            assert!(wrong(&format!("{all}, {denial}")).starts_with("statement 2: it denies everything"), "{denial}");
        }
        for denial in [
            r#"{"Effect": "Deny", "Action": "oss:Put*", "Resource": "*"}"#,
            r#"{"Effect": "Deny", "Action": "oss:*", "Resource": "acs:oss:*:*:b/*"}"#,
            r#"{"Effect": "Deny", "Action": "*", "NotResource": "*"}"#,
            r#"{"Effect": "Deny", "Action": "*", "Resource": "*", "Condition": {"Bool": {"acs:SecureTransport": "false"}}}"#,
        ] {
            policy(&format!("{all}, {denial}"));
        }
    }

    #[test]
    fn a_bucket_policy_must_not_lock_everybody_out() {
        let parse = |statements: &str| {
            let text = format!(r#"{{"Version": "1", "Statement": [{statements}]}}"#);
            let policy = Policy::parse_of_bucket(text.as_bytes()).unwrap();
            policy.check_way_back("b").map(|()| policy)
        };
        for (statements, named) in [
            (r#"{"Effect": "Deny", "Action": "oss:*", "Principal": ["*"], "Resource": "*"}"#, "statement 1"),
            (r#"{"Effect": "Deny", "NotAction": "oss:GetObject", "NotResource": "acs:oss:*:*:b/*"}"#, "statement 1"),
            (
                r#"{"Effect": "Deny", "Action": "oss:PutBucketPolicy", "Principal": "*", "Resource": "acs:oss:*:*:b"},
                   {"Effect": "Deny", "Action": "oss:Delete*", "Principal": "*", "Resource": "acs:oss:*:*:*"}"#,
                "statement 2",
            ),
        ] {
            let message = parse(statements).unwrap_err().to_string();
            assert!(message.starts_with(named), "{message}");
        }
        let policy =
            parse(r#"{"Effect": "Allow", "Action": "oss:GetObject", "Principal": "*", "Resource": "*"}"#).unwrap();
        assert!(policy.is_public());
        for statement in [
            r#"{"Effect": "Deny", "Action": "oss:PutObject", "Principal": "*", "Resource": "*"}"#,
            r#"{"Effect": "Deny", "Action": "oss:*", "Principal": "somebody", "Resource": "*"}"#,
            r#"{"Effect": "Deny", "Action": "oss:*", "Principal": "*", "Resource": "acs:oss:*:*:b/secret/*"}"#,
            r#"{"Effect": "Deny", "Action": "oss:PutBucketPolicy", "Principal": "*", "Resource": "*"}"#,
        ] {
            parse(statement).unwrap();
        }
    }
}
