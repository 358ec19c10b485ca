"""Multipart uploads that were neither published nor given up: a killed writer leaves them behind."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from osstorchconnector.connection.uri import split_prefix

if TYPE_CHECKING:
    from osstorchconnector.connection.client import OssClient


@dataclass(frozen=True)
class UnfinishedUpload:
    """A multipart upload that still runs, or was left behind.

    Attributes:
        bucket: The bucket.
        key: The key of the object that it would publish.
        upload_id: The service's identifier.
        started: When it began.
    """

    bucket: str
    key: str
    upload_id: str
    started: datetime

    @property
    def uri(self) -> str:
        """The URI of the object that it would publish."""
        return f"oss://{self.bucket}/{self.key}"


def find_unfinished(client: "OssClient", prefix: str) -> Iterator[UnfinishedUpload]:
    """Yield the unfinished uploads of objects under a prefix, in the order of their keys."""
    bucket, key_prefix = split_prefix(prefix)
    for key, upload_id, started in client._native_client.list_uploads(bucket, key_prefix):  # noqa: SLF001 - part of the client
        yield UnfinishedUpload(bucket, key, upload_id, datetime.fromtimestamp(started, UTC))


def abort(client: "OssClient", upload: UnfinishedUpload) -> None:
    """Abort an upload and remove its parts. It is no error if the upload has already ended."""
    client._native_client.abort_upload(upload.bucket, upload.key, upload.upload_id)  # noqa: SLF001 - part of the client
