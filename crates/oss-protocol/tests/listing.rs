//! Listings: documented bodies, hostile keys and broken documents.

use std::time::SystemTime;

use oss_protocol::time::from_unix_seconds;
use oss_protocol::xml::delete::{DeleteObjects, DeleteResult, DeletedObject, ObjectIdentifier};
use oss_protocol::xml::list::{ListObjectsResult, ListObjectsV2Result, ObjectSummary};
use oss_protocol::xml::{EncodingType, Owner, XmlError};
use proptest::prelude::*;

const HOSTILE: [&str; 14] = [
    "spaces in the key",
    "a+b",
    "a%20b",
    "100%",
    "what?",
    "a#b",
    "a&b&amp;c",
    "<Key>",
    "]]>",
    "\"quotes\" and 'quotes'",
    "数据/日本語/é/🚀",
    ".hidden/../..",
    " leading and trailing ",
    "tab\tand\r\nlines",
];

fn at() -> SystemTime {
    from_unix_seconds(1_702_743_657)
}

fn object(key: &str) -> ObjectSummary {
    ObjectSummary {
        key: key.to_owned(),
        size: 344_606,
        etag: "\"5B3C1A2E053D763E1B002CC607C5A0FE\"".to_owned(),
        last_modified: at(),
        object_type: "Normal".to_owned(),
        storage_class: "Standard".to_owned(),
        owner: None,
    }
}

fn page(encoding_type: EncodingType, keys: &[String]) -> ListObjectsV2Result {
    let first = keys.first().cloned().unwrap_or_default();
    ListObjectsV2Result {
        name: "examplebucket".to_owned(),
        prefix: first.clone(),
        start_after: Some(first.clone()).filter(|text| !text.is_empty()),
        continuation_token: Some("CgJiYw--".to_owned()),
        max_keys: 1000,
        delimiter: Some("/".to_owned()),
        encoding_type,
        is_truncated: true,
        next_continuation_token: Some("CgJiZA--".to_owned()),
        key_count: keys.len() as u32 * 2,
        contents: keys.iter().map(|key| object(key)).collect(),
        common_prefixes: keys.to_vec(),
    }
}

fn page_v1(encoding_type: EncodingType, keys: &[String]) -> ListObjectsResult {
    let first = keys.first().cloned().unwrap_or_default();
    ListObjectsResult {
        name: "examplebucket".to_owned(),
        prefix: first.clone(),
        marker: first.clone(),
        max_keys: 1000,
        delimiter: Some("/".to_owned()),
        encoding_type,
        is_truncated: !first.is_empty(),
        next_marker: Some(first).filter(|text| !text.is_empty()),
        contents: keys.iter().map(|key| object(key)).collect(),
        common_prefixes: keys.to_vec(),
    }
}

#[test]
fn documented_version_1_body() {
    let body = r#"<?xml version="1.0" encoding="UTF-8"?>
<ListBucketResult xmlns="http://doc.oss-cn-hangzhou.aliyuncs.com">
<Name>examplebucket</Name>
<Prefix></Prefix>
<Marker></Marker>
<MaxKeys>100</MaxKeys>
<Delimiter></Delimiter>
    <IsTruncated>false</IsTruncated>
    <Contents>
        <Key>fun/movie/001.avi</Key>
        <LastModified>2012-02-24T08:43:07.000Z</LastModified>
        <ETag>&quot;5B3C1A2E053D763E1B002CC607C5A0FE&quot;</ETag>
        <Type>Normal</Type>
        <Size>344606</Size>
        <StorageClass>Standard</StorageClass>
        <RestoreInfo>ongoing-request="true"</RestoreInfo>
        <Owner>
            <ID>0022012****</ID>
            <DisplayName>user-example</DisplayName>
        </Owner>
    </Contents>
    <Contents>
        <Key>oss.jpg</Key>
        <LastModified>2012-02-24T06:07:48.000Z</LastModified>
        <ETag>"5B3C1A2E053D763E1B002CC607C5A0FE"</ETag>
        <Type>Multipart</Type>
        <Size>0</Size>
        <StorageClass>IA</StorageClass>
    </Contents>
    <CommonPrefixes><Prefix>fun/test/</Prefix></CommonPrefixes>
    <CommonPrefixes><Prefix>fun/movie/</Prefix></CommonPrefixes>
</ListBucketResult>"#;
    let result = ListObjectsResult::parse(body.as_bytes()).unwrap();
    assert_eq!((result.name.as_str(), result.max_keys, result.is_truncated), ("examplebucket", 100, false));
    assert_eq!((result.delimiter, result.next_marker), (None, None));
    assert_eq!(result.common_prefixes, ["fun/test/", "fun/movie/"]);
    let first = &result.contents[0];
    assert_eq!((first.key.as_str(), first.size), ("fun/movie/001.avi", 344_606));
    assert_eq!(first.etag, "\"5B3C1A2E053D763E1B002CC607C5A0FE\"");
    assert_eq!(first.last_modified, from_unix_seconds(1_330_072_987));
    assert_eq!(first.owner, Some(Owner { id: "0022012****".to_owned(), display_name: "user-example".to_owned() }));
    let second = &result.contents[1];
    assert_eq!((second.size, second.object_type.as_str(), second.storage_class.as_str()), (0, "Multipart", "IA"));
    assert_eq!(second.owner, None);
}

