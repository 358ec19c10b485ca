"""Datasets for classification: each split is a prefix with a directory for each class."""

import posixpath
from pathlib import Path
from typing import Any, Final

from osstorchconnector.connection.client import OssClient
from osstorchconnector.connection.uri import split_prefix
from osstorchconnector.exceptions import OssConfigError, OssNotFoundError
from osstorchconnector.integrations.ultralytics.data_yaml import SPLITS, read_data_yaml
from osstorchconnector.integrations.ultralytics.images import StoredObject, find_images

_VALIDATION: Final = ("val", "validation", "test")


def read_class_folders(place: str | Path, client: OssClient) -> dict[str, Any]:
    """Read the description of a dataset for classification.

    Args:
        place: A prefix like ``oss://bucket/imagenet`` with ``train/`` and ``val/`` below it, or a YAML file as for the
            other tasks, which may name other splits, and the classes.
        client: Lists the classes.

    Returns:
        The splits, ``names``, ``nc`` and ``channels``.

    Raises:
        OssConfigError: It is neither of both.
        OssNotFoundError: There is no class.
        OssError: OSS cannot be read.
    """
    shown = str(place)
    if shown.endswith((".yaml", ".yml")):
        return read_data_yaml(shown, client, names_from=lambda train: class_names(client, train))
    if not shown.startswith("oss://"):
        raise OssConfigError(f"data must be a prefix like 'oss://bucket/imagenet' or a YAML file, not {shown!r}")
    bucket, key = split_prefix(shown)
    base = posixpath.join(f"/{bucket}", key.strip("/"))
    below = set(directories(client, base))
    data: dict[str, Any] = {split: f"{base}/{split}" for split in SPLITS if split in below}
    if "train" not in below:
        raise OssNotFoundError(f"oss:/{base}/train/ does not exist: it must have a directory for each class")
    validation = next((name for name in _VALIDATION if name in below), None)
    if validation is None:
        raise OssNotFoundError(f"oss:/{base}/val/ does not exist: it must have a directory for each class")
    data["val"] = f"{base}/{validation}"
    data["names"] = dict(enumerate(class_names(client, data["train"])))
    return {**data, "nc": len(data["names"]), "channels": 3}


def directories(client: OssClient, place: str) -> list[str]:
    """Return the names of the directories below a path, sorted."""
    bucket, key = split_prefix(place)
    prefix = f"{key.rstrip('/')}/" if key else ""
    return [
        entry.name.removeprefix(prefix).rstrip("/")
        for entry in client.list(f"oss://{bucket}/{prefix}", delimiter="/")
        if entry.name.endswith("/") and entry.name != prefix
    ]


def class_names(client: OssClient, place: str) -> list[str]:
    """Return the classes of a split, sorted.

    Raises:
        OssNotFoundError: There is none.
    """
    names = directories(client, place)
    if not names:
        raise OssNotFoundError(f"no directory is below oss:/{place}/: there must be one for each class")
    return names


def find_samples(client: OssClient, place: str) -> list[tuple[StoredObject, str]]:
    """Return the images of a split, sorted by class and path, and the class of each.

    Raises:
        OssNotFoundError: There is no image.
        OssConfigError: An image is in no directory of a class.
    """
    start = f"{place.rstrip('/')}/"
    found = []
    for image in find_images(client, place):
        name, slash, _ = image.path.removeprefix(start).partition("/")
        if not slash:
            raise OssConfigError(f"{image.uri} is in no directory: each image must be in the directory of its class")
        found.append((image, name))
    return sorted(found, key=lambda sample: (sample[1], sample[0].path))
