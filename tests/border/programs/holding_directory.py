"""A process makes a private directory and waits to be killed."""

import signal
import sys
import tempfile

from osstorchconnector.dataset.private_directory import PrivateDirectory
from tests.border.programs import say


def main() -> None:
    (tempfile.tempdir,) = sys.argv[1:]
    directory = PrivateDirectory()
    directory.make()
    say("made")
    signal.pause()


if __name__ == "__main__":
    main()