#[test]
fn documented_version_2_body() {
    let body = "<ListBucketResult><Name>examplebucket</Name><Prefix>a/</Prefix><StartAfter>b</StartAfter>\
        <ContinuationToken>CgJiYw--</ContinuationToken><MaxKeys>3</MaxKeys><Delimiter>/</Delimiter>\
        <EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>\
        <NextContinuationToken>CgJiYw%2D%2D</NextContinuationToken>\
        <Contents><Key>a%2Fb%20c</Key><LastModified>2020-05-18T05:45:43.000Z</LastModified><ETag>\"35A2\"</ETag>\
        <Size>25</Size></Contents><CommonPrefixes><Prefix>a%2Fb%2B%2F</Prefix></CommonPrefixes>\
        <KeyCount>2</KeyCount></ListBucketResult>";
    let result = ListObjectsV2Result::parse(body.as_bytes()).unwrap();
    assert_eq!(result.contents[0].key, "a/b c");
    assert_eq!(result.common_prefixes, ["a/b+/"]);
    assert_eq!(result.next_continuation_token.as_deref(), Some("CgJiYw--"));
    assert_eq!((result.key_count, result.start_after.as_deref()), (2, Some("b")));
    assert_eq!(result.encoding_type, EncodingType::Url);
}

#[test]
fn the_encoding_may_be_announced_last() {
    let body = "<ListBucketResult><Prefix>a%2F</Prefix><IsTruncated>false</IsTruncated>\
        <EncodingType>url</EncodingType></ListBucketResult>";
    assert_eq!(ListObjectsV2Result::parse(body.as_bytes()).unwrap().prefix, "a/");
    let plain = body.replace("<EncodingType>url</EncodingType>", "");
    assert_eq!(ListObjectsV2Result::parse(plain.as_bytes()).unwrap().prefix, "a%2F");
}

#[test]
fn hostile_keys_survive_both_encodings() {
    let keys: Vec<String> = HOSTILE.iter().map(|key| (*key).to_owned()).chain(["k".repeat(1023)]).collect();
    for encoding_type in [EncodingType::None, EncodingType::Url] {
        let page = page(encoding_type, &keys);
        assert_eq!(ListObjectsV2Result::parse(page.to_xml().as_bytes()).unwrap(), page);
        let page = page_v1(encoding_type, &keys);
        assert_eq!(ListObjectsResult::parse(page.to_xml().as_bytes()).unwrap(), page);
    }
}

#[test]
fn bodies_are_written_as_the_official_parsers_want_them() {
    let mut page = page(EncodingType::Url, &["a b/c".to_owned()]);
    page.contents[0].owner = Some(Owner { id: "1".to_owned(), display_name: "n".to_owned() });
    assert_eq!(
        page.to_xml(),
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<ListBucketResult><Name>examplebucket</Name>\
         <Prefix>a%20b%2Fc</Prefix><StartAfter>a%20b%2Fc</StartAfter><ContinuationToken>CgJiYw--</ContinuationToken>\
         <MaxKeys>1000</MaxKeys><Delimiter>%2F</Delimiter><EncodingType>url</EncodingType>\
         <IsTruncated>true</IsTruncated><NextContinuationToken>CgJiZA--</NextContinuationToken>\
         <Contents><Key>a%20b%2Fc</Key><LastModified>2023-12-16T16:20:57.000Z</LastModified>\
         <ETag>\"5B3C1A2E053D763E1B002CC607C5A0FE\"</ETag><Type>Normal</Type><Size>344606</Size>\
         <StorageClass>Standard</StorageClass><Owner><ID>1</ID><DisplayName>n</DisplayName></Owner></Contents>\
         <CommonPrefixes><Prefix>a%20b%2Fc</Prefix></CommonPrefixes><KeyCount>2</KeyCount></ListBucketResult>"
    );
    page.encoding_type = EncodingType::None;
    assert!(!page.to_xml().contains("EncodingType"));
}

