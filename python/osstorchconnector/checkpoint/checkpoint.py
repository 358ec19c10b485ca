"""Checkpoints: stored whole or not at all, and read at the speed of the network."""

import builtins
import sys
from collections.abc import Iterable
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final, Literal, overload

import torch

from osstorchconnector._second_names import second_names
from osstorchconnector._torch.serialization import computed_crc32, skips_data
from osstorchconnector.checkpoint import history
from osstorchconnector.checkpoint.failure import raise_cause, why_no_checkpoint
from osstorchconnector.checkpoint.history import METADATA, Condition
from osstorchconnector.checkpoint.torch_zip import all_entries, load_partial, matches_all, patterns_of
from osstorchconnector.connection.client import OssClient
from osstorchconnector.connection.config import OssConfig
from osstorchconnector.connection.spans import operation
from osstorchconnector.connection.uri import split_object
from osstorchconnector.connection.write_options import WriteOptions
from osstorchconnector.credentials.shield import guards_methods
from osstorchconnector.exceptions import OssConfigError, OssError, OssIntegrityError, OssNotFoundError
from osstorchconnector.files.progress import Advance, progress_bar

if TYPE_CHECKING:
    from osstorchconnector._native import OssReader, Writer
    from osstorchconnector.connection.seekable_writer import SeekableWriter

__all__ = ["OssCheckpoint"]

# The writers of a long training must not add up; a program saves fewer checkpoints between two calls of `keep`.
_MOST_REMEMBERED: Final = 64


