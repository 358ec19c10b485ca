"""One large object into given memory, beside a bare loop of recv; the same at 35 ms and 50 MB/s a connection."""

from pathlib import Path

from benchmarks.suite.contenders import BUCKET, FLOOR, ORIGINAL, OURS, S3, contender, contenders
from benchmarks.suite.measure import Row, alternate
from benchmarks.suite.servers import emulator, nginx, write_objects

SIZE = 2 << 30
KEY = "large.bin"
FIRST_BYTE_SECONDS = 0.035
CONNECTION_BYTES_PER_SECOND = 50_000_000


def run(folder: Path, rounds: int) -> list[Row]:
    """Measure both."""
    body = bytes(range(256)) * (SIZE // 256)
    sums = write_objects(folder, [(KEY, body)])
    task = {"job": "read_into", "name": f"{BUCKET}/{KEY}", "size": SIZE, "expected": SIZE}
    with nginx(folder, sums) as site:
        found = contenders((OURS, ORIGINAL, S3), site, task)
        found[FLOOR] = contender(FLOOR, site, {**task, "job": "receive"})
        rows = alternate("2 GiB into given memory", "bytes", found, rounds)
    with emulator(folder) as (server, site):
        server.client().put(f"oss://{BUCKET}/{KEY}", body)
        del body
        server.fault(operation="GetObject", delay=FIRST_BYTE_SECONDS, bandwidth=CONNECTION_BYTES_PER_SECOND)
        for name in (OURS, ORIGINAL):
            server.clear_requests()
            found = contenders((name,), site, task)
            for row in alternate("2 GiB at 35 ms, 50 MB/s a connection", "bytes", found, rounds):
                row.facts["connections"] = server.peak_concurrency()
                rows.append(row)
    piece = 256 << 10
    checked = contender(OURS, site, {"job": "checksum", "size": SIZE, "piece": piece, "expected": SIZE})
    return rows + alternate("CRC-64 alone", "bytes", {OURS: checked}, rounds)
