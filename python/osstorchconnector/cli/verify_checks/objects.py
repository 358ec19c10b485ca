"""Objects of OSS: each is read once, and compared with the checksum that OSS stores."""

import re
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING, Final

from osstorchconnector._native import ObjectTable
from osstorchconnector.checkpoint.history import Condition, condition_of_content, has_checkpoint_name
from osstorchconnector.cli.verify_checks.tally import Tally
from osstorchconnector.connection.nearest import nothing_below
from osstorchconnector.connection.stats import stats
from osstorchconnector.connection.uri import split_prefix
from osstorchconnector.dataset.rows import quoted
from osstorchconnector.exceptions import OssConfigError, OssError, OssIntegrityError, OssNotFoundError

if TYPE_CHECKING:
    from osstorchconnector._native import DataObject, OssReader
    from osstorchconnector.connection.client import OssClient

#: Bucket, key, size and ETag of an object.
Listed = tuple[str, str, int, str]

# Enough to keep many requests in flight; few enough to look at one by one if bytes came twice.
_GROUP: Final = 5_000
_THREADS: Final = 16
# One reader of a larger object uses all connections by itself. A stream would not fetch such an object ahead.
_LARGE: Final = 32 << 20
# One read; the reader has several requests in flight for it.
_PIECE: Final = 32 << 20

_METADATA: Final = re.compile(r"(?:__\d+)?\.metadata")
_SHARDS: Final = (".distcp", ".safetensors")


def verify_objects(client: "OssClient", uri: str, tally: Tally) -> None:
    """Read an object, or everything whose key begins with a prefix, and compare it.

    Raises:
        OssConfigError: There is no such object.
        OssError: The prefix cannot be listed.
    """
    bucket, prefix = split_prefix(uri)
    checkpoints = _Checkpoints()
    count = 0

    def counted() -> Iterator[Listed]:
        nonlocal count
        for listed in objects_at(client, bucket, prefix):
            count += 1
            if not checkpoints.takes(listed) or listed[1] == prefix:
                yield listed

    read(client, counted(), tally)
    if count == 0:
        raise OssConfigError(f"there is nothing to verify: {nothing_below(client, bucket, prefix)}")
    if count > 1:
        checkpoints.verify(client, tally)


def objects_at(client: "OssClient", bucket: str, prefix: str) -> Iterator[Listed]:
    """Yield the object with this key, else those below it as a directory, else those whose keys begin with it."""
    if prefix and not prefix.endswith("/"):
        try:
            found = client.head(f"oss://{bucket}/{prefix}")
        except OssNotFoundError:
            pass
        else:
            yield bucket, prefix, found.size, found.etag or ""
            return
        directory = below_prefix(client, bucket, f"{prefix}/")
        first = next(directory, None)
        if first is not None:
            yield first
            yield from directory
            return
    yield from below_prefix(client, bucket, prefix)


def below_prefix(client: "OssClient", bucket: str, prefix: str) -> Iterator[Listed]:
    """Yield every object whose key begins with a prefix, in key order."""
    native = client._native_client  # noqa: SLF001 - its own part
    for objects, _ in native.list_pages(bucket, prefix, parallel=True):
        for key, size, etag, *_ in objects:
            yield bucket, key, size, etag


def read(client: "OssClient", objects: Iterable[Listed], tally: Tally) -> None:
    """Read objects at the same time, and compare them."""
    waiting = iter(objects)
    while group := list(islice(waiting, _GROUP)):
        wanted = [listed for listed in group if not tally.skips(_uri(listed), listed[3])]
        _read_small(client, [listed for listed in wanted if listed[2] <= _LARGE], tally)
        for listed in wanted:
            if listed[2] > _LARGE:
                _read_large(client, listed, tally)


def _read_small(client: "OssClient", objects: list[Listed], tally: Tally) -> None:
    native = client._native_client  # noqa: SLF001 - its own part
    rows = ObjectTable.from_objects((bucket, key, size, quoted(etag), "", None) for bucket, key, size, etag in objects)
    stream = native.stream_at(rows, range(len(objects)))
    readable = []
    before = stats()
    try:
        for listed in objects:
            try:
                item = next(stream)
            except OssError as error:
                _fail(tally, listed, error)
                continue
            with item:
                tally.advance(listed[2])
                if _has_its_end(item, listed, tally):
                    readable.append(listed)
    finally:
        stream.close()
    after = stats()
    if after.received_bytes - before.received_bytes == after.verified_bytes - before.verified_bytes:
        checked = [True] * len(readable)
    else:
        # Bytes came twice, or OSS has no checksum of some objects, which only their descriptions tell.
        with ThreadPoolExecutor(_THREADS, thread_name_prefix="osst-verify") as threads:
            checked = list(threads.map(lambda listed: listed[2] == 0 or _has_checksum(client, listed), readable))
    for listed, has in zip(readable, checked, strict=True):
        tally.whole(_uri(listed), listed[3], listed[2], checked=has)


