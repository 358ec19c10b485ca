"""A process of a run. Its standard input has the job and then the start; its standard output has the result.

Each run has processes of its own, so that no run inherits connections or the number of requests in flight of another.
"""

import json
import os
import signal
import sys
import threading
from argparse import Namespace
from dataclasses import asdict
from typing import Any

from osstorchconnector._native import Client
from osstorchconnector.cli.bench_runs import reading
from osstorchconnector.cli.bench_runs.measured import Measured
from osstorchconnector.cli.client_arguments import connect
from osstorchconnector.connection.config import OssConfig
from osstorchconnector.connection.stats import stats
from osstorchconnector.exceptions import OssError


def main() -> int:
    """Do the job on standard input; return the exit status."""
    # The process that started this one handles Ctrl-C, and ends it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    job: dict[str, Any] = json.loads(sys.stdin.readline())
    try:
        client = connect(Namespace(**job["connection"]), OssConfig(**job["settings"]))._native_client  # noqa: SLF001 - its own part
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        if not sys.stdin.readline():
            return 1
        found = _run(client, job)
        counted = stats()
        found.retries, found.throttled = sum(counted.retries.values()), counted.retries.get("throttled", 0)
        # With what was received and dropped, and what came twice.
        found.traffic = max(found.traffic, counted.received_bytes + counted.sent_bytes)
        sys.stdout.write(f"{json.dumps(asdict(found))}\n")
    except OssError as error:
        sys.stdout.write(f"{json.dumps({'error': str(error)})}\n")
        return 1
    return 0


def _run(client: Client, job: dict[str, Any]) -> Measured:
    rows = [(str(bucket), str(key), int(size)) for bucket, key, size in job["rows"]]
    bounds = reading.Bounds(job["seconds"], job["size"])
    if job["mode"] == "latency":
        return reading.latencies(client, rows, bounds, job["in_flight"], job["length"])
    if job["mode"] == "write":
        stopped = threading.Event()
        # It ends with the process.
        threading.Thread(target=_wait_for_end, args=(stopped,), daemon=True).start()
        prefix = (str(job["bucket"]), str(job["prefix"]))
        return reading.write(client, prefix, job["length"], bounds, job["in_flight"], stopped)
    if job["mode"] == "large":
        return reading.read_large(client, rows, bounds)
    return reading.stream(client, rows, bounds)


def _wait_for_end(stopped: threading.Event) -> None:
    """Wait until the process that started this one closes the pipe: then it wants no more."""
    # Not through the buffer of `sys.stdin`, whose lock the end of the interpreter would want.
    while os.read(0, 1):
        pass
    stopped.set()


if __name__ == "__main__":
    sys.exit(main())
