"""The place of a tensor of a model: memory that is given, or that is allocated when its first bytes are asked for."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import torch

from osstorchconnector.dcp.memory import is_plain
from osstorchconnector.exceptions import OssConfigError
from osstorchconnector.model.blocks import STAGE, Block, Box, Index
from osstorchconnector.model.tensors import TensorInfo

_CPU: Final = torch.device("cpu")


@dataclass(frozen=True)
class Wish:
    """How tensors are wanted.

    Attributes:
        device: The device that they go to.
        dtype: The type of all tensors of floating-point numbers with at least 16 bits; None: as stored.
        pin_memory: Tensors in main memory are pinned.
        kept: The caller keeps all of them, so they do not count against the budget.
    """

    device: torch.device = _CPU
    dtype: torch.dtype | None = None
    pin_memory: bool = False
    kept: bool = False

    def dtype_of(self, stored: torch.dtype) -> torch.dtype:
        """Return the type that a stored tensor gets."""
        # Numbers of 8 bits and fewer have scales beside them, and mean something else in another type.
        if self.dtype is None or not stored.is_floating_point or stored.itemsize == 1:
            return stored
        return self.dtype


class Target:
    """The place of one tensor, or of the part of it that is needed.

    Attributes:
        name: The tensor's name.
        shape: Its shape.
        stored_dtype: The type of the stored elements.
        dtype: The type that they get.
        box: What is needed of it.
        cost: Bytes of the budget that it takes until it is handed out.
        left: Blocks that have not arrived.
    """

    __slots__ = (
        "_given",
        "_info",
        "_tensor",
        "_wish",
        "box",
        "cost",
        "dtype",
        "left",
        "name",
        "shape",
        "stored_dtype",
    )

    def __init__(self, info: TensorInfo, box: Box, wish: Wish, given: torch.Tensor | None = None) -> None:
        """Describe the place.

        Args:
            info: The tensor.
            box: What is needed of it.
            wish: How, if no tensor is given.
            given: The tensor that receives it. Its type and device decide.

        Raises:
            OssConfigError: The given tensor has another shape, no memory for each element, or a type that cannot hold
                the numbers.
            OssFormatError: This version of torch does not have the type.
        """
        self.name = info.name
        self.stored_dtype = info.torch_dtype
        self.left = 0
        self._info = info
        self.box = box
        self._wish = wish
        self.shape = torch.Size(high - low for low, high in box)
        if given is not None:
            self._check_given(given)
        self._tensor = None if given is None else given.detach()
        self._given = given
        self.dtype = wish.dtype_of(self.stored_dtype) if given is None else given.dtype
        self.cost = 0 if given is not None or wish.kept else self.shape.numel() * self.dtype.itemsize

    @property
    def is_whole(self) -> bool:
        """Whether all of the stored tensor is needed."""
        return tuple(self.shape) == self._info.shape

    @property
    def is_allocated(self) -> bool:
        """Whether its memory is there."""
        return self._tensor is not None

    @property
    def tensor(self) -> torch.Tensor:
        """The tensor, which is allocated."""
        if self._tensor is None:
            raise AssertionError(f"{self.name!r} has no memory yet")
        return self._tensor

    def hand_out(self) -> torch.Tensor:
        """Return the tensor, which only the caller keeps from now on."""
        tensor = self.tensor
        self._tensor = None
        return tensor

    @property
    def device(self) -> torch.device:
        """The device."""
        return self._wish.device if self._tensor is None else self._tensor.device

    def allocate(self) -> None:
        """Allocate its memory.

        Raises:
            MemoryError: There is not enough.
        """
        if self._tensor is not None:
            return
        try:
            self._tensor = torch.empty(
                self.shape, dtype=self.dtype, device=self._wish.device, pin_memory=self._wish.pin_memory
            )
        except (MemoryError, RuntimeError) as error:
            nbytes = self.shape.numel() * self.dtype.itemsize
            raise MemoryError(
                f"tensor {self.name!r} of {self._info.files[0]} has {nbytes} bytes, but {self._wish.device} has no "
                f"memory for them: {error}"
            ) from error

    def part(self, place: Index) -> torch.Tensor:
        """Return a part of the tensor, which shares its memory."""
        return self.tensor[place]

    def blocks(self) -> Iterator[tuple[str, Block, tuple[Index, Index]]]:
        """Return the blocks that it needs: the object, the block, and the places in the block and in this tensor."""
        for chunk in self._info.chunks:
            found = list(chunk.blocks(self.box, self.stored_dtype.itemsize, whole=True))
            if any(block.nbytes > STAGE and not self._fits(block) for block in found):
                found = list(chunk.blocks(self.box, self.stored_dtype.itemsize, whole=False))
            for block in found:
                places = block.part(self.box)
                if places is not None:
                    yield chunk.file, block, places

    def is_direct(self, block: Block, source: Index, place: Index) -> bool:
        """Return whether a block can be received in its place."""
        if not block.is_whole(source) or self.dtype != self.stored_dtype or self.device.type != "cpu":
            return False
        if self._tensor is not None:
            return is_plain(self.part(place))
        return torch.empty(self.shape, dtype=self.dtype, device="meta")[place].is_contiguous()

    def received(self) -> bool:
        """Note that a block has arrived, and return whether it was the last one."""
        self.left -= 1
        if self.left == 0 and self._given is not None:
            # The bytes were written past autograd, which counts changes to notice that a tensor it has kept is out of
            # date.
            torch.autograd.graph.increment_version(self._given)
        return self.left == 0

    def _check_given(self, given: object) -> None:
        what = f"tensor {self.name!r} of {self._info.files[0]}"
        if not isinstance(given, torch.Tensor):
            raise OssConfigError(f"{what} needs a tensor to fill, got {type(given).__name__}")
        if given.shape != self.shape:
            raise OssConfigError(
                f"{what} has the shape {tuple(self.shape)}, and the given tensor has {tuple(given.shape)}"
            )
        if given.layout != torch.strided:
            raise OssConfigError(f"{what} cannot fill a tensor with the layout {given.layout}: give a dense one")
        if any(stride == 0 and size > 1 for size, stride in zip(given.shape, given.stride(), strict=True)):
            raise OssConfigError(f"{what} cannot fill a tensor whose elements share memory: give a clone() of it")
        if given.device.type == "meta":
            raise OssConfigError(
                f"{what} cannot fill a tensor on the device meta, which has no memory: use load() and "
                "load_state_dict(..., assign=True), or to_empty() before"
            )
        if given.dtype != self.stored_dtype and not torch.can_cast(self.stored_dtype, given.dtype):
            raise OssConfigError(f"{what} is {self.stored_dtype}, which the given tensor of {given.dtype} cannot hold")

    def _fits(self, block: Block) -> bool:
        places = block.part(self.box)
        return places is not None and self.is_direct(block, *places)
