"""``osst bench``: it measures within its bounds, says what limits the rate, and leaves nothing behind."""

import html
import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from osstorchconnector import OssClient
from osstorchconnector.cli.bench_runs.benchmark import Result
from osstorchconnector.cli.bench_runs.floor import Floor
from osstorchconnector.cli.bench_runs.measured import Measured, joined
from osstorchconnector.cli.bench_runs.page import page
from osstorchconnector.cli.bench_runs.sample import Sample, sample
from osstorchconnector.cli.bench_runs.text import lines
from osstorchconnector.cli.bench_runs.verdict import (
    Limit,
    Recommendation,
    better_concurrency,
    enough_workers,
    limit,
)
from osstorchconnector.testing import Emulator
from tests.cli.conftest import PROGRAM, Osst, Start

MIB = 1 << 20


@pytest.fixture
def prefix(client: OssClient, bucket: str) -> str:
    content = bytes(range(256)) * 400
    for number in range(60):
        client.put(f"oss://{bucket}/train/{number:02}", content[: 100_000 + number])
    client.put(f"oss://{bucket}/train/tiny", b"x" * 1000)
    client.put(f"oss://{bucket}/train/empty", b"")
    return f"oss://{bucket}/train/"


def received_of(emulator: Emulator, bucket: str) -> int:
    found = [request for request in emulator.requests() if request.bucket == bucket and request.key]
    # The log holds so many; above, the sum would be too low.
    assert len(found) < 16_000
    return sum(request.response_bytes for request in found)


@pytest.mark.slow(150)
@pytest.mark.parametrize("delay", [0.0, 0.035])
def test_it_measures_within_its_bounds(
    osst: Osst, emulator: Emulator, prefix: str, bucket: str, tmp_path: Path, delay: float
) -> None:
    path = tmp_path / "report.html"
    emulator.clear_requests()
    with emulator.fault(operation="GetObject", delay=delay):
        ended = osst(
            "bench", prefix, "--seconds", "3", "--traffic", "160M", "--workers", "2", "--json", "--report", path
        )
    assert ended.status == 0
    assert ended.err.startswith("osst bench: will read at most 160.0 MiB, and measure for 3 seconds\n")
    found = json.loads(ended.out)
    assert found["objects_listed"] == 61
    assert received_of(emulator, bucket) <= 160 * MIB
    assert found["traffic"] <= 160 * MIB
    assert found["read"]["objects_per_second"] > 0
    assert found["read"]["cpu_seconds_per_object"] > 0
    assert set(found["by_concurrency"]) == {"1", "8", "64", "256"}
    assert set(found["by_size"]) == {"up to 16 KiB", "up to 128 KiB"}
    assert set(found["by_workers"]) == {"2"}
    assert found["limit"]["name"] in {"throttling", "processors", "one core", "requests", "network"}
    for one in found["recommended"]:
        # Both were measured in turn.
        assert one["bytes_per_second"] >= one["default_bytes_per_second"] > 0
    if delay:
        assert found["first_byte"]["latency"]["p50"] >= delay
        rates = {number: run["objects_per_second"] for number, run in found["by_concurrency"].items()}
        assert rates["1"] <= 1 / delay
        assert rates["64"] > 3 * rates["1"]
    assert f"<h1>{prefix}</h1>" in path.read_text()


@pytest.mark.slow(120)
@pytest.mark.parametrize("traffic", [20, 256])
def test_large_objects_stay_within_the_traffic(
    osst: Osst, emulator: Emulator, client: OssClient, bucket: str, traffic: int
) -> None:
    client.put(f"oss://{bucket}/model/large", bytes(80 * MIB))
    client.put(f"oss://{bucket}/model/middle", bytes(3 * MIB))
    emulator.clear_requests()
    bounds = ["--seconds", "2", "--traffic", f"{traffic}M", "--workers", "4"]
    ended = osst("bench", f"oss://{bucket}/model/", *bounds, "--json")
    assert ended.status == 0
    assert set(json.loads(ended.out)["by_size"]) == {"up to 8 MiB", "above 32 MiB"}
    assert received_of(emulator, bucket) <= traffic * MIB


@pytest.mark.slow(120)
def test_what_was_written_is_deleted(osst: Osst, emulator: Emulator, client: OssClient, prefix: str) -> None:
    emulator.clear_requests()
    ended = osst("bench", prefix, "--seconds", "2", "--traffic", "160M", "--workers", "2", "--write")
    assert ended.status == 0
    assert "will read and write at most 160.0 MiB" in ended.err
    assert "writing, 16 in flight" in ended.out
    assert emulator.requests(operation="PutObject")
    assert [found.uri for found in client.list(prefix) if ".osst-bench-" in found.uri] == []


