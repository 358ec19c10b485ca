"""Part of a torch.save file: the right tensors, with few bytes."""

import collections
import dataclasses
import functools
import gc
import io
import pickle
import struct
import time
import zipfile
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh

from osstorchconnector import OssConfigError, OssIntegrityError, OssReader
from osstorchconnector.checkpoint import torch_zip
from osstorchconnector.testing import Emulator


def not_again() -> OssReader:
    raise AssertionError


def load_partial(
    reader: OssReader,
    keys: Any,
    map_location: Any = None,
    *,
    reopen: Callable[[], OssReader] = not_again,
    weights_only: bool = True,
) -> dict[Any, Any]:
    return torch_zip.load_partial(reader, keys, map_location, reopen=reopen, weights_only=weights_only)


@dataclasses.dataclass(slots=True)
class Slots:
    weight: torch.Tensor


@pytest.fixture(scope="module")
def server() -> Iterator[Emulator]:
    """A server of its own for this file, which counts the requests."""
    with Emulator(buckets=["objects"]) as emulator:
        yield emulator


def stored(server: Emulator, content: Any, **given: Any) -> OssReader:
    if not isinstance(content, bytes):
        buffer = io.BytesIO()
        torch.save(content, buffer, **given)
        content = buffer.getvalue()
    client = server.client()
    client.put("oss://objects/file", content)
    server.clear_requests()
    return client.reader("oss://objects/file")


def fetched(server: Emulator) -> int:
    return sum(request.response_bytes for request in server.requests(operation="GetObject"))


def model(layers: int, size: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    names = [f"{part}.{index}.weight" for part in ("encoder", "decoder") for index in range(layers)]
    return {name: torch.randn(size, generator=generator) for name in names}


@pytest.mark.parametrize("weights_only", [True, False])
def test_what_matches_is_loaded_with_few_bytes(server: Emulator, *, weights_only: bool) -> None:
    state = model(20, 100_000)
    reader = stored(server, state)
    loaded = load_partial(reader, "encoder.*", weights_only=weights_only)
    assert list(loaded) == [name for name in state if name.startswith("encoder.")]
    assert all(torch.equal(loaded[name], state[name]) for name in loaded)
    asked = sum(tensor.nbytes for tensor in loaded.values())
    assert fetched(server) <= 1.2 * asked
    # A header comes with the bytes after it.
    assert len(server.requests(operation="GetObject")) <= 2 + 20


def test_one_tensor_of_many(server: Emulator) -> None:
    state = model(100, 500_000)
    loaded = load_partial(stored(server, state), ["decoder.7.weight"])
    assert torch.equal(loaded.pop("decoder.7.weight"), state["decoder.7.weight"])
    assert loaded == {}
    assert fetched(server) <= 1.2 * 2_000_000


def test_distant_tensors_are_fetched_at_the_same_time(server: Emulator) -> None:
    state = model(20, 100_000)
    reader = stored(server, state)
    with server.fault(operation="GetObject", delay=0.1):
        load_partial(reader, "*.[02468].weight")
    assert server.peak_concurrency() >= 4


def test_all_of_it_is_what_torch_loads(server: Emulator) -> None:
    state = model(3, 1000)
    reader = stored(server, state)
    loaded = load_partial(reader, "*")
    assert list(loaded) == list(state)
    assert all(torch.equal(loaded[name], state[name]) for name in state)


def test_nested_dictionaries_keep_their_shape(server: Emulator) -> None:
    state: dict[str, Any] = {
        "model": collections.OrderedDict(a=torch.ones(5), b=torch.zeros(5)),
        "optimizer": {
            "state": {0: {"step": torch.tensor(3.0), "exp_avg": torch.randn(5)}},
            "param_groups": [{"lr": 0.1}],
        },
        "epoch": 7,
        "parts": [torch.arange(3), (torch.arange(4), "text")],
    }

    def load(keys: Any) -> Any:
        return load_partial(stored(server, state), keys)

    assert load("epoch") == {"epoch": 7}
    assert list(load("model.a")["model"]) == ["a"]
    assert torch.equal(load(["model.b"])["model"]["b"], torch.zeros(5))
    optimizer = load("optimizer")
    assert list(optimizer) == ["optimizer"]
    assert torch.equal(optimizer["optimizer"]["state"][0]["exp_avg"], state["optimizer"]["state"][0]["exp_avg"])
    assert optimizer["optimizer"]["param_groups"] == [{"lr": 0.1}]
    assert load("optimizer.state.*.step") == {"optimizer": {"state": {0: {"step": torch.tensor(3.0)}}}}
    parts = load("parts")["parts"]
    assert torch.equal(parts[1][0], torch.arange(4))


def test_shared_memory_stays_shared_and_views_are_views(server: Emulator) -> None:
    base = torch.arange(1000.0)
    state = {
        "base": base,
        "view": base[10:20].view(2, 5),
        "transposed": base[:6].view(2, 3).t(),
        "other": torch.ones(9),
    }
    loaded = load_partial(stored(server, state), ["view", "transposed", "base"])
    assert all(torch.equal(loaded[name], state[name]) for name in loaded)
    loaded["base"][12] = -1
    assert loaded["view"][0, 2] == -1


DTYPES = [
    torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.complex64, torch.int8, torch.int64, torch.uint8,
    torch.bool, torch.float8_e4m3fn,
]  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(), (0,), (7,), (3, 0, 2), (100, 33)])
def test_types_and_shapes(server: Emulator, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    tensor = torch.randint(0, 2, shape).to(dtype)
    loaded = load_partial(stored(server, {"a": tensor, "b": torch.ones(3)}), "a")["a"]
    assert (loaded.dtype, loaded.shape) == (dtype, tensor.shape)
    assert torch.equal(loaded.flatten().view(torch.uint8), tensor.flatten().view(torch.uint8))


@pytest.mark.filterwarnings("ignore:Sparse CSR", "ignore:Validating sparse")
def test_parameters_sparse_tensors_and_modules(server: Emulator) -> None:
    sparse = torch.eye(4).to_sparse()
    state = {"parameter": torch.nn.Parameter(torch.ones(3)), "sparse": sparse, "csr": torch.eye(3).to_sparse_csr()}
    loaded = load_partial(stored(server, state), "*")
    assert isinstance(loaded["parameter"], torch.nn.Parameter)
    assert torch.equal(loaded["sparse"].to_dense(), torch.eye(4))
    assert torch.equal(loaded["csr"].to_dense(), torch.eye(3))
    module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    loaded = load_partial(stored(server, {"module": module, "x": torch.ones(9)}), "module", weights_only=False)
    expected = module.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in loaded["module"].state_dict().items())
    with pytest.raises(pickle.UnpicklingError):
        load_partial(stored(server, {"module": module}), "module")


