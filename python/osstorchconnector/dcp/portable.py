"""Errors that can be sent to other ranks."""

import pickle
from collections.abc import Iterator
from contextlib import contextmanager

from osstorchconnector.exceptions import OssError


@contextmanager
def portable_errors() -> Iterator[None]:
    """Replace an exception that does not pickle by one that does.

    torch sends a rank's exception to the others with a collective operation. If the exception cannot be sent, this
    operation fails on one rank only, and the others wait for that rank until their group's timeout.

    Raises:
        OssError: Instead of an exception that does not pickle, with its text.
    """
    try:
        yield
    except BaseException as error:
        try:
            pickle.loads(pickle.dumps(error))  # noqa: S301 - pickled in the same line
        except Exception:  # noqa: BLE001 - pickling a foreign exception may raise anything
            raise OssError(f"{type(error).__name__}: {error}") from error
        raise
