import contextlib
import json
import os
import pickle
import re
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import safetensors
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from osstorchconnector import (
    OssClient,
    OssConfigError,
    OssError,
    OssFormatError,
    OssIntegrityError,
    OssKeyError,
    OssNotFoundError,
    OssSafetensor,
)
from osstorchconnector.testing import Emulator

DTYPES = {
    name: getattr(torch, dtype)
    for name, dtype in {
        "BOOL": "bool",
        "U8": "uint8",
        "I8": "int8",
        "I16": "int16",
        "U16": "uint16",
        "F16": "float16",
        "BF16": "bfloat16",
        "I32": "int32",
        "U32": "uint32",
        "F32": "float32",
        "C64": "complex64",
        "F64": "float64",
        "I64": "int64",
        "U64": "uint64",
        "F8_E4M3": "float8_e4m3fn",
        "F8_E4M3FNUZ": "float8_e4m3fnuz",
        "F8_E5M2": "float8_e5m2",
        "F8_E5M2FNUZ": "float8_e5m2fnuz",
        "F8_E8M0": "float8_e8m0fnu",
        "F4": "float4_e2m1fn_x2",
    }.items()
    if hasattr(torch, dtype)
}


def filled(dtype: torch.dtype, *shape: int) -> torch.Tensor:
    if dtype == torch.bool:
        return torch.arange(torch.Size(shape).numel()).remainder(2).bool().reshape(shape)
    size = torch.empty(1, dtype=dtype).element_size() * torch.Size(shape).numel()
    memory = torch.arange(size, dtype=torch.int64).remainder(251).to(torch.uint8)
    return memory.view(dtype).reshape(shape)


def raw(tensor: torch.Tensor) -> bytes:
    return bytes(tensor.clone(memory_format=torch.contiguous_format).reshape(-1).view(torch.uint8).numpy())


