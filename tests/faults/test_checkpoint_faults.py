"""Every fault of the emulator while checkpoints are written and read, and writers that are killed at any moment.

The outcome is the right bytes or an error of this package. If a save fails, the previous object is still there.
"""

import io
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors

from osstorchconnector import OssCheckpoint, OssConfig, OssError, OssSafetensor
from osstorchconnector.connection.unfinished_uploads import abort, find_unfinished
from osstorchconnector.testing import Emulator

PART = 100 * 1024
URI = "oss://bucket/run/object"

# Each fault of docs/guides/emulator.md, at every request or at some. Clients survive temporary faults.
FAULTS: dict[str, dict[str, Any]] = {
    "delay": {"delay": 0.01},
    "bandwidth": {"bandwidth": 20_000_000},
    "shared_bandwidth": {"shared_bandwidth": 20_000_000},
    "error": {"error": "InternalError"},
    "refusal": {"error": "AccessDenied"},
    "throttle": {"throttle": 0.01},
    "expired_token": {"expired_token": True},
    "clock_skew": {"clock_skew": 3600},
    "reset_before": {"reset": "before"},
    "reset_middle": {"reset": "middle"},
    "truncate": {"truncate": "middle"},
    "stall_before": {"stall": "before"},
    "stall_middle": {"stall": "middle"},
    "lose_reply": {"lose_reply": True},
    "flip": {"flip": "middle"},
    "wrong_crc": {"wrong_crc": True},
}
CHOICES: dict[str, dict[str, Any]] = {
    "always": {},
    "once": {"nth": 2, "times": 1},
    "often": {"probability": 0.3, "seed": 5},
}
# No operation fails because of these, even if they always act.
HARMLESS = {"delay", "bandwidth", "shared_bandwidth"}
# Faults that clients do not survive even if they act once: refusals, which are final; a clock that is right before and
# after; and a changed bit in an answer without a checksum.
FINAL = {"refusal", "expired_token", "clock_skew", "flip"}