def _read_large(client: "OssClient", listed: Listed, tally: Tally) -> None:
    uri = _uri(listed)
    buffer = bytearray(min(listed[2], _PIECE))
    try:
        with client.reader(uri) as reader:
            if reader.etag != listed[3]:
                raise OssIntegrityError("it was replaced after it was listed; verify it again")
            while count := reader.readinto(buffer):
                tally.advance(count)
            if _has_its_end(reader, listed, tally):
                tally.whole(uri, listed[3], listed[2], checked=_has_checksum(client, listed))
    except OssError as error:
        _fail(tally, listed, error)


def _has_checksum(client: "OssClient", listed: Listed) -> bool:
    return client.head(_uri(listed)).crc64 is not None


def _has_its_end(item: "DataObject | OssReader", listed: Listed, tally: Tally) -> bool:
    """Return whether a file of a checkpoint, whose bytes are right, was stored as a whole; others always were."""
    if has_checkpoint_name(listed[1]) and condition_of_content(_ranges_of(item), listed[2]) is Condition.DAMAGED:
        tally.problem(_uri(listed), "damaged", "it begins as a checkpoint, and its end is missing", listed[2])
        return False
    return True


def _ranges_of(item: "DataObject | OssReader") -> Callable[[int, int], bytes]:
    def read(start: int, end: int) -> bytes:
        item.seek(start)
        return item.read(end - start)

    return read


def _fail(tally: Tally, listed: Listed, error: OssError) -> None:
    if isinstance(error, OssIntegrityError):
        tally.problem(_uri(listed), "damaged", error, listed[2])
    elif isinstance(error, OssNotFoundError):
        tally.problem(_uri(listed), "missing", error)
    else:
        tally.problem(_uri(listed), "unreadable", error)


def _uri(listed: Listed) -> str:
    return f"oss://{listed[0]}/{listed[1]}"


class _Checkpoints:
    """The distributed checkpoints among the objects: their items have checksums of their own."""

    def __init__(self) -> None:
        """Begin without any."""
        self._roots: dict[str, list[Listed]] = {}
        self._unfinished: set[str] = set()

    def takes(self, listed: Listed) -> bool:
        """Return whether an object is the shard of a checkpoint, whose metadata came before it in key order."""
        directory, _, name = listed[1].rpartition("/")
        if _METADATA.fullmatch(name):
            self._roots.setdefault(directory, [])
            return False
        if not name.endswith(_SHARDS):
            return False
        root = directory
        while root and root not in self._roots:
            root = root.rpartition("/")[0]
        if root not in self._roots:
            if name.endswith(_SHARDS[0]):
                self._unfinished.add(f"oss://{listed[0]}/{directory}")
            return False
        self._roots[root].append(listed)
        return True

    def verify(self, client: "OssClient", tally: Tally) -> None:
        """Compare the items of each checkpoint with their checksums, and whether its files are complete."""
        for uri in sorted(self._unfinished):
            text = "shards without .metadata, which a save writes last: the save failed, or is still running"
            tally.problem(uri, "damaged", text)
        for directory, shards in self._roots.items():
            if not shards:
                continue
            bucket = shards[0][0]
            uri = f"oss://{bucket}/{directory}" if directory else f"oss://{bucket}"
            try:
                named = self._verify_one(client, uri, shards, tally)
            except ModuleNotFoundError:
                tally.note(f"{uri}: the checksums of the items were not compared, because that needs PyTorch")
                named = set()
            # Without checksums of items, and for leftovers of other saves, those of the objects count.
            read(client, [shard for shard in shards if shard[1] not in named], tally)

    def _verify_one(self, client: "OssClient", uri: str, shards: list[Listed], tally: Tally) -> set[str]:
        """Return the keys that need not be read any more."""
        from osstorchconnector.dcp import history  # noqa: PLC0415 - it needs torch

        one = next((found for found in history.checkpoints(client, uri) if found.uri == uri), history.Checkpoint(uri))
        for problem in one.problems:
            tally.problem(uri, "damaged", problem)
        below = uri.partition("//")[2].partition("/")[2]
        names = {f"{below}/{name}" if below else name for name in one.files}
        ours = [shard for shard in shards if shard[1] in names]
        if one.problems or all(tally.finished.has(_uri(shard), shard[3]) for shard in ours):
            return set()
        try:
            checked = history.verify(client, one)
        except OssIntegrityError as error:
            tally.problem(uri, "damaged", error)
            return names
        except OssError as error:
            tally.problem(uri, "unreadable", error)
            return names
        if not checked:
            return set()
        tally.note(f"{uri}: {checked} items have their checksums")
        for shard in ours:
            tally.advance(shard[2])
            tally.whole(_uri(shard), shard[3], shard[2], checked=True)
        return names
