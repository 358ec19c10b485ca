"""Instructions and allocations of the hot paths stay within 3 % of what was recorded.

They are counted by valgrind's callgrind, so a busy machine does not change them. They depend on the compiler, the C
library, the interpreter and the processor: with others than those recorded, the test is skipped, and says what it
counted.
``OSSTORCHCONNECTOR_RECORD_COSTS=1`` records anew.
"""

import json
import os
import shutil
import statistics
from pathlib import Path

import pytest

from osstorchconnector import OssClient
from osstorchconnector.testing import Emulator
from tests.costs import program
from tests.costs.callgrind import counted, versions

RECORDED = Path(__file__).with_name("recorded.json")
TOLERANCE = 0.03
# How often threads wake each other changes a count by up to 2 %: the median of some is recorded, and decides if the
# first count differs.
COUNTS = 3

Costs = dict[str, dict[str, float]]


def costs(folder: Path) -> Costs:
    """Return the cost of one unit of each path."""
    with Emulator(buckets=[program.BUCKET], etag="fast") as emulator:
        fill(emulator.client())
        arguments = [emulator.endpoint, emulator.cred_path, emulator.region]
        found = counted("tests.costs.program", arguments, "getpriority", folder)
    # Between two marks lies either the second walk of a path, or the first one of the next path.
    walks = found[1::2]
    assert len(walks) == len(program.COUNTS)
    return {
        name: {"instructions": walk.instructions / count, "allocations": walk.allocations / count}
        for (name, count), walk in zip(program.COUNTS.items(), walks, strict=True)
    }


def counted_in(folder: Path, number: int) -> Costs:
    """Count in a folder of its own."""
    place = folder / str(number)
    place.mkdir()
    return costs(place)


def median(several: list[Costs]) -> Costs:
    return {
        name: {what: statistics.median(one[name][what] for one in several) for what in cost}
        for name, cost in several[0].items()
    }


def fill(client: OssClient) -> None:
    for number in range(program.KEYS):
        client.put(f"oss://{program.BUCKET}/small/{number:05}", b"x" * program.SMALL)
    client.put(f"oss://{program.BUCKET}/large", bytes(program.LARGE))


def differences(now: Costs, recorded: Costs) -> list[str]:
    """Return each figure that is not within the tolerance, in words: also one that became better."""
    return [
        f"{name} {what}: {value:,.1f}, recorded {recorded[name][what]:,.1f}"
        for name, cost in now.items()
        for what, value in cost.items()
        if abs(value / recorded[name][what] - 1) > TOLERANCE
    ]


def test_a_path_that_costs_more_or_less_is_named() -> None:
    recorded = {"part": {"instructions": 1000.0, "allocations": 10.0}}
    assert differences({"part": {"instructions": 1029.0, "allocations": 9.8}}, recorded) == []
    assert differences({"part": {"instructions": 1031.0, "allocations": 9.6}}, recorded) == [
        "part instructions: 1,031.0, recorded 1,000.0",
        "part allocations: 9.6, recorded 10.0",
    ]


@pytest.mark.slow(280)
def test_the_hot_paths_cost_no_more_than_recorded(tmp_path: Path) -> None:
    if shutil.which("valgrind") is None:
        assert "OSSTORCHCONNECTOR_REQUIRE_COSTS" not in os.environ, "valgrind is missing"
        pytest.skip("valgrind is missing; on Debian: apt-get install valgrind")
    used = versions()
    everything = json.loads(RECORDED.read_text())
    if "OSSTORCHCONNECTOR_RECORD_COSTS" in os.environ:
        others = [one for one in everything if one["versions"] != used]
        now = {"versions": used, "costs": median([counted_in(tmp_path, number) for number in range(COUNTS)])}
        RECORDED.write_text(json.dumps([*others, now], indent=2) + "\n")
        return
    recorded = [one["costs"] for one in everything if one["versions"] == used]
    if not recorded:
        pytest.skip(f"nothing is recorded for {used}; counted {counted_in(tmp_path, 0)}")
    several = [counted_in(tmp_path, 0)]
    if differences(several[0], recorded[0]):
        several += [counted_in(tmp_path, number) for number in range(1, COUNTS)]
    differing = differences(median(several), recorded[0])
    assert not differing, f"{differing}; if it has to be so, record anew: OSSTORCHCONNECTOR_RECORD_COSTS=1"
