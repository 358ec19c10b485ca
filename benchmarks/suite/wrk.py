"""The least for small objects: `wrk`, a minimal client in C that computes no checksum and no signature."""

import os
import re
import subprocess
from collections.abc import Iterable

from benchmarks.suite.contenders import BUCKET, Site
from benchmarks.suite.measure import JobFailedError, Run


def wrk(site: Site, keys: Iterable[str], connections: int, seconds: int, prefix: tuple[str, ...] = ()) -> Run:
    """Fetch objects again and again.

    Args:
        site: The server.
        keys: The objects.
        connections: How many requests are in flight.
        seconds: How long it lasts.
        prefix: The command that its command follows, such as that of a network namespace.

    Raises:
        JobFailedError: No object arrived, or an answer was no success.
    """
    script = site.folder / "get.lua"
    requests = ",\n".join(f'"GET /{BUCKET}/{key} HTTP/1.1\\r\\nHost: {site.host}\\r\\n\\r\\n"' for key in keys)
    script.write_text(
        f"local requests = {{\n{requests}\n}}\nlocal index = 0\n"
        "request = function() index = index % #requests + 1; return requests[index] end\n"
    )
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "20s", "-s", str(script)]
    begun = os.times()
    done = subprocess.run([*prefix, *command, f"{site.endpoint}/"], capture_output=True, text=True, check=True)
    ended = os.times()
    count = re.search(r"(\d+) requests in ([\d.]+)(ms|s)", done.stdout)
    if count is None or "Non-2xx" in done.stdout or int(count[1]) == 0:
        raise JobFailedError(done.stdout)
    cpu = sum(ended[2:4]) - sum(begun[2:4])
    return Run(float(count[1]), float(count[2]) / (1000 if count[3] == "ms" else 1), cpu, 0)
