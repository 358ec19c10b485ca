"""The options of datasets, and which of them go together."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, TypedDict, cast

from osstorchconnector._native import DataObject
from osstorchconnector.exceptions import OssConfigError

#: What to do about an object that cannot be delivered. Such a function gets the error and the object.
Action = Literal["raise", "substitute", "skip"] | Callable[[Exception, DataObject], Any]
#: Why an object cannot be delivered.
FailureClass = Literal["missing", "unreadable", "transform"]

FAILURE_CLASSES: Final[tuple[FailureClass, ...]] = ("missing", "unreadable", "transform")
_EVEN: Final = ("pad", "drop", "none")
_ORDERS: Final = ("listed", "arrival")
# The native core takes a seed of so many bits.
_SEED_BITS: Final = 64


class MapOptions(TypedDict, total=False):
    """Options of every way to build an :class:`OssMapDataset`.

    Attributes:
        on_error: What to do about an object that cannot be delivered: ``"raise"`` its error (default), ``"substitute"``
            a neighbour, or call a function ``f(error, item)`` and deliver its result. A dictionary has one of these for
            each failure class: ``"missing"`` (the object does not exist), ``"unreadable"`` (any other error of the
            object) and ``"transform"`` (the transform raised). A class that it leaves out raises.
        error_limit: Number of failures to tolerate; the next one raises :class:`OssErrorLimitError`. Default: no limit.
        directory_markers: Deliver directory markers too: empty objects whose keys end with ``/``, which some tools
            make. Default: they are left out of prefixes.
    """

    on_error: Action | Mapping[FailureClass, Action]
    error_limit: int | None
    directory_markers: bool


class StreamOptions(MapOptions, total=False):
    """Options of every way to build an :class:`OssIterableDataset`, except the shuffle.

    Attributes:
        on_error: As in :class:`MapOptions`, and ``"skip"``, which needs ``even="none"``.
        seed: The seed of the shuffle; at least 0, below 2**64. Default: 0.
        batch_size: The loader's batch size, in samples. With it, each worker takes whole batches, so that the sequence
            of batches is the same for any number of workers. Default: the workers take turns with single objects.
        shard: ``"auto"`` (default): under ``torch.distributed``, the share of this process's rank; without it, or if a
            known program around the dataset divides among the ranks, all objects. ``"ranks"``: the share of the rank
            in any case. ``(index, count)``: this share. None: all objects.
        split_workers: Whether the workers of a ``DataLoader`` share the objects. ``"auto"`` (default): unless a known
            program around the dataset divides among them. False: each worker reads all of its rank, for programs that
            divide themselves.
        process_group: With ``shard="auto"`` or ``"ranks"``, the group whose ranks share the objects. Default: the whole
            world. With tensor or pipeline parallelism, give the data-parallel group.
        even: How all ranks end together if the objects cannot be divided evenly: ``"pad"`` (default) repeats some,
            ``"drop"`` leaves some out. With ``"none"`` the ranks end at different steps.
        order: ``"listed"`` (default): by the documented formula. ``"arrival"``: in arrival order; saving the position
            is not supported.
        advance_epochs: In one rank, each iteration has the next epoch (default). False: the epoch stays until
            ``set_epoch``. With several ranks it always stays.
    """

    seed: int
    batch_size: int | None
    shard: Literal["auto", "ranks"] | tuple[int, int] | None
    split_workers: Literal["auto"] | bool
    process_group: Any
    even: Literal["pad", "drop", "none"]
    order: Literal["listed", "arrival"]
    advance_epochs: bool


class DatasetOptions(StreamOptions, total=False):
    """Options of every way to build an :class:`OssIterableDataset`.

    Attributes:
        shuffle: Deliver the objects in an order that seed and epoch decide. Default: as they are listed or named.
        shuffle_block: Shuffle within blocks of this number of objects, so that delivery begins before all are listed.
            Default: shuffle all objects together.
    """

    shuffle: bool
    shuffle_block: int | None


@dataclass(frozen=True, slots=True)
class Policy:
    """What to do about each failure class."""

    missing: Action = "raise"
    unreadable: Action = "raise"
    transform: Action = "raise"
    error_limit: int | None = None

    def action(self, failure: FailureClass) -> Action:
        """Return what to do about a failure class."""
        return cast("Action", getattr(self, failure))

    def has(self, action: Action) -> bool:
        """Return whether this is the action for any failure class."""
        return any(self.action(failure) == action for failure in FAILURE_CLASSES)


@dataclass(frozen=True, slots=True)
class Options:
    """All options of an iterable dataset, checked."""

    policy: Policy = Policy()
    directory_markers: bool = False
    shuffle: bool = False
    shuffle_block: int | None = None
    #: Whether the blocks change places too.
    shuffle_chunks: bool = False
    seed: int = 0
    batch_size: int | None = None
    shard: Literal["auto", "ranks"] | tuple[int, int] | None = "auto"
    split_workers: Literal["auto"] | bool = "auto"
    process_group: Any = None
    even: Literal["pad", "drop", "none"] = "pad"
    order: Literal["listed", "arrival"] = "listed"
    advance_epochs: bool = True

    @classmethod
    def of_stream(cls, given: Mapping[str, Any]) -> "Options":
        """Check the options of an iterable dataset.

        Raises:
            OssConfigError: One is unknown, wrong, or does not go together with another.
        """
        _refuse_unknown(given, DatasetOptions)
        options = cls(
            policy=_policy(given),
            **{name: value for name, value in given.items() if name not in {"on_error", "error_limit"}},
        )
        _check_types(options)
        _check_shard(options)
        if options.shuffle_block is not None and not options.shuffle:
            raise OssConfigError("shuffle_block needs shuffle=True")
        if options.policy.has("skip") and options.even != "none":
            raise OssConfigError(
                f'on_error="skip" makes a rank end early, so it does not go together with even={options.even!r}: '
                'give even="none", or on_error="substitute", which keeps the length'
            )
        return options

    @classmethod
    def of_archive(cls, given: Mapping[str, Any], *, shuffle: bool, chunk: int) -> "Options":
        """Check the options of an iterable dataset over an archive.

        Args:
            given: The options, except the shuffle.
            shuffle: Whether to shuffle.
            chunk: How many members move together.

        Raises:
            OssConfigError: One is unknown, wrong, or does not go together with another.
        """
        _refuse_unknown(given, StreamOptions)
        _check_integer("shuffle_chunk_size", chunk, 1)
        if not shuffle:
            return cls.of_stream({**given, "shuffle": shuffle})
        return replace(cls.of_stream({**given, "shuffle": shuffle, "shuffle_block": chunk}), shuffle_chunks=True)

    @classmethod
    def of_map(cls, given: Mapping[str, Any]) -> "Options":
        """Check the options of a map dataset.

        Raises:
            OssConfigError: One is unknown or wrong.
        """
        _refuse_unknown(given, MapOptions)
        policy = _policy(given)
        if policy.has("skip"):
            raise OssConfigError(
                'a map dataset has an object at every index, so it cannot skip any: give on_error="substitute" or a '
                "function whose result takes the object's place"
            )
        options = cls(policy=policy, directory_markers=given.get("directory_markers", False))
        _check_types(options)
        return options

    @property
    def order_shuffle(self) -> bool | int:
        """The shuffle, as the native core takes it: the length of a block, or whether to shuffle all objects."""
        return self.shuffle if self.shuffle_block is None else self.shuffle_block


def _refuse_unknown(given: Mapping[str, Any], known: Any) -> None:  # noqa: ANN401 - a TypedDict is no type
    names = sorted(known.__annotations__ | _inherited(known))
    unknown = sorted(set(given) - set(names))
    if unknown:
        raise OssConfigError(f"unknown option {', '.join(unknown)}: the options are {', '.join(names)}")


def _inherited(known: Any) -> dict[str, Any]:  # noqa: ANN401 - as above
    return dict.fromkeys(known.__optional_keys__)


def _policy(given: Mapping[str, Any]) -> Policy:
    on_error = given.get("on_error", "raise")
    actions = dict.fromkeys(FAILURE_CLASSES, on_error) if not isinstance(on_error, Mapping) else dict(on_error)
    unknown = sorted(map(repr, set(actions) - set(FAILURE_CLASSES)))
    if unknown:
        classes = ", ".join(FAILURE_CLASSES)
        raise OssConfigError(f"on_error has the unknown key {', '.join(unknown)}: the failure classes are {classes}")
    for action in actions.values():
        if action not in ("raise", "substitute", "skip") and not callable(action):
            raise OssConfigError(
                f"on_error must be 'raise', 'substitute', 'skip' or a function (error, item), not {action!r}"
            )
    limit = given.get("error_limit")
    if limit is not None:
        _check_integer("error_limit", limit, 0)
    return Policy(**actions, error_limit=limit)


def _check_types(options: Options) -> None:
    for name in ("shuffle", "directory_markers", "advance_epochs"):
        value = getattr(options, name)
        if not isinstance(value, bool):
            raise OssConfigError(f"{name} must be True or False, not {value!r}")
    if options.split_workers != "auto" and not isinstance(options.split_workers, bool):
        raise OssConfigError(f"split_workers must be 'auto', True or False, not {options.split_workers!r}")
    _check_integer("seed", options.seed, 0)
    if options.seed >> _SEED_BITS:
        raise OssConfigError(f"seed must be below 2**{_SEED_BITS}, not {options.seed}")
    for name in ("batch_size", "shuffle_block"):
        value = getattr(options, name)
        if value is not None:
            _check_integer(name, value, 1)
    for name, allowed in (("even", _EVEN), ("order", _ORDERS)):
        value = getattr(options, name)
        if value not in allowed:
            raise OssConfigError(f"{name} must be one of {', '.join(map(repr, allowed))}, not {value!r}")


def _check_shard(options: Options) -> None:
    match options.shard:
        case "auto" | "ranks":
            return
        case None | (int(), int()):
            if options.process_group is not None:
                raise OssConfigError("process_group needs shard='auto' or 'ranks', since it decides the shard")
        case other:
            raise OssConfigError(f"shard must be 'auto', 'ranks', None or a tuple (index, count), not {other!r}")
    if options.shard is not None:
        index, count = options.shard
        if not 0 <= index < count:
            raise OssConfigError(f"invalid shard {options.shard}: 0 <= index < count is needed")


def _check_integer(name: str, value: object, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise OssConfigError(f"{name} must be an integer of at least {least}, not {value!r}")
