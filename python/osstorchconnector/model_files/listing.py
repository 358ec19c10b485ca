"""Which files a model in a bucket has, and in which order programs read them."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from osstorchconnector._json import read_json
from osstorchconnector.connection.client import get_bounded
from osstorchconnector.connection.nearest import nothing_below
from osstorchconnector.connection.uri import split_prefix
from osstorchconnector.exceptions import OssConfigError, OssFormatError, OssNotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from osstorchconnector.connection.client import OssClient

#: What the names of files with weights end with. ``tokenizer.model`` is none.
WEIGHTS: Final = (
    ".bin",
    ".ckpt",
    ".distcp",
    ".engine",
    ".gguf",
    ".ggml",
    ".h5",
    ".msgpack",
    ".nemo",
    ".npz",
    ".onnx",
    ".onnx_data",
    ".ot",
    ".pb",
    ".pt",
    ".pth",
    ".safetensors",
    ".tflite",
)
_INDEX: Final = ".index.json"
_LONGEST_INDEX: Final = 256 << 20
# Directories of models have hundreds of files. A prefix with more is one of a dataset, or a whole bucket.
_MOST: Final = 100_000


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A file of a model.

    Attributes:
        uri: Its object.
        path: Its path below the model's directory.
        size: Its bytes.
        etag: The ETag of the version to read.
        modified: When it was written, in Unix time.
    """

    uri: str
    path: str
    size: int
    etag: str
    modified: float

    @property
    def is_weights(self) -> bool:
        """Whether its name is one of a file with weights."""
        return self.path.lower().endswith(WEIGHTS)


def model_files(client: "OssClient", uri: str) -> list[ModelFile]:
    """Return all files below a directory: first those without weights, then those with, by name, as programs read them.

    Raises:
        OssConfigError: The URI names an object, or a prefix with too many of them.
        OssNotFoundError: There is nothing below.
    """
    bucket, name = split_prefix(uri)
    prefix = name if not name or name.endswith("/") else f"{name}/"
    found: list[ModelFile] = []
    for item in client.list(f"oss://{bucket}/{prefix}"):
        if len(found) == _MOST:
            raise OssConfigError(f"{uri} has more than {_MOST} objects: give the directory of one model")
        path = item.name[len(prefix) :]
        if path and not path.endswith("/"):
            found.append(ModelFile(item.uri, path, item.size, item.etag or "", item.last_modified or 0.0))
    if not found:
        if name and not name.endswith("/") and _exists(client, uri):
            raise OssConfigError(f"{uri} is an object, not the directory of a model: copy it with `osst cp`")
        raise OssNotFoundError(
            f"there is no model at {uri}: {nothing_below(client, bucket, prefix)}", bucket=bucket, key=prefix
        )
    return sorted(found, key=lambda file: (file.is_weights, file.path))


def check_indices(client: "OssClient", files: "Iterable[ModelFile]") -> None:
    """Check that every file that an index of a model names is there.

    Args:
        client: Reads the indices.
        files: All files of the model.

    Raises:
        OssFormatError: An index names a file that is missing, or is no index.
    """
    files = list(files)
    known = {file.path for file in files}
    for index in files:
        if not index.path.endswith(_INDEX):
            continue
        try:
            document: Any = read_json(get_bounded(client, index.uri, _LONGEST_INDEX))
        except ValueError:
            raise OssFormatError(f"{index.uri} is not an index of a model: it is not JSON") from None
        weights = document.get("weight_map") if isinstance(document, dict) else None
        if not isinstance(weights, dict):
            raise OssFormatError(f"{index.uri} is not an index of a model: it has no weight_map")
        directory = index.path[: index.path.rfind("/") + 1]
        for tensor, name in weights.items():
            if f"{directory}{name}" not in known:
                raise OssFormatError(f"{index.uri} says that {name} holds tensor {tensor!r}, but there is no such file")


def _exists(client: "OssClient", uri: str) -> bool:
    try:
        client.head(uri)
    except OssNotFoundError:
        return False
    return True
