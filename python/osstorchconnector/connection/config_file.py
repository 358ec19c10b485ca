"""The JSON configuration file.

Every key that the original connector documents or knows is accepted. The column "here" has its effect in this package.

===========================================  ========  =====================================================
key                                          type      here
===========================================  ========  =====================================================
``logLevel``                                 number    ``log_level``: 0 debug, 1 info, 2 warning, 3 error
``logPath``                                  string    ``log_path``; empty: none
``auditPath``                                string    ``audit_path``; empty: none
``auditSlowMs``                              number    ``audit_slow_seconds``, in milliseconds: a key of this package
                                                       only
``datasetConfig.prefetchConcurrency``        number    ``prefetch_concurrency``: the start, not the limit
``datasetConfig.prefetchWorker``             number    accepted; threads follow ``io_threads``
``datasetConfig.enableFastList``             boolean   ``fast_list``; both have the same order
``datasetConfig.listConcurrency``            number    accepted; the listing sizes itself
``datasetConfig.listWorker``                 number    accepted; threads follow ``io_threads``
``checkpointConfig.prefetchConcurrency``     number    accepted; a reader sizes its own window
``checkpointConfig.prefetchWorker``          number    accepted; threads follow ``io_threads``
``checkpointConfig.uploadConcurrency``       number    ``upload_concurrency``
``prefetch.vcpus``, ``prefetch.workers``     number    accepted; of the model connector: threads follow ``io_threads``
``fastList.vcpus``, ``fastList.workers``     number    accepted; of the model connector: a listing sizes itself
``maxConcurrency``                           number    ``max_concurrency``: a key of this package only
``prefetchMB``                               number    ``prefetch_bytes``, in MiB; not in ``checkpointConfig``
``timeoutMs``                                number    ``read_timeout``, in milliseconds
``uploadIoSizeMB``                           number    ``part_size``, in MiB
``enableBatchGet``, ``batchGetSize``         bool,     accepted; small objects are requests of their own
                                             number
``prefetchIoSizeMB``, ``prefetchUnitMB``     number    accepted; requests size themselves
``uploadBufferSizeMB``, ``writeIoSizeMB``    number    accepted; ``part_size`` and ``upload_bytes``
``ioEngineType``                             any       accepted; there is one
===========================================  ========  =====================================================

For a key that is only accepted, the log says once what takes its place, at the level info.

The keys from ``maxConcurrency`` on may be at the top, in ``datasetConfig`` or in ``checkpointConfig``. If a key is in
several of them, ``datasetConfig`` wins over ``checkpointConfig``, and that over the top. An unknown key is ignored with
one warning.
"""

import logging
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from osstorchconnector._json import read_json
from osstorchconnector.exceptions import OssConfigError

_logger: Final = logging.getLogger(__name__)

_LOG_LEVELS: Final = {0: "debug", 1: "info", 2: "warning", 3: "error"}
_MIB: Final = 1024 * 1024


class _Key(NamedTuple):
    types: tuple[type, ...]
    allowed: str
    #: The OssConfig field that it sets; None if this package has no such setting.
    field: str | None = None
    convert: Callable[[Any], Any] = lambda value: value
    #: What takes the place of a key without a field.
    instead: str = ""


def _whole_number(field: str | None = None, convert: Callable[[Any], Any] = lambda value: value) -> _Key:
    return _Key((int,), "a whole number", field, convert)


def _replaced(instead: str) -> _Key:
    return _whole_number()._replace(instead=instead)


_BOOLEAN: Final = _Key((bool,), "true or false")
_WINDOW: Final = _replaced("a reader sizes its window up to OssConfig.reader_window")
_THREADS: Final = _replaced("OssConfig.io_threads decides how many threads there are")
_REQUESTS: Final = _replaced("requests are as large as the connections make worthwhile")
_PARTS: Final = _replaced("OssConfig.part_size and upload_bytes decide what an upload holds in memory")
_BATCHES: Final = "each object is a request of its own, with many in flight"
_LISTING: Final = _replaced("a listing decides itself how many requests are in flight")