def state(seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {f"layer.{number}": torch.randn(30_000, generator=generator) for number in range(4)}


def saved(seed: int) -> bytes:
    file = io.BytesIO()
    torch.save(state(seed), file)
    return file.getvalue()


OLD, NEW = saved(1), saved(2)
OLD_TENSORS, NEW_TENSORS = save_safetensors(state(1)), save_safetensors(state(2))


@pytest.fixture(scope="module")
def own_emulator() -> Iterator[Emulator]:
    with Emulator(buckets=["bucket"]) as server:
        yield server


@pytest.fixture
def config() -> OssConfig:
    return OssConfig(
        part_size=PART, upload_concurrency=3, max_attempts=4, read_timeout=0.3, connect_timeout=2, total_timeout=4
    )


def write(checkpoint: OssCheckpoint, _: OssSafetensor) -> None:
    with checkpoint.writer(URI) as writer:
        writer.write(NEW)


def write_small(checkpoint: OssCheckpoint, _: OssSafetensor) -> None:
    with checkpoint.writer(URI) as writer:
        writer.write(NEW[: PART - 1])


def torch_save(checkpoint: OssCheckpoint, _: OssSafetensor) -> None:
    checkpoint.save(state(2), URI)


def safetensors_save(_: OssCheckpoint, tensors: OssSafetensor) -> None:
    tensors.save_file(state(2), URI)


SAVES: dict[Callable[[OssCheckpoint, OssSafetensor], None], tuple[bytes, bytes]] = {
    write: (OLD, NEW),
    write_small: (OLD, NEW[: PART - 1]),
    torch_save: (OLD, NEW),
    safetensors_save: (OLD_TENSORS, NEW_TENSORS),
}


@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("save", SAVES, ids=lambda save: save.__name__)
def test_a_save_publishes_all_or_nothing(
    own_emulator: Emulator,
    config: OssConfig,
    save: Callable[[OssCheckpoint, OssSafetensor], None],
    fault: str,
    choice: str,
) -> None:
    client = own_emulator.client()
    old, new = SAVES[save]
    client.put(URI, old)
    checkpoint = OssCheckpoint(**own_emulator.connection, config=config)
    tensors = OssSafetensor(**own_emulator.connection, config=config)
    failed = False
    with own_emulator.fault(key="run/*", **CHOICES[choice], **FAULTS[fault]):
        try:
            save(checkpoint, tensors)
        except OssError as error:
            failed = True
            notes = getattr(error, "__notes__", [])
            unknown = any(re.search("not known|may have been replaced", note) for note in notes)
    found = client.get(URI)
    if not failed:
        assert same(found, new)
    elif unknown:
        # Only if the answer was lost or wrong, and OSS gave no other answer.
        assert same(found, old) or same(found, new)
    else:
        assert same(found, old)
    if fault in HARMLESS or (choice == "once" and fault not in FINAL):
        assert not failed
    for upload in find_unfinished(client, "oss://bucket/"):
        # Aborting was refused too, or the identifier was lost with an answer.
        assert fault not in HARMLESS
        abort(client, upload)


def same(found: bytes, expected: bytes) -> bool:
    return found == expected or (expected is NEW_TENSORS and load_equal(found, expected))


def load_equal(found: bytes, expected: bytes) -> bool:
    one, other = load_safetensors(found), load_safetensors(expected)
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def read(checkpoint: OssCheckpoint, _: OssSafetensor) -> None:
    with checkpoint.reader(URI) as reader:
        assert reader.read() == NEW


def torch_load(checkpoint: OssCheckpoint, _: OssSafetensor) -> None:
    assert_state(checkpoint.load(URI))


def safetensors_load(_: OssCheckpoint, tensors: OssSafetensor) -> None:
    assert_state(tensors.load_file(URI))


LOADS: dict[Callable[[OssCheckpoint, OssSafetensor], None], bytes] = {
    read: NEW,
    torch_load: NEW,
    safetensors_load: NEW_TENSORS,
}


def assert_state(loaded: dict[str, torch.Tensor]) -> None:
    expected = state(2)
    assert loaded.keys() == expected.keys()
    assert all(torch.equal(loaded[name], expected[name]) for name in expected)


@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("load", LOADS, ids=lambda load: load.__name__)
def test_a_load_returns_what_was_saved_or_raises(
    own_emulator: Emulator,
    config: OssConfig,
    load: Callable[[OssCheckpoint, OssSafetensor], None],
    fault: str,
    choice: str,
) -> None:
    client = own_emulator.client()
    client.put(URI, LOADS[load])
    checkpoint = OssCheckpoint(**own_emulator.connection, config=config)
    tensors = OssSafetensor(**own_emulator.connection, config=config)
    failed = False
    with own_emulator.fault(key="run/*", **CHOICES[choice], **FAULTS[fault]):
        try:
            load(checkpoint, tensors)
        except OssError:
            failed = True
    assert client.get(URI) == LOADS[load]
    if fault in HARMLESS or (choice == "once" and fault not in FINAL | {"wrong_crc"}):
        assert not failed


KILLED = """
import sys, torch
sys.path.insert(0, sys.argv[1])
from osstorchconnector import OssCheckpoint, OssConfig
endpoint, region, cred_path = sys.argv[2:]
config = OssConfig(part_size=100 * 1024, upload_concurrency=3, io_threads=2)
checkpoint = OssCheckpoint(endpoint, cred_path, region=region, config=config)
print("ready", flush=True)
number = 2
while True:
    tensors = {f"layer.{index}": torch.full((30_000,), float(number)) for index in range(4)}
    checkpoint.save({"number": number, **tensors}, "oss://bucket/run/object")
    number += 1
"""


@pytest.mark.slow(240)
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_save_leaves_the_previous_checkpoint_or_the_new_one(how: signal.Signals) -> None:
    moments = random.Random(int(how))
    rounds = 8
    with Emulator(buckets=["bucket"]) as emulator:
        client = emulator.client()
        checkpoint = OssCheckpoint(**emulator.connection)
        checkpoint.save({"number": 1}, URI)
        # Most moments are then in the middle of an upload.
        emulator.fault(operation=["UploadPart", "CompleteMultipartUpload"], delay=0.01)
        package = str(Path(__file__).parents[2] / "python")
        connection = (emulator.endpoint, emulator.region, emulator.cred_path)
        left = 0
        for _ in range(rounds):
            arguments = [sys.executable, "-c", KILLED, package, *connection]
            with subprocess.Popen(arguments, stdout=subprocess.PIPE) as process:
                assert process.stdout is not None
                assert process.stdout.readline() == b"ready\n"
                published = checkpoint.load(URI)["number"]
                # This is no wait for a condition: the test tries different moments.
                time.sleep(moments.uniform(0, 0.4))
                process.send_signal(how)
                assert process.wait(20) == -how
            found = checkpoint.load(URI)
            assert all(bool((value == found["number"]).all()) for name, value in found.items() if name != "number")
            assert found["number"] >= min(published, 2)
            uploads = list(find_unfinished(client, "oss://bucket/run/"))
            left += len(uploads)
            for upload in uploads:
                abort(client, upload)
            assert list(find_unfinished(client, "oss://bucket/")) == []
    # Otherwise no moment was in the middle of an upload.
    assert left > 0