@pytest.mark.slow(120)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_was_written_is_deleted_after_a_signal(
    start: Start, emulator: Emulator, client: OssClient, prefix: str, number: signal.Signals
) -> None:
    with (
        emulator.fault(operation="PutObject", delay=0.2) as slow,
        start("bench", prefix, "--seconds", "15", "--workers", "2", "--traffic", "160M", "--write") as process,
    ):
        deadline = time.monotonic() + 100
        while slow.acted < 17 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert slow.acted >= 17
        process.send_signal(number)
        # A second one does not get in the way of the deletion.
        time.sleep(0.05)
        process.send_signal(number)
        _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"Traceback" not in error
    assert [found.uri for found in client.list(prefix) if ".osst-bench-" in found.uri] == []


@pytest.mark.slow(120)
def test_throttling_is_what_limits(osst: Osst, emulator: Emulator, prefix: str) -> None:
    with emulator.fault(operation="GetObject", probability=0.2, seed=1, throttle=0.02):
        ended = osst("bench", prefix, "--seconds", "2", "--traffic", "160M", "--workers", "2")
    assert ended.status == 0
    assert "limited by throttling: the service asked" in ended.out


def test_errors_are_sentences(osst: Osst, prefix: str, bucket: str, emulator: Emulator) -> None:
    ended = osst("bench", f"oss://{bucket}/none/")
    assert (ended.status, ended.out) == (1, "")
    assert "there is nothing to read" in ended.err
    with emulator.fault(operation="GetObject", error="AccessDenied"):
        ended = osst("bench", prefix)
    assert (ended.status, ended.out) == (1, "")
    assert "AccessDenied" in ended.err
    assert "Traceback" not in ended.err
    for wrong in (["--workers", "1"], ["--workers", "x"], ["--seconds", "-1"], ["--traffic", "much"]):
        assert osst("bench", prefix, *wrong).status == 2


def test_a_sample_has_the_objects_in_classes(client: OssClient, prefix: str) -> None:
    found = sample(client, prefix, 1 << 30)
    assert (len(found.rows), found.more, found.median) == (61, False, 100_029)
    assert [len(rows) for rows in found.classes.values()] == [1, 60]
    # With little traffic, the others are read in pieces.
    assert [row[1] for row in sample(client, prefix, MIB).main] == ["train/tiny"]
    assert len(sample(client, f"{prefix}0", MIB).main) == 10


# What the figures say.


def run(rate: float, **more: Any) -> Measured:
    return Measured(objects=100, size=round(rate), seconds=1.0, **more)


@pytest.mark.parametrize(
    ("main", "by_concurrency", "by_workers", "name"),
    [
        (run(100, throttled=5), {}, {}, "throttling"),
        (run(100, busy=0.97), {8: run(100), 64: run(200)}, {2: run(300)}, "processors"),
        (run(100, cpu=0.95), {64: run(100), 256: run(100)}, {2: run(190)}, "one core"),
        (run(100, cpu=0.2), {64: run(60), 256: run(120)}, {2: run(100)}, "requests"),
        (run(100, cpu=0.2), {64: run(100), 256: run(102)}, {2: run(104)}, "network"),
        # Several processes bring nothing, so it is not the one core.
        (run(100, cpu=0.95), {64: run(100), 256: run(100)}, {2: run(101)}, "network"),
    ],
)
def test_the_limit_is_found(
    main: Measured, by_concurrency: dict[int, Measured], by_workers: dict[int, Measured], name: str
) -> None:
    assert limit(main, by_concurrency, by_workers, 0.035).name == name


def test_only_what_is_faster_is_recommended() -> None:
    assert better_concurrency(run(100), {8: run(50), 64: run(105)}) is None
    assert better_concurrency(run(100), {8: run(50), 64: run(130), 256: run(120)}) == 64
    assert enough_workers(run(100), {2: run(104), 4: run(99)}) == 1
    assert enough_workers(run(100), {2: run(190), 4: run(195)}) == 2
    assert enough_workers(run(100), {2: run(150), 4: run(195)}) == 4


def test_processes_add_up() -> None:
    both = joined([Measured(10, 1000, 1.0, 0.5, traffic=1500), Measured(20, 4000, 2.0, 0.5, traffic=4000)])
    assert both.rate == 1000 + 2000
    assert both.objects_rate == 10 + 10
    assert both.cores == 0.5 + 0.25
    assert both.traffic == 5500


# The page.


