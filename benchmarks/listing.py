"""List many keys, one page after the other and in several places at once: keys per second and CPU per key.

Each shape of keys is listed at several latencies of a page, with the client in one process and the emulator in another.
The figures are those of the client's core, without Python: the example ``listing`` of ``oss-client``, which is built
first. The emulator's log counts the requests of a listing.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
from pathlib import Path
from typing import Any

from osstorchconnector.testing import Emulator

ROOT = Path(__file__).resolve().parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
SHAPES = ("numbers", "imagenet", "hashes", "unicode", "skewed")


def run(program: Path, *arguments: str) -> dict[str, Any]:
    """Run the example; return its output, with the processor seconds that it took."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([program, *arguments], check=True, stdout=subprocess.PIPE)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {**json.loads(done.stdout or b"{}"), "cpu": cpu}


def server_cpu() -> float:
    """Return the processor seconds that the emulator, the one process that runs below this, has taken."""
    (pid,) = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(emulator: Emulator, program: Path, shape: str, way: str, delay: float, rounds: int) -> dict[str, Any]:
    """List a shape several times; return the medians, and the fastest rate, which other work disturbed least."""
    results = []
    fault = emulator.fault(operation="ListObjectsV2", delay=delay) if delay else None
    for _ in range(rounds):
        emulator.clear_requests()
        before = server_cpu()
        result = run(program, "list", emulator.endpoint, shape, way)
        result["server_cpu"] = server_cpu() - before
        result["requests"] = len(emulator.requests(operation="ListObjectsV2"))
        results.append(result)
    if fault is not None:
        fault.remove()
    medians = {name: statistics.median(result[name] for result in results) for name in results[0]}
    return {
        "shape": shape,
        "way": way,
        "milliseconds": round(delay * 1000),
        "pages": -(-int(medians["keys"]) // 1000),
        "requests": int(medians["requests"]),
        "keys_per_second": round(medians["keys"] / medians["seconds"]),
        "most_keys_per_second": round(medians["keys"] / min(result["seconds"] for result in results)),
        "first_100k_seconds": medians["first_100k"],
        "microseconds_per_key": round(medians["cpu"] / medians["keys"] * 1e6, 2),
        "server_microseconds_per_key": round(medians["server_cpu"] / medians["keys"] * 1e6, 2),
        "peak_mib": round(medians["peak_kib"] / 1024),
    }


def main() -> None:
    """Fill, list and print one line of JSON for each measurement."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keys", type=int, default=1_000_000, help="of each shape")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--shape", action="append", choices=SHAPES)
    parser.add_argument("--way", action="append", choices=("parallel", "sequential"))
    parser.add_argument("--milliseconds", action="append", type=int, help="latency of a page (default: 0, 20 and 50)")
    options = parser.parse_args()
    build = ["cargo", "build", "--release", "--quiet", "--package", "oss-client", "--example", "listing"]
    subprocess.run(build, cwd=ROOT, check=True)
    program = TARGET / "release" / "examples" / "listing"
    for shape in options.shape or SHAPES:
        with Emulator(
            buckets=["bench"],
            etag="fast",
            access_key_id="bench-id",
            access_key_secret="bench-secret",  # noqa: S106 - of a server that lives for a minute
        ) as emulator:
            run(program, "fill", emulator.endpoint, shape, str(options.keys))
            for milliseconds in options.milliseconds or (0, 20, 50):
                for way in options.way or ("parallel", "sequential"):
                    # One page after the other takes a minute at 50 ms, and hardly varies.
                    rounds = options.rounds if way == "parallel" or not milliseconds else 1
                    print(json.dumps(measure(emulator, program, shape, way, milliseconds / 1000, rounds)), flush=True)


if __name__ == "__main__":
    main()
