"""What a conversion reads: the tensors of a checkpoint, some at a time, and what is no tensor."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, Final

import torch

from osstorchconnector.exceptions import OssConfigError

# Large enough to use all connections; two of them, and the largest tensor, are all that is held.
_BATCH: Final = 64 << 20

Key = str | int


@dataclass(frozen=True)
class TensorInfo:
    """A tensor that was not read.

    Attributes:
        shape: Its shape.
        dtype: Its type.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def nbytes(self) -> int:
        """Its bytes."""
        return math.prod(self.shape) * self.dtype.itemsize

    def meta(self) -> torch.Tensor:
        """Return a tensor without memory that has shape and type."""
        return torch.empty(self.shape, dtype=self.dtype, device="meta")


@dataclass
class Source:
    """A checkpoint to read.

    Attributes:
        place: Its URI or path, for messages.
        tensors: Its tensors by name, in the order in which they are stored.
        fetch: Returns some tensors by name, each contiguous, in main memory, and with memory of its own.
        aliases: Names of tensors that share all memory with another one, each with the name of that one.
        objects: What is no tensor, by name.
        paths: The keys on the way to each name, if they are not the name alone.
        texts: Texts that are stored beside the tensors.
        distributed: Whether it is a distributed checkpoint.
        close: Ends reading.
    """

    place: str
    tensors: dict[str, TensorInfo]
    fetch: Callable[[Sequence[str]], Mapping[str, torch.Tensor]]
    aliases: dict[str, str] = field(default_factory=dict)
    objects: dict[str, Any] = field(default_factory=dict)
    paths: dict[str, tuple[Key, ...]] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    distributed: bool = False
    close: Callable[[], object] = lambda: None

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return sum(info.nbytes for info in self.tensors.values())

    def read(self, names: Sequence[str]) -> Iterator[tuple[str, torch.Tensor]]:
        """Yield tensors in the order of `names`; the next ones are read while the caller uses one."""
        batches = list(batches_of(names, self.tensors))
        with ThreadPoolExecutor(1, "osst-convert") as thread:
            ahead: Future[Mapping[str, torch.Tensor]] | None = None
            for number, batch in enumerate(batches):
                found = dict(self.fetch(batch) if ahead is None else ahead.result())
                following = batches[number + 1 : number + 2]
                ahead = thread.submit(self.fetch, following[0]) if following else None
                for name in batch:
                    yield name, found.pop(name)

    def nested(self, leaf: Callable[[str], Any]) -> dict[Any, Any]:
        """Return the dictionaries of the checkpoint, in which each name has a value.

        Args:
            leaf: Returns the value for the name of a tensor or an object.
        """
        content: dict[Any, Any] = {}
        for name in (*self.tensors, *self.aliases, *self.objects):
            keys = self.paths.get(name, (name,))
            node = content
            for key in keys[:-1]:
                node = node.setdefault(key, {})
                if not isinstance(node, dict):
                    raise OssConfigError(f"{self.place} has a value and a dictionary at {name!r}")
            node[keys[-1]] = leaf(name)
        # Numbers are places in lists there: torch makes texts of the keys of dictionaries.
        return _with_lists(content) if self.distributed else content


def _with_lists(node: Any) -> Any:  # noqa: ANN401 - nested dictionaries
    if not isinstance(node, dict):
        return node
    below = {key: _with_lists(value) for key, value in node.items()}
    if below and all(isinstance(key, int) for key in below):
        return [below[key] for key in sorted(below)]
    return below


def batches_of(names: Iterable[str], tensors: Mapping[str, TensorInfo]) -> Iterator[list[str]]:
    """Divide names into lists to read at once."""
    batch: list[str] = []
    filled = 0
    for name in names:
        length = tensors[name].nbytes
        if batch and filled + length > _BATCH:
            yield batch
            batch, filled = [], 0
        batch.append(name)
        filled += length
    if batch:
        yield batch


def selected(source: Source, matches: Callable[[str], bool], strip: str) -> Source:
    """Return some tensors and objects of a source, under names without a common beginning.

    Args:
        source: The source.
        matches: Whether a name is taken.
        strip: The beginning to leave out. A name that has another beginning is not taken.

    Raises:
        OssConfigError: Nothing is left.
    """

    def taken(name: str) -> bool:
        return name.startswith(strip) and len(name) > len(strip) and matches(name)

    cut = len(strip)
    tensors = {name[cut:]: info for name, info in source.tensors.items() if taken(name)}
    names = {name[cut:]: name for name in source.tensors if taken(name)}
    aliases = {}
    for name, kept in source.aliases.items():
        if not taken(name):
            continue
        if taken(kept):
            aliases[name[cut:]] = kept[cut:]
        elif name[cut:] not in tensors:
            # The other name is left out, so that this one stands for itself.
            tensors[name[cut:]], names[name[cut:]] = source.tensors[kept], kept
    objects = {name[cut:]: value for name, value in source.objects.items() if taken(name)}
    if not tensors and not objects:
        shown = ", ".join(map(repr, list(source.tensors)[:5]))
        raise OssConfigError(f"nothing of {source.place} is left; its first tensors are {shown}")

    def fetch(wanted: Sequence[str]) -> Mapping[str, torch.Tensor]:
        found = source.fetch([*dict.fromkeys(names[name] for name in wanted)])
        return {name: found[names[name]] for name in wanted}

    keys = strip.rstrip(".").count(".") + 1 if strip.endswith(".") else 0
    paths = {name[cut:]: path[keys:] for name, path in source.paths.items() if taken(name) and path[keys:]}
    return replace(source, tensors=tensors, fetch=fetch, aliases=aliases, objects=objects, paths=paths)