_ANYWHERE: Final = {
    "maxConcurrency": _whole_number("max_concurrency"),
    "prefetchMB": _whole_number("prefetch_bytes", lambda value: value * _MIB),
    "timeoutMs": _Key((int, float), "a number", "read_timeout", lambda value: value / 1000),
    "uploadIoSizeMB": _whole_number("part_size", lambda value: value * _MIB),
    "batchGetSize": _replaced(_BATCHES),
    "prefetchIoSizeMB": _REQUESTS,
    "prefetchUnitMB": _REQUESTS,
    "uploadBufferSizeMB": _PARTS,
    "writeIoSizeMB": _PARTS,
    "enableBatchGet": _BOOLEAN._replace(instead=_BATCHES),
    "ioEngineType": _Key((bool, int, float, str, type(None)), "a single value", instead="there is one engine"),
}
_TOP: Final = {
    "logLevel": _whole_number("log_level", lambda value: _LOG_LEVELS.get(value, value)),
    "logPath": _Key((str,), "a string", "log_path", lambda value: value or None),
    "auditPath": _Key((str,), "a string", "audit_path", lambda value: value or None),
    "auditSlowMs": _Key((int, float), "a number", "audit_slow_seconds", lambda value: value / 1000),
    **_ANYWHERE,
}
# In rising precedence.
_SECTIONS: Final = {
    "prefetch": {"vcpus": _THREADS, "workers": _THREADS},
    "fastList": {"vcpus": _LISTING, "workers": _LISTING},
    "checkpointConfig": {
        "prefetchConcurrency": _WINDOW,
        "prefetchWorker": _THREADS,
        "uploadConcurrency": _whole_number("upload_concurrency"),
        **_ANYWHERE,
        # The original reads it in `datasetConfig` alone.
        "prefetchMB": _WINDOW,
    },
    "datasetConfig": {
        "prefetchConcurrency": _whole_number("prefetch_concurrency"),
        "prefetchWorker": _THREADS,
        "enableFastList": _BOOLEAN._replace(field="fast_list"),
        "listConcurrency": _LISTING,
        "listWorker": _THREADS,
        **_ANYWHERE,
    },
}

_warned: Final[set[tuple[str, str]]] = set()
_logged: Final[set[tuple[str, str]]] = set()


class Setting(NamedTuple):
    """One value of the file that sets a field of OssConfig."""

    #: The key in the file, with its section.
    key: str
    #: The field of OssConfig.
    field: str
    #: In the unit of that field; its range is not checked yet.
    value: Any


def read_config_file(path: str) -> list[Setting]:
    """Return the settings in the file, in rising precedence.

    Raises:
        OssConfigError: The file is missing, is not JSON, or a key has a value of the wrong type; the message names the
            file and the key.
    """
    try:
        document = read_json(Path(path).read_bytes())
    except OSError as error:
        raise OssConfigError(f"configuration file {path!r} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise OssConfigError(f"configuration file {path!r} is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise OssConfigError(f"configuration file {path!r} must hold a JSON object")
    settings = []
    for name, key, value in _entries(path, document):
        # In Python a boolean is an integer, in the file it is not.
        if not isinstance(value, key.types) or (isinstance(value, bool) and bool not in key.types):
            raise OssConfigError(f"configuration file {path!r}: {name} is {value!r}: {key.allowed} is needed")
        if key.field is not None:
            settings.append(Setting(name, key.field, key.convert(value)))
        else:
            _log_replaced(path, name, key.instead)
    return settings


def _entries(path: str, document: dict[str, Any]) -> Iterator[tuple[str, _Key, Any]]:
    for name, value in document.items():
        if name in _TOP:
            yield name, _TOP[name], value
        elif name not in _SECTIONS:
            _warn_unknown(path, name, [*_TOP, *_SECTIONS])
        elif not isinstance(value, dict):
            raise OssConfigError(f"configuration file {path!r}: {name} must be a JSON object")
    for section, keys in _SECTIONS.items():
        for name, value in document.get(section, {}).items():
            if name in keys:
                yield f"{section}.{name}", keys[name], value
            else:
                _warn_unknown(path, f"{section}.{name}", list(keys))


def _log_replaced(path: str, name: str, instead: str) -> None:
    if (path, name) not in _logged:
        _logged.add((path, name))
        _logger.info("configuration file %r: %s has no effect: %s", path, name, instead)


def _warn_unknown(path: str, name: str, near: list[str]) -> None:
    if (path, name) in _warned:
        return
    _warned.add((path, name))
    # The dataset or client that got the path is further up; its depth is not known here.
    warnings.warn(f"configuration file {path!r}: unknown key {name} is ignored{_meant(name, near)}", stacklevel=2)


def _meant(name: str, near: list[str]) -> str:
    """Return the known key that an unknown one stands for; the keys of the same place come first."""
    import difflib  # noqa: PLC0415 - few files have mistakes

    section, _, key = name.rpartition(".")
    everywhere = {known: f"{place}.{known}" for place, keys in _SECTIONS.items() for known in keys} | {
        known: known for known in _TOP
    }
    for places in ({known: f"{section}.{known}" if section else known for known in near}, everywhere):
        lower = {known.lower(): full for known, full in places.items()}
        found = difflib.get_close_matches(key.lower(), lower, n=1, cutoff=0.75)
        if found:
            return f": did you mean {lower[found[0]]}?"
    return ""
