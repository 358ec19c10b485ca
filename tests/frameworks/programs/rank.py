"""One rank of a process group runs cells of the table one after the other, and writes what it gets in each."""

import faulthandler
import json
import logging
import multiprocessing
import os
import sys
import traceback
import warnings
from pathlib import Path

import torch.distributed as dist

from tests.frameworks.cells import WAYS, Cell
from tests.frameworks.programs import ways

CELL_SECONDS = 240


def run_cells(folder: str) -> None:
    """Run the cells of the folder in this rank of the process group, and write what it gets there."""
    warnings.simplefilter("ignore")
    logging.disable(logging.INFO)
    # A forkserver imports torch once, for all of its workers.
    multiprocessing.set_forkserver_preload(["torch.utils.data"])
    found: list[ways.Epochs | str] = []
    for cell in (Cell(**cell) for cell in json.loads(Path(f"{folder}/cells.json").read_text())):
        options = {"even": cell.even, **WAYS[cell.way].options}
        setting = ways.Setting(f"{folder}/{cell.count}", cell.method, cell.workers, cell.epochs, options)
        # A cell that hangs shall say where.
        sys.stderr.write(f"{cell.title}\n")
        faulthandler.dump_traceback_later(CELL_SECONDS, exit=True, file=2)
        try:
            found.append(ways.WAYS[cell.way](setting))
        except Exception as error:  # noqa: BLE001 - some cells are about errors
            traceback.print_exc()
            found.append(f"{type(error).__name__}: {error}")
        # A rank must not begin the next cell while others still need it in this one.
        dist.barrier()
    faulthandler.cancel_dump_traceback_later()
    Path(f"{folder}/rank-{dist.get_rank()}.json").write_text(json.dumps(found))


def main() -> None:
    store, folder = sys.argv[1:]
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
    run_cells(folder)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
