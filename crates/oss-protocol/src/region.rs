//! Region ids: their form, and what an OSS host name says about them.

/// A text is not a region id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a region id; use one of a-z, 0-9 and '-' without the oss- prefix, such as cn-hangzhou")]
pub struct RegionError {
    /// The text as given.
    pub text: String,
}

/// First labels of hosts under `aliyuncs.com` that name their region otherwise than by `oss-<region>`.
///
/// The finance clouds were named before the scheme was. An `-internal` twin is looked up under the same name.
/// <https://www.alibabacloud.com/help/en/oss/user-guide/regions-and-endpoints>
const IRREGULAR: [(&str, &str); 6] = [
    ("oss-cn-hzjbp-a", "cn-hangzhou-finance"),
    ("oss-cn-hzjbp-b", "cn-hangzhou-finance"),
    ("oss-cn-hzfinance", "cn-hangzhou-finance"),
    ("oss-cn-shanghai-finance-1-pub", "cn-shanghai-finance-1"),
    ("oss-cn-szfinance", "cn-shenzhen-finance-1"),
    ("oss-cn-beijing-finance-1-pub", "cn-beijing-finance-1"),
];

/// Dual-stack names whose region id is not the label before `.oss`.
const IRREGULAR_DUAL_STACK: [(&str, &str); 2] =
    [("cn-shanghai-finance", "cn-shanghai-finance-1"), ("cn-shenzhen-finance", "cn-shenzhen-finance-1")];

/// Checks that `text` has the form of a region id: one or more of `a-z`, `0-9` and `-`, without the `oss-` that the
/// names of endpoints and locations put in front.
pub fn validate_region(text: &str) -> Result<(), RegionError> {
    if is_region(text) && !text.starts_with("oss-") {
        return Ok(());
    }
    Err(RegionError { text: text.to_owned() })
}

/// Returns the region that signatures for `host` must name, if the host contains it.
///
/// Custom domains, IP addresses, `oss.aliyuncs.com` and the transfer acceleration hosts do not.
pub(crate) fn of_host(host: &str) -> Option<String> {
    let name = host.strip_suffix(".aliyuncs.com")?;
    if let Some(zone_host) = name.strip_suffix(".oss-data-acc") {
        return of_accelerator_zone(zone_host);
    }
    if let Some(dual_stack) = name.strip_suffix(".oss") {
        return of_dual_stack(last_label(dual_stack));
    }
    let label = last_label(name);
    let label = label.strip_suffix("-internal").unwrap_or(label);
    if let Some((_, region)) = IRREGULAR.iter().find(|(irregular, _)| *irregular == label) {
        return Some((*region).to_owned());
    }
    let region = label.strip_prefix("oss-")?;
    (is_region(region) && !region.starts_with("accelerate") && region != "internal").then(|| region.to_owned())
}

fn of_dual_stack(label: &str) -> Option<String> {
    let irregular = IRREGULAR_DUAL_STACK.iter().find(|(irregular, _)| *irregular == label);
    let region = irregular.map_or(label, |(_, region)| region);
    is_region(region).then(|| region.to_owned())
}

/// Accelerators are named by zone: `cn-beijing-h` is in `cn-beijing`, `ap-southeast-1c` in `ap-southeast-1`.
fn of_accelerator_zone(host: &str) -> Option<String> {
    let zone = last_label(host);
    let zone = zone.strip_suffix("-internal").unwrap_or(zone);
    let (region, letter) = zone.split_at_checked(zone.len().checked_sub(1)?)?;
    if !letter.bytes().all(|byte| byte.is_ascii_lowercase()) {
        return None;
    }
    let region =
        region.strip_suffix('-').or_else(|| region.ends_with(|last: char| last.is_ascii_digit()).then_some(region))?;
    is_region(region).then(|| region.to_owned())
}

/// A bucket may stand in front of the endpoint's own label.
fn last_label(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

fn is_region(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(host: &str) -> Option<String> {
        of_host(&format!("{host}.aliyuncs.com"))
    }

    #[test]
    fn regular_hosts() {
        for (host, expected) in [
            ("oss-cn-hangzhou", "cn-hangzhou"),
            ("oss-cn-hangzhou-internal", "cn-hangzhou"),
            ("oss-ap-southeast-1", "ap-southeast-1"),
            ("cn-hangzhou.oss", "cn-hangzhou"),
            ("bucket.oss-cn-beijing-internal", "cn-beijing"),
            ("bucket.cn-beijing.oss", "cn-beijing"),
            ("oss-cn-north-2-gov-1", "cn-north-2-gov-1"),
            ("oss-cn-north-2-gov-1-internal", "cn-north-2-gov-1"),
        ] {
            assert_eq!(region(host).as_deref(), Some(expected), "{host}");
        }
    }

    #[test]
    fn irregular_hosts() {
        for (host, expected) in [
            ("oss-cn-hzjbp-a-internal", "cn-hangzhou-finance"),
            ("oss-cn-hzjbp-b-internal", "cn-hangzhou-finance"),
            ("oss-cn-hzfinance", "cn-hangzhou-finance"),
            ("oss-cn-hzfinance-internal", "cn-hangzhou-finance"),
            ("cn-hangzhou-finance.oss", "cn-hangzhou-finance"),
            ("oss-cn-shanghai-finance-1-internal", "cn-shanghai-finance-1"),
            ("oss-cn-shanghai-finance-1-pub", "cn-shanghai-finance-1"),
            ("oss-cn-shanghai-finance-1-pub-internal", "cn-shanghai-finance-1"),
            ("cn-shanghai-finance.oss", "cn-shanghai-finance-1"),
            ("oss-cn-shenzhen-finance-1-internal", "cn-shenzhen-finance-1"),
            ("oss-cn-szfinance", "cn-shenzhen-finance-1"),
            ("cn-shenzhen-finance.oss", "cn-shenzhen-finance-1"),
            ("oss-cn-beijing-finance-1-internal", "cn-beijing-finance-1"),
            ("oss-cn-beijing-finance-1-pub", "cn-beijing-finance-1"),
        ] {
            assert_eq!(region(host).as_deref(), Some(expected), "{host}");
        }
    }

    #[test]
    fn accelerator_zones() {
        for (zone, expected) in [
            ("cn-beijing-h", "cn-beijing"),
            ("cn-shanghai-g", "cn-shanghai"),
            ("cn-shenzhen-c", "cn-shenzhen"),
            ("cn-hangzhou-j", "cn-hangzhou"),
            ("cn-wulanchabu-b", "cn-wulanchabu"),
            ("ap-southeast-1c", "ap-southeast-1"),
        ] {
            let host = format!("{zone}-internal.oss-data-acc");
            assert_eq!(region(&host).as_deref(), Some(expected), "{zone}");
        }
        assert_eq!(region("cn-beijing-internal.oss-data-acc"), None);
    }

    #[test]
    fn hosts_that_do_not_tell() {
        for host in ["oss", "oss-internal", "oss-accelerate", "oss-accelerate-overseas", "ecs-cn-hangzhou", "oss-"] {
            assert_eq!(region(host), None, "{host}");
        }
        for host in ["127.0.0.1", "localhost", "data.example.com", "oss-cn-hangzhou.example.com", "aliyuncs.com", ""] {
            assert_eq!(of_host(host), None, "{host}");
        }
    }

    #[test]
    fn region_ids_are_checked() {
        assert!(validate_region("cn-hangzhou").is_ok());
        for text in ["", "cn_hangzhou", "CN-hangzhou", "oss-cn-hangzhou", "cn hangzhou"] {
            assert!(validate_region(text).is_err(), "{text}");
        }
    }
}
