"""A model in OSS: what it holds, and its tensors, fetched with many requests at a time."""

import contextlib
import math
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal

import torch

from osstorchconnector._closing import Closing
from osstorchconnector.connection.client import OssClient
from osstorchconnector.connection.config import OssConfig
from osstorchconnector.credentials.shield import guarded, guards_methods
from osstorchconnector.exceptions import OssConfigError, OssKeyError
from osstorchconnector.files.progress import progress_bar
from osstorchconnector.model.blocks import STAGE, Box, whole_box
from osstorchconnector.model.layout import Form, Layout, find_model
from osstorchconnector.model.staging import staging_for
from osstorchconnector.model.targets import Target, Wish
from osstorchconnector.model.tensors import OpenedModel, TensorInfo, open_tensors
from osstorchconnector.model.transfer import Transfer
from osstorchconnector.process.owner import Owner

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

    from osstorchconnector.model.machine import Ranks
    from osstorchconnector.model.shared_transfer import SharedTransfer

#: Which part of a tensor is needed: a slice of its rows, or a slice of each of its first dimensions.
Slices = slice | tuple[slice, ...]
#: Which ranks read each byte once together: those of a machine, or all.
Share = Literal["node", "job"]

_BUDGET: Final = 256 << 20
# At 35 ms to the first byte and 50 MB/s a connection, 64 requests of 8 MiB receive 2.6 GB/s.
_CONCURRENCY: Final = 64


