"""One measured job, in a process of its own, with the connector that ``PYTHONPATH`` puts first.

It reads its task as JSON from standard input and prints its measurements as one line of JSON. The seconds and the
processor time are those of the work, without the start of the interpreter and the imports.
"""

import json
import os
import sys
import traceback
from collections.abc import Callable

from benchmarks.suite.jobs import Task, datasets, distributed, figures, models, transfers

JOBS: dict[str, Callable[[Task], float]] = {
    function.__name__: function
    for function in (
        datasets.first_batch,
        datasets.listing,
        datasets.pictures,
        datasets.sizes,
        datasets.slow_reader,
        datasets.small,
        distributed.async_save,
        distributed.distributed,
        models.load_local_model,
        models.load_model,
        models.receive_model,
        models.stream_local_model,
        transfers.checksum,
        transfers.load,
        transfers.load_file,
        transfers.read_into,
        transfers.receive,
        transfers.save,
        transfers.send,
    )
}


def main() -> int:
    """Run one job, or one after the other if the first line asks for it."""
    task = json.loads(sys.stdin.readline())
    # Every training process has loaded these modules: they are not a cost of the connector.
    import torch.utils.data  # noqa: F401

    if task["connector"] == "s3torchconnector":
        import s3torchconnector  # noqa: F401
    elif task["connector"].startswith("osstorchconnector"):
        # The import of the original loads these names too.
        from osstorchconnector import OssCheckpoint, OssIterableDataset, OssMapDataset  # noqa: F401
    figures.Counts.ours = task["connector"] == "osstorchconnector 2"
    if task["job"] != "serve":
        return perform(task)
    # Each job runs in a fork of its own, which has all modules and no connection.
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            status = 1
            try:
                status = perform(json.loads(line))
            except BaseException:  # noqa: BLE001 - the next job is another process
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                os._exit(status)
        _, ended = os.waitpid(child, 0)
        if ended:
            print(json.dumps({"failed": ended}), flush=True)
    return 0


def perform(task: Task) -> int:
    """Do one task, and print what it took."""
    figures.start()
    amount = JOBS[task["job"]](task)
    print(json.dumps({"amount": amount, **figures.measured()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
