"""Checkpoints: whole or not there, and read as fast as the network brings them."""

import builtins
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

import torch

from osstorchconnector.checkpoint import history
from osstorchconnector.checkpoint.history import METADATA, State
from osstorchconnector.checkpoint.torch_zip import load_partial
from osstorchconnector.connection.client import OssClient
from osstorchconnector.connection.config import OssConfig
from osstorchconnector.connection.uri import split_object
from osstorchconnector.exceptions import OssConfigError, OssError, OssNotFoundError
from osstorchconnector.files.progress import Advance, progress_bar

if TYPE_CHECKING:
    from osstorchconnector._native import OssReader, Writer

__all__ = ["OssCheckpoint"]

# Enough that the writers of a long training do not add up, and more than are saved between two calls of `keep`.
_MOST_REMEMBERED: Final = 64


class OssCheckpoint:
    """Reads and writes checkpoints, or any other objects, at full speed.

    ::

        checkpoint = OssCheckpoint("oss-cn-hangzhou-internal.aliyuncs.com", cred_path="/root/.alibabacloud/credentials")
        checkpoint.save({"model": model.state_dict(), "epoch": 3}, "oss://bucket/run/epoch-3.pt")
        newest = checkpoint.latest("oss://bucket/run/")
        state = checkpoint.load(newest, map_location="cpu")
        checkpoint.keep("oss://bucket/run/", 2)

    Readers and writers live by themselves: this object may go before them. It may be pickled and forked as
    :class:`~osstorchconnector.OssClient` may.
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
        self._client = OssClient(endpoint, cred_path, config_path, cred_provider, region, config=config)
        self._writers: dict[str, Writer] = {}

    def reader(self, uri: str) -> "OssReader":
        """Open an object for reading, for instance by ``torch.load``.

        Raises:
            OssConfigError: `uri` does not name an object.
            OssNotFoundError: The object does not exist.
        """
        return self._client.reader(_checked(uri))

    def writer(self, uri: str, size_hint: int | None = None) -> "Writer":
        """Open an object for writing, for instance by ``torch.save``.

        It appears, or is replaced, when the writer is closed without an exception. Until then, and where that does not
        come to pass, what was there stays as it is.

        Args:
            uri: The object.
            size_hint: About how many bytes will be written. Only an object of more than 8 TiB needs it.

        Raises:
            OssConfigError: `uri` does not name an object, or OSS has no objects as large as the hint.
        """
        writer = self._client.writer(_checked(uri), size_hint)
        # Which version this process published is remembered for `keep`.
        self._writers.pop(writer.uri, None)
        while len(self._writers) >= _MOST_REMEMBERED:
            del self._writers[next(iter(self._writers))]
        self._writers[writer.uri] = writer
        return writer

    def save(self, obj: object, uri: str, *, progress: bool = False) -> None:
        """Store an object, as ``torch.save`` stores it in a file.

        Args:
            obj: What to store.
            uri: Where to.
            progress: Show a bar. It needs the extra ``progress``.

        Raises:
            OssError: It was not stored; what was there before still is.
        """
        with progress_bar(uri, None, shown=progress) as advance, self.writer(uri) as writer:
            torch.save(obj, _Counted(writer, advance) if progress else writer)  # type: ignore[arg-type]

    def load(
        self,
        uri: str,
        map_location: Any = None,  # noqa: ANN401 - torch's own type
        weights_only: bool | None = True,  # noqa: FBT001, FBT002 - torch's own name
        keys: str | Iterable[str] | None = None,
        *,
        progress: bool = False,
    ) -> Any:  # noqa: ANN401 - whatever was saved
        """Return what was stored, as ``torch.load`` returns it from a file.

        Args:
            uri: What to read.
            map_location: Where tensors go, as in ``torch.load``.
            weights_only: Load nothing but tensors, plain values and what was allowed explicitly. False runs whatever
                code the object holds. None: what torch does where it is not told.
            keys: Load only these entries of a dictionary, by patterns of their dotted names such as ``"encoder.*"``,
                and fetch little more than their bytes, which are then checked for length and place only.
            progress: Show a bar. It needs the extra ``progress``.

        Raises:
            OssConfigError: `keys` are given, and it holds no dictionary, or a pattern fits nothing.
            OssNotFoundError: The object does not exist.
            OssIntegrityError: It is damaged, or was replaced while it was read.
            OssError: It could not be read.
            Exception: What ``torch.load`` raises where it is something else or cut off; a note names it.
        """
        # How much a part takes is not known before it is looked at.
        with (
            self.reader(uri) as reader,
            progress_bar(uri, reader.size if keys is None else None, shown=progress) as advance,
        ):
            stream: Any = _Counted(reader, advance) if progress else reader
            try:
                if keys is not None:
                    return load_partial(stream, keys, map_location, weights_only=weights_only is not False)
                return torch.load(stream, map_location=map_location, weights_only=weights_only)
            except Exception as error:
                if not isinstance(error, OssError):
                    error.add_note(f"while {uri} was loaded, which has {reader.size} bytes")
                raise

    def exists(self, uri: str) -> bool:
        """Return whether there is an object, or a distributed checkpoint whose metadata is there.

        Raises:
            OssError: That could not be found out.
        """
        uri = _checked(uri)
        for candidate in (uri, f"{uri}/{METADATA}"):
            try:
                self._client.head(candidate)
            except OssNotFoundError:
                continue
            return True
        return False

    def list(self, prefix: str) -> builtins.list[str]:
        """Return the URIs of the checkpoints below a prefix, the oldest first.

        The last whole number in the name below the prefix, without its suffix, is the order; names without a number
        come first, by name. A checkpoint is an object whose name has no suffix, a number as its suffix, or one of
        ``bin``, ``ckpt``, ``pkl``, ``pt``, ``pth``, ``safetensors`` and ``tar``; or, with several processes' files, a
        directory with ``.metadata``. Objects further below are not looked at.

        Args:
            prefix: ``oss://bucket/directory/``, or with the beginning of the names.

        Raises:
            OssConfigError: `prefix` is a directory without its ``/`` and the beginning of other names too.
            OssError: The prefix could not be listed.
        """
        return [entry.uri for entry in history.entries(self._client, prefix)]

    def latest(self, prefix: str) -> str | None:
        """Return the URI of the newest checkpoint below a prefix that is complete, or None.

        Its first and last bytes tell whether it is one and has its end, of a safetensors object its header; a
        distributed one has ``.metadata`` and all the files that this speaks of. A pickle, which is what ``torch.save``
        wrote before its zip files, does not tell where it ends, and is taken for complete.

        Raises:
            OssError: The prefix could not be listed, or an object not be looked at.
        """
        found = history.newest_first(self._client, prefix)
        return next((entry.uri for entry, state in found if state is State.WHOLE), None)

    def keep(self, prefix: str, n: int) -> builtins.list[str]:
        """Delete the checkpoints below a prefix but for the newest `n` that are complete; return what was deleted.

        Before anything is deleted, the newest is checked: it is the version that this object published, whose checksum
        was compared then, or it is read through and its checksum compared now. What has no number in its name, is newer
        than the newest complete one, or is no checkpoint by its first bytes stays. Of a distributed checkpoint the
        metadata is deleted first, so that nobody takes the rest for whole.

        Args:
            prefix: As for :meth:`list`.
            n: How many to keep, at least 1.

        Raises:
            OssConfigError: `n` is less than 1.
            OssIntegrityError: The newest is damaged; nothing was deleted.
            OssError: Something could not be looked at or deleted; notes name what had been deleted by then.
        """
        if isinstance(n, bool) or not isinstance(n, int) or n < 1:
            raise OssConfigError(f"n is {n!r}: at least 1 checkpoint must be kept")
        kept = 0
        old = []
        for entry, state in history.newest_first(self._client, prefix):
            if kept < n:
                if state is State.WHOLE:
                    if kept == 0:
                        self._check(entry)
                    kept += 1
            elif state is not State.FOREIGN and entry.number is not None:
                old.append(entry)
        deleted: builtins.list[str] = []
        for entry in reversed(old):
            try:
                history.delete(self._client, entry)
            except Exception as error:
                for uri in deleted:
                    error.add_note(f"deleted before: {uri}")
                raise
            self._writers.pop(entry.uri, None)
            deleted.append(entry.uri)
        return deleted

    def _check(self, newest: history.Entry) -> None:
        writer = self._writers.get(newest.uri)
        if writer is None or writer.etag is None or writer.etag != self._client.head(newest.uri).etag:
            history.read_through(self._client, newest)

    def __repr__(self) -> str:
        """Return endpoint, region and configuration, without access keys."""
        return f"{type(self).__name__}({self._client!r})"

    def __getstate__(self) -> dict[str, Any]:
        """Return the configuration: writers stay in their process."""
        return {**self.__dict__, "_writers": {}}


class _Counted:
    """A stream that tells a bar of what goes through it."""

    def __init__(self, stream: "OssReader | Writer", advance: Advance) -> None:
        self._stream: Any = stream
        self._advance = advance

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the stream has
        return getattr(self._stream, name)

    def read(self, size: int | None = -1, /) -> bytes:
        data: bytes = self._stream.read(size)
        self._advance(len(data))
        return data

    def readinto(self, buffer: Any, /) -> int:  # noqa: ANN401 - any buffer
        count: int = self._stream.readinto(buffer)
        self._advance(count)
        return count

    def readinto_many(self, parts: "builtins.list[tuple[int, Any]]", /) -> None:
        self._stream.readinto_many(parts)
        self._advance(sum(memoryview(buffer).nbytes for _, buffer in parts))

    def write(self, data: Any, /) -> int:  # noqa: ANN401 - any buffer
        count: int = self._stream.write(data)
        self._advance(count)
        return count


def _checked(uri: str) -> str:
    _, key = split_object(uri)
    if key.endswith("/"):
        raise OssConfigError(f"{uri!r} names a directory: a checkpoint is an object, like {uri + 'epoch-1.pt'!r}")
    return uri
