"""With real ranks, each epoch has each object once, whatever brings the ranks out of step, and no order is wrong.

One rank has another shuffle in each epoch. Several ranks repeat it, with a warning, unless the program or its framework
calls ``set_epoch``.
"""

import importlib.util
import json
from pathlib import Path

import pytest

from tests.frameworks.epoch_cases import COUNT, MARK, SETTING, EpochCase, cases, findings
from tests.frameworks.running import run_ranks

PLAIN = ("loop", "DataLoader", "StatefulDataLoader")
# `make test-frameworks` has what they need.
PACKAGES = {
    "Lightning": "lightning",
    "Fabric": "lightning",
    "Accelerate": "accelerate",
    "Accelerate, not prepared": "accelerate",
    "Trainer": "transformers",
}


def run(folder: Path, world: int, ways: tuple[str, ...]) -> list[str]:
    (folder / "objects").mkdir()
    for number in range(COUNT):
        (folder / "objects" / f"{number:03}").write_bytes(b"x")
    chosen = cases(ways)
    (folder / "cases.json").write_text(json.dumps([case.as_json() for case in chosen]))
    logs = run_ranks(folder, world, "epochs", 270)
    warned = list(zip(*(log.read_text().split(MARK)[1:] for log in logs), strict=True))
    got = [json.loads((folder / f"rank-{rank}.json").read_text()) for rank in range(world)]
    found = zip(chosen, zip(*got, strict=True), warned, strict=True)
    return [f"{case}: {wrong}" for case, ranks, texts in found for wrong in findings(case, ranks, texts)]


@pytest.mark.slow(280)
def test_ranks_that_are_out_of_step_lose_nothing(tmp_path: Path) -> None:
    # tests/dataset/test_epoch.py has one rank.
    assert run(tmp_path, 2, PLAIN) == []


# With one rank, the others are plain loaders.
ALSO_ALONE = ("Lightning", "Accelerate", "Trainer")


@pytest.mark.slow(280)
@pytest.mark.parametrize(("way", "world"), [*((way, 2) for way in PACKAGES), *((way, 1) for way in ALSO_ALONE)])
def test_a_framework_whose_ranks_are_out_of_step_loses_nothing(way: str, world: int, tmp_path: Path) -> None:
    if importlib.util.find_spec(PACKAGES[way]) is None:
        pytest.skip(f"{PACKAGES[way]} is not installed")
    assert run(tmp_path, world, (way,)) == []


EVEN = [*range(0, COUNT, 2)]
ODD = [*range(1, COUNT, 2)]


@pytest.mark.parametrize(
    ("way", "ranks", "warned", "wrong"),
    [
        ("Accelerate", [[EVEN, EVEN[::-1], ODD], [ODD, ODD[::-1], EVEN]], ["", ""], ""),
        ("Accelerate", [[EVEN, EVEN, ODD], [ODD, ODD[::-1], EVEN]], ["", ""], "rank 0 has the orders"),
        ("Accelerate", [[EVEN, EVEN[::-1], ODD], [ODD, ODD[::-1], ODD]], ["", ""], "epoch 2 has not each object once"),
        ("Accelerate", [[EVEN, ODD], [ODD, EVEN]], ["", ""], "not 3 epochs"),
        ("DataLoader", [[EVEN] * 3, [ODD] * 3], ["", ""], "does not warn"),
        ("DataLoader", [[EVEN] * 3, [ODD] * 3], ["", ""], "expected"),
    ],
)
def test_the_harness_finds_what_is_wrong(way: str, ranks: list[list[list[int]]], warned: list[str], wrong: str) -> None:
    found = findings(EpochCase(way, "", sets=False, workers=0, persistent=False), ranks, warned)
    assert (wrong in "\n".join(found)) if wrong else not found
    assert way in SETTING or way in PLAIN
