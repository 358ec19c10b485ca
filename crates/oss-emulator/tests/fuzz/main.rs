//! No input causes a panic: each parser, and the whole server, reads mutated samples.
//!
//! Each target runs for a second, or for as many as `OSS_FUZZ_SECONDS` says; `make fuzz` gives each a minute. A failure prints
//! the input and the seed.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails by panicking and prints what it did")]

mod mutator;
mod requests;

use std::time::SystemTime;

use http::{HeaderMap, HeaderValue, Method, header};
use oss_protocol::range::{ByteRange, ContentRange, ResolvedRange};
use oss_protocol::sign::{Presented, SignedParts, Verifier};
use oss_protocol::xml::Document;
use oss_protocol::xml::bucket::{BucketInfo, CreateBucketConfiguration, ListBucketsResult};
use oss_protocol::xml::configuration::{
    BucketUserQos, CorsConfiguration, EncryptionRule, LifecycleConfiguration, PublicAccessBlock, check_document,
};
use oss_protocol::xml::copy::{CopyObjectResult, CopyPartResult};
use oss_protocol::xml::delete::{DeleteObjects, DeleteResult};
use oss_protocol::xml::error::ErrorBody;
use oss_protocol::xml::list::{ListObjectsResult, ListObjectsV2Result};
use oss_protocol::xml::multipart::{
    CompleteMultipartUpload, CompleteMultipartUploadResult, InitiateMultipartUploadResult, ListMultipartUploadsResult,
    ListPartsResult,
};
use oss_protocol::xml::restore::RestoreRequest;
use oss_protocol::xml::tagging::Tagging;
use rand::Rng;

use mutator::fuzz;

#[test]
fn documents() {
    let samples = [
        "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>\"AB\"</ETag></Part></CompleteMultipartUpload>",
        "<Delete><Quiet>false</Quiet><Object><Key>a&amp;b</Key></Object><Object><Key>c</Key></Object></Delete>",
        "<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>",
        "<CORSConfiguration><CORSRule><AllowedOrigin>*</AllowedOrigin><AllowedMethod>GET</AllowedMethod><MaxAgeSeconds>5\
         </MaxAgeSeconds></CORSRule><ResponseVary>true</ResponseVary></CORSConfiguration>",
        "<ServerSideEncryptionRule><ApplyServerSideEncryptionByDefault><SSEAlgorithm>KMS</SSEAlgorithm></\
         ApplyServerSideEncryptionByDefault></ServerSideEncryptionRule>",
        "<LifecycleConfiguration><Rule><Tag><Key>a</Key></Tag><Expiration><Days>9</Days></Expiration></Rule></\
         LifecycleConfiguration>",
        "<RestoreRequest><Days>3</Days><JobParameters><Tier>Bulk</Tier></JobParameters></RestoreRequest>",
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><CreateBucketConfiguration><StorageClass>IA</StorageClass></CreateBucketConfiguration>",
        "<Error><Code>NoSuchKey</Code><Message>m</Message><RequestId>1</RequestId><HostId>h</HostId><Key>k</Key></Error>",
        "<ListBucketResult><Name>b</Name><Prefix>p</Prefix><MaxKeys>10</MaxKeys><EncodingType>url</EncodingType>\
         <IsTruncated>true</IsTruncated><NextContinuationToken>x</NextContinuationToken><KeyCount>1</KeyCount><Contents>\
         <Key>a%20b</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>\"E\"</ETag><Type>Normal</Type>\
         <Size>5</Size><StorageClass>Standard</StorageClass></Contents><CommonPrefixes><Prefix>c</Prefix></CommonPrefixes>\
         </ListBucketResult>",
    ];
    fuzz("documents", &samples, |_, input| {
        let _ = CompleteMultipartUpload::parse(input);
        let _ = CompleteMultipartUploadResult::parse(input);
        let _ = InitiateMultipartUploadResult::parse(input);
        let _ = ListMultipartUploadsResult::parse(input);
        let _ = ListPartsResult::parse(input);
        let _ = DeleteObjects::parse(input);
        let _ = DeleteResult::parse(input);
        let _ = CopyObjectResult::parse(input);
        let _ = CopyPartResult::parse(input);
        let _ = CreateBucketConfiguration::parse(input);
        let _ = ListBucketsResult::parse(input);
        let _ = BucketInfo::parse(input);
        let _ = ErrorBody::parse(input);
        let _ = ListObjectsResult::parse(input);
        let _ = ListObjectsV2Result::parse(input);
        let _ = RestoreRequest::parse(input);
        let _ = Tagging::parse(input);
        let _ = CorsConfiguration::parse(input);
        let _ = EncryptionRule::parse(input);
        let _ = LifecycleConfiguration::parse(input);
        let _ = PublicAccessBlock::parse(input);
        let _ = BucketUserQos::parse(input);
        let _ = check_document(input, "CORSConfiguration", Some("CORSRule"));
    });
}

#[test]
fn authorizations() {
    let samples = [
        "OSS4-HMAC-SHA256 Credential=ak/20231216/cn-hangzhou/oss/aliyun_v4_request,AdditionalHeaders=abc;zabc,\
         Signature=4a4183c187c07c8947db7620deb0a6b38d9fbdd34187b6dbaccb316fa251212f",
        "OSS4-HMAC-SHA256 Credential=ak/20231216/cn-hangzhou/oss/aliyun_v4_request, \
         Signature=e21d18daa82167720f9b1047ae7e7f1ce7cb77a31e8203a7d5f4624fa0284afe",
        "OSS ak:kSHKmLxlyEAKtZPkJhG9bZb5k7M=",
    ];
    let date = HeaderValue::from_static("20231216T162057Z");
    fuzz("authorizations", &samples, |mutator, input| {
        let Ok(value) = HeaderValue::from_bytes(input) else { return };
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, value.clone());
        headers.insert("x-oss-date", if mutator.random.random() { date.clone() } else { value });
        headers.insert("x-oss-security-token", HeaderValue::from_bytes(input).unwrap());
        let text = String::from_utf8_lossy(input).into_owned();
        let query = [("x-oss-expires".to_owned(), text.clone()), (text.clone(), text.clone())];
        let query = if mutator.random.random() { &query[..] } else { &[] };
        let Ok(Some(presented)) = Presented::find(&headers, query) else { return };
        let parts =
            SignedParts { method: &Method::GET, bucket: Some("bucket"), key: Some(&text), query, headers: &headers };
        let now = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_702_743_657);
        let verifier = Verifier { secret: "another secret", region: Some("cn-hangzhou"), now, signing_key: None };
        let _ = presented.security_token(&parts);
        assert!(presented.verify(&parts, &verifier).is_err(), "a signature of another secret is accepted");
    });
}

#[test]
fn ranges() {
    let samples = ["bytes=0-499", "bytes=500-", "bytes=-500", "bytes=0-0,5-9", "bytes 0-499/1000", "bytes */1000"];
    fuzz("ranges", &samples, |mutator, input| {
        let text = String::from_utf8_lossy(input);
        if let Some(range) = ContentRange::parse(&text) {
            let _ = range.length();
        }
        let Some(range) = ByteRange::parse(&text) else { return };
        let bits = mutator.random.random_range(0..64);
        let size = mutator.random.random::<u64>() >> bits;
        for (size, standard) in [(0, true), (0, false), (1000, true), (1000, false), (size, true), (size, false)] {
            if let ResolvedRange::Partial { start, end_inclusive } = range.resolve(size, standard) {
                assert!(start <= end_inclusive && end_inclusive < size, "{range:?} of {size}");
            }
        }
    });
}
