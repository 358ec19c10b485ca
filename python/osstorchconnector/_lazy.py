"""Modules that import torch or load slowly: names that load them at the first use, and what is said without torch."""

import importlib
import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

# torch's distributed checkpoints have what these need since 2.7.
_DISTRIBUTED: Final = ("osstorchconnector.dcp", "osstorchconnector.lightning.sharded")


@contextmanager
def needs_torch(what: str, module: str) -> Generator[None]:
    """Say what needs torch, and which, if an import in the block finds that it is missing.

    Args:
        what: The module or the name that a user asked for.
        module: The module that is imported.

    Raises:
        ModuleNotFoundError: torch is missing.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "torch":
            raise
        oldest = "2.7" if module.startswith(_DISTRIBUTED) else "2.6"
        raise ModuleNotFoundError(
            f"{what} needs PyTorch, which is not installed; run: pip install 'torch>={oldest}'", name="torch"
        ) from None


@contextmanager
def needs_library(what: str, library: str) -> Generator[None]:
    """Say what needs a library that has an extra of its name, if an import in the block finds that it is missing.

    Args:
        what: The name that a user asked for.
        library: The library, or nothing.

    Raises:
        ModuleNotFoundError: The library is missing.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if not library or error.name is None or error.name.partition(".")[0] != library:
            raise
        raise ModuleNotFoundError(
            f"{what} needs {library}, which is not installed; run: pip install {library}",
            name=library,
        ) from None


def lazy_names(
    package: str, public: Sequence[str], modules: Mapping[str, str], *, library: str = ""
) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """Return the functions ``__getattr__`` and ``__dir__`` of a package (PEP 562).

    Args:
        package: The package's ``__name__``.
        public: Its ``__all__``.
        modules: The module that defines each lazy name.
        library: What these modules need besides torch; it has an extra of its name.
    """

    def load(name: str) -> object:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        with needs_torch(f"{package}.{name}", modules[name]), needs_library(f"{package}.{name}", library):
            value: object = getattr(importlib.import_module(modules[name]), name)
        setattr(sys.modules[package], name, value)
        return value

    def names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *public})

    return load, names
