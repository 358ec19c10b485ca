"""Running a function in a fork of this process."""

import os
from collections.abc import Callable


def in_child(run: Callable[[], object]) -> str:
    """Run in a fork and return the text of what it raised."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            run()
            text = "nothing"
        except BaseException as error:  # noqa: BLE001 - the parent looks at it
            text = f"{type(error).__name__}: {error}"
        os.write(write, text.encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    return text
