"""``oss://`` for OpenMMLab: a file backend of MMEngine, with which MMDetection, MMPretrain and others read and write.

A configuration imports it, and then every path may be ``oss://``, checkpoints included::

    custom_imports = dict(imports=["osstorchconnector.integrations.mmengine"])

It needs MMEngine: ``pip install mmengine``.
"""

import os
import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from shutil import SameFileError
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from osstorchconnector._lazy import needs_torch
from osstorchconnector._tested_versions import warn_if_untested
from osstorchconnector.connection.uri import without_query
from osstorchconnector.credentials.shield import guards_methods
from osstorchconnector.exceptions import OssConfigError, OssExistsError, OssNotFoundError
from osstorchconnector.files.transfer import local_path
from osstorchconnector.fsspec import FsspecFileSystem
from osstorchconnector.fsspec.settings import hidden

with needs_torch(__name__, __name__):
    import torch

try:
    from mmengine.fileio import BaseStorageBackend, FileClient, register_backend
    from mmengine.runner.checkpoint import CheckpointLoader
except ModuleNotFoundError as error:
    if error.name != "mmengine":
        raise
    raise ModuleNotFoundError("MMEngine is not installed: pip install mmengine", name="mmengine") from None

if TYPE_CHECKING:
    from osstorchconnector.connection.client import OssClient

__all__ = ["OssStorageBackend"]

PathLike: TypeAlias = str | Path

# The oldest and the newest release that the tests were run with.
_TESTED: Final = ((0, 10), (0, 10))
_SCHEME: Final = "oss://"
_METHODS: Final = {"get_object": "GET", "put_object": "PUT"}