class Unpicklable:
    def __init__(self) -> None:
        self.weight = torch.arange(5.0)

    def __getstate__(self) -> Any:
        if self.weight.is_meta:
            raise TypeError
        return self.__dict__


def objects_array(tensor: torch.Tensor) -> Any:
    array = np.empty(1, dtype=object)
    array[0] = tensor
    return array


HOLDERS: dict[str, tuple[Callable[[torch.Tensor], Any], Callable[[Any], Any]]] = {
    "slots": (Slots, lambda held: held.weight),
    "deque": (lambda tensor: collections.deque([tensor]), lambda held: held[0]),
    "arguments": (lambda tensor: functools.partial(Slots, tensor), lambda held: held.args[0]),
    "array of objects": (objects_array, lambda held: held[0]),
    "storage": (lambda tensor: tensor.untyped_storage(), lambda held: torch.tensor([]).set_(held._untyped_storage)),
    "key": (lambda tensor: {tensor: 1}, lambda held: next(iter(held))),
    "what does not pickle again": (lambda _: Unpicklable(), lambda held: held.weight),
}


@pytest.mark.parametrize("name", HOLDERS)
def test_tensors_have_their_bytes_wherever_an_object_holds_them(server: Emulator, name: str) -> None:
    hold, unpack = HOLDERS[name]
    held, tensor = hold(torch.arange(5.0)), torch.arange(5.0)
    loaded = load_partial(stored(server, {"held": held, "other": torch.ones(9)}), "held", weights_only=False)
    assert list(loaded) == ["held"]
    found = unpack(loaded["held"])
    assert found.device.type == "cpu"
    assert torch.equal(found, tensor)


