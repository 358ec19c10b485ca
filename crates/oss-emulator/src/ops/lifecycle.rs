//! What the rules of a lifecycle must agree on.

use oss_protocol::error_code::ErrorCode;
use oss_protocol::xml::configuration::{LifecycleConfiguration, LifecycleRule};

use super::tagging;
use crate::response::ServiceError;

/// Storage classes that objects move to, from the one that costs most to the one that costs least.
const CLASSES: [&str; 4] = ["IA", "Archive", "ColdArchive", "DeepColdArchive"];

pub(super) fn check(configuration: &LifecycleConfiguration) -> Result<(), ServiceError> {
    configuration.rules.iter().try_for_each(check_rule)
}

fn check_rule(rule: &LifecycleRule) -> Result<(), ServiceError> {
    let actions = || rule.expiration.iter().chain(&rule.transitions);
    if actions().any(|action| action.days.is_some()) && actions().any(|action| action.created_before_date.is_some()) {
        return Err(ServiceError::new(ErrorCode::InvalidRequest)
            .with_message("A rule must not have both Days and CreatedBeforeDate."));
    }
    let mut last = None;
    let mut transitions = Vec::new();
    for transition in &rule.transitions {
        let name = transition.storage_class.as_deref().unwrap_or_default();
        let Some(class) = CLASSES.iter().position(|class| *class == name) else {
            return Err(ServiceError::invalid_argument("StorageClass", name));
        };
        transitions.push((class, transition.days));
    }
    transitions.sort_by_key(|(class, _)| *class);
    for days in transitions.iter().filter_map(|(_, days)| *days) {
        if last.is_some_and(|before| days <= before) {
            return Err(ServiceError::invalid_argument("Days", &days.to_string()));
        }
        last = Some(days);
    }
    let end = rule.expiration.as_ref().and_then(|expiration| expiration.days);
    if let (Some(end), Some(last)) = (end, last)
        && last >= end
    {
        return Err(ServiceError::invalid_argument("Days", &last.to_string()));
    }
    rule.tags.iter().try_for_each(|tag| tagging::check_characters(&tag.key, &tag.value))
}