@guards_methods
class OssStorageBackend(BaseStorageBackend):  # type: ignore[misc, unused-ignore] # without MMEngine it has no type
    """Reads and writes ``oss://`` for MMEngine, as its backends for other storages do.

    ``backend_args`` of a configuration become the arguments. Without any, the environment decides, or
    :func:`osstorchconnector.fsspec.use_client`.
    """

    def __init__(self, path_mapping: dict[str, str] | None = None, **options: Any) -> None:  # noqa: ANN401 - each option has its own type
        """Take the options. Neither the network nor a file is used: MMEngine makes a backend to join two paths.

        Args:
            path_mapping: What paths begin with, and what they begin with in OSS, such as
                ``{"data/coco/": "oss://bucket/coco/"}``.
            **options: The storage options of :class:`osstorchconnector.fsspec.FsspecFileSystem`, such as ``endpoint``,
                ``region``, ``cred_path`` and ``config_path``.

        Raises:
            OssConfigError: There is no option of a name, or the mapping leads elsewhere than to ``oss://``.
        """
        self._options = hidden(options)
        self._mapping = dict(path_mapping or {})
        for source, target in self._mapping.items():
            if not target.startswith(_SCHEME):
                raise OssConfigError(f"path_mapping maps {source!r} to {target!r}: it must begin with 'oss://'")

    @property
    def _files(self) -> FsspecFileSystem:
        # fsspec keeps one for equal options in an equal environment.
        return FsspecFileSystem(**self._options)

    @property
    def client(self) -> "OssClient":
        """The client that the options describe."""
        client: OssClient = self._files.client
        return client

    def get(self, filepath: PathLike) -> bytes:
        """Return the bytes of an object.

        Raises:
            OssNotFoundError: It does not exist.
        """
        return self.client.get(self._uri(filepath))

    def get_text(self, filepath: PathLike, encoding: str = "utf-8") -> str:
        """Return the text of an object."""
        return self.get(filepath).decode(encoding)

    def put(self, obj: Any, filepath: PathLike) -> None:  # noqa: ANN401 - any buffer
        """Write an object, whole or not at all.

        Args:
            obj: Bytes, or what has a buffer. A file in memory too: MMEngine passes one for images.
            filepath: The object.
        """
        self.client.put(self._uri(filepath), obj.getbuffer() if hasattr(obj, "getbuffer") else obj)

    def put_text(self, obj: str, filepath: PathLike, encoding: str = "utf-8") -> None:
        """Write a text as an object."""
        self.put(obj.encode(encoding), filepath)

    def exists(self, filepath: PathLike) -> bool:
        """Return whether there is an object or a directory. Errors of the service are raised."""
        return bool(self._files.exists(self._uri(filepath)))

    def isdir(self, filepath: PathLike) -> bool:
        """Return whether there are objects below a path."""
        return bool(self._files.isdir(self._uri(filepath)))

    def isfile(self, filepath: PathLike) -> bool:
        """Return whether there is an object."""
        return bool(self._files.isfile(self._uri(filepath)))

    def join_path(self, filepath: PathLike, *filepaths: PathLike) -> str:
        """Return the paths as one. One that is ``oss://`` itself takes the place of those before it."""
        joined = self._mapped(filepath)
        for path in map(self._mapped, filepaths):
            joined = path if path.startswith(_SCHEME) else f"{joined.removesuffix('/')}/{path.lstrip('/')}"
        return joined

    @contextmanager
    def get_local_path(self, filepath: PathLike) -> Generator[str]:
        """Download an object, and return the path of a file that exists until the block ends."""
        with tempfile.TemporaryDirectory(prefix="osstorchconnector-") as folder:
            # Libraries tell the format by the end of the name.
            path = str(Path(folder, f"object{PurePosixPath(self._uri(filepath)).suffix}"))
            self._files.get_file(self._uri(filepath), path)
            yield path

    def copyfile(self, src: PathLike, dst: PathLike) -> str:
        """Copy an object inside the service, into `dst` if that is a directory, and return the URI of the copy.

        Raises:
            SameFileError: Both are the same object.
        """
        source = self._uri(src)
        target = self._in_directory(source, dst)
        if source == target:
            raise SameFileError(f"{source} cannot be copied to itself")
        self.client.copy(source, target)
        return target

    def copytree(self, src: PathLike, dst: PathLike) -> str:
        """Copy all objects below a path inside the service, and return the URI of the copy.

        Raises:
            FileExistsError: There is something at `dst`.
            OssNotFoundError: There is nothing below `src`.
        """
        target = self._absent(dst)
        for name in self._below(src):
            self.client.copy(self.join_path(src, name), self.join_path(target, name))
        return target

    def copyfile_from_local(self, src: PathLike, dst: PathLike) -> str:
        """Upload a file, into `dst` if that is a directory, and return the URI of the object."""
        target = self._in_directory(os.fspath(src), dst)
        self._files.put_file(os.fspath(src), target)
        return target

    def copytree_from_local(self, src: PathLike, dst: PathLike) -> str:
        """Upload all files below a directory, and return the URI.

        Raises:
            FileExistsError: There is something at `dst`.
            NotADirectoryError: `src` is no directory.
        """
        root, target = Path(src), self._absent(dst)
        if not root.is_dir():
            raise NotADirectoryError(f"{src} is no directory")
        for path in sorted(root.rglob("*")):
            if path.is_file():
                self._files.put_file(str(path), self.join_path(target, path.relative_to(root).as_posix()))
        return target

    def copyfile_to_local(self, src: PathLike, dst: PathLike) -> PathLike:
        """Download an object, into `dst` if that is a directory, and return the path of the file."""
        source = self._uri(src)
        target = Path(dst, PurePosixPath(source).name) if Path(dst).is_dir() else Path(dst)
        self._files.get_file(source, str(target))
        return target if isinstance(dst, Path) else str(target)

    def copytree_to_local(self, src: PathLike, dst: PathLike) -> PathLike:
        """Download all objects below a path, and return `dst`.

        Raises:
            OssNotFoundError: There is nothing below `src`.
            OssConfigError: A key cannot become a path below `dst`.
        """
        for name in self._below(src):
            path = local_path(str(dst), name)
            path.parent.mkdir(parents=True, exist_ok=True)
            self._files.get_file(self.join_path(src, name), str(path))
        return dst

    def remove(self, filepath: PathLike) -> None:
        """Delete an object.

        Raises:
            OssNotFoundError: It does not exist.
            IsADirectoryError: It is a directory.
        """
        uri = self._uri(filepath)
        if not self.isfile(uri):
            if self.isdir(uri):
                raise IsADirectoryError(f"{uri} is a directory: use rmtree")
            raise OssNotFoundError(f"{uri} does not exist")
        self.client.delete(uri)

    def rmtree(self, dir_path: PathLike) -> None:
        """Delete all objects below a path."""
        # Listed here, so that the keys of directories are deleted too, and a name with an asterisk is no pattern.
        root = self._uri(dir_path).removesuffix("/") + "/"
        self.client.delete_many(found.uri for found in self.client.list(root))

    def copy_if_symlink_fails(self, src: PathLike, dst: PathLike) -> bool:
        """Copy an object or all objects below a path; return False, since no symbolic link was made."""
        if self.isfile(src):
            self.copyfile(src, dst)
        else:
            self.copytree(src, dst)
        return False

    def list_dir_or_file(
        self,
        dir_path: PathLike,
        list_dir: bool = True,  # noqa: FBT001, FBT002 - the interface's arguments
        list_file: bool = True,  # noqa: FBT001, FBT002
        suffix: str | tuple[str, ...] | None = None,
        recursive: bool = False,  # noqa: FBT001, FBT002
    ) -> Iterator[str]:
        """Return the paths below a path, relative to it, of directories without a slash at the end.

        Args:
            dir_path: The directory.
            list_dir: Include directories.
            list_file: Include objects.
            suffix: What their names end with.
            recursive: Include what is in directories.

        Raises:
            TypeError: `suffix` is given together with `list_dir`, or is neither a text nor a tuple.
        """
        if suffix is not None and list_dir:
            raise TypeError("list_dir must be False if a suffix is given")
        if suffix is not None and not isinstance(suffix, (str, tuple)):
            raise TypeError(f"suffix must be a text or a tuple of texts, not {type(suffix).__name__}")
        entries = _entries(self._files, self._uri(dir_path), recursive=recursive)
        return (
            name
            for name, is_directory in entries
            if (list_dir if is_directory else list_file) and (suffix is None or name.endswith(suffix))
        )

    def generate_presigned_url(self, url: PathLike, client_method: str = "get_object", expires_in: int = 3600) -> str:
        """Return a URL with which anybody can read or write an object for some time. It is a secret.

        Args:
            url: The object.
            client_method: ``"get_object"`` or ``"put_object"``.
            expires_in: How long, in seconds.

        Raises:
            OssConfigError: There is no such method.
        """
        if client_method not in _METHODS:
            raise OssConfigError(f"client_method must be {' or '.join(_METHODS)}, not {client_method!r}")
        return self.client.presign(self._uri(url), method=_METHODS[client_method], expires=expires_in)

    def _mapped(self, path: PathLike) -> str:
        text = os.fspath(path)
        for source, target in self._mapping.items():
            if text.startswith(source):
                return target + text.removeprefix(source)
        return text

    def _uri(self, path: PathLike) -> str:
        uri = self._mapped(path)
        if not uri.startswith(_SCHEME):
            raise OssConfigError(
                f"{without_query(uri)!r} is no oss:// URI: leave out backend_args, or give path_mapping"
            )
        return uri

    def _in_directory(self, source: str, target: PathLike) -> str:
        """Return the URI of a copy: below the target, if that is a directory."""
        uri = self._uri(target)
        return self.join_path(uri, PurePosixPath(source).name) if uri.endswith("/") or self.isdir(uri) else uri

    def _absent(self, path: PathLike) -> str:
        uri = self._uri(path)
        if self.exists(uri):
            raise OssExistsError(f"{uri} exists already: name another place, or remove it first")
        return uri

    def _below(self, path: PathLike) -> list[str]:
        """Return the paths of all objects below a path, relative to it."""
        names = list(self.list_dir_or_file(path, list_dir=False, recursive=True))
        if not names:
            raise OssNotFoundError(f"there are no objects below {self._uri(path)}")
        return names


def _entries(files: FsspecFileSystem, directory: str, *, recursive: bool) -> Iterator[tuple[str, bool]]:
    """Yield the paths below a directory, relative to it, and whether each is a directory."""
    root = directory.removeprefix(_SCHEME).rstrip("/") + "/"
    found = files.find(directory, withdirs=True, detail=True).values() if recursive else files.ls(directory)
    for entry in found:
        # A search also finds the directory itself, and an object of its name.
        if entry["name"].startswith(root):
            yield entry["name"].removeprefix(root), entry["type"] == "directory"


def _load_from_oss(filename: str, map_location: Any = None) -> Any:  # noqa: ANN401 - a checkpoint holds anything
    with OssStorageBackend().client.reader(filename) as reader:
        return torch.load(reader, map_location=map_location)


warn_if_untested("mmengine", *_TESTED)
register_backend("oss", OssStorageBackend, force=True, prefixes="oss")
# What came before `backend_args`; MMEngine still makes one of these for the directory of checkpoints.
FileClient.register_backend("oss", OssStorageBackend, force=True, prefixes="oss")
# The log of MMEngine leaves out the first ten characters of the name.
CheckpointLoader.register_scheme(prefixes=_SCHEME, loader=_load_from_oss, force=True)
