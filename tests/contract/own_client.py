"""The client of this project."""

from collections.abc import Sequence

from osstorchconnector import OssClient, OssConfig, OssError

from .client import Access, BucketClient, Failure, Head

PART_SIZE = 100 * 1024


class OwnClient(BucketClient):
    error = OssError

    def __init__(self, access: Access, version: str) -> None:
        assert version in {"v1", "v4"}
        config = OssConfig(
            access_key_id=access.access_key_id,
            access_key_secret=access.access_key_secret,
            security_token=access.security_token,
            signature_version="v1" if version == "v1" else "v4",
            part_size=PART_SIZE,
        )
        self._client = OssClient(access.endpoint, region=access.region, config=config)

    def close(self) -> None:
        """Do nothing: this client has no such operation."""

    def put(self, bucket: str, key: str, data: bytes) -> None:
        # An object larger than a part would be sent in parts.
        assert len(data) <= PART_SIZE
        self._client.put(f"oss://{bucket}/{key}", data)

    def put_in_parts(self, bucket: str, key: str, data: bytes) -> None:
        with self._client.writer(f"oss://{bucket}/{key}") as writer:
            writer.write(data)

    def get(self, bucket: str, key: str) -> bytes:
        return self._client.get(f"oss://{bucket}/{key}")

    def get_range(self, bucket: str, key: str, first: int, last: int) -> bytes:
        return self._client.get(f"oss://{bucket}/{key}", first, last + 1)

    def head(self, bucket: str, key: str) -> Head:
        described = self._client.head(f"oss://{bucket}/{key}")
        return Head(described.size, described.etag)

    def copy(self, bucket: str, source_key: str, key: str) -> None:
        self._client.copy(f"oss://{bucket}/{source_key}", f"oss://{bucket}/{key}")

    def delete(self, bucket: str, key: str) -> None:
        self._client.delete(f"oss://{bucket}/{key}")

    def delete_many(self, bucket: str, keys: Sequence[str]) -> None:
        self._client.delete_many(f"oss://{bucket}/{key}" for key in keys)

    def list_all(self, bucket: str, prefix: str = "") -> dict[str, int]:
        return {item.name: item.size for item in self._client.list(f"oss://{bucket}/{prefix}")}

    def list_buckets(self) -> list[str]:
        return self._client.list_buckets()

    def failure(self, error: Exception) -> Failure:
        assert isinstance(error, OssError)
        return Failure(error.code or "", error.status or 0, error.request_id or "")

    def create_bucket(self, bucket: str) -> None:
        self._client.create_bucket(bucket)

    def delete_bucket(self, bucket: str) -> None:
        self._client.delete_bucket(bucket)
