"""The YAML file that describes a dataset: where its images are in OSS, and the names of its classes."""

import posixpath
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from osstorchconnector.connection.client import OssClient, get_bounded
from osstorchconnector.connection.uri import split_prefix
from osstorchconnector.exceptions import OssConfigError

#: The parts of a dataset that Ultralytics knows.
SPLITS: Final = ("train", "val", "test", "minival")

# The largest known ones list the names of 20 000 classes.
_LARGEST: Final = 16 << 20


def read_data_yaml(
    file: str | Path, client: OssClient, names_from: Callable[[str], list[str]] | None = None
) -> dict[str, Any]:
    """Read the description of a dataset.

    Args:
        file: Local path, or the URI of an object.
        client: Reads an object.
        names_from: Returns the classes of a split, if the file does not name them. Default: it must.

    Returns:
        What the file says. Each split is a path ``/bucket/key`` or a list of them, ``names`` is a dict from numbers to
        names, ``nc`` is their number, ``channels`` is 3 if the file does not say otherwise.

    Raises:
        OssConfigError: The file is missing or wrong; the message says which key.
        OssError: The object cannot be read.
    """
    shown = str(file)
    data = _loaded(shown, client)
    base = data.get("path")
    if not isinstance(base, str) or not base.startswith("oss://"):
        raise OssConfigError(f"{shown}: path must be the place of the dataset like 'oss://bucket/base', not {base!r}")
    bucket, prefix = split_prefix(base)
    if "val" not in data and "validation" in data:
        data["val"] = data.pop("validation")
    for split in ("train", "val"):
        if not data.get(split):
            raise OssConfigError(f"{shown}: the key {split!r} is missing: it names the images, like 'images/{split}'")
    for split in SPLITS:
        if data.get(split):
            data[split] = _places(shown, split, data[split], bucket, prefix)
    if names_from and data.get("names") is None and isinstance(data["train"], str):
        data["names"] = names_from(data["train"])
    data["names"] = _class_names(shown, data)
    data["nc"] = len(data["names"])
    data["channels"] = data.get("channels", 3)
    data["yaml_file"] = shown
    return data


def _loaded(shown: str, client: OssClient) -> dict[str, Any]:
    import yaml  # noqa: PLC0415 - Ultralytics brings it

    if shown.startswith("oss://"):
        content = get_bounded(client, shown, _LARGEST)
    else:
        try:
            content = Path(shown).read_bytes()
        except OSError as error:
            raise OssConfigError(f"the dataset's description {shown} cannot be read: {error.strerror}") from error
    try:
        data = yaml.safe_load(content)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise OssConfigError(f"{shown} is not YAML: {error}") from error
    if not isinstance(data, dict):
        raise OssConfigError(f"{shown} must have the keys path, train, val and names, but it is no mapping")
    return data


def _places(shown: str, split: str, value: object, bucket: str, prefix: str) -> str | list[str]:
    if isinstance(value, list):
        return [_place(shown, split, entry, bucket, prefix) for entry in value]
    return _place(shown, split, value, bucket, prefix)


def _place(shown: str, split: str, value: object, bucket: str, prefix: str) -> str:
    if not isinstance(value, str):
        raise OssConfigError(f"{shown}: {split} must be a prefix or a manifest like 'images/{split}', not {value!r}")
    if value.startswith("oss://"):
        return "/" + "/".join(split_prefix(value))
    # As with the original, a leading slash does not leave the base.
    path = posixpath.normpath(f"/{bucket}/{prefix.strip('/')}/{value.lstrip('/')}")
    if not f"{path}/".startswith(f"/{bucket}/"):
        raise OssConfigError(f"{shown}: {split}: {value} leaves the bucket {bucket}: write it as 'oss://...'")
    return path


def _class_names(shown: str, data: Mapping[str, Any]) -> dict[int, str]:
    names, count = data.get("names"), data.get("nc")
    if count is not None and (isinstance(count, bool) or not isinstance(count, int) or count < 1):
        raise OssConfigError(f"{shown}: nc must be the number of classes, not {count!r}")
    if names is None:
        if count is None:
            raise OssConfigError(f"{shown}: one of the keys 'names' and 'nc' is needed: the classes of the labels")
        return {number: f"class_{number}" for number in range(count)}
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, dict) or not names:
        raise OssConfigError(f"{shown}: names must be a list of classes, or a mapping from numbers to classes")
    try:
        named = {int(number): str(name) for number, name in names.items()}
    except (TypeError, ValueError):
        raise OssConfigError(f"{shown}: the keys of names must be numbers from 0, not {list(names)}") from None
    if sorted(named) != list(range(len(named))):
        raise OssConfigError(f"{shown}: the numbers of names must be 0 to {len(named) - 1}, not {sorted(named)}")
    if count is not None and count != len(named):
        raise OssConfigError(f"{shown}: nc is {count}, but there are {len(named)} names")
    return dict(sorted(named.items()))
