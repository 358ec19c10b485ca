"""Ranks compare their datasets, and all of them raise if these differ."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from osstorchconnector import OssIterableDataset
from tests.frameworks.running import run_ranks

# What each of three ranks is given, and what all of them must say.
CASES: dict[str, tuple[list[dict[str, Any]], str]] = {
    "the same": ([{"seed": 3, "epoch": 2}] * 3, ""),
    "shares": ([{"shard": [rank, 3]} for rank in range(3)], ""),
    "one has listed": ([{"listed": True}, {}, {}], ""),
    "seed": ([{"seed": 1}, {"seed": 1}, {"seed": 2}], "seed is 1 on rank 0 and 2 on rank 2"),
    "left out": ([{"batch_size": 4}, {}, {}], "batch_size is 4 on rank 0 and None on rank 1"),
    "epoch": ([{"epoch": 1}, {}, {"epoch": 1}], "epoch is 1 on rank 0 and 0 on rank 1"),
    "shares of different numbers": ([{"shard": [0, 2]}, {"shard": [1, 3]}, {"shard": [2, 3]}], "shard is one of 2"),
    "place": ([{"place": "a"}, {"place": "b"}, {"place": "a"}], "place is .*a/ on rank 0 and .*b/ on rank 1"),
    "order": ([{"uris": ["1", "2"]}, {"uris": ["1", "2"]}, {"uris": ["2", "1"]}], "objects is 2 with the checksum"),
    "listings": ([{"listed": True}, {"listed": True, "place": "b"}, {}], "objects is 2 .* and 1 with the checksum"),
    "one cannot say": ([{}, {"broken": True}, {}], "no room"),
}


@pytest.mark.slow(120)
def test_ranks_with_different_arguments_all_raise(tmp_path: Path) -> None:
    for folder, names in {"a": "12", "b": "1"}.items():
        (tmp_path / folder).mkdir()
        for name in names:
            (tmp_path / folder / name).write_bytes(b"x")

    def of_rank(given: dict[str, Any]) -> dict[str, Any]:
        place = {"folder": str(tmp_path / given.get("place", "a"))}
        uris = {"uris": [str(tmp_path / "a" / name) for name in given["uris"]]} if "uris" in given else {}
        return {name: value for name, value in given.items() if name != "place"} | place | uris

    cases = [[of_rank(given) for given in ranks] for ranks, _ in CASES.values()]
    (tmp_path / "cases.json").write_text(json.dumps(cases))
    run_ranks(tmp_path, 3, "agreement", 110)
    found = zip(*(json.loads((tmp_path / f"rank-{rank}.json").read_text()) for rank in range(3)), strict=True)
    for (name, (_, expected)), said in zip(CASES.items(), found, strict=True):
        for text in said:
            assert re.search(expected, text) if expected else not text, (name, text)


def test_one_process_agrees_with_itself(tmp_path: Path) -> None:
    OssIterableDataset.from_prefix(f"{tmp_path}/", "").check_ranks()
