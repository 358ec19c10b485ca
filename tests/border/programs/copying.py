"""Copies an object in parts, until a signal ends it."""

import sys

from osstorchconnector.connection import client as client_module
from tests.border.programs import PART, client_of, listen_to_ctrl_c, uri


def main() -> None:
    listen_to_ctrl_c()
    setattr(client_module, "_LARGEST_COPY", PART)  # noqa: B010 - it is final
    client_of(sys.argv[1]).copy(uri("source"), uri("copy"))


if __name__ == "__main__":
    main()
