"""``oss://`` in webdataset, which opens URLs by itself and not with fsspec."""

from typing import Any

import fsspec

from osstorchconnector.exceptions import OssConfigError


def register_webdataset(**storage_options: Any) -> None:  # noqa: ANN401 - each option has its own type
    """Make ``webdataset`` open ``oss://`` URLs in this process, for reading and writing, and in workers forked from it.

    Workers that are started otherwise call it too, for instance in ``worker_init_fn``.

    Args:
        storage_options: Those of :class:`FsspecFileSystem`.

    Raises:
        OssConfigError: webdataset is not installed, or an option is wrong.
    """
    try:
        from webdataset.gopen import gopen_schemes  # noqa: PLC0415 - it may not be installed
    except ImportError:
        raise OssConfigError("webdataset is not installed: run pip install webdataset") from None
    files = fsspec.filesystem("oss", **storage_options)

    def opened(url: str, mode: str = "rb", _buffer_size: int = 0, **_options: object) -> Any:  # noqa: ANN401 - depends on the mode
        return files.open(url, mode)

    gopen_schemes["oss"] = opened
