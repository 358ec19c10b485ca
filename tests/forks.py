"""A fork of this process that does nothing."""

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def idle_fork() -> Iterator[None]:
    """Fork a process that has every descriptor of this one, and ends after the block."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(write)
        # There is something to read when the parent closes its end.
        os.read(read, 1)
        os._exit(0)
    os.close(read)
    try:
        yield
    finally:
        os.close(write)
        os.waitpid(child, 0)
