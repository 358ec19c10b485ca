"""The file system for callers that await: the same methods, each call in a thread."""

import asyncio
import functools
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

from osstorchconnector.exceptions import OssConfigError
from osstorchconnector.process.owner import PerProcess

if TYPE_CHECKING:
    from osstorchconnector.fsspec.instances import ClientFileSystem

# The threads wait for answers. asyncio's own pool has a few for each processor, so a small machine would have few
# requests in flight.
_THREADS: Final = 64

_pools: Final[PerProcess[ThreadPoolExecutor]] = PerProcess()


def asynchronously(instance: "ClientFileSystem", loop: Any) -> Any:  # noqa: ANN401 - fsspec's
    """Return an instance whose methods are coroutines, with names that begin with an underscore.

    Raises:
        OssConfigError: fsspec is too old.
    """
    try:
        from fsspec.implementations.asyn_wrapper import AsyncFileSystemWrapper  # noqa: PLC0415 - newer releases have it
    except ImportError:
        raise OssConfigError(
            "asynchronous=True needs fsspec 2024.12 or newer: run pip install 'fsspec>=2024.12'"
        ) from None
    wrapper = AsyncFileSystemWrapper(instance, asynchronous=True, loop=loop)
    # An iterator is no coroutine: the class has its own, above `_ls`.
    vars(wrapper).pop("_walk", None)
    for name, value in list(vars(wrapper).items()):
        method = getattr(instance, name.removeprefix("_"), None)
        if asyncio.iscoroutinefunction(value) and callable(method):
            setattr(wrapper, name, _awaited(method))
    return wrapper


def _awaited(method: Callable[..., Any]) -> Callable[..., Coroutine[Any, Any, Any]]:
    @functools.wraps(method)
    async def call(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - those of the method
        pool = _pools.get(lambda: ThreadPoolExecutor(_THREADS, "oss-fsspec"))
        return await asyncio.get_running_loop().run_in_executor(pool, functools.partial(method, *args, **kwargs))

    return call
