"""Versions: this package, Python, torch, and the frameworks that it knows."""

import platform
import re
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from osstorchconnector import _native
from osstorchconnector.cli.doctor_checks.finding import Finding, ok, warning

_OLDEST_TORCH: Final = (2, 6)
# Others that users of this package have, and whose versions matter in a report.
_ALSO: Final = ("lightning", "torchdata", "safetensors", "fsspec", "numpy", "ray", "mosaicml-streaming")


def software() -> list[Finding]:
    """Look at the versions, without importing anything slow."""
    from osstorchconnector.dataset.dividers import tried_versions, was_tried  # noqa: PLC0415 - few commands need it

    found = [_package(), _torch()]
    tried = tried_versions()
    untested, shown = [], {}
    for name in sorted({*tried, *_ALSO} - {"torch"}):
        installed = _installed(name)
        if installed is None:
            continue
        shown[name] = installed
        if name in tried and not was_tried(installed, *tried[name]):
            untested.append(f"{name} {installed} (tried: {tried[name][0]} to {tried[name][1]})")
    text = ", ".join(f"{name} {installed}" for name, installed in shown.items()) or "none is installed"
    if untested:
        remedy = f"not tried with this package: {'; '.join(untested)}; check that each object comes once"
        return [*found, warning("frameworks", text, remedy, **shown)]
    return [*found, ok("frameworks", text, **shown)]


def _package() -> Finding:
    text = (
        f"osstorchconnector {_native.__version__}, Python {platform.python_version()}, "
        f"{platform.system()} {platform.release()} {platform.machine()}, {' '.join(platform.libc_ver())}"
    )
    values = {"package": _native.__version__, "python": platform.python_version(), "kernel": platform.release()}
    if _native.build_profile != "release":
        return warning("package", f"{text}; a debug build", "install a release build: it is much faster", **values)
    return ok("package", text, **values)


def _torch() -> Finding:
    installed = _installed("torch")
    if installed is None:
        return ok("torch", "not installed: datasets for torch and checkpoints need it", version=None)
    if _numbers(installed)[:2] < _OLDEST_TORCH:
        oldest = ".".join(map(str, _OLDEST_TORCH))
        return warning("torch", installed, f"pip install 'torch>={oldest}': older ones are not supported")
    return ok("torch", installed, version=installed)


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", text)[:3])
