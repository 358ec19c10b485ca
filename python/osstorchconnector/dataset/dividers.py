"""Programs that divide the samples of a dataset themselves, recognized on the call stack.

Such a program stands around the dataset and keeps a part of what it delivers. If the dataset divided too, objects would
be lost. A function is recognized by its module and its qualified name, and says by its object whether it divides.
"""

import inspect
import logging
import re
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from types import CodeType, FrameType
from typing import Any, Final, NamedTuple

from osstorchconnector.dataset.mentions import running_user, user
from osstorchconnector.exceptions import OssConfigError
from osstorchconnector.process.worker import WHOLE, worker_share

_logger: Final = logging.getLogger(__name__)


class Division(NamedTuple):
    """Who divides what the dataset delivers.

    Attributes:
        ranks: The function that divides it among the ranks; empty if none is known.
        workers: The function that divides it among the workers of a loader; empty if none is known.
        reads: Whether this rank is one that reads.
        batch_size: The batch size that the workers must share by, so that the program loses no sample.
        rank_user: A function of an unknown program that may divide among the ranks.
        worker_user: A function of an unknown program that may divide among the workers.
    """

    ranks: str = ""
    workers: str = ""
    reads: bool = True
    batch_size: int | None = None
    rank_user: str = ""
    worker_user: str = ""

    def joined(self, other: "Division") -> "Division":
        """Return what both say together; what this one says of a function counts first."""
        return Division(
            self.ranks or other.ranks,
            self.workers or other.workers,
            self.reads and other.reads,
            self.batch_size or other.batch_size,
            self.rank_user or other.rank_user,
            self.worker_user or other.worker_user,
        )


@dataclass(frozen=True, slots=True)
class _Divider:
    """A function that divides, or may divide."""

    function: str
    #: Tells by the function's ``self`` and the number of ranks what is divided: ``"ranks"`` and ``"workers"``.
    divides: Callable[[Any, int], set[str]]
    reads: Callable[[Any], bool] = lambda _: True
    batch_size: Callable[[Any], int | None] = lambda _: None


@dataclass(frozen=True, slots=True)
class _Package:
    """A package with functions that divide.

    Attributes:
        name: Its name in the index of Python packages.
        oldest, newest: The versions that were tried. All releases that begin with the numbers of the newest count.
        dividers: The functions of each module, also those that stand around a dataset and divide nothing.
    """

    name: str
    oldest: str
    newest: str
    dividers: dict[str, tuple[_Divider, ...]]


def _ranks_if(condition: object) -> set[str]:
    return {"ranks"} if condition else set()


def _of_accelerate(_loader: object, _ranks: int) -> set[str]:
    # A prepared loader with the dataset itself inside belongs to ranks that shall read the same, as in tensor
    # parallelism.
    return _ranks_if(sys.modules["accelerate.state"].PartialState().num_processes > 1)


def _dispatcher_reads(_loader: object) -> bool:
    return bool(sys.modules["accelerate.state"].PartialState().process_index == 0)


def _dispatched_batch_size(loader: Any) -> int | None:  # noqa: ANN401 - accelerate's
    # It joins the batches of the ranks and cuts them evenly. If workers shared by single objects, a short batch could
    # come before others, and the cut would lose its rest.
    return loader.base_dataloader.batch_size if loader.base_dataloader.num_workers > 1 else None


def _of_sharding_filter(pipe: Any, ranks: int) -> set[str]:  # noqa: ANN401 - torch's
    count, workers = int(pipe.num_of_instances), (worker_share() or WHOLE).count
    if count == ranks * workers:
        return {"ranks", "workers"}
    if count == 1:
        return set()
    if count == workers:
        return {"workers"}
    if count == ranks:
        return {"ranks"}
    raise OssConfigError(
        f"sharding_filter keeps one sample of {count}, but there are {ranks} ranks with {workers} workers each: the "
        "dataset cannot know what is divided: give it shard=None or shard='ranks', and split_workers=True or False"
    )


def _of_webdataset(pipeline: Any, _ranks: int) -> set[str]:  # noqa: ANN401 - webdataset's
    # Its stages make their iterators before they run, so the functions are not on the stack yet.
    _, ranks, _, workers = sys.modules["webdataset.utils"].pytorch_worker_info()
    names = {
        getattr(stage, "__qualname__", "")
        for stage in pipeline.pipeline
        if getattr(stage, "__module__", "") == "webdataset.shardlists"
    }
    divided = _ranks_if(ranks > 1 and "split_by_node" in names)
    return divided | ({"workers"} if workers > 1 and "split_by_worker" in names else set())


def _nothing(_object: object, _ranks: int) -> set[str]:
    return set()


def _of_adapter(loader: object, ranks: int) -> set[str]:
    # Its property `__class__` says something else.
    return _of_accelerate(loader, ranks) if type(loader).__name__ == "DataLoaderShard" else set()


