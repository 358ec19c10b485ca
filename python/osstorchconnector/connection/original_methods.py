"""The methods of the original's client under its names: most do what another method or a dataset does."""

import importlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any, Final

from osstorchconnector._native import Client, DataObject, ObjectListing, Writer
from osstorchconnector.connection.uri import check_bucket, check_object
from osstorchconnector.connection.write_options import Headers, WriteOptions
from osstorchconnector.credentials.shield import guards_methods

# The number that the original gives to members of archives.
_MEMBER: Final = 3


@guards_methods
class OriginalMethods(ABC):
    """The part of :class:`OssClient` that programs for the original call."""

    #: Which share of the objects the iterators with ``preload`` in their name deliver, and of how many.
    _share: tuple[int, int]

    @property
    @abstractmethod
    def _native_client(self) -> Client:
        """The native client of this process."""

    @abstractmethod
    def _write_headers(self, options: WriteOptions | None) -> Headers:
        """Return the headers of a write."""

    @abstractmethod
    def _copy(self, source: tuple[str, str], target: tuple[str, str]) -> None:
        """Copy an object inside the service."""

    def get_object(self, bucket: str, key: str, size: int = 0, type: int = 0, label: str = "") -> DataObject:  # noqa: A002
        """Open an object for reading: :meth:`open` under the original's name.

        Args:
            bucket: The bucket.
            key: The key.
            size: Without effect, except for type 3.
            type: 3: `key` is an archive, `label` the key of its index, and `size` the number of the member to open. The
                other numbers of the original choose how it reads, and have no effect.
            label: The object's label.

        Raises:
            OssNotFoundError: The object does not exist.
        """
        if type == _MEMBER:
            return next(self.list_objects_from_tar(bucket, key, label, [size]))
        return self._native_client.open(*check_object(bucket, key), label=label)

    def put_object(self, bucket: str, key: str) -> Writer:
        """Open an object for writing: :meth:`writer` under the original's name."""
        return self._native_client.writer(*check_object(bucket, key), headers=self._write_headers(None))

    def head_object(self, bucket: str, key: str) -> DataObject:
        """Return an object's description: :meth:`head` under the original's name."""
        return self._native_client.head(*check_object(bucket, key))

    def rename_object(self, bucket: str, key: str, new_bucket: str, new_key: str) -> DataObject:
        """Copy an object, delete the source and return the new description: OSS has no other way to rename.

        If it fails, the source still exists.
        """
        client = self._native_client
        check_object(bucket, key)
        check_object(new_bucket, new_key)
        if (bucket, key) == (new_bucket, new_key):
            return client.head(bucket, key)
        self._copy((bucket, key), (new_bucket, new_key))
        renamed = client.head(new_bucket, new_key)
        client.delete(bucket, key)
        return renamed

    def remove_object(self, bucket: str, key: str) -> None:
        """Delete an object: :meth:`delete` under the original's name."""
        self._native_client.delete(*check_object(bucket, key))

    def list_objects(self, bucket: str, prefix: str = "") -> ObjectListing:
        """List objects: :meth:`list` under the original's name."""
        return self._native_client.list(check_bucket(bucket), prefix)

    def list_objects_with_preload(
        self,
        bucket: str,
        prefix: str = "",
        include_errors: bool = False,  # noqa: FBT001, FBT002 - the original's argument
    ) -> Iterator[DataObject]:
        """Fetch the objects under a prefix ahead, in key order; of several shares, the one of this client.

        Args:
            bucket: The bucket.
            prefix: What the keys begin with.
            include_errors: Deliver an object that cannot be fetched: its ``err()`` is not 0, and reading it tries
                again. Default: raise.

        Raises:
            OssError: While iterating, in the place of an object that cannot be fetched.
        """
        found: Iterator[DataObject] = _iterators().below_prefix(
            self, check_bucket(bucket), prefix, self._share, include_errors=include_errors
        )
        return found

    def list_objects_from_uris(
        self,
        object_uris: Iterable[DataObject | str],
        prefetch: bool = False,  # noqa: FBT001, FBT002 - the original's arguments
        include_errors: bool = False,  # noqa: FBT001, FBT002
    ) -> Iterator[DataObject]:
        """Iterate over named objects, in the order in which they are named, with their labels.

        Args:
            object_uris: Descriptions, as :func:`new_data_object` makes them, or URIs.
            prefetch: Fetch them ahead. Default: each is fetched when it is read.
            include_errors: As for :meth:`list_objects_with_preload`, with `prefetch`.

        Raises:
            OssError: While iterating with `prefetch`, in the place of an object that cannot be fetched.
        """
        iterators = _iterators()
        found: Iterator[DataObject] = (
            iterators.named(self, object_uris, include_errors=include_errors)
            if prefetch
            else iterators.described(self, object_uris)
        )
        return found

    def list_objects_from_uris_with_preload(
        self,
        object_uris: Iterable[DataObject | str],
        include_errors: bool = False,  # noqa: FBT001, FBT002 - the original's argument
    ) -> Iterator[DataObject]:
        """Fetch named objects ahead, in the order in which they are named; of several shares, the one of this client.

        Args:
            object_uris: As for :meth:`list_objects_from_uris`.
            include_errors: As for :meth:`list_objects_with_preload`.

        Raises:
            OssError: While iterating, in the place of an object that cannot be fetched.
        """
        found: Iterator[DataObject] = _iterators().named(self, object_uris, self._share, include_errors=include_errors)
        return found

    def list_objects_from_tar(
        self,
        bucket: str,
        tar_key: str,
        index_key: str,
        chunks: Iterable[int] = (),
        sizes: Iterable[int] = (),
        prefetch: bool = False,  # noqa: FBT001, FBT002 - the original's arguments
        include_errors: bool = False,  # noqa: FBT001, FBT002
    ) -> Iterator[DataObject]:
        """Fetch members of an archive ahead, in the order of their numbers. The iterator has a length.

        Args:
            bucket: The bucket of archive and index.
            tar_key: The archive.
            index_key: Its index, which :meth:`gen_tar_archive` makes.
            chunks: The number of the first member of each chunk. Default: all members; with `prefetch` and several
                shares, the one of this client.
            sizes: How many members each chunk has; a chunk ends with the archive. Default: one.
            prefetch: Members are fetched ahead in any case.
            include_errors: As for :meth:`list_objects_with_preload`.

        Raises:
            OssConfigError: The index is no index of this archive, or there is no such chunk.
            OssError: Archive or index cannot be read; while iterating, a member cannot be fetched.
        """
        check_object(bucket, index_key)
        found: Iterator[DataObject] = _iterators().members(
            self,
            check_object(bucket, tar_key),
            index_key,
            list(chunks),
            list(sizes),
            self._share if prefetch else (0, 1),
            include_errors=include_errors,
        )
        return found

    def gen_tar_archive(
        self,
        tar_path: str,
        index_path: str,
        source_path: str,
        index_only: bool = False,  # noqa: FBT001, FBT002 - the original's argument
    ) -> int:
        """Write an archive and its index: :func:`generate_tar_archive` with this client.

        Returns:
            0: what fails raises.
        """
        write = importlib.import_module("osstorchconnector.archive.writer").write_archive
        write(self, tar_path, index_path, source_path, index_only=index_only)
        return 0


def _iterators() -> Any:  # noqa: ANN401 - a module
    # By its name: it stands above this one.
    return importlib.import_module("osstorchconnector.dataset.client_iterators")
