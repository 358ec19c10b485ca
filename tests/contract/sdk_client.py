"""The second official SDK, ``alibabacloud_oss_v2``."""

from collections.abc import Sequence
from datetime import timedelta
from io import BytesIO
from typing import Any
from urllib.parse import quote, unquote

import alibabacloud_oss_v2 as oss
from alibabacloud_oss_v2.transport import RequestsHttpClient

from .client import Access, ApiClient, Failure, Head, Page, Part

PART_SIZE = 100 * 1024


class SdkClient(ApiClient):
    error = oss.exceptions.OperationError

    def __init__(self, access: Access, version: str) -> None:
        self._http = RequestsHttpClient()
        self._client = oss.Client(
            oss.Config(
                region=access.region,
                endpoint=access.endpoint,
                signature_version=version,
                credentials_provider=oss.credentials.StaticCredentialsProvider(
                    access.access_key_id, access.access_key_secret, access.security_token
                ),
                http_client=self._http,
            )
        )

    def close(self) -> None:
        self._http.close()

    def put(self, bucket: str, key: str, data: bytes) -> None:
        self._client.put_object(oss.PutObjectRequest(bucket, key, body=data))

    def put_in_parts(self, bucket: str, key: str, data: bytes) -> None:
        uploader = self._client.uploader(part_size=PART_SIZE, parallel_num=2)
        uploader.upload_from(oss.PutObjectRequest(bucket, key), BytesIO(data))

    def get(self, bucket: str, key: str) -> bytes:
        return self._read(oss.GetObjectRequest(bucket, key))

    def get_range(self, bucket: str, key: str, first: int, last: int) -> bytes:
        return self._read(
            oss.GetObjectRequest(bucket, key, range_header=f"bytes={first}-{last}", range_behavior="standard")
        )

    def head(self, bucket: str, key: str) -> Head:
        result = self._client.head_object(oss.HeadObjectRequest(bucket, key))
        return Head(result.content_length, result.etag.strip('"'), int(result.hash_crc64))

    def copy(self, bucket: str, source_key: str, key: str) -> None:
        self._client.copy_object(oss.CopyObjectRequest(bucket, key, source_bucket=bucket, source_key=source_key))

    def delete(self, bucket: str, key: str) -> None:
        self._client.delete_object(oss.DeleteObjectRequest(bucket, key))

    def delete_many(self, bucket: str, keys: Sequence[str]) -> None:
        objects = [oss.DeleteObject(key) for key in keys]
        request = oss.DeleteMultipleObjectsRequest(bucket, encoding_type="url", objects=objects)
        deleted = self._client.delete_multiple_objects(request).deleted_objects
        assert sorted(item.key for item in deleted) == sorted(keys)

    def list_all(self, bucket: str, prefix: str = "") -> dict[str, int]:
        pages = self._client.list_objects_v2_paginator().iter_page(oss.ListObjectsV2Request(bucket, prefix=prefix))
        return {item.key: item.size for page in pages for item in page.contents or ()}

    def list_buckets(self) -> list[str]:
        pages = self._client.list_buckets_paginator().iter_page(oss.ListBucketsRequest())
        return [item.name for page in pages for item in page.buckets or ()]

    def failure(self, error: Exception) -> Failure:
        assert isinstance(error, oss.exceptions.OperationError)
        cause = error.unwrap()
        assert isinstance(cause, oss.exceptions.ServiceError), cause
        return Failure(cause.code, cause.status_code, cause.request_id)

    def create_bucket(self, bucket: str) -> None:
        self._client.put_bucket(oss.PutBucketRequest(bucket))

    def delete_bucket(self, bucket: str) -> None:
        self._client.delete_bucket(oss.DeleteBucketRequest(bucket))

    def bucket_region(self, bucket: str) -> str:
        location: str = self._client.get_bucket_location(oss.GetBucketLocationRequest(bucket)).location
        return location

    def bucket_info(self, bucket: str) -> dict[str, str]:
        info = self._client.get_bucket_info(oss.GetBucketInfoRequest(bucket)).bucket_info
        return {"name": info.name, "location": info.location, "storage_class": info.storage_class}

    def list_v1(
        self, bucket: str, *, prefix: str = "", delimiter: str = "", marker: str = "", max_keys: int = 100
    ) -> Page:
        result = self._client.list_objects(
            oss.ListObjectsRequest(bucket, delimiter, prefix=prefix, marker=marker, max_keys=max_keys)
        )
        return _page(result, result.next_marker)

    def list_v2(
        self,
        bucket: str,
        *,
        prefix: str = "",
        delimiter: str = "",
        token: str = "",
        start_after: str = "",
        max_keys: int = 100,
    ) -> Page:
        result = self._client.list_objects_v2(
            oss.ListObjectsV2Request(
                bucket,
                delimiter or None,
                start_after=start_after or None,
                continuation_token=token or None,
                prefix=prefix,
                max_keys=max_keys,
            )
        )
        assert result.key_count == len(result.contents or ()) + len(result.common_prefixes or ())
        return _page(result, result.next_continuation_token)

    def initiate(self, bucket: str, key: str) -> str:
        request = oss.InitiateMultipartUploadRequest(bucket, key)
        upload_id: str = self._client.initiate_multipart_upload(request).upload_id
        return upload_id

    def upload_part(self, bucket: str, key: str, upload_id: str, number: int, data: bytes) -> Part:
        result = self._client.upload_part(oss.UploadPartRequest(bucket, key, number, upload_id, body=data))
        return Part(number, len(data), result.etag.strip('"'))

    def copy_part(
        self, bucket: str, source_key: str, key: str, upload_id: str, number: int, first: int, last: int
    ) -> Part:
        result = self._client.upload_part_copy(
            oss.UploadPartCopyRequest(
                bucket,
                key,
                number,
                upload_id,
                source_bucket=bucket,
                source_key=source_key,
                source_range=f"bytes={first}-{last}",
            )
        )
        return Part(number, last - first + 1, result.etag.strip('"'))

    def list_parts(self, bucket: str, key: str, upload_id: str) -> list[Part]:
        # Two on a page, so a few parts need several pages.
        request = oss.ListPartsRequest(bucket, key, upload_id, max_parts=2)
        pages = self._client.list_parts_paginator().iter_page(request)
        return [Part(part.part_number, part.size, part.etag.strip('"')) for page in pages for part in page.parts or ()]

    def list_uploads(self, bucket: str) -> list[tuple[str, str]]:
        request = oss.ListMultipartUploadsRequest(bucket, max_uploads=2)
        pages = self._client.list_multipart_uploads_paginator().iter_page(request)
        return [(upload.key, upload.upload_id) for page in pages for upload in page.uploads or ()]

    def complete(self, bucket: str, key: str, upload_id: str, parts: Sequence[Part]) -> str:
        sent = oss.CompleteMultipartUpload([oss.UploadPart(part.number, part.etag) for part in parts])
        request = oss.CompleteMultipartUploadRequest(bucket, key, upload_id, complete_multipart_upload=sent)
        etag: str = self._client.complete_multipart_upload(request).etag
        return etag.strip('"')

    def abort(self, bucket: str, key: str, upload_id: str) -> None:
        self._client.abort_multipart_upload(oss.AbortMultipartUploadRequest(bucket, key, upload_id))

    def put_with(
        self, bucket: str, key: str, data: bytes, *, storage_class: str = "", acl: str = "", tagging: str = ""
    ) -> None:
        said = {"storage_class": storage_class, "acl": acl, "tagging": tagging}
        given = {name: value for name, value in said.items() if value}
        self._client.put_object(oss.PutObjectRequest(bucket, key, body=data, **given))

    def append(self, bucket: str, key: str, position: int, data: bytes) -> int:
        result = self._client.append_object(oss.AppendObjectRequest(bucket, key, position=position, body=data))
        return int(result.next_position)

    def meta(self, bucket: str, key: str) -> Head:
        result = self._client.get_object_meta(oss.GetObjectMetaRequest(bucket, key))
        return Head(result.content_length, result.etag.strip('"'), int(result.hash_crc64))

    def put_symlink(self, bucket: str, key: str, target: str) -> None:
        self._client.put_symlink(oss.PutSymlinkRequest(bucket, key, symlink_target=quote(target, safe="")))

    def get_symlink(self, bucket: str, key: str) -> str:
        return unquote(self._client.get_symlink(oss.GetSymlinkRequest(bucket, key)).target)

    def put_tags(self, bucket: str, key: str, tags: dict[str, str]) -> None:
        tagging = oss.Tagging(oss.TagSet([oss.Tag(name, value) for name, value in tags.items()]))
        self._client.put_object_tagging(oss.PutObjectTaggingRequest(bucket, key, tagging))

    def get_tags(self, bucket: str, key: str) -> dict[str, str]:
        found = self._client.get_object_tagging(oss.GetObjectTaggingRequest(bucket, key)).tag_set.tags or ()
        return {tag.key: tag.value or "" for tag in found}

    def delete_tags(self, bucket: str, key: str) -> None:
        self._client.delete_object_tagging(oss.DeleteObjectTaggingRequest(bucket, key))

    def put_acl(self, bucket: str, key: str, acl: str) -> None:
        self._client.put_object_acl(oss.PutObjectAclRequest(bucket, key, acl=acl))

    def get_acl(self, bucket: str, key: str) -> str:
        acl: str = self._client.get_object_acl(oss.GetObjectAclRequest(bucket, key)).acl
        return acl

    def put_bucket_acl(self, bucket: str, acl: str) -> None:
        self._client.put_bucket_acl(oss.PutBucketAclRequest(bucket, acl))

    def get_bucket_acl(self, bucket: str) -> str:
        acl: str = self._client.get_bucket_acl(oss.GetBucketAclRequest(bucket)).acl
        return acl

    def restore(self, bucket: str, key: str, days: int) -> int:
        wanted = oss.RestoreRequest(days=days, tier="Standard")
        status: int = self._client.restore_object(
            oss.RestoreObjectRequest(bucket, key, restore_request=wanted)
        ).status_code
        return status

    def restoration(self, bucket: str, key: str) -> str | None:
        restoration: str | None = self._client.head_object(oss.HeadObjectRequest(bucket, key)).restore
        return restoration

    def presign(self, method: str, bucket: str, key: str, seconds: int, content_type: str = "") -> str:
        request = {
            "GET": lambda: oss.GetObjectRequest(bucket, key),
            "HEAD": lambda: oss.HeadObjectRequest(bucket, key),
            "PUT": lambda: oss.PutObjectRequest(bucket, key, content_type=content_type),
        }[method]()
        url: str = self._client.presign(request, expires=timedelta(seconds=seconds)).url
        return url

    def _read(self, request: Any) -> bytes:
        with self._client.get_object(request).body as stream:
            body: bytes = stream.read()
        return body


def _page(result: Any, after: str) -> Page:
    sizes = {item.key: item.size for item in result.contents or ()}
    return Page(sizes, [item.prefix for item in result.common_prefixes or ()], after if result.is_truncated else "")
