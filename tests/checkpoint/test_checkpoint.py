"""Checkpoints: torch writes and reads them as it does files, and the history loses none."""

import gc
import io
import pickle
import re
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from safetensors.torch import save as safetensors_bytes
from torch import nn
from torch.storage import _dtype_to_storage_type_map

from osstorchconnector import (
    OssCheckpoint,
    OssClient,
    OssConfig,
    OssConfigError,
    OssError,
    OssFileSystem,
    OssIntegrityError,
    OssNotFoundError,
    OssPermissionError,
)
from osstorchconnector.testing import Emulator

PART = 100 * 1024
#: Without quantized types, which need more than bytes, and types below a byte, with which torch does not compute.
DTYPES = [
    value
    for name, value in sorted(vars(torch).items())
    if isinstance(value, torch.dtype) and re.match(r"(b?float|complex|u?int)(8_|8$|16|32|64|128)|bool", name)
]


@pytest.fixture(scope="module")
def checkpoint(emulator: Emulator) -> OssCheckpoint:
    config = OssConfig(part_size=PART, upload_concurrency=2, io_threads=2)
    return OssCheckpoint(**emulator.connection, config=config)


@pytest.fixture
def prefix(bucket: str) -> str:
    return f"oss://{bucket}/run/"


def saved(obj: object, **options: Any) -> bytes:
    file = io.BytesIO()
    torch.save(obj, file, **options)
    return file.getvalue()


def assert_same(one: Any, other: Any) -> None:
    if isinstance(one, torch.Tensor):
        assert (one.dtype, one.shape, one.device) == (other.dtype, other.shape, other.device)
        assert torch.equal(*(tensor.contiguous().flatten().view(torch.uint8) for tensor in (one, other)))
    elif isinstance(one, dict):
        assert list(one) == list(other)
        for key, value in one.items():
            assert_same(value, other[key])
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for pair in zip(one, other, strict=True):
            assert_same(*pair)
    else:
        assert one == other


def model_and_optimizer() -> tuple[nn.Module, torch.optim.Optimizer]:
    model = nn.Sequential(nn.Linear(300, 400), nn.BatchNorm1d(400), nn.Linear(400, 10))
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.randn(8, 300)).sum().backward()
    optimizer.step()
    return model, optimizer


def test_the_documented_example(emulator: Emulator, bucket: str, tmp_path: Path) -> None:
    config_path = tmp_path / "config.json"
    config_path.write_text('{"checkpointConfig": {"prefetchConcurrency": 24, "prefetchWorker": 4}}')
    ENDPOINT = emulator.endpoint  # noqa: N806 - as documented
    CONFIG_PATH = str(config_path)  # noqa: N806
    CRED_PATH = emulator.cred_path  # noqa: N806
    first = {"weight": torch.arange(70_000, dtype=torch.float32), "epoch": 0}
    emulator.client().put(f"oss://{bucket}/checkpoint/epoch.0", saved(first))

    checkpoint = OssCheckpoint(endpoint=ENDPOINT, cred_path=CRED_PATH, config_path=CONFIG_PATH, region=emulator.region)

    # read checkpoint
    CHECKPOINT_READ_URI = f"oss://{bucket}/checkpoint/epoch.0"  # noqa: N806
    with checkpoint.reader(CHECKPOINT_READ_URI) as reader:
        state_dict = torch.load(reader)

    # write checkpoint
    CHECKPOINT_WRITE_URI = f"oss://{bucket}/checkpoint/epoch.1"  # noqa: N806
    with checkpoint.writer(CHECKPOINT_WRITE_URI) as writer:
        torch.save(state_dict, writer)  # type: ignore[arg-type]

    assert_same(state_dict, first)
    assert_same(checkpoint.load(CHECKPOINT_WRITE_URI), first)
    assert checkpoint.latest(f"oss://{bucket}/checkpoint/") == CHECKPOINT_WRITE_URI


@pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental")
@pytest.mark.parametrize("size", [0, 1, 200_000])
@pytest.mark.parametrize("zipped", [True, False])
def test_every_dtype_round_trips(checkpoint: OssCheckpoint, prefix: str, size: int, *, zipped: bool) -> None:
    generator = torch.Generator().manual_seed(size)
    raw = torch.randint(0, 2, (size * 16,), dtype=torch.uint8, generator=generator)
    tensors = {str(dtype): raw[: size * dtype.itemsize].clone().view(dtype) for dtype in DTYPES}
    if not zipped:
        # The old format has no name for the newer types.
        tensors = {name: tensor for name, tensor in tensors.items() if tensor.dtype in _dtype_to_storage_type_map()}
    assert len(tensors) >= 12
    uri = f"{prefix}all.pt"
    with checkpoint.writer(uri) as writer:
        torch.save(tensors, writer, _use_new_zipfile_serialization=zipped)  # type: ignore[arg-type]
    for weights_only in (True, False):
        assert_same(checkpoint.load(uri, weights_only=weights_only), tensors)


@pytest.mark.parametrize("zipped", [True, False])
def test_what_is_stored_is_byte_for_byte_what_a_file_holds(
    checkpoint: OssCheckpoint, prefix: str, tmp_path: Path, *, zipped: bool
) -> None:
    model, optimizer = model_and_optimizer()
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 7, "names": ["a", ("b", None)]}
    uri = f"{prefix}archive.pt"
    with checkpoint.writer(uri) as writer:
        torch.save(state, writer, _use_new_zipfile_serialization=zipped)  # type: ignore[arg-type]
    # The archive's name is part of its bytes, and that of a stream is fixed.
    stored = checkpoint.reader(uri).read()
    assert stored == saved(state, _use_new_zipfile_serialization=zipped)
    (tmp_path / "archive.pt").write_bytes(stored)
    assert_same(torch.load(tmp_path / "archive.pt"), checkpoint.load(uri))


def test_modules_and_optimizers_continue_where_they_were(checkpoint: OssCheckpoint, prefix: str) -> None:
    model, optimizer = model_and_optimizer()
    checkpoint.save(model, f"{prefix}module.pt")
    with pytest.raises(pickle.UnpicklingError, match="weights_only"):
        checkpoint.load(f"{prefix}module.pt")
    loaded = checkpoint.load(f"{prefix}module.pt", weights_only=False)
    assert_same(loaded.state_dict(), model.state_dict())
    checkpoint.save(optimizer.state_dict(), f"{prefix}optimizer.pt")
    other = torch.optim.AdamW(loaded.parameters(), lr=1.0)
    other.load_state_dict(checkpoint.load(f"{prefix}optimizer.pt"))
    assert_same(other.state_dict(), optimizer.state_dict())


def test_tensors_go_where_map_location_says(checkpoint: OssCheckpoint, prefix: str) -> None:
    uri = f"{prefix}a.pt"
    checkpoint.save(OrderedDict(a=torch.ones(5), b=torch.zeros(100_000)), uri)
    assert all(tensor.is_meta for tensor in checkpoint.load(uri, map_location="meta").values())
    for location in ("cpu", torch.device("cpu"), {"cuda:0": "cpu"}, lambda storage, _: storage):
        assert_same(checkpoint.load(uri, map_location=location)["a"], torch.ones(5))


def test_some_entries_are_loaded_by_their_names(checkpoint: OssCheckpoint, prefix: str) -> None:
    model, _ = model_and_optimizer()
    checkpoint.save({"model": model.state_dict(), "epoch": 3}, f"{prefix}a.pt")
    loaded = checkpoint.load(f"{prefix}a.pt", keys="model.2.*")
    assert_same(loaded["model"]["2.weight"], model.state_dict()["2.weight"])
    assert "0.weight" not in loaded["model"]
    again = checkpoint.load(f"{prefix}a.pt", keys=["model.2.*"], progress=True, map_location="cpu")
    assert_same(again["model"]["2.bias"], loaded["model"]["2.bias"])
    with pytest.raises(OssConfigError):
        checkpoint.load(f"{prefix}a.pt", keys="decoder.*")