@guards_methods
class OssModel(Closing):
    """The tensors of a model. :func:`open_model` makes it.

    Threads may share it, but those of a rank that shares it with other ranks take turns. It does not pickle, and a
    forked child opens its own.

    Attributes:
        uri: The URI that was opened.
        form: How the model is stored: ``"index"``, ``"shards"``, ``"file"`` or ``"checkpoint"``.
    """

    def __init__(
        self,
        client: OssClient,
        uri: str,
        *,
        variant: str | None = None,
        budget: int = _BUDGET,
        concurrency: int = _CONCURRENCY,
        share: Share | None = None,
        process_group: "ProcessGroup | None" = None,
    ) -> None:
        """Find the model's objects and read their headers. The arguments are those of :func:`open_model`.

        Args:
            client: Reads the objects.
            uri: See there.
            variant: See there.
            budget: See there.
            concurrency: See there.
            share: See there.
            process_group: See there.

        Raises:
            OssError: As there.
        """
        self._client = client
        self._budget = budget
        self._concurrency = concurrency
        self._owner = Owner()
        self._lock = threading.Lock()
        self._closed = False
        self.uri: Final = uri
        self._ranks: Ranks | None = None
        self._model = OpenedModel({}, {}, {})
        layout = self._open(variant, share) if share is None else self._open_together(variant, share, process_group)
        self.form: Final[Form] = layout.form

    def _open(self, variant: str | None, share: Share | None) -> Layout:
        if not isinstance(self._budget, int) or self._budget < 2 * STAGE:
            raise OssConfigError(f"budget must be at least {2 * STAGE} bytes, got {self._budget!r}")
        if not isinstance(self._concurrency, int) or self._concurrency < 1:
            raise OssConfigError(f"concurrency must be at least 1, got {self._concurrency!r}")
        if share not in {"node", "job", None}:
            raise OssConfigError(f"share must be 'node' or 'job', got {share!r}")
        layout = find_model(self._client, self.uri, variant)
        self._model = open_tensors(self._client, layout)
        return layout

    def _open_together(self, variant: str | None, share: Share, group: "ProcessGroup | None") -> Layout:
        # Only sharing needs torch.distributed.
        from osstorchconnector.dcp.sharing import check_group  # noqa: PLC0415
        from osstorchconnector.model.machine import Ranks, together  # noqa: PLC0415

        check_group(group, "share")
        try:
            layout = together(lambda: self._open(variant, share), group)
            self._ranks = Ranks(group, across=share == "job")
        except BaseException:
            self._model.close()
            raise
        return layout

    @property
    def tensors(self) -> Mapping[str, TensorInfo]:
        """The tensors by name, in the order in which they are stored."""
        return MappingProxyType(self._model.tensors)

    @property
    def metadata(self) -> Mapping[str, str]:
        """The texts that are stored beside the tensors. If several objects have a text, the first counts."""
        return MappingProxyType(self._model.metadata)

    @property
    def files(self) -> Mapping[str, int]:
        """The URI of each object, with its size in bytes."""
        return MappingProxyType({uri: file.reader.size for uri, file in self._model.files.items()})

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return sum(info.nbytes for info in self._model.tensors.values())

    def iterate(
        self,
        names: Iterable[str] | None = None,
        *,
        slices: Mapping[str, Slices] | None = None,
        dtype: torch.dtype | None = None,
        device: str | int | torch.device = "cpu",
        pin_memory: bool = False,
    ) -> Iterator[tuple[str, torch.Tensor]]:
        """Return names and tensors, each as soon as its bytes are there.

        Requests for all objects are in flight from the start. A tensor has memory of its own and stays valid. Besides
        the tensors that you keep, this takes at most the budget, or a tensor that is too large for that, and half of
        the budget.

        Args:
            names: The tensors. Default: all.
            slices: The part of a tensor that is needed, for each name of which not all is: ``slice(0, 1024)`` for
                rows, ``(slice(None), slice(0, 512))`` for columns. Only these bytes are fetched, unless they lie in
                pieces of less than 256 KiB: then whole rows are.
            dtype: The type of the returned tensors. Whole numbers, and numbers of 8 bits and fewer, keep theirs.
            device: The device that they go to. To a CUDA device, bytes are copied while others are received.
            pin_memory: Tensors in main memory are pinned.

        Raises:
            OssKeyError: There is no tensor of a name.
            OssIntegrityError: An object was replaced since the model was opened, or an object of which all was fetched
                has another checksum.
            OssError: A tensor could not be fetched; the message names it and its object.
            MemoryError: There is no memory for a tensor; the message names it.
        """
        targets = self._targets(
            lambda: self._targets_of(names, slices, _wish(dtype, device, pin_memory=pin_memory, kept=False))
        )
        transfer = self._transfer(targets)
        return ((target.name, target.hand_out()) for target in transfer.run())

    def __iter__(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Return names and tensors as :meth:`iterate` does."""
        return self.iterate()

    def load(
        self,
        names: Iterable[str] | None = None,
        *,
        slices: Mapping[str, Slices] | None = None,
        dtype: torch.dtype | None = None,
        device: str | int | torch.device = "cpu",
        pin_memory: bool = False,
        progress: bool = False,
    ) -> dict[str, torch.Tensor]:
        """Return tensors by name, in the order in which they are stored, or none if one fails.

        Args:
            names: As for :meth:`iterate`, and so are the next arguments.
            slices: See there.
            dtype: See there.
            device: See there.
            pin_memory: See there.
            progress: Show a bar on standard error.

        Raises:
            OssError: As :meth:`iterate` does.
            MemoryError: There is no memory for a tensor.
        """
        targets = self._targets(
            lambda: self._targets_of(names, slices, _wish(dtype, device, pin_memory=pin_memory, kept=True))
        )
        self._run(targets, progress=progress)
        return {target.name: target.tensor for target in targets}

    def load_into(
        self,
        tensors: Mapping[str, torch.Tensor],
        *,
        slices: Mapping[str, Slices] | None = None,
        progress: bool = False,
    ) -> None:
        """Fill tensors with those of the same names. Their types and devices stay.

        Bytes for contiguous tensors of the stored type in main memory are received there without a copy. If this
        raises, the tensors hold anything.

        Args:
            tensors: The tensors to fill: of a model ``dict(model.named_parameters())``, for instance.
            slices: As for :meth:`iterate`: the given tensor has the shape of the part.
            progress: Show a bar on standard error.

        Raises:
            OssKeyError: There is no tensor of a name.
            OssConfigError: A tensor has another shape, is on the device ``meta``, or has a type that cannot hold the
                numbers, such as whole numbers for fractions.
            OssError: As :meth:`iterate` does.
        """
        targets = self._targets(lambda: self._targets_of(tensors, slices, Wish(), tensors))
        self._run(targets, progress=progress)

    def close(self) -> None:
        """Close the objects. Closing again, or in a forked child, does nothing."""
        if not self._owner.is_this_process():
            return
        with self._lock:
            if not self._closed:
                self._closed = True
                self._model.close()

    def __repr__(self) -> str:
        """Return the URI, and how much the model holds."""
        if "form" not in self.__dict__:
            # The initializer failed, and a traceback with locals shows its frame.
            return f"{type(self).__name__}(...)"
        return f"OssModel({self.uri!r}, form={self.form!r}, tensors={len(self.tensors)}, nbytes={self.nbytes})"

    def _run(self, targets: list[Target], *, progress: bool) -> None:
        total = sum(math.prod(target.shape) * target.stored_dtype.itemsize for target in targets)
        with progress_bar(self.uri, total, shown=progress) as advance:
            for target in self._transfer(targets).run():
                advance(math.prod(target.shape) * target.stored_dtype.itemsize)

    def _transfer(self, targets: list[Target]) -> "Transfer | SharedTransfer":
        if self._ranks is not None:
            from osstorchconnector.model.shared_transfer import SharedTransfer  # noqa: PLC0415 - as above

            return SharedTransfer(
                self._client,
                self._model.files,
                [self._model.tensors[target.name] for target in targets],
                targets,
                self._ranks,
                budget=self._budget,
                concurrency=self._concurrency,
                whole_files=self._whole_files(target.name for target in targets),
            )
        limit = min(self._concurrency, self._budget // 2 // STAGE)
        return Transfer(
            self._client,
            self._model.files,
            targets,
            staging_for(targets, limit),
            budget=self._budget,
            concurrency=self._concurrency,
            whole_files=self._whole_files(target.name for target in targets if target.is_whole),
        )

    def _whole_files(self, names: Iterable[str]) -> frozenset[str]:
        """Return the objects of which all is fetched for whole tensors."""
        wanted = set(names)
        # Another tensor of an object is one that nobody asked for, or the index does not name.
        return frozenset(uri for uri, file in self._model.files.items() if wanted.issuperset(file.header.tensors))

    def _targets(self, make: Callable[[], list[Target]]) -> list[Target]:
        """Make the places of the tensors; if ranks share the model, all of them or none."""
        self._owner.check(self.uri)
        if self._ranks is None:
            return make()
        from osstorchconnector.model.machine import together  # noqa: PLC0415 - as above

        return together(make, self._ranks.group)

    def _targets_of(
        self,
        names: Iterable[str] | None,
        slices: Mapping[str, Slices] | None,
        wish: Wish,
        given: Mapping[str, torch.Tensor] | None = None,
    ) -> list[Target]:
        if self._closed:
            raise ValueError("I/O operation on closed model")
        if given is not None and not isinstance(given, Mapping):
            raise OssConfigError(f"tensors must be a dictionary of tensors, got {type(given).__name__}")
        if isinstance(names, str):
            raise OssConfigError(f"names must be a list of names, not one text: [{names!r}]")
        chosen = self._model.tensors if names is None else dict.fromkeys(names)
        for name in [*chosen, *(slices or {})]:
            if name not in self._model.tensors:
                raise OssKeyError(f"{self.uri} has no tensor {name!r}")
        targets = []
        for name, info in self._model.tensors.items():
            if name in chosen:
                box = _box(info, (slices or {}).get(name))
                targets.append(Target(info, box, wish, None if given is None else given[name]))
        return targets


@contextlib.contextmanager
def before_opening(share: Share | None, process_group: "ProcessGroup | None") -> Iterator[None]:
    """Let a failure in the block, before a model is opened, fail the other ranks too, which wait at the opening."""
    try:
        yield
    except Exception as error:
        if share is not None:
            from osstorchconnector.dcp.sharing import check_group  # noqa: PLC0415 - as above
            from osstorchconnector.model.machine import raise_together  # noqa: PLC0415

            check_group(process_group, "share")
            raise_together(error, process_group)
        raise


@guarded
def open_model(
    uri: str,
    endpoint: str,
    cred_path: str = "",
    config_path: str = "",
    cred_provider: object = None,
    region: str = "",
    *,
    config: OssConfig | None = None,
    variant: str | None = None,
    budget: int = _BUDGET,
    concurrency: int = _CONCURRENCY,
    share: Share | None = None,
    process_group: "ProcessGroup | None" = None,
) -> OssModel:
    """Open a model of safetensors objects: find them, and read their headers.

    Args:
        uri: A directory, an index (``….safetensors.index.json``) or one object (``….safetensors``).
        endpoint: As for :class:`OssClient`, and so are the next arguments.
        cred_path: See there.
        config_path: See there.
        cred_provider: See there.
        region: See there.
        config: See there.
        variant: The variant of a model that a directory has several of, such as ``"fp16"``.
        budget: Most bytes of memory, at least 16 MiB, beyond the tensors that you keep. A tensor that is too large for
            that is fetched alone, with buffers of at most half of the budget.
        concurrency: Most requests in flight.
        share: With ``"node"``, each byte is fetched by one rank of a machine, and the others get it through shared
            memory. With ``"job"``, each byte is fetched by one rank of all, and the machines send it to each other. All
            ranks open the model together, ask for the same names, and read to the end; slices may differ. If one fails,
            all raise. Default: each process reads for itself.
        process_group: The ranks that share. It needs a backend for the CPU, such as gloo. Default: the default group.

    Returns:
        The model, a context manager.

    Raises:
        OssConfigError: An argument is wrong.
        OssNotFoundError: There is no model, or an object of it is missing.
        OssFormatError: The directory holds two models or an incomplete one, or an object is malformed.
    """
    with before_opening(share, process_group):
        client = OssClient(endpoint, cred_path, config_path, cred_provider=cred_provider, region=region, config=config)
    return OssModel(
        client,
        uri,
        variant=variant,
        budget=budget,
        concurrency=concurrency,
        share=share,
        process_group=process_group,
    )


def _box(info: TensorInfo, slices: Slices | None) -> Box:
    """Return the part of a tensor that slices name.

    Raises:
        OssConfigError: They are no slices of a tensor of this shape, or have a step.
    """
    if slices is None:
        return whole_box(info.shape)
    given = slices if isinstance(slices, tuple) else (slices,)
    if len(given) > len(info.shape) or not all(map(_is_plain, given)):
        raise OssConfigError(
            f"slices of tensor {info.name!r} must be slices of whole numbers without a step, at most "
            f"{len(info.shape)} of them, got {slices!r}"
        )
    every = (*given, *(slice(None) for _ in range(len(info.shape) - len(given))))
    ranges = [range(length)[one] for length, one in zip(info.shape, every, strict=True)]
    return tuple((one.start, max(one.start, one.stop)) for one in ranges)


def _is_plain(one: object) -> bool:
    if not isinstance(one, slice) or one.step not in {None, 1}:
        return False
    return all(end is None or hasattr(end, "__index__") for end in (one.start, one.stop))


def _wish(dtype: torch.dtype | None, device: str | int | torch.device, *, pin_memory: bool, kept: bool) -> Wish:
    if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise OssConfigError(f"dtype must be a torch type of floating-point numbers, got {dtype!r}")
    try:
        place = torch.device(device)
    except (TypeError, RuntimeError) as error:
        raise OssConfigError(f"device must be a torch device such as 'cpu' or 'cuda:0', got {device!r}") from error
    if pin_memory and place.type != "cpu":
        raise OssConfigError(f"only tensors in main memory can be pinned, and device is {device!r}")
    try:
        torch.empty(1, device=place, pin_memory=pin_memory)
    except (AssertionError, RuntimeError, NotImplementedError) as error:
        # Otherwise it would look as if it had no memory.
        pinned = " or cannot be pinned" if pin_memory else ""
        raise OssConfigError(f"device {device!r} does not exist here{pinned}: {error}") from error
    return Wish(place, dtype, pin_memory, kept)
