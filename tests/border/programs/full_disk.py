"""Iterates with a limit for the size of files, then without one: ``full_disk.py CASES``, as JSON."""

import gc
import json
import operator
import resource
import sys
import tempfile
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader

import osstorchconnector
from osstorchconnector import OssError
from tests.border.programs import say


def main() -> None:
    temporary, connection, cases = json.loads(sys.argv[1])
    tempfile.tempdir = temporary
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for kind, source, where, method, workers, limit in cases:
        build = getattr(getattr(osstorchconnector, kind), source)
        dataset = build(*where, transform=operator.attrgetter("name"), **connection)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        found, error = iterate(dataset, method, workers)
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        again, nothing = iterate(dataset, method, workers)
        if nothing is not None:
            raise nothing
        assert found == again[: len(found)]
        assert len(found) < len(again)
        # No request was sent.
        assert "attempts" not in str(error)
        told = f"{type(error).__name__} names TMPDIR: {'TMPDIR' in str(error)}; then {len(again)}"
        # The error's traceback holds the dataset.
        del dataset, error
        gc.collect()
        assert not list(Path(temporary).iterdir())
        say(told)


def iterate(dataset: Any, method: str, workers: int) -> tuple[list[str], Exception | None]:
    found: list[str] = []
    context = method if workers else None
    try:
        iterator: Any = iter(DataLoader(dataset, batch_size=None, num_workers=workers, multiprocessing_context=context))
    except OssError as error:
        return found, error
    try:
        found.extend(iterator)
    except OssError as error:
        return found, error
    finally:
        if workers:
            iterator._shutdown_workers()
    return found, None


if __name__ == "__main__":
    main()
