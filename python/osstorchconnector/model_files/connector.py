"""The model connector: listing, opening and preparing the files of models, under the names that the original has."""

import contextlib
import io
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from osstorchconnector._closing import Closing
from osstorchconnector.connection.client import OssClient
from osstorchconnector.connection.config import OssConfig
from osstorchconnector.connection.uri import check_bucket
from osstorchconnector.credentials.shield import guards_methods
from osstorchconnector.exceptions import OssConfigError
from osstorchconnector.files.space import available_memory, free_space
from osstorchconnector.model_files.copies import LocalCopies, LocalCopy, is_link_to_copy, shared_memory_place
from osstorchconnector.model_files.listing import check_indices, model_files
from osstorchconnector.model_files.prefetch import ModelObject, Prefetcher

if TYPE_CHECKING:
    from osstorchconnector._native import DataObject

_GIB: Final = 1 << 30
#: Below the prepared directory, if shared memory has no room.
_ON_DISK: Final = ".osstorchconnector"


@guards_methods
class OssModelConnector(Closing):
    """Reads models from OSS, as the original's class of this name does, but without changing ``open`` or a library.

    Another process sees the directories that it prepares too, so that no library must be preloaded there.
    """

    def __init__(
        self,
        endpoint: str = "",
        cred_path: str = "",
        config_path: str = "",
        cred_provider: object = None,
        region: str = "",
        *,
        config: OssConfig | None = None,
        memory: int | None = None,
    ) -> None:
        """Resolve the connection arguments, which are those of :class:`OssClient`. The network is not used.

        Args:
            endpoint: As for the client. Default: ``OSS_ENDPOINT`` in the environment.
            cred_path: As for the client.
            config_path: As for the client. ``prefetch`` and ``fastList`` are accepted: both size themselves.
            cred_provider: As for the client.
            region: As for the client.
            config: As for the client.
            memory: Most bytes that opened objects hold in memory. Default: half of what the machine has left.

        Raises:
            OssConfigError: An argument is wrong, a file is missing or malformed, or there is no endpoint.
            OssCredentialsError: There is no usable access key.
        """
        endpoint = endpoint or os.environ.get("OSS_ENDPOINT", "")
        if not endpoint:
            raise OssConfigError("endpoint must not be empty: give it, or set OSS_ENDPOINT")
        if memory is not None and memory < 0:
            raise OssConfigError(f"memory must be a number of bytes, not {memory}")
        self._client = OssClient(
            endpoint, cred_path, config_path, cred_provider=cred_provider, region=region, config=config
        )
        self._prefetcher = Prefetcher((available_memory() or _GIB) // 2 if memory is None else memory)
        self._prepared: dict[Path, LocalCopy] = {}

    def list(self, bucket: str, prefix: str = "", fast: bool = False) -> "list[DataObject]":  # noqa: FBT001, FBT002 - the original's
        """Return the objects under a prefix in key order, without their bytes.

        Args:
            bucket: The bucket.
            prefix: What the keys begin with.
            fast: List several parts of the prefix at the same time. The order is the same.
        """
        check_bucket(bucket)
        if not fast:
            return list(self._client.list(f"oss://{bucket}/{prefix}"))
        native = self._client._native_client  # noqa: SLF001 - the package's own
        return [
            native.describe(bucket, key, size, "")
            for rows, _ in native.list_pages(bucket, prefix, parallel=True)
            for key, size, *_ in rows
        ]

    def open(self, uri: str, binary: bool = True) -> "ModelObject | io.TextIOWrapper":  # noqa: FBT001, FBT002 - as above
        """Open an object. Reading begins at once, in the order of opening, and within the memory of the connector.

        Args:
            uri: ``oss://bucket/key``.
            binary: False: read text in UTF-8.

        Raises:
            OssNotFoundError: The object does not exist.
        """
        opened = ModelObject(self._client.reader(uri), self._prefetcher)
        # Reading lines of a raw stream would take a call for each byte.
        return opened if binary else io.TextIOWrapper(io.BufferedReader(opened), encoding="utf-8")

    def prepare_directory(self, uri: str, dir: str, libc_hook: bool = False) -> None:  # noqa: A002, ARG002, FBT001, FBT002 - the original's names
        """Fetch all files of a model, and make a directory through which any program can load it.

        It returns when all files are there with their checksums. They are in shared memory, or below the directory if
        that has no room, and the directory has links to them. Several processes share one copy. :meth:`close` removes
        it; after that, programs that have mapped a file keep it.

        Args:
            uri: ``oss://bucket/directory`` of the model.
            dir: The local directory. It must be empty, not exist, or be one that was prepared before.
            libc_hook: Accepted as the original does, without effect: nothing is hooked.

        Raises:
            OssConfigError: The directory has other files, or there is no room.
            OssError: A file could not be fetched, or has not its checksum.
        """
        directory = Path(dir).absolute()
        _check_prepared(directory)
        files = model_files(self._client, uri)
        check_indices(self._client, files)
        if (previous := self._prepared.pop(directory, None)) is not None:
            previous.release()
        copy = _copies(directory, sum(file.size for file in files)).acquire(
            self._client, uri, files, advance=lambda _count: None
        )
        self._prepared[directory] = copy
        _unlink_all(directory)
        for file in files:
            link = directory / file.path
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(copy.directory / file.path)

    def close(self) -> None:
        """Release the prepared directories, and remove what no other process uses. Closing again does nothing."""
        for directory, copy in self._prepared.items():
            if copy.release():
                _unlink_all(directory)
                with contextlib.suppress(OSError):
                    (directory / _ON_DISK).rmdir()
        self._prepared = {}

    def __reduce__(self) -> Any:  # noqa: ANN401 - as `object` has it
        """Raise TypeError: what it prepared belongs to its process."""
        raise TypeError("an OssModelConnector does not pickle: make one in each process, or share what it prepared")


def _copies(directory: Path, total: int) -> LocalCopies:
    memory = shared_memory_place()
    if memory.parent.is_dir() and free_space(memory.parent) >= total:
        return LocalCopies(memory, keep=False)
    return LocalCopies(directory / _ON_DISK, keep=False)


def _check_prepared(directory: Path) -> None:
    """Check that a directory has only links that were made here.

    Raises:
        OssConfigError: It has something else, which a program would read as part of the model.
    """
    if directory.exists() and not directory.is_dir():
        raise OssConfigError(f"{directory} is a file: give a directory")
    for path in directory.rglob("*"):
        below = path.relative_to(directory).parts
        if below[0] == _ON_DISK:
            continue
        if not is_link_to_copy(path) if path.is_symlink() else not path.is_dir():
            raise OssConfigError(f"{directory} has {path.relative_to(directory)}: give an empty directory")


def _unlink_all(directory: Path) -> None:
    for path in directory.rglob("*"):
        if path.relative_to(directory).parts[0] != _ON_DISK and path.is_symlink() and is_link_to_copy(path):
            path.unlink()