def test_shared_memory_stays_shared(checkpoint: OssCheckpoint, prefix: str) -> None:
    base = torch.arange(100_000)
    checkpoint.save({"all": base, "some": base[10:20], "across": base.view(100, 1000).t()}, f"{prefix}a.pt")
    loaded = checkpoint.load(f"{prefix}a.pt")
    loaded["all"][10] = -1
    assert loaded["some"][0] == -1
    assert loaded["across"][10, 0] == -1


def test_a_reader_and_a_writer_outlive_the_checkpoint_object(emulator: Emulator, prefix: str) -> None:
    checkpoint: Any = OssCheckpoint(**emulator.connection)
    checkpoint.save({"a": torch.ones(3)}, f"{prefix}a.pt")
    reader, writer = checkpoint.reader(f"{prefix}a.pt"), checkpoint.writer(f"{prefix}b.pt")
    del checkpoint
    gc.collect()
    with reader, writer:
        torch.save(torch.load(reader), writer)
    assert_same(OssCheckpoint(**emulator.connection).load(f"{prefix}b.pt"), {"a": torch.ones(3)})


def test_a_save_that_fails_leaves_the_previous_checkpoint(checkpoint: OssCheckpoint, prefix: str) -> None:
    class Unpicklable:
        def __reduce__(self) -> Any:
            raise ZeroDivisionError

    uri = f"{prefix}a.pt"
    checkpoint.save({"a": 1}, uri)
    for weights in (torch.ones(1), torch.ones(200_000)):
        with pytest.raises(ZeroDivisionError):
            checkpoint.save([weights, Unpicklable()], uri)
        assert checkpoint.load(uri) == {"a": 1}
    assert checkpoint._client._native_client.list_uploads(uri.split("/")[2], "") == []


@pytest.mark.parametrize("usual", [True, False])
@pytest.mark.parametrize("crc32", [True, False, None])
def test_torchs_checksums_can_be_left_out(
    checkpoint: OssCheckpoint, client: OssClient, prefix: str, *, usual: bool, crc32: bool | None
) -> None:
    uri = f"{prefix}a.pt"
    state = {"a": torch.arange(300_000), "b": torch.ones(3)}
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(usual)
    try:
        checkpoint.save(state, uri, crc32=crc32)
        assert torch.serialization.get_crc32_options() is usual
    finally:
        torch.serialization.set_crc32_options(before)
    with zipfile.ZipFile(io.BytesIO(client.get(uri))) as file:
        checksums = [info.CRC for info in file.infolist() if "/data/" in info.filename]
    assert any(checksums) is (usual if crc32 is None else crc32)
    assert_same(checkpoint.load(uri), state)
    assert_same(checkpoint.load(uri, keys="b"), {"b": state["b"]})


