"""The log file that the configuration names."""

import logging
import os
from typing import Final

from osstorchconnector import _native
from osstorchconnector.connection.config import OssConfig
from osstorchconnector.exceptions import OssConfigError

#: The parent of every module's logger.
_package_logger: Final = logging.getLogger("osstorchconnector")
# Without a handler of its own, Python would print warnings to standard error.
_package_logger.addHandler(logging.NullHandler())

_LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
_FORMAT: Final = "%(asctime)s.%(msecs)03d|%(levelname)-7s|%(process)d|th=%(thread)016x|%(name)s|%(message)s"
_TIME_FORMAT: Final = "%Y/%m/%d %H:%M:%S"


def write_log(config: OssConfig) -> None:
    """Open the log file that the configuration names, once, and set the level of the native core.

    Without a log file, the program's own settings of ``logging.getLogger("osstorchconnector")`` decide what the core
    reports.

    Raises:
        OssConfigError: The file cannot be written.
    """
    if config.log_path is not None:
        level = _LEVELS[config.log_level]
        path = os.path.abspath(config.log_path)  # noqa: PTH100 - what FileHandler compares with
        if not any(
            isinstance(handler, logging.FileHandler) and handler.baseFilename == path
            for handler in _package_logger.handlers
        ):
            try:
                handler = logging.FileHandler(path, encoding="utf-8")
            except OSError as error:
                raise OssConfigError(f"log file {path!r} cannot be written: {error.strerror}") from error
            handler.setFormatter(logging.Formatter(_FORMAT, _TIME_FORMAT))
            handler.setLevel(level)
            _package_logger.addHandler(handler)
        if not _package_logger.isEnabledFor(level):
            _package_logger.setLevel(level)
    _native.set_log_level(_package_logger.getEffectiveLevel())
