//! Restoring an archived object.

use serde::{Deserialize, Serialize};

use super::{Document, only_child, present};

only_child!(tier_element, "Tier");

/// The body of `RestoreObject`.
///
/// <https://www.alibabacloud.com/help/en/oss/developer-reference/restoreobject>
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct RestoreRequest {
    /// For how many days the restored copy is kept.
    #[serde(deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub days: Option<u32>,
    /// How urgent it is: `Expedited`, `Standard` or `Bulk`.
    #[serde(rename = "JobParameters", with = "tier_element", skip_serializing_if = "Option::is_none")]
    pub tier: Option<String>,
}

impl Document for RestoreRequest {
    const ROOT: &'static str = "RestoreRequest";

    /// An empty body asks for one day and no particular tier.
    fn from_nothing() -> Option<Self> {
        Some(Self::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_round_trip() {
        let request = RestoreRequest { days: Some(2), tier: Some("Standard".to_owned()) };
        assert_eq!(
            request.to_xml(),
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<RestoreRequest><Days>2</Days><JobParameters><Tier>Standard\
             </Tier></JobParameters></RestoreRequest>"
        );
        assert_eq!(RestoreRequest::parse(request.to_xml().as_bytes()).unwrap(), request);
        assert_eq!(RestoreRequest::parse(b"").unwrap(), RestoreRequest::default());
        assert!(RestoreRequest::parse(b"<RestoreRequest><Days>soon</Days></RestoreRequest>").is_err());
    }
}