_SHARD: Final = _Divider("IterableDatasetShard.__iter__", lambda shard, _: _ranks_if(shard.num_processes > 1))
_SHARD_LENGTH: Final = _Divider("IterableDatasetShard.__len__", _SHARD.divides)
# An iterable dataset of `datasets` gives each worker some of its own sources, in each of its ways to iterate.
_OF_DATASETS: Final = tuple(
    _Divider(f"IterableDataset.{name}", lambda dataset, _: _ranks_if(dataset._distributed))  # noqa: SLF001
    for name in ("__iter__", "iter")
)

_PACKAGES: Final = (
    _Package(
        "accelerate",
        "1.0",
        "1.15",
        {
            "accelerate.data_loader": (
                _SHARD,
                _SHARD_LENGTH,
                _Divider("DataLoaderAdapter.__len__", _of_adapter),
                *(_Divider(f"SkipDataLoader.{name}", _nothing) for name in ("__init__", "__iter__")),
                # A loader with a state makes the first iterator when it is made itself.
                *(_Divider(f"DataLoaderShard.{name}", _of_accelerate) for name in ("__init__", "__iter__")),
                *(
                    _Divider(f"DataLoaderDispatcher.{name}", _of_accelerate, _dispatcher_reads, _dispatched_batch_size)
                    for name in ("__init__", "__iter__", "__len__")
                ),
            )
        },
    ),
    _Package("transformers", "4.46", "5.24", {"transformers.trainer_pt_utils": (_SHARD, _SHARD_LENGTH)}),
    _Package(
        "datasets",
        "3.0",
        "5.2",
        {
            "datasets.iterable_dataset": (
                *_OF_DATASETS,
                # In a thread of `interleave_datasets` it stands without the dataset.
                _Divider("ExamplesIterable.__iter__", lambda _, __: {"workers"}),
            ),
            # Its result is a file that all ranks share.
            "datasets.builder": (
                _Divider("GeneratorBasedBuilder._prepare_split_single", lambda _, __: {"ranks", "workers"}),
            ),
        },
    ),
    _Package(
        "torch",
        "2.6",
        "2.15",
        {
            "torch.utils.data.datapipes.iter.sharding": (
                _Divider("ShardingFilterIterDataPipe.__iter__", _of_sharding_filter),
            )
        },
    ),
    _Package(
        "webdataset",
        "0.2.100",
        "1.0",
        {
            "webdataset.pipeline": (
                _Divider("DataPipeline.iterator1", _of_webdataset),
                _Divider("DataPipeline.iterator", _nothing),
            )
        },
    ),
)
_MODULES: Final = {module: (package, found) for package in _PACKAGES for module, found in package.dividers.items()}

# Names of a program that finds out which worker or which rank it is. A function between the loader and the dataset that
# uses one of them, or calls a function that does, may divide.
_OF_WORKERS: Final = frozenset({"get_worker_info"})
_OF_RANKS: Final = frozenset(
    [
        "get_rank",
        "get_world_size",
        "global_rank",
        "num_processes",
        "num_replicas",
        "process_index",
        "rank",
        "world_size",
    ]
)
# Between the dataset and them, every function may divide; beyond them is the program that takes the batches.
_LOADERS: Final = ("torch.utils.data._utils.", "torch.utils.data.dataloader", "torchdata.stateful_dataloader.")
# Which of their functions divide is known, here or by the tables above.
_KNOWN: Final = ("osstorchconnector.", "torch.", "torchdata.", "webdataset.", *_MODULES)

_warned_of: Final[set[str]] = set()


def tried_versions() -> dict[str, tuple[str, str]]:
    """Return the packages that may divide, with the oldest and the newest version that were tried."""
    return {package.name: (package.oldest, package.newest) for package in _PACKAGES}


def was_tried(version: str, oldest: str, newest: str) -> bool:
    """Return whether a version is one of those that were tried; the releases of the newest count too."""
    last = _numbers(newest)
    return _numbers(oldest) <= _numbers(version) and _numbers(version)[: len(last)] <= last


def division_of_stack(ranks: int) -> Division:
    """Return who divides, by the functions that are running in this thread.

    Args:
        ranks: The number of all ranks of the program.

    Raises:
        OssConfigError: A program that is known to divide runs in a version that cannot be read, or in another thread.
    """
    frames = list(_callers(inspect.currentframe()))
    known = _known_division(frames, ranks)
    if threading.current_thread() is not threading.main_thread():
        _refuse_other_threads(ranks)
    around = _around(frames)
    return known._replace(
        rank_user=_user(around, _OF_RANKS), worker_user=_user(around, _OF_WORKERS) or _initializer(around)
    )


