"""Strategies of Lightning that save their own shards, with checkpoints in OSS: two ranks on the processor."""

import json
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from osstorchconnector import OssClient
from osstorchconnector.testing import Emulator

pytestmark = pytest.mark.slow(240)


@pytest.fixture(scope="module")
def bucket_and_reports(
    emulator: Emulator, client: OssClient, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, dict[str, list[dict[str, Any]]]]:
    """Run the program once; return its bucket, and what its ranks report about each case."""
    bucket = "lightning-ranks"
    client.create_bucket(bucket)
    command = [sys.executable, "-m", "tests.lightning_ranks", "lightning.pytorch", bucket]
    with (
        emulator.fault(operation="PutObject", key="refused-rank/*/__1_*", error="AccessDenied"),
        emulator.fault(operation="PutObject", key="refused-rest/*/meta.pt", error="AccessDenied"),
        emulator.fault(operation="PutObject", key="refused-object/*", error="AccessDenied"),
    ):
        result = subprocess.run(
            [*command, str(tmp_path_factory.mktemp("copies")), json.dumps(emulator.connection)],
            capture_output=True,
            text=True,
            check=False,
            timeout=200,
            cwd=Path(__file__).parents[1],
        )
    assert result.returncode == 0, result.stderr
    reports = defaultdict(list)
    for line in result.stdout.splitlines():
        if line.startswith("REPORT "):
            one = json.loads(line.removeprefix("REPORT "))
            reports[one["case"]].append(one)
    return bucket, reports


@pytest.mark.parametrize("case", ["fsdp-sharded", "fsdp-full", "model_parallel-sharded", "model_parallel-full"])
def test_a_training_in_two_halves_is_the_training_in_one(bucket_and_reports: Any, client: OssClient, case: str) -> None:
    bucket, reports = bucket_and_reports
    assert sorted(one["rank"] for one in reports[case]) == [0, 1]
    for one in reports[case]:
        assert one["newest"] == f"oss://{bucket}/{case}/halves/epoch=1.ckpt"
        assert one["steps"] == 8
        if case != "fsdp-full":
            # On processors, FSDP stores a wrong state of the optimizer there, also on disks.
            assert one["losses"][0] == pytest.approx(one["losses"][1], rel=1e-5)
    files = {item.name.removeprefix(f"{case}/") for item in client.list(f"oss://{bucket}/{case}/")}
    kept = {"whole/epoch=3.ckpt", "halves/epoch=1.ckpt", "halves/epoch=3.ckpt"}
    if case.endswith("full"):
        assert files == kept
    else:
        assert {name.rpartition("/")[0] for name in files} == kept
        assert all(f"{name}/.metadata" in files and f"{name}/meta.pt" in files for name in kept)


def test_checkpoints_can_be_copied_between_oss_and_disks(bucket_and_reports: Any) -> None:
    _, reports = bucket_and_reports
    # Each rank has its own part of the data, and so its own loss.
    expected = {one["rank"]: one["losses"][0] for one in reports["model_parallel-sharded"]}
    assert len(reports["copies"]) == 2
    for one in reports["copies"]:
        assert one["steps"] == 8
        assert one["loss"] == pytest.approx(expected[one["rank"]], rel=1e-5)


@pytest.mark.parametrize("case", ["shards", "object"])
def test_fabric_loads_what_it_saved(bucket_and_reports: Any, client: OssClient, case: str) -> None:
    bucket, reports = bucket_and_reports
    uri = f"oss://{bucket}/fabric/{case}.ckpt"
    assert len(reports[uri]) == 2
    for one in reports[uri]:
        assert one["losses"][0] == pytest.approx(one["losses"][1], rel=1e-5)
        assert (one["step"], one["rest"]) == (3, {"name": "run"})
    assert any(item.uri.endswith("/.metadata") for item in client.list(uri)) == (case == "shards")


@pytest.mark.parametrize("case", ["refused-rank", "refused-rest", "refused-object"])
def test_a_failure_of_one_rank_is_an_error_on_all(bucket_and_reports: Any, case: str) -> None:
    _, reports = bucket_and_reports
    assert sorted(one["rank"] for one in reports[case]) == [0, 1]
    for one in reports[case]:
        assert "AccessDenied" in one["error"]
