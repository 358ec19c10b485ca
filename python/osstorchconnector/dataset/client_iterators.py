"""What :class:`OssClient` iterates over: objects that are fetched ahead, and members of archives."""

import contextlib
from collections.abc import Generator, Iterable, Iterator
from typing import Final

from osstorchconnector._native import DataObject, ObjectStream, ObjectTable, Order
from osstorchconnector.connection.client import OssClient
from osstorchconnector.connection.uri import split_local, split_object
from osstorchconnector.dataset.listing import SharedListing
from osstorchconnector.dataset.private_directory import PrivateDirectory
from osstorchconnector.dataset.rows import Row, quoted
from osstorchconnector.dataset.sources import ObjectsSource, PrefixSource, TarSource
from osstorchconnector.exceptions import OssConfigError

_EVERYTHING: Final = (0, 1)


class ObjectIterator(Iterator[DataObject]):
    """Objects, fetched ahead. An object that cannot be fetched raises, or is delivered with its error."""

    def __init__(self, stream: ObjectStream, listing: SharedListing | None = None, *, include_errors: bool) -> None:
        """Take the stream, and the listing that it reads."""
        self._stream = stream
        self._listing = listing
        self._include_errors = include_errors

    def __next__(self) -> DataObject:
        """Return the next object.

        Raises:
            OssError: It cannot be fetched, and errors are not included; or the objects cannot be listed.
            StopIteration: None is left.
        """
        try:
            return next(self._stream)
        except StopIteration:
            raise
        except Exception:
            failed = self._stream.failed if self._include_errors else None
            if failed is None:
                raise
            return failed

    def close(self) -> None:
        """Stop fetching ahead."""
        self._stream.close()


class MemberIterator(ObjectIterator):
    """Members of an archive, whose number is known."""

    def __init__(self, stream: ObjectStream, count: int, *, include_errors: bool) -> None:
        """Take the stream, and the number of its members."""
        super().__init__(stream, include_errors=include_errors)
        self._count = count

    def __len__(self) -> int:
        """Return how many members are delivered in all."""
        return self._count


def below_prefix(
    client: OssClient, bucket: str, prefix: str, share: tuple[int, int], *, include_errors: bool
) -> ObjectIterator:
    """Fetch the objects under a prefix ahead, in key order.

    Args:
        client: The client.
        bucket: The bucket.
        prefix: What the keys begin with.
        share: Which part of the objects, and of how many parts.
        include_errors: Deliver an object that cannot be fetched.
    """
    listing = SharedListing(PrefixSource(bucket, prefix), client, PrivateDirectory(), directory_markers=False)
    index, count = share
    return ObjectIterator(listing.stream(Order(worker=index, workers=count)), listing, include_errors=include_errors)


def described(client: OssClient, objects: Iterable[DataObject | str]) -> Generator[DataObject]:
    """Yield objects as they are named; the bytes are fetched when they are read."""
    # All names are checked now: an error in a generator would hold its frame, and with it a URL that is a secret.
    rows = list(_rows(client, objects))
    native = client._native_client  # noqa: SLF001 - its own part
    return (native.describe(bucket, key, size, label) for bucket, key, size, _, label, _ in rows)


def named(
    client: OssClient,
    objects: Iterable[DataObject | str],
    share: tuple[int, int] = _EVERYTHING,
    *,
    include_errors: bool,
) -> ObjectIterator:
    """Fetch named objects ahead, in the order in which they are named. The other arguments are as above."""
    table = ObjectTable.from_objects(_rows(client, objects))
    listing = SharedListing(ObjectsSource(table), client, PrivateDirectory(), directory_markers=False)
    index, count = share
    return ObjectIterator(listing.stream(Order(worker=index, workers=count)), listing, include_errors=include_errors)


def members(
    client: OssClient,
    archive: tuple[str, str],
    index_key: str,
    chunks: list[int],
    sizes: list[int],
    share: tuple[int, int],
    *,
    include_errors: bool,
) -> MemberIterator:
    """Fetch members of an archive ahead.

    Args:
        client: The client.
        archive: Bucket and key of the archive.
        index_key: The key of its index, in the same bucket.
        chunks: The number of the first member of each chunk. Empty: all members, or a share of them.
        sizes: How many members each chunk has; a chunk ends with the archive. Empty: one.
        share: As above.
        include_errors: Deliver a member that cannot be fetched.

    Raises:
        OssConfigError: The numbers of chunks and of sizes differ, or there is no such member.
    """
    bucket, key = archive
    source = TarSource(bucket, key, f"oss://{bucket}/{index_key}")
    with contextlib.closing(source.pages(client._native_client)) as pages:  # noqa: SLF001
        table = ObjectTable.from_objects(row for page in pages for row in page)
    if sizes and len(sizes) != len(chunks):
        raise OssConfigError(f"there are {len(chunks)} chunks and {len(sizes)} sizes: each chunk needs one size")
    index, count = share
    wanted = [] if chunks else list(range(index, len(table), count))
    for first, size in zip(chunks, sizes or [1] * len(chunks), strict=True):
        if not 0 <= first < len(table) or size < 0:
            raise OssConfigError(f"oss://{bucket}/{key} has {len(table)} members: {size} from {first} on are no chunk")
        wanted.extend(range(first, min(first + size, len(table))))
    stream = client._native_client.stream_at(table, wanted)  # noqa: SLF001
    return MemberIterator(stream, len(wanted), include_errors=include_errors)


def _rows(client: OssClient, objects: Iterable[DataObject | str]) -> Iterator[Row]:
    split = split_object if client.endpoint else split_local
    for item in objects:
        if isinstance(item, str):
            yield *split(item), None, None, "", None
        elif not isinstance(item, DataObject):
            raise OssConfigError(f"objects are URIs, or what new_data_object makes, not {type(item).__name__}")
        else:
            # Without an ETag the size is what a program says, and no condition for the bytes.
            etag = item.etag
            size = item.size if etag else None
            yield item.bucket, item.name, size, quoted(etag or ""), item.label, None
