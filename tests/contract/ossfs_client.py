"""The file system on top of ``oss2``, ``ossfs``. It signs V1 only, and has no operation that creates a bucket."""

from collections.abc import Sequence

import oss2
import ossfs

from .client import Access, Failure, Head, ObjectClient

# It uploads in parts of 5 MiB, and sends up to twice as much in one request.
SMALLEST_IN_PARTS = 10 * 1024 * 1024


class OssfsClient(ObjectClient):
    # It translates the errors of oss2, except while it lists.
    error = (OSError, oss2.exceptions.OssError)

    def __init__(self, access: Access) -> None:
        self.files = ossfs.OSSFileSystem(
            endpoint=access.endpoint,
            key=access.access_key_id,
            secret=access.access_key_secret,
            skip_instance_cache=True,
        )

    def close(self) -> None:
        self.files._session.session.close()

    def put(self, bucket: str, key: str, data: bytes) -> None:
        self.files.pipe_file(f"{bucket}/{key}", data)

    def put_in_parts(self, bucket: str, key: str, data: bytes) -> None:
        assert len(data) >= SMALLEST_IN_PARTS
        self.files.pipe_file(f"{bucket}/{key}", data)

    def get(self, bucket: str, key: str) -> bytes:
        body: bytes = self.files.cat_file(f"{bucket}/{key}")
        return body

    def get_range(self, bucket: str, key: str, first: int, last: int) -> bytes:
        body: bytes = self.files.get_object(f"{bucket}/{key}", first, last)
        return body

    def head(self, bucket: str, key: str) -> Head:
        return Head(self.list_all(bucket, key)[key], crc64=self.files.ukey(f"{bucket}/{key}"))

    def copy(self, bucket: str, source_key: str, key: str) -> None:
        self.files.cp_file(f"{bucket}/{source_key}", f"{bucket}/{key}")

    def delete(self, bucket: str, key: str) -> None:
        self.files.rm_file(f"{bucket}/{key}")

    def delete_many(self, bucket: str, keys: Sequence[str]) -> None:
        # Its public `rm` takes names as patterns, and uses this for the matches.
        self.files._bulk_delete([f"{bucket}/{key}" for key in keys])

    def list_all(self, bucket: str, prefix: str = "") -> dict[str, int]:
        # It lists only into a cache, but other clients change objects. With a prefix, its public `find` uses this too;
        # without a prefix it walks directories, and a key such as "a//b" has none.
        self.files.invalidate_cache()
        listed = self.files._ls_dir(bucket, delimiter="", prefix=prefix)
        return {info["name"].removeprefix(f"{bucket}/"): info["size"] for info in listed}

    def list_buckets(self) -> list[str]:
        self.files.invalidate_cache()
        paths: list[str] = self.files.ls("", detail=False)
        return paths

    def failure(self, error: Exception) -> Failure:
        cause = error if isinstance(error, oss2.exceptions.OssError) else error.__cause__
        assert isinstance(cause, oss2.exceptions.OssError), cause
        return Failure(cause.code, cause.status, cause.request_id)
