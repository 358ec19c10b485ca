//! The query parameters that version 1 signs.

/// Names in byte order. Listing parameters such as `prefix` and `marker` are not among them.
const SUBRESOURCES: [&str; 76] = [
    "accessPoint",
    "accessPointPolicy",
    "acl",
    "append",
    "asyncFetch",
    "bucketArchiveDirectRead",
    "bucketInfo",
    "callback",
    "callback-var",
    "cloudboxes",
    "cname",
    "comp",
    "continuation-token",
    "cors",
    "delete",
    "encryption",
    "endTime",
    "group",
    "httpsConfig",
    "img",
    "inventory",
    "inventoryId",
    "lifecycle",
    "link",
    "live",
    "location",
    "logging",
    "metaQuery",
    "objectInfo",
    "objectMeta",
    "partNumber",
    "policy",
    "position",
    "publicAccessBlock",
    "qos",
    "qosInfo",
    "qosRequester",
    "redundancyTransition",
    "referer",
    "regionList",
    "replication",
    "replicationLocation",
    "replicationProgress",
    "requestPayment",
    "requesterQosInfo",
    "resourceGroup",
    "resourcePool",
    "resourcePoolBuckets",
    "resourcePoolInfo",
    "response-cache-control",
    "response-content-disposition",
    "response-content-encoding",
    "response-content-language",
    "response-content-type",
    "response-expires",
    "restore",
    "security-token",
    "sequential",
    "startTime",
    "stat",
    "status",
    "style",
    "styleName",
    "symlink",
    "tagging",
    "transferAcceleration",
    "uploadId",
    "uploads",
    "versionId",
    "versioning",
    "versions",
    "vod",
    "website",
    "worm",
    "wormExtend",
    "wormId",
];

/// Whether a query parameter is part of the signed resource. Every name that starts with `x-oss-` is.
pub fn is_subresource(name: &str) -> bool {
    name.starts_with(crate::header::PREFIX) || SUBRESOURCES.binary_search(&name).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted() {
        assert!(SUBRESOURCES.is_sorted());
    }

    #[test]
    fn listing_parameters_are_not_signed() {
        for name in
            ["list-type", "prefix", "marker", "max-keys", "delimiter", "encoding-type", "start-after", "fetch-owner"]
        {
            assert!(!is_subresource(name), "{name}");
        }
        for name in ["key-marker", "upload-id-marker", "max-uploads", "max-parts", "part-number-marker"] {
            assert!(!is_subresource(name), "{name}");
        }
    }

    #[test]
    fn subresources_are_signed() {
        for name in
            ["acl", "uploadId", "continuation-token", "x-oss-batchGet", "x-oss-process", "objectMeta", "symlink"]
        {
            assert!(is_subresource(name), "{name}");
        }
    }
}
