"""The first official SDK, ``oss2``."""

from collections.abc import Sequence
from io import BytesIO
from typing import Any

import oss2

from .client import Access, ApiClient, Failure, Head, Page, Part

PART_SIZE = 100 * 1024


class Oss2Client(ApiClient):
    error = oss2.exceptions.OssError

    def __init__(self, access: Access, version: str) -> None:
        self._access = access
        self._session = oss2.Session()
        if access.security_token is not None:
            self._auth = oss2.StsAuth(access.access_key_id, access.access_key_secret, access.security_token, version)
        else:
            auth = {"v1": oss2.Auth, "v4": oss2.AuthV4}[version]
            self._auth = auth(access.access_key_id, access.access_key_secret)

    def close(self) -> None:
        self._session.session.close()

    def put(self, bucket: str, key: str, data: bytes) -> None:
        self._bucket(bucket).put_object(key, data)

    def put_in_parts(self, bucket: str, key: str, data: bytes) -> None:
        upload_id = self.initiate(bucket, key)
        parts = [
            self.upload_part(bucket, key, upload_id, number, data[start : start + PART_SIZE])
            for number, start in enumerate(range(0, len(data), PART_SIZE), start=1)
        ]
        self.complete(bucket, key, upload_id, parts)

    def get(self, bucket: str, key: str) -> bytes:
        body: bytes = self._bucket(bucket).get_object(key).read()
        return body

    def get_range(self, bucket: str, key: str, first: int, last: int) -> bytes:
        result = self._bucket(bucket).get_object(
            key, byte_range=(first, last), headers={"x-oss-range-behavior": "standard"}
        )
        body: bytes = result.read()
        return body

    def head(self, bucket: str, key: str) -> Head:
        result = self._bucket(bucket).head_object(key)
        return Head(result.content_length, result.etag, result.server_crc)

    def copy(self, bucket: str, source_key: str, key: str) -> None:
        self._bucket(bucket).copy_object(bucket, source_key, key)

    def delete(self, bucket: str, key: str) -> None:
        self._bucket(bucket).delete_object(key)

    def delete_many(self, bucket: str, keys: Sequence[str]) -> None:
        deleted = self._bucket(bucket).batch_delete_objects(list(keys)).deleted_keys
        assert sorted(deleted) == sorted(keys)

    def list_all(self, bucket: str, prefix: str = "") -> dict[str, int]:
        return {item.key: item.size for item in oss2.ObjectIteratorV2(self._bucket(bucket), prefix=prefix)}

    def list_buckets(self) -> list[str]:
        service = oss2.Service(self._auth, self._access.endpoint, session=self._session, region=self._access.region)
        return [item.name for item in oss2.BucketIterator(service)]

    def failure(self, error: Exception) -> Failure:
        assert isinstance(error, oss2.exceptions.OssError)
        return Failure(error.code, error.status, error.request_id)

    def create_bucket(self, bucket: str) -> None:
        self._bucket(bucket).create_bucket()

    def delete_bucket(self, bucket: str) -> None:
        self._bucket(bucket).delete_bucket()

    def bucket_region(self, bucket: str) -> str:
        location: str = self._bucket(bucket).get_bucket_location().location
        return location

    def bucket_info(self, bucket: str) -> dict[str, str]:
        info = self._bucket(bucket).get_bucket_info()
        return {"name": info.name, "location": info.location, "storage_class": info.storage_class}

    def list_v1(
        self, bucket: str, *, prefix: str = "", delimiter: str = "", marker: str = "", max_keys: int = 100
    ) -> Page:
        result = self._bucket(bucket).list_objects(prefix, delimiter, marker, max_keys)
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
        result = self._bucket(bucket).list_objects_v2(prefix, delimiter, token, start_after, max_keys=max_keys)
        return _page(result, result.next_continuation_token)

    def initiate(self, bucket: str, key: str) -> str:
        upload_id: str = self._bucket(bucket).init_multipart_upload(key).upload_id
        return upload_id

    def upload_part(self, bucket: str, key: str, upload_id: str, number: int, data: bytes) -> Part:
        result = self._bucket(bucket).upload_part(key, upload_id, number, BytesIO(data))
        return Part(number, len(data), result.etag)

    def copy_part(
        self, bucket: str, source_key: str, key: str, upload_id: str, number: int, first: int, last: int
    ) -> Part:
        result = self._bucket(bucket).upload_part_copy(bucket, source_key, (first, last), key, upload_id, number)
        return Part(number, last - first + 1, result.etag)

    def list_parts(self, bucket: str, key: str, upload_id: str) -> list[Part]:
        # Two on a page, so a few parts need several pages.
        parts = oss2.PartIterator(self._bucket(bucket), key, upload_id, max_parts=2)
        return [Part(part.part_number, part.size, part.etag) for part in parts]

    def list_uploads(self, bucket: str) -> list[tuple[str, str]]:
        uploads = oss2.MultipartUploadIterator(self._bucket(bucket), max_uploads=2)
        return [(upload.key, upload.upload_id) for upload in uploads]

    def complete(self, bucket: str, key: str, upload_id: str, parts: Sequence[Part]) -> str:
        infos = [oss2.models.PartInfo(part.number, part.etag) for part in parts]
        etag: str = self._bucket(bucket).complete_multipart_upload(key, upload_id, infos).etag
        return etag

    def abort(self, bucket: str, key: str, upload_id: str) -> None:
        self._bucket(bucket).abort_multipart_upload(key, upload_id)

    def put_with(
        self, bucket: str, key: str, data: bytes, *, storage_class: str = "", acl: str = "", tagging: str = ""
    ) -> None:
        said = {"x-oss-storage-class": storage_class, "x-oss-object-acl": acl, "x-oss-tagging": tagging}
        self._bucket(bucket).put_object(key, data, headers={name: value for name, value in said.items() if value})

    def append(self, bucket: str, key: str, position: int, data: bytes) -> int:
        following: int = self._bucket(bucket).append_object(key, position, data).next_position
        return following

    def meta(self, bucket: str, key: str) -> Head:
        result = self._bucket(bucket).get_object_meta(key)
        return Head(result.content_length, result.etag, int(result.headers["x-oss-hash-crc64ecma"]))

    def put_symlink(self, bucket: str, key: str, target: str) -> None:
        self._bucket(bucket).put_symlink(target, key)

    def get_symlink(self, bucket: str, key: str) -> str:
        target: str = self._bucket(bucket).get_symlink(key).target_key
        return target

    def put_tags(self, bucket: str, key: str, tags: dict[str, str]) -> None:
        rule = oss2.models.TaggingRule()
        for name, value in tags.items():
            rule.add(name, value)
        self._bucket(bucket).put_object_tagging(key, oss2.models.Tagging(rule))

    def get_tags(self, bucket: str, key: str) -> dict[str, str]:
        tags: dict[str, str] = self._bucket(bucket).get_object_tagging(key).tag_set.tagging_rule
        return tags

    def delete_tags(self, bucket: str, key: str) -> None:
        self._bucket(bucket).delete_object_tagging(key)

    def put_acl(self, bucket: str, key: str, acl: str) -> None:
        self._bucket(bucket).put_object_acl(key, acl)

    def get_acl(self, bucket: str, key: str) -> str:
        acl: str = self._bucket(bucket).get_object_acl(key).acl
        return acl

    def put_bucket_acl(self, bucket: str, acl: str) -> None:
        self._bucket(bucket).put_bucket_acl(acl)

    def get_bucket_acl(self, bucket: str) -> str:
        acl: str = self._bucket(bucket).get_bucket_acl().acl
        return acl

    def restore(self, bucket: str, key: str, days: int) -> int:
        wanted = oss2.models.RestoreConfiguration(days, oss2.models.RestoreJobParameters("Standard"))
        status: int = self._bucket(bucket).restore_object(key, input=wanted).status
        return status

    def restoration(self, bucket: str, key: str) -> str | None:
        restoration: str | None = self._bucket(bucket).head_object(key).headers.get("x-oss-restore")
        return restoration

    def presign(self, method: str, bucket: str, key: str, seconds: int, content_type: str = "") -> str:
        headers = {"Content-Type": content_type} if content_type else None
        url: str = self._bucket(bucket).sign_url(method, key, seconds, headers=headers)
        return url

    def _bucket(self, name: str) -> Any:
        return oss2.Bucket(self._auth, self._access.endpoint, name, session=self._session, region=self._access.region)


def _page(result: Any, after: str) -> Page:
    sizes = {item.key: item.size for item in result.object_list}
    return Page(sizes, list(result.prefix_list), after if result.is_truncated else "")
