"""What goes wrong during a load arrives as an error of this package, whatever torch makes of it."""

import contextlib
import dataclasses
import io
import logging
import pickle
import signal
import threading
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from osstorchconnector import (
    OssCheckpoint,
    OssClient,
    OssConfig,
    OssConfigError,
    OssConnectionError,
    OssError,
    OssIntegrityError,
    OssIterableDataset,
    OssNotFoundError,
    OssPermissionError,
    OssTimeoutError,
)
from osstorchconnector.testing import Emulator

URI = "oss://bucket/run/file.pt"
# Larger than what a reader fetches at once, so that loads end before all was read.
LARGE = 3_000_000
CONFIG = OssConfig(
    part_size=100 * 1024, max_attempts=2, read_timeout=0.5, connect_timeout=2, total_timeout=4, reader_window=1 << 20
)
FAULTS: dict[str, tuple[dict[str, Any], type[OssError]]] = {
    "refused": ({"error": "AccessDenied"}, OssPermissionError),
    "missing": ({"error": "NoSuchKey"}, OssNotFoundError),
    "broken": ({"reset": "before"}, OssConnectionError),
    "silent": ({"stall": "before"}, OssTimeoutError),
    "unable": ({"error": "InternalError"}, OssError),
}

Load = Callable[[OssCheckpoint], Any]


def saved(content: Any, *, zipped: bool = True) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=zipped)
    return file.getvalue()


