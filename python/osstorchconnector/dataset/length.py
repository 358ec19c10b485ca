"""How many samples a process delivers, if that is known, and what a loader makes of that number."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from torch.utils.data import DataLoader

from osstorchconnector.dataset.listing import SharedListing
from osstorchconnector.dataset.reader_order import ReaderOrder

if TYPE_CHECKING:
    from types import FrameType

_PACKAGE: Final = __name__.partition(".")[0]
# Loaders that compute their length from the length of their dataset and their batch size, and nothing else.
_PLAIN_LOADERS: Final = ("torch.", "torchdata.")


def known_length(
    dataset: object,
    order: ReaderOrder,
    listing: SharedListing,
    *,
    is_one_of_several: bool,
    is_divider_known: bool,
    workers_share: bool,
) -> int:
    """Return the number of samples of a reader. It is called in the dataset's ``__len__``.

    Args:
        dataset: The dataset.
        order: What the reader delivers.
        listing: The objects.
        is_one_of_several: Whether there are other ranks.
        is_divider_known: Whether a known program that divides among them asks for the length.
        workers_share: Whether workers divide the objects among them.

    Raises:
        TypeError: It is not known, or the caller would take it for something else.
    """
    askers = list(_askers())
    loader = next((asker for asker in askers if isinstance(asker, DataLoader)), None)
    is_plain = loader is not None and askers == [loader] and type(loader).__module__.startswith(_PLAIN_LOADERS)
    if is_one_of_several and askers and not is_plain and not is_divider_known:
        raise TypeError(
            f"{type(askers[0]).__name__} asks for the length, and the dataset does not know whether it divides by the "
            "number of ranks: call len(dataset) itself, which is the number of samples of this rank"
        )
    # Ranks that disagree about whether there is a length would wait for each other forever in Lightning.
    count = listing.stated_count() if is_one_of_several and askers else listing.known_count()
    if count is None:
        raise TypeError(
            f"the number of objects of {listing.name} is not known, and len() lists none: iterate once, or build the "
            "dataset from a snapshot (osst manifest --snapshot) or named objects; OssMapDataset lists for its len()"
            + ("; with several ranks, a loader has a length only in the last two cases" if is_one_of_several else "")
        )
    if loader is not None:
        if not workers_share and loader.num_workers > 1:
            raise TypeError("with split_workers=False, only the program knows what its workers deliver together")
        _check_batches(dataset, loader, order, count)
    return order.length(count)


def _check_batches(dataset: object, loader: "DataLoader[Any]", order: ReaderOrder, count: int) -> None:
    """Check that a loader computes the right number of batches.

    Raises:
        TypeError: It does not. A trainer that believes the number would leave batches out.
    """
    size, workers = loader.batch_size, loader.num_workers
    if size is None or workers <= 1:
        return
    if loader.dataset is not dataset:
        raise TypeError(
            f"{type(loader.dataset).__name__} is around the dataset, so the number of batches of its {workers} workers "
            "is not known"
        )

    def batches(samples: int) -> int:
        return samples // size if loader.drop_last else -(-samples // size)

    computed = batches(order.length(count))
    readers = [replace(order, worker=worker, workers=workers) for worker in range(workers)]
    delivered = sum(batches(reader.length(count)) for reader in readers)
    if computed != delivered:
        raise TypeError(
            f"each of the {workers} workers ends with a batch of its own, so the loader delivers {delivered} batches, "
            f"and would compute {computed}: give the dataset the loader's batch size, batch_size={size}"
        )


def _askers() -> Iterator[Any]:
    """Yield the objects in whose ``__len__`` the length is asked for, from the inside."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - its only name
    while frame is not None:
        name = frame.f_code.co_name
        if str(frame.f_globals.get("__name__")).partition(".")[0] != _PACKAGE:
            if name == "__len__":
                yield frame.f_locals.get("self")
            elif not name.startswith("<") or name == "<module>":
                return
        frame = frame.f_back