def same(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.dtype == other.dtype and one.shape == other.shape and raw(one) == raw(other)


def all_types() -> dict[str, torch.Tensor]:
    tensors = {name: filled(dtype, 3, 4) for name, dtype in DTYPES.items()}
    return {
        **tensors,
        "scalar": torch.tensor(3.5),
        "none": torch.empty(0, 5),
        "half none": filled(torch.int64, 2, 0, 3),
    }


def test_every_type_round_trips_and_its_bytes_are_the_librarys(
    manager: OssSafetensor, client: OssClient, bucket: str
) -> None:
    tensors, uri = all_types(), f"oss://{bucket}/model.safetensors"
    # One text: the library writes several in an order that differs from call to call.
    manager.save_file(tensors, uri, {"é\n": '"'})
    assert client.get(uri) == safetensors.torch.save(tensors, {"é\n": '"'})
    loaded = manager.load_file(uri)
    assert loaded.keys() == tensors.keys()
    assert all(same(loaded[name], tensors[name]) for name in tensors)


def test_what_the_library_wrote_is_read(manager: OssSafetensor, client: OssClient, bucket: str, tmp_path: Path) -> None:
    tensors, uri, path = all_types(), f"oss://{bucket}/model.safetensors", tmp_path / "model"
    safetensors.torch.save_file(tensors, path, {"a": "b"})
    client.put(uri, path.read_bytes())
    with manager.safe_open(uri) as ours, safetensors.safe_open(path, "pt") as theirs:
        assert ours.keys() == theirs.keys()
        assert ours.offset_keys() == theirs.offset_keys()
        assert ours.metadata() == theirs.metadata()
        for name in theirs.keys():  # noqa: SIM118 - it is no dictionary
            assert same(ours.get_tensor(name), theirs.get_tensor(name))
            assert ours.get_slice(name).get_shape() == theirs.get_slice(name).get_shape()
            assert ours.get_slice(name).get_dtype() == theirs.get_slice(name).get_dtype()


def test_tensors_own_their_memory_and_may_be_changed(manager: OssSafetensor, bucket: str) -> None:
    uri = f"oss://{bucket}/model.safetensors"
    manager.save_file({"a": torch.ones(4, 4), "b": torch.ones(4)}, uri)
    with manager.safe_open(uri) as opened:
        first, second = opened.get_tensor("a"), opened.get_tensor("a")
        part = opened.get_slice("a")[1, 1:3]
    first.zero_()
    assert second.sum() == 16
    assert part.untyped_storage().nbytes() == part.numel() * 4


def test_the_device_is_honoured(manager: OssSafetensor, bucket: str) -> None:
    uri = f"oss://{bucket}/model.safetensors"
    manager.save_file({"a": torch.ones(4), "b": torch.empty(0)}, uri)
    assert {t.device.type for t in manager.load_file(uri, device="meta").values()} == {"meta"}
    with manager.safe_open(uri, torch.device("meta")) as opened:
        assert opened.get_slice("a")[:2].device.type == "meta"
    with pytest.raises(OssConfigError, match="framework must be 'pt' or 'np', got 'tf'"):
        manager.safe_open(uri, "cpu", "tf")


@pytest.mark.parametrize("device", ["pt", "nonsense", None, -1, 1.5])
def test_a_device_that_does_not_exist_is_reported(manager: OssSafetensor, bucket: str, device: Any) -> None:
    for act in (manager.safe_open, manager.load_file):
        with pytest.raises(
            OssConfigError, match=f"device must be a torch device such as 'cpu' or 'cuda:0', got {device!r}"
        ):
            act(f"oss://{bucket}/model.safetensors", device)


def test_without_metadata_there_is_an_empty_dictionary(manager: OssSafetensor, bucket: str) -> None:
    uri = f"oss://{bucket}/empty"
    manager.save_file({}, uri)
    with manager.safe_open(uri) as opened:
        assert (opened.keys(), opened.offset_keys(), opened.metadata()) == ([], [], {})


INDICES: list[Any] = [
    0,
    -1,
    slice(1, 3),
    slice(None, None, 2),
    slice(-2, None),
    slice(3, 1),
    slice(0, 100),
    slice(100, 200),
    (slice(1, 3), slice(0, 2)),
    (1, slice(0, 2)),
    (1, 2),
    (1, -1, slice(None, None, 2)),
    (0, 0, 0),
    Ellipsis,
    (Ellipsis, 1),
    (2, Ellipsis, 1),
    None,
    (None, 1),
    (slice(1, 2), None),
    (),
    torch.tensor([3, 0]),
    (slice(0, 2), torch.tensor([0, 0])),
    (torch.tensor([1, 0]), 2),
    [3, 1],
    True,
]


@pytest.mark.parametrize("index", INDICES, ids=str)
def test_a_slice_is_that_of_a_tensor(manager: OssSafetensor, bucket: str, index: Any) -> None:
    uri, tensor = f"oss://{bucket}/model.safetensors", filled(torch.float32, 4, 5, 6)
    manager.save_file({"before": torch.ones(7), "a": tensor, "z": torch.ones(3, dtype=torch.uint8)}, uri)
    with manager.safe_open(uri) as opened:
        part = opened.get_slice("a")[index]
    expected = tensor[tuple(index) if isinstance(index, tuple) else index]
    assert same(part, expected)


@pytest.mark.parametrize(
    ("index", "kind"),
    [
        (4, IndexError),
        (-5, IndexError),
        ((0, 5), IndexError),
        ((0, 0, 0, 0), IndexError),
        (slice(None, None, -1), ValueError),
    ],
)
def test_an_index_that_the_tensor_refuses_is_reported(
    manager: OssSafetensor, bucket: str, index: Any, kind: type[Exception]
) -> None:
    uri = f"oss://{bucket}/model.safetensors"
    manager.save_file({"a": filled(torch.float32, 4, 5, 6)}, uri)
    with manager.safe_open(uri) as opened, pytest.raises(kind):
        opened.get_slice("a")[index]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_slices_of_any_shape(manager: OssSafetensor, bucket: str, data: st.DataObject) -> None:
    shape = data.draw(st.lists(st.integers(0, 4), min_size=0, max_size=3))
    tensor = filled(torch.int16, *shape)
    uri = f"oss://{bucket}/drawn"
    manager.save_file({"a": tensor}, uri)
    place = st.one_of(st.integers(-5, 5), st.builds(slice, *[st.none() | st.integers(-5, 5)] * 2, st.integers(1, 3)))
    index = tuple(data.draw(st.lists(place, max_size=len(shape))))
    with manager.safe_open(uri) as opened:
        try:
            expected = tensor[index]
        except IndexError:
            with pytest.raises(IndexError):
                opened.get_slice("a")[index]
        else:
            assert same(opened.get_slice("a")[index], expected)


def test_a_slice_fetches_its_rows_and_little_else(bucket: str, emulator: Emulator, manager: OssSafetensor) -> None:
    uri = f"oss://{bucket}/large"
    tensor = torch.arange(8 << 20, dtype=torch.int32).reshape(8192, 1024)
    manager.save_file({"a": tensor}, uri)
    emulator.clear_requests()
    with manager.safe_open(uri) as opened:
        assert torch.equal(opened.get_slice("a")[500:600, :8], tensor[500:600, :8])
    sent = sum(request.response_bytes for request in emulator.requests(operation="GetObject"))
    # Some bytes around the header and the rows come with them.
    assert sent < 4 << 20


@pytest.mark.parametrize("count", [1, 64, 640])
def test_a_load_requests_ranges_concurrently_and_fetches_each_byte_once(count: int) -> None:
    tensors = {str(n): torch.full(((8 << 20) // count,), float(n)) for n in range(count)}
    with Emulator(buckets=["bucket"]) as emulator:
        manager = OssSafetensor(**emulator.connection)
        manager.save_file(tensors, "oss://bucket/a")
        emulator.clear_requests()
        with emulator.fault(operation="GetObject", delay=0.1):
            loaded = manager.load_file("oss://bucket/a")
        assert all(torch.equal(loaded[name], tensors[name]) for name in tensors)
        assert emulator.peak_concurrency() >= 4
        assert sum(request.response_bytes for request in emulator.requests(operation="GetObject")) <= 1.05 * (32 << 20)


def test_an_unknown_tensor_is_a_key_error_of_ours(manager: OssSafetensor, bucket: str) -> None:
    uri = f"oss://{bucket}/model.safetensors"
    manager.save_file({"a": torch.ones(1)}, uri)
    with manager.safe_open(uri) as opened:
        for ask in (opened.get_tensor, opened.get_slice):
            with pytest.raises(KeyError) as caught:
                ask("absent")
            assert isinstance(caught.value, OssKeyError)
            assert str(caught.value) == f"{uri} has no tensor 'absent'"
    with pytest.raises(ValueError, match="closed"):
        opened.get_tensor("a")
    opened.close()


def test_missing_objects_and_paths_are_reported(manager: OssSafetensor, bucket: str) -> None:
    with pytest.raises(OssNotFoundError):
        manager.load_file(f"oss://{bucket}/absent")
    with pytest.raises(OssNotFoundError):
        manager.load_file(f"oss://{bucket}/absent/")
    path: Any = Path(f"oss://{bucket}/model")
    for act in (manager.load_file, lambda uri: manager.save_file({}, uri)):
        with pytest.raises(OssConfigError, match="not PosixPath"):
            act(path)


@pytest.mark.parametrize(
    ("tensors", "metadata", "complaint"),
    [
        ({"a": torch.ones(2, 2).t()[:1]}, None, "'a' is not contiguous"),
        ({"a": torch.ones(2, 2).to_sparse()}, None, "'a' is sparse"),
        ({"a": torch.ones(2, device="meta")}, None, "on the device meta"),
        ({"a": [1, 2]}, None, "'a' must be a tensor, got list"),
        ({1: torch.ones(2)}, None, "name must be a string"),
        ([torch.ones(2)], None, "must be a dictionary"),
        ({"a": torch.ones(2, dtype=torch.complex128)}, None, "safetensors has no such type"),
        ({"a": torch.ones(2)}, {"a": 1}, "metadata must map strings to strings"),
        ({"a": torch.ones(2)}, {1: "a"}, "metadata must map strings to strings"),
    ],
)
def test_what_cannot_be_stored_is_reported_and_nothing_is_stored(
    manager: OssSafetensor, client: OssClient, bucket: str, tensors: Any, metadata: Any, complaint: str
) -> None:
    uri = f"oss://{bucket}/model.safetensors"
    client.put(uri, b"previous")
    with pytest.raises(OssConfigError, match=complaint):
        manager.save_file(tensors, uri, metadata)
    assert client.get(uri) == b"previous"


def test_tensors_that_share_memory_are_refused_and_neighbours_are_not(manager: OssSafetensor, bucket: str) -> None:
    uri, memory = f"oss://{bucket}/model.safetensors", torch.arange(8.0)
    with pytest.raises(OssConfigError, match="'a' and 'b' share memory"):
        manager.save_file({"a": memory, "b": memory[2:4]}, uri)
    manager.save_file({"a": memory[:4], "b": memory[4:]}, uri)
    assert torch.equal(manager.load_file(uri)["b"], memory[4:])


def test_conjugates_parameters_and_gradients_are_stored_by_value(manager: OssSafetensor, bucket: str) -> None:
    uri = f"oss://{bucket}/model.safetensors"
    conjugate = torch.tensor([1 + 2j, 3 - 4j], dtype=torch.complex64).conj()
    single = torch.arange(2.0)[1::2]
    manager.save_file({"a": conjugate, "b": torch.nn.Parameter(torch.ones(3)), "c": single}, uri)
    loaded = manager.load_file(uri)
    assert torch.equal(loaded["c"], single)
    assert torch.equal(loaded["a"], conjugate.resolve_conj())
    assert torch.equal(loaded["b"], torch.ones(3))


def test_shards_and_their_index(manager: OssSafetensor, client: OssClient, bucket: str) -> None:
    tensors = {f"layer.{n}": torch.full((100,), float(n)) for n in range(7)}
    directory = f"oss://{bucket}/model/"
    manager.save_file(tensors, directory, {"format": "pt"}, shard_bytes=1000)
    index = json.loads(client.get(f"{directory}model.safetensors.index.json"))
    assert index["metadata"] == {"total_size": 2800}
    assert index["weight_map"].keys() == tensors.keys()
    assert len(set(index["weight_map"].values())) == 4
    for uri in (directory, f"{directory}model.safetensors.index.json"):
        loaded = manager.load_file(uri, device="cpu")
        assert loaded.keys() == tensors.keys()
        assert all(torch.equal(loaded[name], tensors[name]) for name in tensors)
    with manager.safe_open(directory) as opened:
        assert opened.keys() == sorted(tensors)
        assert opened.metadata() == {"format": "pt"}
        assert torch.equal(opened.get_slice("layer.3")[:5], tensors["layer.3"][:5])
        with pytest.raises(OssKeyError):
            opened.get_tensor("layer.7")


def test_a_directory_with_one_object(manager: OssSafetensor, bucket: str) -> None:
    manager.save_file({"a": torch.ones(2)}, f"oss://{bucket}/one/model.safetensors")
    assert manager.load_file(f"oss://{bucket}/one/").keys() == {"a"}


def test_a_save_that_fails_leaves_the_shards_of_the_last(
    manager: OssSafetensor, bucket: str, emulator: Emulator
) -> None:
    directory = f"oss://{bucket}/model/"
    manager.save_file({"a": torch.zeros(100), "b": torch.zeros(100)}, directory, shard_bytes=400)
    with emulator.fault(operation="PutObject", key="model/*", nth=2, error="AccessDenied"), pytest.raises(OssError):
        manager.save_file({"a": torch.ones(100), "b": torch.ones(100)}, directory, shard_bytes=400)
    assert sum(tensor.sum() for tensor in manager.load_file(directory).values()) == 0


@pytest.mark.parametrize(
    ("index", "complaint"),
    [
        ("{", "not JSON"),
        ([], "no weight_map"),
        ({"weight_map": {"a": "../other/model.safetensors"}}, "does not name a file beside it"),
        ({"weight_map": {"a": 1}}, "does not name a file beside it"),
        ({"weight_map": {"b": "model.safetensors"}}, "has no tensor 'b', but the index of"),
    ],
)
def test_a_wrong_index_is_reported(
    manager: OssSafetensor, client: OssClient, bucket: str, index: Any, complaint: str
) -> None:
    directory = f"oss://{bucket}/model/"
    manager.save_file({"a": torch.ones(2)}, f"{directory}model.safetensors")
    content = index if isinstance(index, str) else json.dumps(index)
    client.put(f"{directory}model.safetensors.index.json", content.encode())
    with pytest.raises(OssFormatError, match=complaint), manager.safe_open(directory) as opened:
        opened.get_tensor("b")


def test_a_shard_size_of_zero_is_reported(manager: OssSafetensor, bucket: str) -> None:
    with pytest.raises(OssConfigError, match="shard_bytes must be a whole number above 0, got 0"):
        manager.save_file({"a": torch.ones(2)}, f"oss://{bucket}/model/", shard_bytes=0)


def test_an_object_that_is_replaced_while_it_is_read(manager: OssSafetensor, bucket: str) -> None:
    uri = f"oss://{bucket}/model.safetensors"
    manager.save_file({"a": torch.zeros(1 << 20)}, uri)
    with manager.safe_open(uri) as opened:
        manager.save_file({"a": torch.ones(1 << 20)}, uri)
        with pytest.raises(OssError):
            opened.get_tensor("a")


def test_a_byte_that_changed_on_the_way_is_noticed(manager: OssSafetensor, bucket: str, emulator: Emulator) -> None:
    uri = f"oss://{bucket}/model.safetensors"
    manager.save_file({"a": torch.zeros(1 << 20), "b": torch.zeros(3)}, uri)
    with (
        emulator.fault(operation="GetObject", key="model.safetensors", flip="middle"),
        pytest.raises(OssIntegrityError),
    ):
        manager.load_file(uri)


def test_threads_share_an_open_object(manager: OssSafetensor, bucket: str) -> None:
    uri = f"oss://{bucket}/model.safetensors"
    tensors = {str(n): torch.full((1000,), float(n)) for n in range(32)}
    manager.save_file(tensors, uri)
    together = threading.Barrier(4)

    def load(names: list[str], opened: Any) -> list[bool]:
        together.wait()
        return [torch.equal(opened.get_tensor(name), tensors[name]) for name in names]

    with manager.safe_open(uri) as opened, ThreadPoolExecutor(4) as threads:
        loads = [threads.submit(load, list(tensors)[n::4], opened) for n in range(4)]
        assert all(all(future.result()) for future in loads)


def test_a_fork_while_threads_hold_its_locks_does_not_hang(manager: OssSafetensor, bucket: str) -> None:
    uri = f"oss://{bucket}/model.safetensors"
    manager.save_file({"a": torch.ones(3)}, uri)
    opened = manager.safe_open(uri)
    part, locks = opened.get_slice("a"), [opened._lock, *(shard._lock for shard in opened._shards.values())]
    with contextlib.ExitStack() as held:
        for lock in locks:
            held.enter_context(lock)
        child = os.fork()
        if child == 0:
            signal.alarm(10)
            raised = 0
            for use in (lambda: opened.get_tensor("a"), lambda: part[:2], opened.keys, opened.metadata):
                try:
                    use()
                except OssError as error:
                    raised += "open it in this one" in str(error)
            opened.close()
            os._exit(raised)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 4
    assert torch.equal(opened.get_tensor("a"), torch.ones(3))
    opened.close()


def test_the_bar_counts_the_bytes_of_tensors(
    manager: OssSafetensor, bucket: str, capsys: pytest.CaptureFixture[str]
) -> None:
    uri = f"oss://{bucket}/model.safetensors"
    tensors = {"a": torch.ones(256, 1024), "b": torch.ones(256, 1024), "c": torch.empty(0)}
    for act in (lambda: manager.save_file(tensors, uri, progress=True), lambda: manager.load_file(uri, progress=True)):
        act()
        assert "2.00M/2.00M" in capsys.readouterr().err
    manager.load_file(uri)
    assert capsys.readouterr().err == ""


def test_a_manager_pickles_without_secrets(manager: OssSafetensor, emulator: Emulator, bucket: str) -> None:
    pickled = pickle.dumps(manager)
    assert emulator.access_key_secret.encode() not in pickled
    pickle.loads(pickled).save_file({"a": torch.ones(2)}, f"oss://{bucket}/model")
    assert torch.equal(manager.load_file(f"oss://{bucket}/model")["a"], torch.ones(2))


def test_without_the_library_the_line_that_installs_it_is_named(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(OssConfigError, match=r"pip install 'safetensors>=0\.8' numpy$"):
        OssSafetensor(**emulator.connection)


def test_what_the_guide_shows(emulator: Emulator, bucket: str) -> None:
    guide = (Path(__file__).parents[2] / "docs" / "guides" / "safetensors.md").read_text()
    program = "\n".join(re.findall(r"```python\n(.*?)```", guide, flags=re.DOTALL)).replace(
        "oss://bucket", f"oss://{bucket}"
    )
    program, count = re.subn(r"OssSafetensor\(.*\)", "OssSafetensor(**connection)", program)
    assert count == 1
    names: dict[str, Any] = {"connection": emulator.connection}
    exec(program, names)
    assert names["tensors"].keys() == {"weight"}
    assert torch.equal(names["rows"], torch.ones(10, 1000))
