//! What to do about an error of the service, if this client knows more than the service says.

use oss_protocol::{
    endpoint::{Endpoint, Scheme},
    error_code::ErrorCode,
    xml::error::ErrorBody,
};

use crate::config::ClientConfig;

/// What a web server says in plain text if it expected TLS.
const EXPECTED_TLS: &str = "plain HTTP request was sent to HTTPS port";

/// What to do about an error that came with this body.
pub(crate) fn advice(code: &ErrorCode, body: &ErrorBody, config: &ClientConfig) -> Option<String> {
    let endpoint = config.endpoint.as_ref()?;
    if let Some(right) = named_endpoint(body)
        && right.host() != endpoint.host()
    {
        let region = right.infer_region().map(|region| format!(" and region='{region}'")).unwrap_or_default();
        let right = right.authority(None);
        return Some(format!(
            "the bucket is in another region: pass endpoint='{right}'{region} instead of '{endpoint}'"
        ));
    }
    let signed = &config.region;
    match code {
        ErrorCode::InvalidObjectState => {
            let how = "OssClient.restore(uri)";
            Some(format!("the object is archived: restore it first with {how}, and read it once that has ended"))
        }
        ErrorCode::SecondLevelDomainForbidden => {
            Some("pass OssConfig(addressing='virtual_host'), which puts the bucket's name before the host".to_owned())
        }
        // https://www.alibabacloud.com/help/en/oss/user-guide/server-side-encryption-8
        ErrorCode::AccessDenied if body.message.to_ascii_lowercase().contains("forbidden by kms") => Some(
            "the access key has no right to use the KMS key: allow it kms:GenerateDataKey and kms:Decrypt".to_owned(),
        ),
        _ => {
            let expected = body.get("Region").filter(|name| is_plain(name)).map(str::to_owned);
            let expected = expected.or_else(|| endpoint.infer_region()).filter(|expected| expected != signed);
            let about_region = body.message.contains("signing region");
            match expected {
                Some(expected) if about_region || *code == ErrorCode::SignatureDoesNotMatch => Some(format!(
                    "the request was signed for region '{signed}', but {endpoint} belongs to '{expected}': pass \
                     region='{expected}'"
                )),
                None if about_region => Some(format!(
                    "the request was signed for region '{signed}', which is not the bucket's: pass the region of the \
                     bucket's location, without 'oss-', as region"
                )),
                _ => None,
            }
        }
    }
}

/// What to do if an object does not meet a condition of the request. Refused conditions of our own are other errors.
pub(crate) fn advice_about_condition(code: &ErrorCode) -> Option<String> {
    match code {
        ErrorCode::NotModified => {
            Some("the object is the one that the condition excludes: use what was read before".to_owned())
        }
        ErrorCode::PreconditionFailed => Some(
            "the object is not the one that the condition names: see what it is now with OssClient.stat".to_owned(),
        ),
        _ => None,
    }
}

/// What to do about a refusal that is no error of OSS.
pub(crate) fn advice_without_body(text: &[u8], config: &ClientConfig) -> Option<String> {
    let endpoint = config.endpoint.as_ref()?;
    let expected_tls =
        text.windows(EXPECTED_TLS.len()).any(|window| window.eq_ignore_ascii_case(EXPECTED_TLS.as_bytes()));
    (!endpoint.is_tls() && expected_tls)
        .then(|| format!("the server expects TLS: pass endpoint='https://{}'", endpoint.authority(None)))
}

/// The endpoint that the service names. The text is not ours, so it must look like one.
fn named_endpoint(body: &ErrorBody) -> Option<Endpoint> {
    let text = body.get("Endpoint").filter(|text| is_plain(text))?;
    Endpoint::parse(text, Scheme::Https, None).ok()
}

fn is_plain(text: &str) -> bool {
    (1..=253).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.:".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn advised(code: &str, message: &str, extra: &[(&str, &str)], endpoint: &str, region: &str) -> Option<String> {
        let extra = extra.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let body = ErrorBody { code: code.to_owned(), message: message.to_owned(), extra, ..ErrorBody::default() };
        let endpoint = Endpoint::parse(endpoint, Scheme::Https, None).unwrap();
        advice(&ErrorCode::from(code), &body, &ClientConfig::new(endpoint, region))
    }

    #[test]
    fn the_endpoint_that_oss_names_is_named_with_its_region() {
        let extra = [("Endpoint", "oss-cn-beijing.aliyuncs.com")];
        let text = advised("AccessDenied", "", &extra, "oss-cn-hangzhou.aliyuncs.com", "cn-hangzhou").unwrap();
        assert_eq!(
            text,
            "the bucket is in another region: pass endpoint='oss-cn-beijing.aliyuncs.com' and region='cn-beijing' \
             instead of 'https://oss-cn-hangzhou.aliyuncs.com'"
        );
        assert_eq!(advised("AccessDenied", "", &extra, "oss-cn-beijing.aliyuncs.com", "cn-beijing"), None);
        for strange in ["evil' or so", "\u{1b}[31m", "", &"a".repeat(300)] {
            let extra = [("Endpoint", strange)];
            assert_eq!(advised("AccessDenied", "", &extra, "oss-cn-hangzhou.aliyuncs.com", "cn-hangzhou"), None);
        }
    }

    #[test]
    fn both_regions_are_named() {
        let (hangzhou, message) = ("oss-cn-hangzhou.aliyuncs.com", "Invalid signing region in Authorization header.");
        for (code, message) in [("InvalidArgument", message), ("SignatureDoesNotMatch", "")] {
            let text = advised(code, message, &[], hangzhou, "cn-beijing").unwrap();
            assert!(
                text.contains("signed for region 'cn-beijing'") && text.contains("pass region='cn-hangzhou'"),
                "{text}"
            );
        }
        assert_eq!(advised("SignatureDoesNotMatch", "", &[], hangzhou, "cn-hangzhou"), None);
        assert_eq!(advised("SignatureDoesNotMatch", "", &[], "127.0.0.1:80", "cn-hangzhou"), None);
        let text = advised("InvalidArgument", message, &[], "127.0.0.1:80", "cn-hangzhou").unwrap();
        assert!(text.contains("signed for region 'cn-hangzhou', which is not the bucket's"), "{text}");
        let text = advised("InvalidArgument", message, &[("Region", "cn-beijing")], "127.0.0.1:80", "cn-hangzhou");
        assert!(text.unwrap().contains("pass region='cn-beijing'"));
    }
}