def test_it_shows_a_bar_if_asked(
    checkpoint: OssCheckpoint, prefix: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    state = {"a": torch.arange(300_000)}
    checkpoint.save(state, f"{prefix}a.pt")
    assert_same(checkpoint.load(f"{prefix}a.pt"), state)
    assert capsys.readouterr().err == ""
    checkpoint.save(state, f"{prefix}b.pt", progress=True)
    assert_same(checkpoint.load(f"{prefix}b.pt", progress=True), state)
    shown = capsys.readouterr().err
    assert f"{prefix}b.pt" in shown
    assert "2.29M" in shown
    assert_same(checkpoint.load(f"{prefix}b.pt", keys="a", progress=True), state)
    assert "2.29M" in capsys.readouterr().err
    monkeypatch.setitem(__import__("sys").modules, "tqdm", None)
    with pytest.raises(OssConfigError, match="a progress bar needs tqdm: pip install tqdm"):
        checkpoint.save(state, f"{prefix}c.pt", progress=True)
    assert not checkpoint.exists(f"{prefix}c.pt")


@pytest.mark.parametrize("method", ["reader", "writer", "load", "exists"])
def test_what_names_no_object_is_reported(checkpoint: OssCheckpoint, method: str) -> None:
    use = getattr(checkpoint, method)
    with pytest.raises(OssConfigError, match=r"a path turns oss:// into oss:/"):
        use(Path("oss://bucket/a.pt"))
    with pytest.raises(OssConfigError, match=r"names a directory: a checkpoint is an object, like .*epoch-1\.pt"):
        use("oss://bucket/run/")
    for wrong in ("oss://bucket", "a.pt", str(Path("oss://bucket/a.pt")), 3):
        with pytest.raises(OssConfigError):
            use(wrong)


def test_a_missing_object_is_reported(checkpoint: OssCheckpoint, prefix: str) -> None:
    with pytest.raises(OssNotFoundError) as caught:
        checkpoint.load(f"{prefix}missing.pt")
    assert caught.value.key == "run/missing.pt"
    assert (checkpoint.list(prefix), checkpoint.latest(prefix), checkpoint.keep(prefix, 1)) == ([], None, [])


@pytest.mark.parametrize("content", [b"", b"just some text", saved([])[:-10], saved([])[:300]], ids=len)
def test_what_torch_cannot_read_is_named(
    checkpoint: OssCheckpoint, client: OssClient, prefix: str, content: bytes
) -> None:
    client.put(f"{prefix}a.pt", content)
    try:
        torch.load(io.BytesIO(content))
    except Exception as error:  # noqa: BLE001 - torch raises several
        expected = type(error)
    with pytest.raises(OssIntegrityError, match=rf"{prefix}a.pt \({len(content)} bytes\) is no checkpoint") as caught:
        checkpoint.load(f"{prefix}a.pt")
    assert type(caught.value.__cause__) is expected


def test_exists_is_false_only_if_nothing_exists() -> None:
    with Emulator(buckets=["bucket"]) as emulator:
        checkpoint = OssCheckpoint(**emulator.connection)
        assert not checkpoint.exists("oss://bucket/run/a.pt")
        checkpoint.save({}, "oss://bucket/run/a.pt")
        assert checkpoint.exists("oss://bucket/run/a.pt")
        assert not checkpoint.exists("oss://bucket/run")
        emulator.client().put("oss://bucket/run/.metadata", b"")
        assert checkpoint.exists("oss://bucket/run")
        emulator.fault(operation="HeadObject", error="AccessDenied")
        with pytest.raises(OssPermissionError):
            checkpoint.exists("oss://bucket/run/a.pt")


def test_it_pickles_as_configuration(checkpoint: OssCheckpoint, prefix: str) -> None:
    checkpoint.save({"a": 1}, f"{prefix}a.pt")
    assert pickle.loads(pickle.dumps(checkpoint)).load(f"{prefix}a.pt") == {"a": 1}
    assert "OssClient(" in repr(checkpoint)


def test_the_order_is_the_last_number_in_the_name(checkpoint: OssCheckpoint, client: OssClient, prefix: str) -> None:
    names = ["best.pt", "last", "epoch-2.pt", "epoch=9-step=8.ckpt", "step 10.pth.tar", "epoch.11", "e-100.safetensors"]
    for name in sorted(names):
        client.put(f"{prefix}{name}", saved({}))
    for other in ("config-7.json", "log.txt", "events-300.log", "deeper/epoch-900.pt", "epoch-77/data.distcp"):
        client.put(f"{prefix}{other}", saved({}))
    assert checkpoint.list(prefix) == [f"{prefix}{name}" for name in names]
    assert checkpoint.list(prefix.removesuffix("/")) == [f"{prefix}{name}" for name in names]
    assert checkpoint.list(f"{prefix}epoch-") == [f"{prefix}epoch-2.pt"]


@pytest.mark.parametrize("method", ["list", "latest", "keep"])
def test_a_prefix_that_mixes_a_directory_with_other_names_is_reported(
    checkpoint: OssCheckpoint, client: OssClient, prefix: str, method: str
) -> None:
    arguments = (1,) if method == "keep" else ()
    names = ["run/epoch-1.pt", "run/epoch-2.pt"]
    for name in (*names, "runner-3.pt"):
        client.put(prefix.removesuffix("run/") + name, saved({}))
    with pytest.raises(OssConfigError, match=f"is the directory {prefix} and the beginning of .*runner-3.pt"):
        getattr(checkpoint, method)(prefix.removesuffix("/"), *arguments)
    assert checkpoint.list(prefix) == [prefix.removesuffix("run/") + name for name in names]
    client.delete(prefix.removesuffix("run/") + "runner-3.pt")
    assert getattr(checkpoint, method)(prefix.removesuffix("/"), *arguments)


def test_latest_is_the_newest_that_is_whole(checkpoint: OssCheckpoint, client: OssClient, prefix: str) -> None:
    whole = saved({"weights": torch.arange(50_000)})
    contents = {
        "1.pt": whole,
        "2.pt": saved({}, _use_new_zipfile_serialization=False),
        "3.safetensors": safetensors_bytes({"a": torch.ones(3)}),
        "4.pt": whole[:-1],
        "5": b"",
        "6": b"just some text",
        "7.safetensors": (1 << 30).to_bytes(8, "little") + b"{}",
    }
    tensors = safetensors_bytes({"a": torch.ones(300), "b": torch.ones(3)})
    # Files that were truncated before the upload, and a text that looks like a header.
    contents |= {"8.safetensors": tensors[:-1], "9.safetensors": tensors[:-1200], "10": b"epoch 9 {not a checkpoint"}
    expected = None
    for name, content in contents.items():
        client.put(f"{prefix}{name}", content)
        if name in ("1.pt", "2.pt", "3.safetensors"):
            expected = f"{prefix}{name}"
        assert checkpoint.latest(prefix) == expected


def test_keep_leaves_objects_that_are_no_checkpoints(checkpoint: OssCheckpoint, client: OssClient, prefix: str) -> None:
    for name, content in {
        "1": b"epoch 1 {not a checkpoint",
        "2": (30).to_bytes(8, "little") + b"{neither is this" * 4,
    }.items():
        client.put(f"{prefix}{name}", content)
    checkpoint.save({}, f"{prefix}3.pt")
    assert checkpoint.keep(prefix, 1) == []


def test_keep_counts_from_the_newest_that_has_its_end(
    checkpoint: OssCheckpoint, client: OssClient, prefix: str
) -> None:
    tensors = safetensors_bytes({"a": torch.ones(300)})
    for name, content in {"1": tensors, "2": tensors, "3": tensors[:-1]}.items():
        client.put(f"{prefix}{name}.safetensors", content)
    assert checkpoint.keep(prefix, 1) == [f"{prefix}1.safetensors"]


def test_keep_deletes_the_oldest(checkpoint: OssCheckpoint, client: OssClient, prefix: str) -> None:
    for epoch in range(12):
        checkpoint.save({"epoch": epoch}, f"{prefix}epoch-{epoch}.pt")
    others = ["best.pt", "config.json", "log-3", "notes/epoch-1.pt"]
    for name in others:
        client.put(f"{prefix}{name}", saved({}) if name == "best.pt" else b"not a checkpoint")
    client.put(f"{prefix}epoch-12.pt", saved({})[:-4])
    assert checkpoint.keep(prefix, 3) == [f"{prefix}epoch-{epoch}.pt" for epoch in range(9)]
    assert checkpoint.keep(prefix, 3) == []
    left = {item.uri.removeprefix(prefix) for item in client.list(prefix)}
    assert left == {*others, "epoch-9.pt", "epoch-10.pt", "epoch-11.pt", "epoch-12.pt"}
    assert checkpoint.load(f"{prefix}epoch-11.pt") == {"epoch": 11}


@pytest.mark.parametrize("n", [0, -1, True, 1.5, None])
def test_keep_keeps_at_least_one(checkpoint: OssCheckpoint, prefix: str, n: Any) -> None:
    checkpoint.save({}, f"{prefix}1.pt")
    with pytest.raises(OssConfigError, match="at least 1 checkpoint must be kept"):
        checkpoint.keep(prefix, n)
    assert checkpoint.list(prefix) == [f"{prefix}1.pt"]


@pytest.mark.parametrize("own", [True, False])
def test_keep_deletes_nothing_if_the_newest_is_damaged(*, own: bool) -> None:
    with Emulator(buckets=["bucket"]) as emulator:
        # A checkpoint of another process is read through, so a damaged byte shows.
        checkpoint = OssCheckpoint(**emulator.connection, config=OssConfig(max_attempts=2))
        for epoch in range(3):
            checkpoint.save({"weights": torch.arange(50_000)}, f"oss://bucket/{epoch}.pt")
        if not own:
            emulator.client().put("oss://bucket/2.pt", saved({"weights": torch.arange(50_001)}))
        with emulator.fault(operation="GetObject", key="2.pt", flip=1000):
            if own:
                # The checksum of its own version was compared when it was published, so it is not read again.
                assert len(checkpoint.keep("oss://bucket/", 2)) == 1
            else:
                with pytest.raises(OssIntegrityError):
                    checkpoint.keep("oss://bucket/", 2)
                assert len(checkpoint.list("oss://bucket/")) == 3


def test_keep_notes_what_it_deleted_before_it_failed() -> None:
    with Emulator(buckets=["bucket"]) as emulator:
        checkpoint = OssCheckpoint(**emulator.connection)
        for epoch in range(4):
            checkpoint.save({}, f"oss://bucket/{epoch}.pt")
        emulator.fault(operation="DeleteObject", nth=2, error="AccessDenied")
        with pytest.raises(OssPermissionError) as caught:
            checkpoint.keep("oss://bucket/", 1)
        assert caught.value.__notes__[-1] == "already deleted: oss://bucket/0.pt"
        assert checkpoint.list("oss://bucket/") == [f"oss://bucket/{epoch}.pt" for epoch in (1, 2, 3)]


def save_distributed(emulator: Emulator, uri: str, value: int) -> None:
    file_system = OssFileSystem(**emulator.connection)
    with pytest.warns(UserWarning, match="assuming"):
        dcp.save({"a": torch.full((1000,), value)}, storage_writer=file_system.writer(uri), no_dist=True)


@pytest.mark.filterwarnings("ignore:torch.distributed")
def test_distributed_checkpoints_are_whole_with_their_metadata_and_all_files() -> None:
    with Emulator(buckets=["bucket"]) as emulator:
        checkpoint, client = OssCheckpoint(**emulator.connection), emulator.client()
        prefix = "oss://bucket/run/"
        for step in (5, 10, 15, 20):
            save_distributed(emulator, f"{prefix}step-{step}", step)
        # A save that is under way, and one that has lost a file.
        client.put(f"{prefix}step-25/__0_0.distcp", b"data")
        (data,) = [item.uri for item in client.list(f"{prefix}step-20/") if item.uri.endswith(".distcp")]
        client.delete(data)
        client.put(f"{prefix}step-5/notes.txt", b"a file that is no part of the checkpoint stays")
        assert checkpoint.list(prefix) == [f"{prefix}step-{step}" for step in (5, 10, 15, 20)]
        assert checkpoint.latest(prefix) == f"{prefix}step-15"
        emulator.clear_requests()
        assert checkpoint.keep(prefix, 2) == [f"{prefix}step-5"]
        assert [item.name for item in client.list(f"{prefix}step-5/")] == ["run/step-5/notes.txt"]
        assert not checkpoint.exists(f"{prefix}step-5")
        assert checkpoint.exists(f"{prefix}step-10")
        loaded = {"a": torch.zeros(1000, dtype=torch.int64)}
        with pytest.warns(UserWarning, match="assuming"):
            dcp.load(
                loaded, storage_reader=OssFileSystem(**emulator.connection).reader(f"{prefix}step-10"), no_dist=True
            )
        assert_same(loaded["a"], torch.full((1000,), 10))


def test_errors_are_of_one_tree(checkpoint: OssCheckpoint) -> None:
    with pytest.raises(OssError):
        checkpoint.list("oss://no-such-bucket-here/run/")


def test_the_guides_code_runs(emulator: Emulator, bucket: str) -> None:
    guide = (Path(__file__).parents[2] / "docs" / "guides" / "checkpoints.md").read_text()
    given = '"oss-cn-hangzhou-internal.aliyuncs.com", cred_path="/root/.alibabacloud/credentials"'
    assert given in guide
    here = f'"{emulator.endpoint}", cred_path="{emulator.cred_path}", region="{emulator.region}"'
    model, _ = model_and_optimizer()
    names: dict[str, Any] = {"model": model, "train": lambda _: None, "epochs": 5}
    for block in re.findall(r"```python\n(.*?)```", guide, flags=re.DOTALL):
        exec(block.replace(given, here).replace("oss://bucket/", f"oss://{bucket}/"), names)
    # The second block continues after the epoch that the first has saved.
    assert names["checkpoint"].list(f"oss://{bucket}/run/") == [f"oss://{bucket}/run/epoch-{n}.pt" for n in (2, 3, 4)]


@pytest.mark.slow(120)
@pytest.mark.filterwarnings("ignore:Validating sparse")
@pytest.mark.parametrize("zipped", [True, False])
def test_a_pattern_that_matches_every_name_loads_the_whole_file(
    emulator: Emulator, client: OssClient, bucket: str, monkeypatch: pytest.MonkeyPatch, *, zipped: bool
) -> None:
    monkeypatch.delattr("osstorchconnector.checkpoint.checkpoint.load_partial")
    checkpoint = OssCheckpoint(**emulator.connection)
    uri = f"oss://{bucket}/a.pt"
    state: dict[Any, Any] = {"a": torch.arange(10), "b": {"c": torch.ones(3)}, "d": 1, 5: torch.zeros(2).to_sparse()}
    for content in (state, [1]):
        stored = io.BytesIO()
        torch.save(content, stored, _use_new_zipfile_serialization=zipped)
        client.put(uri, stored.getvalue())
        if content is state:
            for keys in ("*", ["a", "**"]):
                loaded = checkpoint.load(uri, keys=keys)
                assert list(loaded) == list(state)
                assert torch.equal(loaded["a"], state["a"])
                assert torch.equal(loaded["b"]["c"], state["b"]["c"])
                assert torch.equal(loaded[5].to_dense(), state[5].to_dense())
            with pytest.raises(OssConfigError, match=r"nothing in .* matches 'e'"):
                checkpoint.load(uri, keys=["*", "e"])
    with pytest.raises(OssConfigError, match="holds a list, not a dictionary"):
        checkpoint.load(uri, keys="*")


def test_a_damaged_zip_file_is_an_error_of_ours(emulator: Emulator, client: OssClient, bucket: str) -> None:
    checkpoint = OssCheckpoint(**emulator.connection)
    uri = f"oss://{bucket}/a.pt"
    checkpoint.save({"a": torch.zeros(10), "b": 1}, uri)
    whole = client.get(uri)
    directory = whole.rindex(b"PK\x01\x02")
    first = whole.index(b"PK\x01\x02")
    positions = {*range(first, first + 46), *range(directory, len(whole), 3), *range(0, 60, 7)}
    refused = 0
    for position in sorted(positions):
        for value in (0, 1, 0xFF):
            changed = bytearray(whole)
            changed[position] ^= value or whole[position]
            client.put(uri, changed)
            try:
                checkpoint.load(uri, keys="a")
            except (OssError, pickle.UnpicklingError):
                refused += 1
    assert refused > len(positions)


def test_a_zip_file_that_grows_is_an_error_of_ours(emulator: Emulator, client: OssClient, bucket: str) -> None:
    uri = f"oss://{bucket}/a.pt"
    stored = io.BytesIO()
    with zipfile.ZipFile(stored, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", b" " * (100 << 20))
    client.put(uri, stored.getvalue())
    with pytest.raises(OssIntegrityError, match="compressed, or larger than the whole"):
        OssCheckpoint(**emulator.connection).load(uri, keys="a")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_large_part_takes_the_memory_that_is_written(emulator: Emulator, client: OssClient, bucket: str) -> None:
    checkpoint = OssCheckpoint(**emulator.connection, config=OssConfig(part_size=4 << 30))

    def resident() -> int:
        return int(re.findall(r"VmRSS:\s+(\d+)", Path("/proc/self/status").read_text())[0]) << 10

    before = resident()
    with checkpoint.writer(f"oss://{bucket}/small") as writer:
        writer.write(b"x" * 1000)
        assert resident() - before < 256 << 20
    assert client.get(f"oss://{bucket}/small") == b"x" * 1000
