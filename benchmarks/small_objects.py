"""Read many small objects in one process: objects per second and CPU per object, beside the original connector.

Both connectors read the same bytes from one emulator in a process of its own, in turns, so that a change of the
machine's speed meets both alike. The original is the published wheel ``osstorchconnector==1.2.3``, installed into a
folder of its own; its client needs ``bucket.localhost`` to resolve and is left out with a message where it does not.
"""

import argparse
import json
import os
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PEER = ROOT / ".venv" / "original-1.2.3"
BUCKET = "bench"
REGION = "cn-hangzhou"


def write_config(folder: str) -> str:
    """Write the documented configuration file, without which the original does not start; return its path."""
    path = Path(folder) / "config.json"
    logs = {"logLevel": 2, "logPath": f"{folder}/connector.log", "auditPath": f"{folder}/audit.log"}
    dataset = {"prefetchConcurrency": 24, "prefetchWorker": 2}
    path.write_text(json.dumps({**logs, "datasetConfig": dataset}))
    return str(path)


def measure(endpoint: str, prefix: str, cred_path: str, config_path: str) -> dict[str, float]:
    """Read every object under a prefix with whichever connector is importable; called in a process of its own."""
    from osstorchconnector import OssIterableDataset

    def identity(item: Any) -> Any:
        return item

    dataset = OssIterableDataset.from_prefix(
        f"oss://{BUCKET}/{prefix}",
        endpoint=endpoint,
        cred_path=cred_path,
        config_path=config_path,
        region=REGION,
        transform=identity,
    )
    before = resource.getrusage(resource.RUSAGE_SELF)
    start = time.perf_counter()
    count = total = 0
    for item in dataset:
        total += len(item.read())
        count += 1
    seconds = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime)
    return {"objects": count, "bytes": total, "seconds": seconds, "cpu": cpu}


def run(python_path: Path | None, *arguments: str) -> dict[str, float]:
    """Measure one connector in a fresh interpreter."""
    environment = dict(os.environ)
    if python_path is not None:
        environment["PYTHONPATH"] = str(python_path)
    command = [sys.executable, __file__, "--measure", *arguments]
    done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(done.stderr)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def original_endpoint(port: int) -> str | None:
    """Return an endpoint that the original's client can use, or None with the reason printed."""
    try:
        socket.getaddrinfo(f"{BUCKET}.localhost", port)
    except OSError:
        print(f"{BUCKET}.localhost does not resolve, so the original connector is left out")
        return None
    if not (PEER / "osstorchconnector").exists():
        install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(PEER)]
        if subprocess.run([*install, "osstorchconnector==1.2.3", "safetensors"], check=False).returncode != 0:
            print("osstorchconnector==1.2.3 cannot be installed here, so it is left out")
            return None
    return f"http://localhost:{port}"


def compare(count: int, size: int, rounds: int) -> None:
    """Fill an emulator with `count` objects of `size` bytes and print what each connector makes of them."""
    from urllib.parse import urlsplit

    from tqdm import tqdm

    from osstorchconnector.testing import Emulator

    prefix = f"{size}/"
    # The name that the original needs resolves to this address first; where it is refused, that client waits 100 ms.
    with Emulator(host="::1", region=REGION) as emulator, tempfile.TemporaryDirectory() as folder:
        emulator.create_bucket(BUCKET)
        client = emulator.client()
        body = os.urandom(size)
        for index in tqdm(range(count), desc=f"{count} objects of {size} bytes", leave=False):
            client.put(f"oss://{BUCKET}/{prefix}{index:06}", body)
        port = urlsplit(emulator.endpoint).port or 80
        peers: dict[str, tuple[Path | None, str, str]] = {"this package": (None, emulator.endpoint, "")}
        if (endpoint := original_endpoint(port)) is not None:
            peers["original 1.2.3"] = (PEER, endpoint, write_config(folder))
        results: dict[str, list[dict[str, float]]] = {name: [] for name in peers}
        for _ in range(rounds):
            for name, (path, endpoint, config_path) in peers.items():
                result = run(path, endpoint, prefix, emulator.cred_path, config_path)
                if (result["objects"], result["bytes"]) != (count, count * size):
                    raise SystemExit(f"{name} read {result['objects']:.0f} objects of {result['bytes']:.0f} bytes")
                results[name].append(result)
    print(f"\n{count} objects of {size} bytes, median of {rounds} rounds in turn:")
    for name, rows in results.items():
        rate = statistics.median(row["objects"] / row["seconds"] for row in rows)
        cpu = statistics.median(row["cpu"] / row["objects"] for row in rows) * 1e6
        print(f"  {name:15} {rate:8.0f} objects/s  {cpu:6.1f} µs of CPU each")


def main() -> int:
    """Run the comparison, or one measurement of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--measure", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(*arguments.measure)))
        return 0
    for size in (100_000, 4_000):
        compare(arguments.objects, size, arguments.rounds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
