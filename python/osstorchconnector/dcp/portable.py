"""Errors that can be sent to other ranks."""

import pickle
from collections.abc import Iterator
from contextlib import contextmanager

from osstorchconnector.exceptions import OssError


@contextmanager
def portable_errors() -> Iterator[None]:
    """Replace an exception that does not pickle by one that does.

    torch sends a rank's exception to the others with a collective operation. An exception that cannot be sent would end
    that operation on one rank only, and the others would wait for it until their group's timeout.

    Raises:
        OssError: In place of an exception that does not pickle, with its text.
    """
    try:
        yield
    except BaseException as error:
        try:
            pickle.loads(pickle.dumps(error))  # noqa: S301 - what was pickled the line before
        except Exception:  # noqa: BLE001 - whatever a foreign exception's pickling raises
            raise OssError(f"{type(error).__name__}: {error}") from error
        raise