def result(
    uri: str = "oss://bucket/train/", text: str = "neither more requests nor more processes bring more"
) -> Result:
    times = [0.036 + 0.0001 * number for number in range(100)]
    return Result(
        sample=Sample(uri, [("bucket", "a", 1000), ("bucket", "b", 100_000)], more=True, streamed=MIB),
        main=run(2e9, cpu=0.6),
        first_byte=run(1e3, latencies=times),
        single=run(1e6, latencies=times),
        loaded=run(1e7, latencies=[]),
        by_concurrency={1: run(1e6), 256: run(999.4e6)},
        by_workers={2: run(3e9)},
        by_class={"up to 16 KiB": run(1e7), "up to 128 KiB": run(2e9)},
        written=run(1e8),
        floor=Floor(5e9, 0.2, 1e10, 0.1),
        limit=Limit("network", text),
        recommended=[Recommendation("num_workers", 2, 2e9, 3e9, "several processes read more than one")],
        traffic=10**9,
        short=["256 requests in flight"],
    )


class Checker(HTMLParser):
    """Whether each element is closed, and what comes from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.foreign: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag not in {"meta", "br"}:
            self.open.append(tag)
        if tag in {"script", "link", "img", "iframe", "object", "embed"}:
            self.foreign.append(tag)
        self.foreign += [
            name for name, _ in attributes if name in {"src", "href", "xlink:href"} or name.startswith("on")
        ]

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attributes)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in {"meta", "br"}:
            assert self.open.pop() == tag


def test_the_page_needs_nothing_else_and_escapes_what_others_chose() -> None:
    hostile = "oss://bucket/<script>alert(1)</script>\x1b\u202e&"
    text = page(result(hostile, "<img src=x>"))
    checker = Checker()
    checker.feed(text)
    assert (checker.open, checker.foreign) == ([], [])
    assert not re.search(r"url\(|@import|https?://", text)
    assert r"&lt;script&gt;alert(1)&lt;/script&gt;\x1b\u202e&amp;" in text
    assert "2.00 GB/s" in text
    assert "1.50 times the default" in text


def test_the_lines_say_the_same() -> None:
    text = "\n".join(lines(result()))
    assert "at least 2 objects" in text
    assert "limited by the network or the bandwidth of the service: neither" in text
    assert "recommended: num_workers=2, 1.50 times the default" in text
    assert "reading needs 1.0 times the processor time of both" in text


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.mark.skipif(CHROMIUM is None, reason="needs a browser")
@pytest.mark.slow(60)
@pytest.mark.parametrize("width", [360, 1200])
def test_the_page_fits_a_phone_and_a_screen(tmp_path: Path, width: int) -> None:
    framed = tmp_path / "framed.html"
    measure = (
        "const page = frame.contentDocument, boxes = [...page.querySelectorAll('svg text')].map(one => one.getBBox());"
        "const ends = boxes.map(box => Math.ceil(box.x + box.width)), starts = boxes.map(box => Math.floor(box.x));"
        "document.title = [page.documentElement.scrollWidth, Math.max(...ends), Math.min(...starts)]"
    )
    framed.write_text(
        f'<iframe id="frame" width="{width}" height="900" style="border:0" srcdoc="{html.escape(page(result()))}" '
        f'onload="{measure}"></iframe>'
    )
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--window-size=1300,900", "--dump-dom"]
    shown = subprocess.run([*command, framed.as_uri()], capture_output=True, text=True, check=True, timeout=50).stdout
    title = re.search(r"<title>(\d+),(\d+),(-?\d+)</title>", shown)
    assert title is not None
    assert int(title[1]) <= width
    # No text of a plot is cut off.
    assert int(title[2]) <= 521
    assert int(title[3]) >= -1


@pytest.mark.slow(120)
def test_a_terminal_shows_what_is_measured(emulator: Emulator, prefix: str) -> None:
    ours, theirs = pty.openpty()
    connection = ["--endpoint", emulator.endpoint, "--region", emulator.region, "--cred-path", emulator.cred_path]
    command = [*PROGRAM, "bench", prefix, "--seconds", "1", "--traffic", "20M", "--workers", "2", *connection]
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        text = b""
        while select.select([ours], [], [], 60)[0]:
            try:
                text += os.read(ours, 4096)
            except OSError:
                # The other end is closed.
                break
    os.close(ours)
    assert process.returncode == 0
    shown = text.decode()
    assert "\r\x1b[K2 workers" in shown
    # The line of the progress is gone before the result.
    assert shown.index("\r\x1b[Kobjects up to 128 KiB") < shown.rindex("\r\x1b[K") < shown.index("default settings  ")
