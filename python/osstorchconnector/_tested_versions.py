"""A warning for versions of other packages that this one was not tested with."""

import re
import warnings
from importlib.metadata import PackageNotFoundError, version

_warned: set[str] = set()


def warn_if_untested(package: str, first: tuple[int, int], last: tuple[int, int]) -> None:
    """Warn once if the installed version of a package lies outside the tested ones.

    Args:
        package: The name of its distribution.
        first: Major and minor number of the oldest tested release.
        last: Those of the newest.
    """
    try:
        installed = version(package)
    except PackageNotFoundError:
        return
    numbers = tuple(int(number) for number in re.findall(r"\d+", installed)[:2])
    if package in _warned or not numbers or first <= numbers <= last:
        return
    _warned.add(package)
    tested = f"{'.'.join(map(str, first))} to {'.'.join(map(str, last))}"
    warnings.warn(
        f"{package} {installed} is installed, but osstorchconnector was tested with {tested}: test your job with it, "
        "or install a tested version",
        stacklevel=3,
    )