def state(size: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return {f"layer.{number}": torch.randn(size, generator=generator) for number in range(4)}


def load(checkpoint: OssCheckpoint) -> Any:
    return checkpoint.load(URI)


def load_with_bar(checkpoint: OssCheckpoint) -> Any:
    return checkpoint.load(URI, progress=True)


def load_any_class(checkpoint: OssCheckpoint) -> Any:
    return checkpoint.load(URI, weights_only=False)


def load_part(checkpoint: OssCheckpoint) -> Any:
    return checkpoint.load(URI, keys="layer.[12]")


def load_reader(checkpoint: OssCheckpoint) -> Any:
    with checkpoint.reader(URI) as reader:
        return torch.load(reader)


def load_object(checkpoint: OssCheckpoint) -> Any:
    with checkpoint._client.open(URI) as opened:
        return torch.load(opened)  # type: ignore[arg-type]


def with_crc32_of_0(content: bytes) -> bytes:
    """As inside ``skip_data``: torch states a CRC-32 of all but the tensors."""
    changed = bytearray(content)
    for number in range(4):
        at = changed.rindex(b"archive/data/%d" % number) - 46
        assert changed[at : at + 4] == b"PK\x01\x02"
        changed[at + 16 : at + 20] = bytes(4)
    return bytes(changed)


ZIPPED: list[Load] = [load, load_with_bar, load_any_class, load_part]
OLD_FORMAT: list[Load] = [load, load_with_bar, load_any_class, load_reader, load_object]


@pytest.fixture(scope="module")
def own_emulator() -> Iterator[Emulator]:
    with Emulator(buckets=["bucket"]) as server:
        yield server


@pytest.fixture
def checkpoint(own_emulator: Emulator) -> OssCheckpoint:
    return OssCheckpoint(**own_emulator.connection, config=CONFIG)


@pytest.fixture
def stored(own_emulator: Emulator) -> Callable[[bytes], OssClient]:
    def put(content: bytes) -> OssClient:
        client = own_emulator.client()
        client.put(URI, content)
        return client

    return put


def assert_right(loaded: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert loaded
    assert all(torch.equal(tensor, expected[name]) for name, tensor in loaded.items())


POSITIONS = [*range(0, 64, 8), *range(64, 1200, 142), 20_000, 390_000, 960_000]


@pytest.mark.parametrize("size", [60_000, LARGE])
@pytest.mark.parametrize(
    ("way", "zipped"), [*((way, True) for way in ZIPPED), *((way, False) for way in OLD_FORMAT[:3])]
)
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_flipped_bit_is_an_integrity_error(
    own_emulator: Emulator,
    checkpoint: OssCheckpoint,
    stored: Any,
    caplog: pytest.LogCaptureFixture,
    way: Load,
    size: int,
    *,
    zipped: bool,
) -> None:
    expected = state(size)
    stored(saved(expected, zipped=zipped))
    failed = 0
    for position in POSITIONS:
        for nth in (1, 2):
            with own_emulator.fault(operation="GetObject", nth=nth, flip=position):
                try:
                    assert_right(way(checkpoint), expected)
                except OssIntegrityError:
                    failed += 1
    # Only a partial load fetches again what was damaged.
    assert failed > 0 or "were fetched again" in caplog.text
    assert ("were fetched again" in caplog.text) == (way is load_part)


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("way", [load_reader, load_object])
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_the_end_of_the_block_compares_what_torch_did_not_understand(
    own_emulator: Emulator, checkpoint: OssCheckpoint, stored: Any, way: Load, *, zipped: bool
) -> None:
    stored(saved(state(LARGE // 4), zipped=zipped))
    failed = 0
    for position in range(0, 64, 3):
        with own_emulator.fault(operation="GetObject", nth=1, flip=position):
            try:
                way(checkpoint)
            except OssIntegrityError:
                failed += 1
    assert failed > 5


def test_an_error_of_the_program_compares_nothing(
    own_emulator: Emulator, checkpoint: OssCheckpoint, stored: Any
) -> None:
    stored(bytes(LARGE))
    own_emulator.clear_requests()

    def read_and_fail() -> None:
        with checkpoint.reader(URI) as reader:
            reader.read(100)
            raise IndexError

    with pytest.raises(IndexError):
        read_and_fail()
    # It reads ahead, but nothing twice.
    ranges = [request.range for request in own_emulator.requests(operation="GetObject")]
    assert len(ranges) == len(set(ranges))


@pytest.mark.parametrize("always", [False, True])
@pytest.mark.parametrize("size", [60_000, LARGE])
def test_a_flipped_bit_in_a_tensor_never_becomes_a_value(
    own_emulator: Emulator,
    checkpoint: OssCheckpoint,
    stored: Any,
    caplog: pytest.LogCaptureFixture,
    size: int,
    *,
    always: bool,
) -> None:
    expected = state(size)
    stored(saved(expected))
    failed = right = 0
    # The first request reads the zip file's directory, the second its pickle.
    for first in range(3, 7):
        for position in (0, 1, 40, 63, 64, 70, 1_000, 50_000, size, 2 * size):
            nth = [*range(first, 400)] if always else first
            with own_emulator.fault(operation="GetObject", nth=nth, flip=position) as fault:
                try:
                    assert_right(load_part(checkpoint), expected)
                    right += fault.acted > 0
                except OssIntegrityError:
                    failed += 1
    assert failed > 20 if always else right > 20
    assert always or failed == 0
    assert ("were fetched again" in caplog.text) == (not always)


@pytest.mark.parametrize("position", [None, 0, 500_000])
@pytest.mark.parametrize("written", ["without", "skipped"])
def test_a_file_without_checksums_is_loaded_after_its_own_was_compared(
    own_emulator: Emulator,
    checkpoint: OssCheckpoint,
    stored: Any,
    caplog: pytest.LogCaptureFixture,
    written: str,
    position: int | None,
) -> None:
    expected = state(LARGE // 4)
    if written == "without":
        torch.serialization.set_crc32_options(False)
        try:
            content = saved(expected)
        finally:
            torch.serialization.set_crc32_options(True)
    else:
        content = with_crc32_of_0(saved(expected))
    stored(content)
    own_emulator.clear_requests()
    assert_right(load_part(checkpoint), expected)
    assert caplog.text.count("reading all of it, to compare its CRC-64") == 1
    requests = len(own_emulator.requests(operation="GetObject"))
    if position is not None:
        for nth in range(1, requests + 1, 9):
            with (
                own_emulator.fault(operation="GetObject", nth=nth, flip=position),
                contextlib.suppress(OssIntegrityError),
            ):
                assert_right(load_part(checkpoint), expected)


def test_a_record_that_was_damaged_before_it_was_stored_is_an_integrity_error(
    checkpoint: OssCheckpoint, stored: Any
) -> None:
    expected = state(1000)
    content = bytearray(saved(expected))
    content[content.index(expected["layer.1"].numpy().tobytes()) + 100] ^= 1
    stored(bytes(content))
    assert_right(checkpoint.load(URI, keys="layer.[03]"), expected)
    with pytest.raises(OssIntegrityError, match=f"the record data/1 in {URI} are not those that were stored"):
        load_part(checkpoint)


@pytest.mark.parametrize("place", range(9))
def test_a_byte_order_that_the_directory_hides_is_not_guessed(
    checkpoint: OssCheckpoint, stored: Any, place: int
) -> None:
    content = bytearray(saved(state(1000)))
    content[content.rindex(b"archive/byteorder") + len("archive/") + place] ^= 1
    stored(bytes(content))
    with pytest.raises(OssIntegrityError, match="states no byte order, but has a record"):
        load_part(checkpoint)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("nth", [1, 4])
@pytest.mark.parametrize(
    ("way", "zipped"), [*((way, True) for way in [*ZIPPED, load_reader]), *((way, False) for way in OLD_FORMAT)]
)
def test_a_failure_keeps_its_class(
    own_emulator: Emulator, checkpoint: OssCheckpoint, stored: Any, way: Load, fault: str, nth: int, *, zipped: bool
) -> None:
    stored(saved(state(LARGE // 4), zipped=zipped))
    rule, expected = FAULTS[fault]
    with (
        own_emulator.fault(operation="GetObject", nth=[*range(nth, 400)], **rule),
        pytest.raises(expected) as caught,
    ):
        way(checkpoint)
    assert caught.value.key == "run/file.pt"


def test_the_transform_of_a_dataset_keeps_the_class_too(own_emulator: Emulator, stored: Any) -> None:
    stored(saved(state(LARGE // 4), zipped=False))
    config = dataclasses.replace(CONFIG, prefetch_bytes=1 << 20)
    transform: Any = torch.load
    dataset = OssIterableDataset.from_objects([URI], **own_emulator.connection, config=config, transform=transform)
    with (
        own_emulator.fault(operation="GetObject", nth=[*range(4, 400)], error="AccessDenied"),
        pytest.raises(OssPermissionError) as caught,
    ):
        next(iter(dataset))
    assert f"while transforming {URI}" in caught.value.__notes__


def test_a_handled_error_is_not_the_cause(checkpoint: OssCheckpoint, stored: Any) -> None:
    stored(saved({"module": torch.nn.Linear(2, 2)}))
    try:
        checkpoint.load("oss://bucket/run/missing.pt")
    except OssNotFoundError:
        with pytest.raises(pickle.UnpicklingError):
            checkpoint.load(URI)


@pytest.mark.parametrize("weights_only", [True, False])
@pytest.mark.parametrize(
    "kind", ["text", "empty", "zeros", "cut off", "cut off in the old format", "a tiny part", "another archive"]
)
def test_what_is_no_checkpoint_is_an_error_of_this_package(
    checkpoint: OssCheckpoint, stored: Any, kind: str, *, weights_only: bool
) -> None:
    whole, old = saved(state(LARGE)), io.BytesIO()
    torch.save(state(1000), old, _use_new_zipfile_serialization=False)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as written:
        written.writestr("x/y", "1")
    content = {
        "text": b"<html>not a checkpoint</html>",
        "empty": b"",
        "zeros": bytes(5000),
        "cut off": whole[:-3000],
        "cut off in the old format": old.getvalue()[:-100],
        "a tiny part": whole[:50],
        "another archive": archive.getvalue(),
    }[kind]
    stored(content)
    with pytest.raises(OssIntegrityError, match=URI) as caught:
        checkpoint.load(URI, weights_only=weights_only)
    assert "uploaded like this" in str(caught.value)
    assert caught.value.__cause__ is not None


def test_what_torch_refuses_is_not_read_to_its_end(
    own_emulator: Emulator, checkpoint: OssCheckpoint, stored: Any
) -> None:
    stored(saved({"module": torch.nn.Linear(2000, 2000)}))
    own_emulator.clear_requests()
    with pytest.raises(pickle.UnpicklingError, match="weights_only") as caught:
        checkpoint.load(URI)
    assert f"this happened while {URI} was loaded" in caught.value.__notes__[-1]
    assert sum(request.response_bytes for request in own_emulator.requests(operation="GetObject")) < 12_000_000


def test_an_object_whose_record_is_damaged_is_read_to_its_end(
    checkpoint: OssCheckpoint, stored: Any, caplog: pytest.LogCaptureFixture
) -> None:
    stored(saved(state(LARGE)).replace(b"_rebuild_tensor_v2", b"_rebuild_tensor_v9"))
    # It is stored as it was uploaded: torch's error is the right one.
    with (
        caplog.at_level(logging.WARNING, logger="osstorchconnector"),
        pytest.raises(pickle.UnpicklingError, match="_rebuild_tensor_v9"),
    ):
        checkpoint.load(URI)
    assert "reading all of it, to compare its checksum" in caplog.text


def test_if_the_bytes_cannot_be_compared_torchs_error_says_so(
    own_emulator: Emulator, checkpoint: OssCheckpoint, stored: Any
) -> None:
    stored(saved({"module": torch.nn.Linear(2000, 2000)}))
    with (
        own_emulator.fault(operation="HeadObject", nth=2, error="AccessDenied"),
        pytest.raises(pickle.UnpicklingError, match="weights_only") as caught,
    ):
        checkpoint.load(URI)
    assert "whether the bytes that were read are right is not known" in caught.value.__notes__[0]


def test_an_object_that_was_replaced_meanwhile_is_reported(
    checkpoint: OssCheckpoint, stored: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = stored(saved({"module": torch.nn.Linear(2000, 2000)}))

    def replaced(*_: Any, **__: Any) -> Any:
        reader = _[0]
        reader.read(100)
        client.put(URI, b"other")
        raise RuntimeError

    monkeypatch.setattr(torch, "load", replaced)
    with pytest.raises(OssIntegrityError, match="replaced"):
        checkpoint.load(URI)


def test_an_argument_is_not_blamed_on_the_object(
    own_emulator: Emulator, checkpoint: OssCheckpoint, stored: Any
) -> None:
    stored(saved(state(10)))
    own_emulator.clear_requests()
    with pytest.raises(OssConfigError, match="keys must be a pattern"):
        checkpoint.load(URI, keys=[5])  # type: ignore[list-item]
    assert own_emulator.requests(operation="GetObject") == []


@pytest.mark.parametrize("way", [load, load_reader])
def test_ctrl_c_stays_ctrl_c(own_emulator: Emulator, checkpoint: OssCheckpoint, stored: Any, way: Load) -> None:
    stored(saved(state(LARGE), zipped=False))
    with own_emulator.fault(operation="GetObject", nth=[*range(4, 400)], stall="before") as stalled:

        def interrupt() -> None:
            while not stalled.acted:
                pass
            signal.raise_signal(signal.SIGINT)

        thread = threading.Thread(target=interrupt)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            way(checkpoint)
        thread.join()
