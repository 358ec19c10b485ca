"""OSS as a file system of ``torch.distributed.checkpoint``."""

import io
import os
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self, cast

from torch.distributed.checkpoint.filesystem import FileSystemBase

from osstorchconnector._second_names import second_names
from osstorchconnector.connection.client import OssClient
from osstorchconnector.connection.config import OssConfig
from osstorchconnector.connection.uri import split_prefix
from osstorchconnector.credentials.shield import guards_methods
from osstorchconnector.dcp.paths import checkpoint_uri, join
from osstorchconnector.exceptions import OssConfigError, OssNotFoundError, OssPermissionError

if TYPE_CHECKING:
    from contextlib import _GeneratorContextManager

    from osstorchconnector.dcp.hugging_face import OssHuggingFaceStorageReader
    from osstorchconnector.dcp.reader import OssStorageReader
    from osstorchconnector.dcp.writer import OssStorageWriter


@guards_methods
class OssFileSystem(FileSystemBase):
    """Buckets of one region, for distributed checkpoints. Paths are strings like ``oss://bucket/checkpoints/1``.

    It holds configuration only, so that it may be built before a fork and sent to the process that
    ``torch.distributed.checkpoint.async_save`` may start. An access key given in the program does not travel there;
    ``cred_path`` and environment variables do, by name.
    """

    def __init__(
        self,
        endpoint: str,
        cred_path: str = "",
        config_path: str = "",
        cred_provider: object = None,
        region: str = "",
        *,
        config: OssConfig | None = None,
    ) -> None:
        """Resolve the connection arguments, which are those of :class:`OssClient`. The network is not used.

        Raises:
            OssConfigError: An argument is wrong, or a file is missing or malformed.
            OssCredentialsError: There is no usable access key.
        """
        self._client = OssClient(
            endpoint, cred_path, config_path, cred_provider=cred_provider, region=region, config=config
        )

    @classmethod
    def of_client(cls, client: OssClient) -> Self:
        """Return the file system of a client, which moves the bytes."""
        made = cls.__new__(cls)
        made._client = client  # noqa: SLF001 - its own class
        return made

    @property
    def client(self) -> OssClient:
        """The client that moves the bytes."""
        return self._client

    @second_names(uri="path")
    def writer(self, path: str, **kwargs: Any) -> "OssStorageWriter":  # noqa: ANN401 - checked by OssStorageWriter
        """Return a ``storage_writer`` for ``save`` and ``async_save``.

        Args:
            path: The checkpoint's URI, like ``oss://bucket/checkpoints/1``.
            kwargs: Options of :class:`OssStorageWriter`.
        """
        from osstorchconnector.dcp.writer import OssStorageWriter  # noqa: PLC0415 - it needs this module

        return OssStorageWriter(self, path, **kwargs)

    @second_names(uri="path")
    def reader(self, path: str, **options: Any) -> "OssStorageReader":  # noqa: ANN401 - checked by OssStorageReader
        """Return a ``storage_reader`` for ``load``.

        Args:
            path: The checkpoint's URI.
            options: Options of :class:`OssStorageReader`.
        """
        from osstorchconnector.dcp.reader import OssStorageReader  # noqa: PLC0415 - it needs this module

        return OssStorageReader(self, path, **options)

    def hugging_face_reader(self, uri: str, thread_count: int = 1) -> "OssHuggingFaceStorageReader":
        """Return a ``storage_reader`` for a directory of safetensors files.

        Args:
            uri: The directory.
            thread_count: Accepted as torch's reader does, without effect: ranges are always read concurrently.
        """
        from osstorchconnector.dcp.hugging_face import OssHuggingFaceStorageReader  # noqa: PLC0415 - as above

        return OssHuggingFaceStorageReader(uri, thread_count, file_system=self)

    def create_stream(self, path: str | os.PathLike[str], mode: str) -> "_GeneratorContextManager[io.IOBase]":
        """Open an object, as a context manager.

        Args:
            path: The object.
            mode: ``rb`` or ``r`` to read, ``wb`` or ``w`` to write. A written object appears when the block ends
                without an exception. After an exception, the previous object stays.

        Raises:
            OssConfigError: The mode is not one of these.
            OssNotFoundError: The object to read does not exist.
        """
        return self._stream(self.init_path(path), mode)

    @contextmanager
    def _stream(self, uri: str, mode: str) -> Generator[io.IOBase, None, None]:
        if mode in {"rb", "r"}:
            with self._client.open(uri) as stream:
                binary = cast("io.BytesIO", stream)
                yield binary if mode == "rb" else io.TextIOWrapper(binary, encoding="utf-8")
        elif mode in {"wb", "w"}:
            with self._client.writer(uri) as stream:
                binary = cast("io.BytesIO", stream)
                if mode == "wb":
                    yield binary
                    return
                with io.TextIOWrapper(binary, encoding="utf-8") as text:
                    yield text
        else:
            raise OssConfigError(
                f"{uri} cannot be opened with mode {mode!r}: objects of OSS are opened with 'rb', 'r', 'wb' or 'w'"
            )

    def concat_path(self, path: str | os.PathLike[str], suffix: str) -> str:
        """Return the path of `suffix` below a path."""
        return join(self.init_path(path), suffix)

    def init_path(self, path: str | os.PathLike[str]) -> str:
        """Return the path as a URI without slashes at its end.

        Raises:
            OssConfigError: The path is no ``oss://`` URI.
        """
        return checkpoint_uri(path)

    @second_names(path="old_path")
    def rename(self, old_path: str | os.PathLike[str], new_path: str | os.PathLike[str]) -> None:
        """Copy an object of any size, in the same bucket or to another, then delete the source.

        The service moves the bytes. If the copy fails, the source is not deleted.

        Raises:
            OssNotFoundError: The source does not exist.
            OssIntegrityError: The source was replaced during the copy.
        """
        source, target = self.init_path(old_path), self.init_path(new_path)
        if source != target:
            self._client.copy(source, target)
            self._client.delete(source)

    def mkdir(self, path: str | os.PathLike[str]) -> None:
        """Check the path: OSS has no directories to create."""
        self.init_path(path)

    def exists(self, path: str | os.PathLike[str]) -> bool:
        """Return whether there is such an object, or objects below such a directory.

        Raises:
            OssError: The service did not say whether it exists, for instance because there is no permission.
        """
        uri = self.init_path(path)
        bucket, key = split_prefix(uri)
        if key and self.is_object(uri):
            return True
        directory = f"{key.rstrip('/')}/" if key else ""
        try:
            pages = self._client._native_client.list_pages(bucket, directory, delimiter="/", page_size=1)  # noqa: SLF001 - the package's own
            return any(rows or prefixes for rows, prefixes in pages) or not key
        except OssNotFoundError:
            return False
        except OssPermissionError:
            # Who may read objects need not be allowed to list them, and there is no object of that name.
            if not key:
                raise
            return False

    def is_object(self, path: str | os.PathLike[str]) -> bool:
        """Return whether there is such an object.

        Raises:
            OssError: As for :meth:`exists`.
        """
        try:
            self._client.head(self.init_path(path))
        except OssNotFoundError:
            return False
        return True

    def rm_file(self, path: str | os.PathLike[str]) -> None:
        """Delete an object. A missing object is no error."""
        self._client.delete(self.init_path(path))

    def ls(self, path: str | os.PathLike[str]) -> list[str]:
        """Return the sorted URIs of objects and directories directly below a path; directories have no slash."""
        uri = self.init_path(path)
        bucket, key = split_prefix(uri)
        prefix = f"{key}/" if key else ""
        found: dict[str, None] = {}
        for listed in self._client.list(f"oss://{bucket}/{prefix}"):
            child = listed.name[len(prefix) :].partition("/")[0]
            if child:
                found[join(uri, child)] = None
        return list(found)

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: str | os.PathLike[str]) -> bool:
        """Return whether this can be the URI of a checkpoint."""
        try:
            checkpoint_uri(checkpoint_id)
        except OssConfigError:
            return False
        return True


OssDCPFileSystem = OssFileSystem
"""The other name, which the documentation of the original uses."""