@guards_methods
class OssCheckpoint:
    """Reads and writes checkpoints, or any other objects, at full speed.

    ::

        checkpoint = OssCheckpoint("oss-cn-hangzhou-internal.aliyuncs.com", cred_path="/root/.alibabacloud/credentials")
        checkpoint.save({"model": model.state_dict(), "epoch": 3}, "oss://bucket/run/epoch-3.pt")
        newest = checkpoint.latest("oss://bucket/run/")
        state = checkpoint.load(newest, map_location="cpu")
        checkpoint.keep("oss://bucket/run/", 2)

    Readers and writers do not need this object: it may be deleted before them. It may be pickled and forked as
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
        self._client = OssClient(
            endpoint, cred_path, config_path, cred_provider=cred_provider, region=region, config=config
        )
        self._writers: dict[str, Writer | SeekableWriter] = {}

    @second_names(uri="oss_uri")
    def reader(self, oss_uri: str) -> "OssReader":
        """Open an object for reading, for instance by ``torch.load``.

        Raises:
            OssConfigError: `uri` does not name an object.
            OssNotFoundError: The object does not exist.
        """
        return self._client.reader(_checked(oss_uri))

    @overload
    def writer(
        self,
        oss_uri: str,
        size_hint: int | None = None,
        *,
        seekable: Literal[False] = False,
        options: WriteOptions | None = None,
    ) -> "Writer": ...

    @overload
    def writer(
        self,
        oss_uri: str,
        size_hint: int | None = None,
        *,
        seekable: Literal[True],
        options: WriteOptions | None = None,
    ) -> "SeekableWriter": ...

    @overload
    def writer(
        self,
        oss_uri: str,
        size_hint: int | None = None,
        *,
        seekable: bool = False,
        options: WriteOptions | None = None,
    ) -> "Writer | SeekableWriter": ...

    @second_names(uri="oss_uri")
    def writer(
        self,
        oss_uri: str,
        size_hint: int | None = None,
        *,
        seekable: bool = False,
        options: WriteOptions | None = None,
    ) -> "Writer | SeekableWriter":
        """Open an object for writing, for instance by ``torch.save``.

        The object appears, or is replaced, when the writer's ``with`` block ends or the writer is closed, without an
        exception. Until then, and if the writing fails, the previous object stays as it is.

        Args:
            oss_uri: The object.
            size_hint: Expected size in bytes. Only an object of more than 8 TiB needs it.
            seekable: Return a writer that can seek, and read what was written, as ``h5py`` does: a temporary file
                without a name, which is uploaded when the writer is published. ``TMPDIR`` decides where it is; for
                more options see :meth:`OssClient.writer`.
            options: How it is stored: storage class, encryption, metadata and so on. What is left out comes from
                ``OssConfig.write_options``.

        Raises:
            OssConfigError: `oss_uri` does not name an object, or the hint is above the largest size of an object.
        """
        writer = self._client.writer(_checked(oss_uri), size_hint, seekable=seekable, options=options)
        # `keep` asks it later which version this process published.
        self._writers.pop(writer.uri, None)
        while len(self._writers) >= _MOST_REMEMBERED:
            del self._writers[next(iter(self._writers))]
        self._writers[writer.uri] = writer
        return writer

    def save(
        self,
        obj: object,
        uri: str,
        *,
        progress: bool = False,
        options: WriteOptions | None = None,
        crc32: bool | None = None,
    ) -> None:
        """Store an object, as ``torch.save`` stores it in a file.

        Inside ``torch.serialization.skip_data`` it needs a temporary file, as :meth:`writer` does with ``seekable``.

        Args:
            obj: What to store.
            uri: The object to write.
            progress: Show a bar. It needs the extra ``progress``.
            options: How it is stored, as for :meth:`writer`.
            crc32: Whether torch computes a CRC-32 of each tensor. False saves a third of the processor time; the
                CRC-64 of the object still covers all bytes. But ``load(keys=...)`` then reads the whole object, and
                programs for zip files call it damaged. None: as ``torch.serialization.set_crc32_options`` says, which
                is with it by default. torch has one switch for the process, so another thread that saves at the same
                time may leave it out too.

        Raises:
            OssError: The checkpoint was not stored; the previous object is unchanged.
        """
        with (
            operation("checkpoint.save", uri),
            computed_crc32(crc32),
            progress_bar(uri, None, shown=progress) as advance,
            self.writer(uri, seekable=skips_data(), options=options) as writer,
        ):
            torch.save(obj, _Counted(writer, advance) if progress else writer)  # type: ignore[arg-type]

    def load(
        self,
        uri: str,
        map_location: Any = None,  # noqa: ANN401 - torch's own type
        weights_only: bool | None = True,  # noqa: FBT001, FBT002 - torch's own name
        keys: str | Iterable[str] | None = None,
        *,
        progress: bool = False,
    ) -> Any:  # noqa: ANN401 - the program knows what it saved
        """Return what was stored, as ``torch.load`` returns it from a file.

        Args:
            uri: The object to read.
            map_location: Where tensors go, as in ``torch.load``.
            weights_only: Load only tensors, plain values and classes that were allowed explicitly. False runs any code
                that the object holds. None: torch's default.
            keys: Load only these entries of a dictionary, by patterns of their dotted names such as ``"encoder.*"``.
                Little more than their bytes is fetched, and these are compared with the checksums in the file. ``"*"``
                is a load of the whole file.
            progress: Show a bar. It needs the extra ``progress``.

        Raises:
            OssConfigError: `keys` are given, but the object holds no dictionary, or a pattern matches nothing.
            OssNotFoundError: The object does not exist.
            OssIntegrityError: The object is damaged, or no checkpoint, or was replaced while it was read.
            OssError: The object could not be read.
            Exception: What ``torch.load`` raises if it refuses a class, or a class fails; a note names the object.
        """
        handled = sys.exception()
        patterns = None if keys is None else patterns_of(keys)
        partial = patterns is not None and not matches_all(patterns)

        def reopen() -> "OssReader":
            return self.reader(uri)

        # The size of some entries is known only after the object's directory is read. The end of the reader's own block
        # would compare bytes a second time.
        with (
            operation("checkpoint.load", uri),
            closing(self.reader(uri)) as reader,
            progress_bar(uri, reader.size if keys is None else None, shown=progress) as advance,
        ):
            stream: Any = _Counted(reader, advance) if progress else reader
            try:
                if patterns is not None and partial:
                    only_weights = weights_only is not False
                    return load_partial(stream, patterns, map_location, reopen=reopen, weights_only=only_weights)
                loaded = torch.load(stream, map_location=map_location, weights_only=weights_only)
                return loaded if patterns is None else all_entries(uri, loaded, patterns)
            except Exception as error:
                raise_cause(error, handled, reader, reopen, partial=partial)
                why = why_no_checkpoint(error, reader)
                if why is not None:
                    raise OssIntegrityError(
                        f"{uri} ({reader.size} bytes) is no checkpoint of torch.save, or only a part of one: {why}. It "
                        "was uploaded like this: upload it again, or load another checkpoint"
                    ) from error
                if not isinstance(error, OssError):
                    error.add_note(f"this happened while {uri} was loaded; it has {reader.size} bytes")
                raise

    def exists(self, uri: str) -> bool:
        """Return whether there is an object, or a distributed checkpoint that has its metadata.

        Raises:
            OssError: The service did not say whether there is one.
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

        Checkpoints are sorted by the last whole number in their names below the prefix, without the suffix. Names
        without a number come first, sorted by name. An object counts as a checkpoint if its name has no suffix, a
        number as its suffix, or one of the suffixes ``bin``, ``ckpt``, ``pkl``, ``pt``, ``pth``, ``safetensors`` and
        ``tar``. A directory counts if it holds ``.metadata``. Objects deeper than that are ignored.

        Args:
            prefix: ``oss://bucket/directory/``, also with the beginning of the names.

        Raises:
            OssConfigError: `prefix` is a directory without its ``/``, and other names begin with it too.
            OssError: The prefix could not be listed.
        """
        return [candidate.uri for candidate in history.candidates(self._client, prefix)]

    def latest(self, prefix: str) -> str | None:
        """Return the URI of the newest checkpoint below a prefix that is complete, or None.

        The first and last bytes of an object show whether it is a complete checkpoint; of a safetensors object, the
        header does. A distributed checkpoint is complete if it has ``.metadata`` and all files that this names. A
        pickle, which old versions of ``torch.save`` wrote, does not show where it ends, so it counts as complete.

        Raises:
            OssError: The prefix could not be listed, or an object could not be read.
        """
        found = history.newest_first(self._client, prefix)
        return next((candidate.uri for candidate, condition in found if condition is Condition.WHOLE), None)

    def keep(self, prefix: str, n: int) -> builtins.list[str]:
        """Delete all but the newest `n` complete checkpoints below a prefix, and return what was deleted.

        Before anything is deleted, the newest complete checkpoint is checked. If this object published it, its checksum
        was compared at that time; otherwise the checkpoint is read now, and its checksum compared. A checkpoint is
        never deleted if its name has no number, if it is newer than the newest complete one, or if its first bytes are
        not those of a checkpoint. The metadata of a distributed checkpoint is deleted first: the remaining files then
        do not look like a complete checkpoint.

        Args:
            prefix: As for :meth:`list`.
            n: How many to keep, at least 1.

        Raises:
            OssConfigError: `n` is less than 1.
            OssIntegrityError: The newest is damaged; nothing was deleted.
            OssError: A checkpoint could not be read or deleted; notes name those that were already deleted.
        """
        if isinstance(n, bool) or not isinstance(n, int) or n < 1:
            raise OssConfigError(
                f"n must be a whole number of at least 1, got {n!r}: at least 1 checkpoint must be kept"
            )
        kept = 0
        old = []
        for candidate, condition in history.newest_first(self._client, prefix):
            if kept < n:
                if condition is Condition.WHOLE:
                    if kept == 0:
                        self._check(candidate)
                    kept += 1
            elif condition is not Condition.FOREIGN and candidate.number is not None:
                old.append(candidate)
        deleted: builtins.list[str] = []
        for candidate in reversed(old):
            try:
                history.delete(self._client, candidate)
            except Exception as error:
                for uri in deleted:
                    error.add_note(f"already deleted: {uri}")
                raise
            self._writers.pop(candidate.uri, None)
            deleted.append(candidate.uri)
        return deleted

    def _check(self, newest: history.Candidate) -> None:
        writer = self._writers.get(newest.uri)
        if writer is None or writer.etag is None or writer.etag != self._client.head(newest.uri).etag:
            history.read_through(self._client, newest)

    def __repr__(self) -> str:
        """Return endpoint, region and configuration, without access keys."""
        return f"{type(self).__name__}({self.__dict__.get('_client', ...)!r})"

    def __getstate__(self) -> dict[str, Any]:
        """Return the configuration: writers stay in their process."""
        return {**self.__dict__, "_writers": {}}


class _Counted:
    """A stream that reports the number of bytes read or written to a progress bar."""

    def __init__(self, stream: "OssReader | Writer | SeekableWriter", advance: Advance) -> None:
        self._stream: Any = stream
        self._advance = advance

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - any attribute of the stream
        return getattr(self._stream, name)

    def read(self, size: int | None = -1, /) -> bytes:
        data: bytes = self._stream.read(size)
        self._advance(len(data))
        return data

    def readinto(self, buffer: Any, /) -> int:  # noqa: ANN401 - any buffer
        count: int = self._stream.readinto(buffer)
        self._advance(count)
        return count

    def readinto_many(self, ranges: "builtins.list[tuple[int, Any]]", /, *, verify: bool = True) -> None:
        self._stream.readinto_many(ranges, verify=verify)
        self._advance(sum(memoryview(buffer).nbytes for _, buffer in ranges))

    def write(self, data: Any, /) -> int:  # noqa: ANN401 - any buffer
        count: int = self._stream.write(data)
        self._advance(count)
        return count


def _checked(uri: str) -> str:
    _, key = split_object(uri)
    if key.endswith("/"):
        raise OssConfigError(f"{uri!r} names a directory: a checkpoint is an object, like {uri + 'epoch-1.pt'!r}")
    return uri
