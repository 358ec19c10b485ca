"""What the loaders of serving engines have in common: their settings, and the tensors of a model."""

import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

import torch

from osstorchconnector.connection.client import OssClient
from osstorchconnector.credentials.shield import guarded
from osstorchconnector.exceptions import OssConfigError
from osstorchconnector.model.model import OssModel

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

_CONNECTION: Final = ("endpoint", "cred_path", "config_path", "region")
_READING: Final = ("variant", "budget", "concurrency")
_KEYS: Final = ("uri", *_CONNECTION, *_READING, "share")


class Settings:
    """The settings of a loader, which an engine passes on as JSON."""

    def __init__(self, given: object, option: str) -> None:
        """Check them.

        Args:
            given: The dictionary.
            option: The option that the user gave it by, for messages.

        Raises:
            OssConfigError: It has another key, or lacks the URI or the endpoint.
        """
        example = """{"uri": "oss://bucket/llama/", "endpoint": "oss-cn-hangzhou-internal.aliyuncs.com"}"""
        if not isinstance(given, Mapping) or not isinstance(given.get("uri"), str):
            raise OssConfigError(f"{option} must be a dictionary with the URI of a model, such as {example}")
        unknown = sorted(given.keys() - {*_KEYS})
        if unknown:
            raise OssConfigError(f"{option} has an unknown key {unknown[0]!r}; the keys are {', '.join(_KEYS)}")
        endpoint = given.get("endpoint") or os.environ.get("OSS_ENDPOINT")
        if not endpoint:
            raise OssConfigError(f"{option} has no endpoint, and OSS_ENDPOINT is not set: it must be like {example}")
        self.uri: Final[str] = given["uri"]
        self.shares: Final = given.get("share", "node")
        self._client = OssClient(**{**{key: given[key] for key in _CONNECTION if key in given}, "endpoint": endpoint})
        self._reading: dict[str, Any] = {key: given[key] for key in _READING if key in given}

    def open(self, group: "ProcessGroup | None" = None) -> OssModel:
        """Open the model.

        Args:
            group: The ranks that load it together; None: this process reads for itself.

        Raises:
            OssError: As :func:`~osstorchconnector.model.open_model` raises.
        """
        share = None if group is None or self.shares is None else self.shares
        return OssModel(self._client, self.uri, **self._reading, share=share, process_group=group)


@guarded
def tensors(settings: Settings, group: "ProcessGroup | None") -> Iterator[tuple[str, torch.Tensor]]:
    """Return names and tensors of a model."""

    def read() -> Iterator[tuple[str, torch.Tensor]]:
        with settings.open(group) as model:
            yield from model

    return read()
