"""The package's logger: silent until the program or its configuration asks for it."""

import logging
from typing import Final

LOGGER: Final = logging.getLogger("osstorchconnector")
# Without a handler of its own, Python would print warnings to standard error.
LOGGER.addHandler(logging.NullHandler())
