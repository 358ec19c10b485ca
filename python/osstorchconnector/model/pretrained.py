"""The folder of a pretrained model: small files are copied, and safetensors files are read and written in OSS."""

import contextlib
import itertools
import sys
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch

from osstorchconnector.connection.client import OssClient
from osstorchconnector.connection.uri import split_prefix
from osstorchconnector.dcp.memory import bytes_of
from osstorchconnector.exceptions import OssConfigError, OssNotFoundError
from osstorchconnector.model.layout import indices_before
from osstorchconnector.safetensor.header import write_header

if TYPE_CHECKING:
    from osstorchconnector._native import Writer

# Weights, in any of the formats that models are published in, and their indices.
_WEIGHTS: Final = (
    *(".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".onnx", ".onnx_data", ".gguf", ".distcp"),
    ".index.json",
)
_AT_A_TIME: Final = 16
# A tokenizer has some megabytes, and a folder of a model some hundred files.
_LARGEST: Final = 256 << 20
_MOST_FILES: Final = 10_000

# The functions are replaced for the whole process, so one save after the other replaces them.
_saving: Final = threading.Lock()


def directory_of(uri: str) -> str:
    """Return the URI of a directory, which ends with ``/``."""
    split_prefix(uri)
    return uri if uri.endswith("/") else f"{uri}/"


def is_weights(name: str) -> bool:
    """Return whether a file holds weights, or says where they are."""
    return name.endswith(_WEIGHTS) or ".index." in name


def fetch_small_files(client: OssClient, directory: str, folder: Path) -> None:
    """Copy all files of a model into a folder, except those of its weights, and those above 256 MiB.

    Raises:
        OssNotFoundError: The directory has no such files.
        OssConfigError: It holds more than 10,000 objects, or names that are none of files below a folder.
    """
    _, prefix = split_prefix(directory)
    items = list(itertools.islice(client.list(directory), _MOST_FILES + 1))
    if len(items) > _MOST_FILES:
        raise OssConfigError(f"{directory} holds more than {_MOST_FILES} objects: give the directory of one model")
    names = [
        name
        for item in items
        if (name := item.name.removeprefix(prefix))
        and not name.endswith("/")
        and not is_weights(name)
        # Whatever else lies beside a model is none of its small files.
        and item.size <= _LARGEST
    ]
    # Everybody who may write to the bucket chooses the names of its objects.
    unsafe = [name for name in names if Path(name).is_absolute() or ".." in Path(name).parts]
    if unsafe:
        raise OssConfigError(f"{directory} has an object {unsafe[0]!r}, which is no name of a file below a folder")
    if not names:
        raise OssNotFoundError(f"{directory} has no configuration of a model")

    def fetch(name: str) -> None:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(client._get_bounded(directory + name, _LARGEST))  # noqa: SLF001 - the package's own

    with ThreadPoolExecutor(_AT_A_TIME, "osst-model-files") as pool:
        list(pool.map(fetch, names))


class Saved:
    """A folder that a library saves a model to, whose safetensors files go to OSS in place of the disk.

    Nothing is visible before :meth:`publish`: then files appear in the order weights, small files, indices.
    """

    def __init__(self, client: OssClient, directory: str, folder: Path) -> None:
        """Remember where both are."""
        self._client = client
        self._directory = directory
        self._folder = folder.resolve()
        self._writers: dict[str, Writer] = {}

    @contextlib.contextmanager
    def redirected(self) -> Iterator[None]:
        """Redirect what is saved into the folder, until the block ends. If it raises, all uploads are aborted."""
        import safetensors.torch  # noqa: PLC0415 - an extra, which only saving needs

        with _saving, contextlib.ExitStack() as stack:
            original = safetensors.torch.save_file
            for module, name in _places(original):
                stack.callback(setattr, module, name, original)
                setattr(module, name, self._instead_of(original))
            try:
                yield
            except BaseException:
                self.abort()
                raise

    def publish(self) -> None:
        """Make all files visible.

        Raises:
            OssConfigError: An index of another save would hide what was saved; nothing is visible.
            OssError: A file could not be stored.
        """
        files = sorted(path for path in self._folder.rglob("*") if path.is_file())
        names = {path: path.relative_to(self._folder).as_posix() for path in files}
        try:
            self._check_indices({*names.values()})
            for name in list(self._writers):
                self._writers.pop(name).publish()
        except BaseException:
            self.abort()
            raise
        for path in sorted(files, key=lambda path: is_weights(names[path])):
            self._client.put(self._directory + names[path], path.read_bytes())

    def abort(self) -> None:
        """Drop what was uploaded."""
        for writer in self._writers.values():
            writer.abort()
        self._writers.clear()

    def _check_indices(self, saved: Collection[str]) -> None:
        for name in self._writers:
            folder, slash, file = name.rpartition("/")
            for index in indices_before(file):
                uri = f"{self._directory}{folder}{slash}{index}"
                if f"{folder}{slash}{index}" in saved:
                    continue
                with contextlib.suppress(OssNotFoundError):
                    self._client.head(uri)
                    raise OssConfigError(
                        f"{uri} is of another save, and its shards would be loaded in place of {file}: delete it, or "
                        "save to another directory"
                    )

    def _instead_of(self, original: Callable[..., None]) -> Callable[..., None]:
        def save_file(
            tensors: Mapping[str, torch.Tensor],
            filename: Any,  # noqa: ANN401 - the library's
            metadata: Mapping[str, str] | None = None,
        ) -> None:
            path = Path(filename).absolute()
            if not path.parent.resolve().is_relative_to(self._folder):
                # Another thread saves something else.
                original(tensors, filename, metadata)
                return
            name = (path.parent.resolve() / path.name).relative_to(self._folder).as_posix()
            size = sum(tensor.nbytes for tensor in tensors.values())
            writer = self._client.writer(self._directory + name, size, deferred=True)
            self._writers[name] = writer
            head, order = write_header(tensors, metadata)
            writer.write(head)
            for tensor in map(tensors.__getitem__, order):
                writer.write(bytes_of(tensor.detach().cpu().resolve_conj().resolve_neg().contiguous()))
            writer.close()

        return save_file


def _places(function: Callable[..., None]) -> list[tuple[Any, str]]:
    """Return where a function of the library safetensors is imported."""
    found = []
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in {"safetensors", "transformers", "diffusers", "accelerate"}:
            found += [(module, key) for key, value in list(vars(module).items()) if value is function]
    return found