#[test]
fn required_elements_of_a_listing() {
    let whole = "<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>k</Key>\
        <LastModified>2020-05-18T05:45:43.000Z</LastModified><Size>25</Size></Contents></ListBucketResult>";
    assert!(ListObjectsV2Result::parse(whole.as_bytes()).is_ok());
    for (part, element) in [
        ("<Key>k</Key>", "Key"),
        ("<Size>25</Size>", "Size"),
        ("<LastModified>2020-05-18T05:45:43.000Z</LastModified>", "LastModified"),
        ("<IsTruncated>false</IsTruncated>", "IsTruncated"),
    ] {
        let body = whole.replace(part, "");
        assert_eq!(ListObjectsV2Result::parse(body.as_bytes()), Err(XmlError::Missing { element }));
        assert_eq!(ListObjectsResult::parse(body.as_bytes()), Err(XmlError::Missing { element }));
    }
    for (part, bad, element) in [
        ("25", "many", "Size"),
        ("25", "-1", "Size"),
        ("2020-05", "20200-05", "LastModified"),
        ("false", "False", "IsTruncated"),
    ] {
        let body = whole.replace(part, bad);
        let error = ListObjectsV2Result::parse(body.as_bytes()).unwrap_err();
        assert!(matches!(&error, XmlError::Invalid { element: found, .. } if *found == element), "{error:?}");
    }
    let endless = whole.replace("false", "true");
    assert_eq!(
        ListObjectsV2Result::parse(endless.as_bytes()),
        Err(XmlError::Missing { element: "NextContinuationToken" })
    );
    assert_eq!(ListObjectsResult::parse(endless.as_bytes()), Err(XmlError::Missing { element: "NextMarker" }));
}

#[test]
fn a_listing_that_is_not_xml_is_an_error() {
    for body in ["", "hello", "<html><body>502</body></html>", "{\"a\":1}", "<ListBucketResult>"] {
        assert!(ListObjectsV2Result::parse(body.as_bytes()).is_err(), "{body}");
    }
    let broken_escape = "<ListBucketResult><EncodingType>url</EncodingType><IsTruncated>false</IsTruncated>\
        <Prefix>100%</Prefix></ListBucketResult>";
    assert!(matches!(
        ListObjectsV2Result::parse(broken_escape.as_bytes()),
        Err(XmlError::Invalid { element: "Prefix", .. })
    ));
}

/// Keys without NUL, which no XML can carry unencoded.
fn keys() -> impl Strategy<Value = Vec<String>> {
    proptest::collection::vec(any::<String>().prop_map(|key| key.replace('\0', "0")), 0..6)
}

proptest! {
    #[test]
    fn pages_round_trip(keys in keys(), url in any::<bool>()) {
        let encoding_type = if url { EncodingType::Url } else { EncodingType::None };
        let v2 = page(encoding_type, &keys);
        prop_assert_eq!(ListObjectsV2Result::parse(v2.to_xml().as_bytes()).unwrap(), v2);
        let v1 = page_v1(encoding_type, &keys);
        prop_assert_eq!(ListObjectsResult::parse(v1.to_xml().as_bytes()).unwrap(), v1);
    }

    #[test]
    fn control_characters_travel_encoded(key in "[\u{0}-\u{1f}\u{7f}a%+]{1,12}") {
        let v2 = page(EncodingType::Url, &[key]);
        let body = v2.to_xml();
        prop_assert!(!body.chars().any(|c| c.is_control() && c != '\n'));
        prop_assert_eq!(ListObjectsV2Result::parse(body.as_bytes()).unwrap(), v2);
    }

    #[test]
    fn deletions_round_trip(keys in keys(), quiet in any::<bool>(), url in any::<bool>()) {
        let request = DeleteObjects {
            quiet,
            objects: keys.iter().map(|key| ObjectIdentifier { key: key.clone(), version_id: None }).collect(),
        };
        prop_assert_eq!(DeleteObjects::parse(request.to_xml().as_bytes()).unwrap(), request);
        let result = DeleteResult {
            encoding_type: if url { EncodingType::Url } else { EncodingType::None },
            deleted: keys.iter().map(|key| DeletedObject { key: key.clone(), ..DeletedObject::default() }).collect(),
        };
        prop_assert_eq!(DeleteResult::parse(result.to_xml().as_bytes()).unwrap(), result);
    }

    #[test]
    fn cut_bodies_are_errors_and_never_panic(keys in keys(), cut in 0.0f64..1.0) {
        let body = page(EncodingType::None, &keys).to_xml();
        let end = (body.len() as f64 * cut) as usize;
        prop_assert!(ListObjectsV2Result::parse(&body.as_bytes()[..end]).is_err());
    }

    #[test]
    fn arbitrary_bytes_never_panic(body in proptest::collection::vec(any::<u8>(), 0..200), text in "[<>/&;#x!\\[\\]CDATA\"' a?-]{0,60}") {
        let _ = ListObjectsV2Result::parse(&body);
        let _ = ListObjectsV2Result::parse(format!("<ListBucketResult>{text}").as_bytes());
        let _ = ListObjectsV2Result::parse(format!("<ListBucketResult><Prefix>{text}</Prefix></ListBucketResult>").as_bytes());
    }
}
