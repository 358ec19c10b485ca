"""What a dataset says of itself: its place, what is known of its objects, its options and its epoch; no secret."""

import html
from collections.abc import Callable
from dataclasses import fields
from typing import Any, Final

from osstorchconnector.dataset.listing import SharedListing
from osstorchconnector.dataset.options import FAILURE_CLASSES, Options
from osstorchconnector.dataset.outcome import identity
from osstorchconnector.exceptions import OssError

_UNITS: Final = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB")
_UNIT: Final = 1024
_DEFAULTS: Final = Options()


class Description:
    """Names and values, in the order in which they are shown."""

    def __init__(
        self,
        listing: SharedListing,
        transform: Callable[..., Any],
        options: Options,
        epoch: int | None = None,
    ) -> None:
        """Look at the parts of a dataset, without the network.

        Args:
            listing: Its objects.
            transform: Its transform.
            options: Its options; those that are the defaults are left out.
            epoch: The epoch of its next iteration, if it has epochs.
        """
        count = total = None
        try:
            count, total = listing.described()
            self.place = listing.place
        except OssError:
            # A description is printed anywhere, so it raises nothing.
            self.place = listing.name
        self.entries: dict[str, Any] = {"endpoint": listing.client.endpoint}
        if listing.client.region:
            self.entries["region"] = listing.client.region
        self._sizes = {"objects": count, "bytes": total}
        self.entries |= {name: value for name, value in self._sizes.items() if value is not None}
        if transform is not identity:
            self.entries["transform"] = _Name(transform)
        self.entries |= _changed(options)
        if epoch is not None:
            self.entries["epoch"] = epoch

    def text(self, kind: str) -> str:
        """Return one line, for a dataset of this kind."""
        shown = "".join(f", {name}={value!r}" for name, value in self.entries.items())
        return f"{kind}({self.place!r}{shown})"

    def table(self, kind: str) -> str:
        """Return a table for a notebook."""
        shown = {"objects": "not listed yet", **{name: repr(value) for name, value in self.entries.items()}}
        count, total = self._sizes["objects"], self._sizes["bytes"]
        if count is not None:
            shown["objects"] = f"{count:,}"
        if total is not None:
            shown["bytes"] = _readable(total)
        if "epoch" in shown:
            shown["next epoch"] = shown.pop("epoch")
        rows = "".join(
            f"<tr><th>{html.escape(name)}</th><td>{html.escape(value)}</td></tr>"
            for name, value in {"place": repr(self.place), **shown}.items()
        )
        return f"<table><caption>{html.escape(kind)}</caption>{rows}</table>"


def comparable(listing: SharedListing, transform: Callable[..., Any], options: Options, epoch: int) -> dict[str, str]:
    """Return what all ranks should have alike, as texts; the objects only if they are known without the network.

    Raises:
        OssError: The objects cannot be read.
    """
    rows = listing.rows
    objects = {"objects": f"{rows.count} with the checksum {rows.digest(rows.count):x}"} if rows.complete else {}
    changed = _changed(options)
    others = {"policy", "process_group", "shard", "shuffle_chunks"}
    values = {field.name: getattr(options, field.name) for field in fields(Options) if field.name not in others}
    values |= {
        "transform": _Name(transform),
        "on_error": changed.get("on_error", "raise"),
        "error_limit": options.policy.error_limit,
        "epoch": epoch,
    }
    # Each rank may have a share of its own.
    shard = f"one of {options.shard[1]}" if isinstance(options.shard, tuple) else repr(options.shard)
    texts = {name: repr(value) for name, value in values.items()}
    return {"place": listing.place, **objects, **texts, "shard": shard}


class _Name:
    """A function, shown by its name alone: what it holds may be a secret."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._name = getattr(function, "__qualname__", type(function).__qualname__)

    def __repr__(self) -> str:
        return str(self._name)


def _changed(options: Options) -> dict[str, Any]:
    """Return the options that are not the defaults, as they are given."""
    changed = {
        field.name: getattr(options, field.name)
        for field in fields(Options)
        if field.name != "policy" and getattr(options, field.name) != getattr(_DEFAULTS, field.name)
    }
    # The chunks of an archive are its blocks.
    if changed.pop("shuffle_chunks", False):
        changed["shuffle_chunk_size"] = changed.pop("shuffle_block")
    actions = {failure: options.policy.action(failure) for failure in FAILURE_CLASSES}
    shown = {failure: _Name(action) if callable(action) else action for failure, action in actions.items()}
    if len(set(actions.values())) > 1:
        changed["on_error"] = shown
    elif options.policy.missing != "raise":
        changed["on_error"] = shown["missing"]
    if options.policy.error_limit is not None:
        changed["error_limit"] = options.policy.error_limit
    return changed


def _readable(size: int) -> str:
    number, unit = float(size), 0
    while number >= _UNIT and unit + 1 < len(_UNITS):
        number, unit = number / _UNIT, unit + 1
    return f"{size:,} bytes" if unit == 0 else f"{number:.1f} {_UNITS[unit]}"