def _callers(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", ""))


def _known_division(frames: list[FrameType], ranks: int) -> Division:
    found = Division()
    seen: dict[str, bool] = {}
    in_worker = False
    for frame in frames:
        if frame.f_code.co_name == "_worker_loop":
            in_worker = True
        if _module(frame) not in _MODULES:
            continue
        package, dividers = _MODULES[_module(frame)]
        matching = [divider for divider in dividers if divider.function == frame.f_code.co_qualname]
        seen[package.name] = seen.get(package.name, False) or bool(matching)
        for divider in matching:
            said = _division(package, divider, frame, ranks)
            # Beyond the loop of a forked worker are the functions of its parent, which divide for other workers.
            found = found.joined(said._replace(workers="") if in_worker else said)
    for package in _PACKAGES:
        if package.name not in seen:
            continue
        if not seen[package.name]:
            raise _unknown(package, f"version {metadata.version(package.name)} has functions that are not known")
        if found.ranks or found.workers:
            _check_version(package)
    return found


def _division(package: _Package, divider: _Divider, frame: FrameType, ranks: int) -> Division:
    variables = frame.f_locals
    divides = variables.get("self")
    if isinstance(variables, dict):
        # Before Python 3.13 the frame keeps this copy, and with it every sample that the function then drops.
        variables.clear()
    try:
        divided = divider.divides(divides, ranks)
        if not divided:
            return Division()
        reads, batch_size = divider.reads(divides), divider.batch_size(divides)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise _unknown(package, f"its {divider.function} cannot be read ({error})") from error
    name = f"{divider.function.partition('.')[0]} of {package.name}"
    return Division(
        ranks=name if "ranks" in divided else "",
        workers=name if "workers" in divided else "",
        reads=reads,
        batch_size=batch_size,
    )


def _check_version(package: _Package) -> None:
    """Warn if the version of a package was not tried."""
    version = metadata.version(package.name)
    if was_tried(version, package.oldest, package.newest):
        return
    if package.name not in _warned_of:
        _warned_of.add(package.name)
        _logger.warning(
            "%s %s divides the samples, and only versions from %s to %s were tried with this dataset: check "
            "that each object comes once, or say who divides with shard= and split_workers=",
            package.name,
            version,
            package.oldest,
            package.newest,
        )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3])


def _unknown(package: _Package, why: str) -> OssConfigError:
    return OssConfigError(
        f"{package.name} may divide the samples of this dataset, but {why}: say who divides. shard=None and "
        "split_workers=False if it does, shard='ranks' and split_workers=True if the dataset shall"
    )


def _refuse_other_threads(ranks: int) -> None:
    """Refuse an iteration in a thread while a program in another thread divides among the ranks."""
    here = threading.get_ident()
    for thread, frame in sys._current_frames().items():  # noqa: SLF001 - the documented way to other threads
        found = _known_division(list(_callers(frame)), ranks) if thread != here else Division()
        if found.ranks:
            raise OssConfigError(
                f"{found.ranks} divides samples among the ranks in another thread, and the dataset cannot know whether "
                "they are its own: give shard=None if they are, shard='ranks' if not"
            )


def _around(frames: list[FrameType]) -> list[FrameType]:
    """Return the functions that may divide: all up to the loader, or without a loader the generators up to the loop."""
    unknown = [frame for frame in frames if not _module(frame).startswith("osstorchconnector.")]
    end = next((place for place, frame in enumerate(unknown) if _module(frame).startswith(_LOADERS)), None)
    if end is None:
        end = next((place for place, frame in enumerate(unknown) if not _is_iterator(frame.f_code)), len(unknown))
    return [frame for frame in unknown[:end] if not _module(frame).startswith(_KNOWN)]


def _is_iterator(code: CodeType) -> bool:
    return bool(code.co_flags & inspect.CO_GENERATOR) or code.co_name in {"__iter__", "__next__"}


def _user(frames: list[FrameType], names: frozenset[str]) -> str:
    """Return the first function that uses one of these names, itself or through another one."""
    for frame in frames:
        found = running_user(frame, lambda used: bool(used & names), _is_known)
        if found:
            return _described(frame.f_code, found)
    return ""


def _initializer(frames: list[FrameType]) -> str:
    """Return the ``worker_init_fn`` of this worker if it may tell a wrapper its part, as torch's manual has it."""
    # `osst doctor` asks this module for versions, also without torch.
    from osstorchconnector._torch.loader_worker import worker_initializer  # noqa: PLC0415

    initializer = worker_initializer() if frames else None
    # Many initializers ask for the seed of the worker, and leave the dataset alone.
    found = user(initializer, lambda used: used >= {"get_worker_info", "dataset"}, _is_known)
    return f"worker_init_fn {found}" if found else ""


def _is_known(module: str) -> bool:
    return module.startswith(_KNOWN)


def _described(code: CodeType, found: str) -> str:
    through = "" if found == code.co_qualname else f", through {found}"
    return f"{code.co_qualname} ({code.co_filename}:{code.co_firstlineno}{through})"