@pytest.fixture
def one_process() -> Iterator[None]:
    dist.init_process_group("gloo", store=torch._C._distributed_c10d.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("one_process")
@pytest.mark.parametrize("weights_only", [True, False])
def test_distributed_tensors_have_their_bytes(server: Emulator, *, weights_only: bool) -> None:
    from torch.distributed.tensor import Replicate, distribute_tensor  # noqa: PLC0415 - takes long

    mesh = init_device_mesh("cpu", (1,))
    state = {name: distribute_tensor(torch.randn(1000, 1000), mesh, [Replicate()]) for name in "abcd"}
    loaded = load_partial(stored(server, state), "b", weights_only=weights_only)
    assert torch.equal(loaded["b"].to_local(), state["b"].to_local())
    assert fetched(server) <= 1.2 * 4_000_000


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_a_tensor_that_needs_its_bytes_is_reported(server: Emulator) -> None:
    nested = torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])
    with pytest.raises(OssConfigError, match=r"oss://objects/file cannot be loaded in part.*load it without keys"):
        load_partial(stored(server, {"a": nested}), "a", weights_only=False)


def test_plain_tensors_need_one_pass_over_the_pickle(server: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    def twice(*_: Any, **__: Any) -> Any:
        raise AssertionError

    monkeypatch.setattr("osstorchconnector.checkpoint.torch_zip._Archive.load", twice)
    parameter = torch.nn.Parameter(torch.arange(6.0).view(2, 3), requires_grad=False)
    state: dict[str, Any] = {"a": parameter, "b": parameter.detach()[1], "c": torch.ones(3, requires_grad=True), "d": 7}
    loaded = load_partial(stored(server, state), "*")
    assert all(type(loaded[name]) is type(state[name]) for name in state)
    assert torch.equal(loaded["a"], state["a"])
    assert [loaded[name].requires_grad for name in "abc"] == [False, False, True]
    loaded["a"][1, 0] = -1
    assert loaded["b"][0] == -1


@pytest.mark.parametrize("keys", [5, [5], b"a", [b"a"]])
def test_keys_that_are_no_patterns_are_reported(server: Emulator, keys: Any) -> None:
    with pytest.raises(OssConfigError, match="keys must be a pattern or several, got"):
        load_partial(stored(server, model(1, 10)), keys)


@pytest.mark.parametrize("enabled", [True, False])
def test_the_garbage_collector_is_paused_and_then_as_it_was(server: Emulator, *, enabled: bool) -> None:
    during = []

    def note(storage: Any, location: str) -> Any:  # noqa: ARG001 - torch's interface
        during.append(gc.isenabled())
        return storage

    try:
        (gc.enable if enabled else gc.disable)()
        load_partial(stored(server, model(1, 10)), "encoder.*", note)
        assert gc.isenabled() == enabled
        with pytest.raises(OssConfigError):
            load_partial(stored(server, model(1, 10)), "nothing")
        assert gc.isenabled() == enabled
    finally:
        gc.enable()
    assert during == [False]


def test_map_location(server: Emulator) -> None:
    state = model(2, 100)
    assert load_partial(stored(server, state), "encoder.*", "meta")["encoder.0.weight"].device.type == "meta"
    for location in ("cpu", torch.device("cpu"), {"cpu": "cpu"}, lambda storage, _: storage, lambda _, __: None):
        loaded = load_partial(stored(server, state), "encoder.0.*", location)
        assert torch.equal(loaded["encoder.0.weight"], state["encoder.0.weight"])


def test_a_file_that_was_packed_again_is_read_too(server: Emulator) -> None:
    state = model(4, 50_000)
    original, packed = io.BytesIO(), io.BytesIO()
    torch.save(state, original)
    with zipfile.ZipFile(original) as source, zipfile.ZipFile(packed, "w") as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    loaded = load_partial(stored(server, packed.getvalue()), "decoder.*")
    assert all(torch.equal(loaded[name], state[name]) for name in loaded)
    assert len(loaded) == 4


def test_a_pattern_that_matches_nothing_is_reported(server: Emulator) -> None:
    with pytest.raises(OssConfigError, match=r"nothing in oss://objects/file matches 'head\.\*'; it holds 'encoder\.0"):
        load_partial(stored(server, model(2, 10)), ["encoder.*", "head.*"])


def test_a_file_that_torch_did_not_write_is_reported(server: Emulator) -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as target:
        target.writestr("a", b"content")
    for content, message in (
        (b"", "not a zip file"),
        (b"x" * 1000, "not a zip file"),
        (archive.getvalue(), "torch.save did not write it"),
    ):
        with pytest.raises(OssConfigError, match=message):
            load_partial(stored(server, content), "*")
    with pytest.raises(OssConfigError, match="not a zip file"):
        load_partial(stored(server, {"a": torch.ones(2)}, _use_new_zipfile_serialization=False), "*")
    with pytest.raises(OssConfigError, match="holds a list"):
        load_partial(stored(server, [torch.ones(2)]), "*")


def test_a_file_that_contradicts_itself_is_reported(server: Emulator) -> None:
    buffer = io.BytesIO()
    torch.save(model(2, 100_000), buffer)
    content = bytearray(buffer.getvalue())
    with zipfile.ZipFile(buffer) as archive:
        info = archive.getinfo("archive/data/0")
    spoiled = bytearray(content)
    spoiled[info.header_offset : info.header_offset + 4] = b"NOPE"
    reader = stored(server, bytes(spoiled))
    with pytest.raises(OssIntegrityError, match="no header where its record data/0 starts"):
        load_partial(reader, "encoder.0.weight", reopen=lambda: server.client().reader(reader.uri))
    # The zip directory and the pickle state different sizes.
    directory = content.rindex(b"archive/data/0") - 46
    spoiled = bytearray(content)
    spoiled[directory + 20 : directory + 28] = struct.pack("<II", 1000, 1000)
    with pytest.raises(OssIntegrityError, match="does not hold the 400000 bytes of its storage 0"):
        load_partial(stored(server, bytes(spoiled)), "encoder.0.weight")


def test_readinto_many(server: Emulator) -> None:
    content = bytes(range(256)) * 40_000
    client = server.client()
    client.put("oss://objects/many", content)
    for read_first in (False, True):
        reader = client.reader("oss://objects/many")
        if read_first:
            reader.read(10)
        position = reader.tell()
        ranges = [(5_000_000, 100), (0, 30), (40, 3_000_000), (3_000_000, 1), (7, 20), (10_239_999, 1), (9, 0)]
        buffers = [bytearray(length) for _, length in ranges]
        reader.readinto_many([(start, buffer) for (start, _), buffer in zip(ranges, buffers, strict=True)])
        for (start, length), buffer in zip(ranges, buffers, strict=True):
            assert buffer == content[start : start + length]
        assert reader.tell() == position
    reader.readinto_many([])
    memory = bytearray(10)
    with pytest.raises(ValueError, match="share memory"):
        reader.readinto_many([(0, memory), (100, memoryview(memory)[5:])])
    with pytest.raises(ValueError, match="invalid range"):
        reader.readinto_many([(len(content) - 9, memory)])


def processor_seconds(action: Callable[[], Any]) -> float:
    began = time.process_time()
    action()
    return time.process_time() - began


@pytest.mark.parametrize("pattern", ["{}", "{}*"])
def test_as_many_patterns_as_tensors_take_little_longer_than_all_tensors(server: Emulator, pattern: str) -> None:
    state = {f"layer.{number:05}": torch.zeros(4) for number in range(5000)}
    reader = stored(server, state)
    whole = processor_seconds(lambda: load_partial(reader, "layer.*"))
    patterns = [pattern.format(name) for name in state]
    assert processor_seconds(lambda: load_partial(reader, patterns)) < 3 * whole + 1


@pytest.mark.parametrize("pattern", ["a.b*", "a.[bc]", "a.?", "*b", "a.b", "a*b", "[a].b", "*.*b"])
def test_patterns_match_whole_names(server: Emulator, pattern: str) -> None:
    state = {name: torch.ones(1) for name in ("a", "a-b", "a.b", "a.b.c", "a.bc", "ab", "b.a", "[a].b", "A.B")}
    loaded = load_partial(stored(server, state), pattern)
    assert list(loaded) == [name for name in state if fnmatchcase(name, pattern)]
