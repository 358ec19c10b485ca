"""Checkpoints in another form: every form from every form, between buckets and disks, without a model in memory."""

import json
import pickle
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.api import CheckpointException

from osstorchconnector import (
    OssCheckpoint,
    OssClient,
    OssConfigError,
    OssError,
    OssFileSystem,
    OssFormatError,
    OssNotFoundError,
    OssSafetensor,
)
from osstorchconnector.conversion import Converted, convert_checkpoint
from osstorchconnector.conversion import source as source_module
from osstorchconnector.testing import Emulator

pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is disabled:UserWarning")


def tensors() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {
        "layer.0.weight": torch.rand(64, 32),
        "layer.0.bias": torch.rand(64, dtype=torch.bfloat16),
        "layer.1.weight": torch.rand(7, 5, 3).half(),
        "steps": torch.arange(5),
        "scalar": torch.tensor(2.5),
        "empty": torch.empty(0, 4),
        "flags": torch.tensor([True, False]),
    }


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype and torch.equal(one[name], other[name]) for name in one
    )


@pytest.fixture
def place(bucket: str, tmp_path: Path) -> Callable[[str, str], str]:
    return lambda where, name: f"oss://{bucket}/{name}" if where == "bucket" else str(tmp_path / name)


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_module, "_BATCH", 5000)


NAMES = {"hf": "hf/", "safetensors": "one.safetensors", "torch": "one.pt", "dcp": "dcp"}


def store(form: str, where: str, target: str, content: dict[str, Any], emulator: Emulator) -> None:
    """Store with the program that the form comes from, not with the one under test."""
    remote = where == "bucket"
    if form == "dcp":
        writer: Any = OssFileSystem(**emulator.connection).writer(target) if remote else dcp.FileSystemWriter(target)
        dcp.save(content, storage_writer=writer, no_dist=True)
    elif form == "torch":
        if remote:
            OssCheckpoint(**emulator.connection).save(content, target)
        else:
            torch.save(content, target)
    elif remote:
        OssSafetensor(**emulator.connection).save_file(content, target)
    elif form == "safetensors":
        safetensors.torch.save_file(content, target)
    else:
        Path(target).mkdir()
        names = list(content)
        parts = {"a.safetensors": names[:3], "b.safetensors": names[3:]}
        for file, part in parts.items():
            safetensors.torch.save_file({name: content[name] for name in part}, Path(target, file))


def load(form: str, where: str, target: str, emulator: Emulator) -> dict[str, Any]:
    """Load with the program that the form is for, not with the one under test."""
    remote = where == "bucket"
    if form == "dcp":
        reader: Any = OssFileSystem(**emulator.connection).reader(target) if remote else dcp.FileSystemReader(target)
        empty = {name: torch.zeros_like(tensor) for name, tensor in tensors().items()}
        dcp.load(empty, storage_reader=reader, no_dist=True)
        return empty
    if form == "torch":
        if remote:
            loaded: dict[str, Any] = OssCheckpoint(**emulator.connection).load(target)
            return loaded
        return torch.load(target, weights_only=True)  # type: ignore[no-any-return]
    if remote:
        return OssSafetensor(**emulator.connection).load_file(target)
    files = sorted(Path(target).glob("*.safetensors")) if form == "hf" else [Path(target)]
    found: dict[str, torch.Tensor] = {}
    for file in files:
        found |= safetensors.torch.load_file(file)
    return found


@pytest.mark.parametrize("target_form", NAMES)
@pytest.mark.parametrize("source_form", NAMES)
@pytest.mark.parametrize(
    ("from_where", "to_where"), [("bucket", "bucket"), ("disk", "disk"), ("bucket", "disk"), ("disk", "bucket")]
)
def test_every_form_from_every_form(
    emulator: Emulator,
    client: OssClient,
    place: Any,
    source_form: str,
    target_form: str,
    from_where: str,
    to_where: str,
) -> None:
    source, target = place(from_where, f"from-{NAMES[source_form]}"), place(to_where, f"to/{NAMES[target_form]}")
    store(source_form, from_where, source, tensors(), emulator)
    counted: list[int] = []
    converted = convert_checkpoint(
        source,
        target,
        client,
        form=target_form,
        max_shard_size=4000,
        progress=lambda count, _total: counted.append(count),
    )
    total = sum(tensor.nbytes for tensor in tensors().values())
    assert converted == Converted(target_form, len(tensors()), 0, total)
    assert sum(counted) == total
    assert same(load(target_form, to_where, target, emulator), tensors())


def test_names_of_a_hugging_face_directory(emulator: Emulator, client: OssClient, bucket: str) -> None:
    store("dcp", "bucket", f"oss://{bucket}/run/1", tensors(), emulator)
    convert_checkpoint(f"oss://{bucket}/run/1", f"oss://{bucket}/hf/", client, max_shard_size=4000)
    names = sorted(item.name for item in client.list(f"oss://{bucket}/hf/"))
    count = len(names) - 1
    assert count > 1
    assert names == [
        *(f"hf/model-{number:05}-of-{count:05}.safetensors" for number in range(1, count + 1)),
        "hf/model.safetensors.index.json",
    ]
    index = json.loads(client.get(f"oss://{bucket}/hf/model.safetensors.index.json"))
    assert index["weight_map"].keys() == tensors().keys()
    convert_checkpoint(f"oss://{bucket}/run/1", f"oss://{bucket}/single", client)
    assert [item.name for item in client.list(f"oss://{bucket}/single")] == ["single/model.safetensors"]


NESTED: dict[str, Any] = {
    "model": {"a": torch.rand(4, 4), "b": torch.rand(3)},
    "optimizer": {"state": {"a": {"momentum": torch.rand(4, 4)}}, "param_groups": [{"lr": 0.1, "params": [0]}]},
    "step": 17,
    "note": "text",
}


def equal(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and torch.equal(one, other)
    if isinstance(one, dict):
        return (
            isinstance(other, dict) and one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
        )
    return bool(one == other)


@pytest.mark.parametrize("where", ["bucket", "disk"])
def test_nested_dictionaries_and_what_is_no_tensor(
    emulator: Emulator, client: OssClient, place: Any, where: str
) -> None:
    store("torch", where, place(where, "a.pt"), NESTED, emulator)
    converted = convert_checkpoint(place(where, "a.pt"), place(where, "dcp"), client)
    assert (converted.form, converted.tensors, converted.objects) == ("dcp", 3, 3)
    loaded = {
        "model": {"a": torch.zeros(4, 4), "b": torch.zeros(3)},
        "optimizer": {
            "state": {"a": {"momentum": torch.zeros(4, 4)}},
            "param_groups": [{"lr": 0.0, "params": []}],
        },
        "step": 0,
        "note": "",
    }
    reader: Any = (
        OssFileSystem(**emulator.connection).reader(place(where, "dcp"))
        if where == "bucket"
        else dcp.FileSystemReader(place(where, "dcp"))
    )
    dcp.load(loaded, storage_reader=reader, no_dist=True)
    assert equal(loaded, NESTED)
    assert convert_checkpoint(place(where, "dcp"), place(where, "b.pt"), client).form == "torch"
    assert equal(load("torch", where, place(where, "b.pt"), emulator), NESTED)


def test_the_tensors_of_a_model_are_chosen(emulator: Emulator, client: OssClient, bucket: str) -> None:
    source = f"oss://{bucket}/run"
    store("dcp", "bucket", source, NESTED, emulator)
    with pytest.raises(
        OssConfigError, match=r"has 4 entries that are no tensors, such as .*--keys 'model\.\*' --strip"
    ):
        convert_checkpoint(source, f"oss://{bucket}/hf/", client)
    assert list(client.list(f"oss://{bucket}/hf/")) == []
    convert_checkpoint(source, f"oss://{bucket}/hf/", client, strip="model.")
    assert equal(load("hf", "bucket", f"oss://{bucket}/hf/", emulator), NESTED["model"])
    convert_checkpoint(source, f"oss://{bucket}/two/", client, keys=["model.b", "*.momentum"])
    assert load("hf", "bucket", f"oss://{bucket}/two/", emulator).keys() == {"model.b", "optimizer.state.a.momentum"}
    convert_checkpoint(source, f"oss://{bucket}/model.pt", client, strip="model.")
    assert equal(load("torch", "bucket", f"oss://{bucket}/model.pt", emulator), NESTED["model"])
    with pytest.raises(OssConfigError, match=r"nothing of .* is left; its first tensors are 'model\.a'"):
        convert_checkpoint(source, f"oss://{bucket}/three/", client, keys="mode.*")


@pytest.mark.parametrize("where", ["bucket", "disk"])
def test_tied_weights_are_stored_once_and_tied_again(
    emulator: Emulator, client: OssClient, place: Any, where: str
) -> None:
    shared = torch.rand(8, 8)
    content = {"a": shared, "b": shared, "view": shared[:2], "c": torch.rand(2)}
    store("torch", where, place(where, "a.pt"), content, emulator)
    convert_checkpoint(place(where, "a.pt"), place(where, "hf/"), client, form="hf")
    stored = load("hf", where, place(where, "hf/"), emulator)
    assert stored.keys() == {"a", "view", "c"}
    convert_checkpoint(place(where, "hf/"), place(where, "b.pt"), client)
    loaded = load("torch", where, place(where, "b.pt"), emulator)
    assert equal(loaded, content)
    assert loaded["a"].data_ptr() == loaded["b"].data_ptr()
    assert loaded["view"].untyped_storage().nbytes() == 2 * 8 * 4
    convert_checkpoint(place(where, "hf/"), place(where, "b-alone.pt"), client, keys="b")
    assert equal(load("torch", where, place(where, "b-alone.pt"), emulator), {"b": shared})


@pytest.mark.parametrize("where", ["bucket", "disk"])
def test_tensors_that_read_the_same_memory_in_another_way(
    emulator: Emulator, client: OssClient, place: Any, tmp_path: Path, where: str
) -> None:
    whole = torch.randn(4, dtype=torch.complex64)
    content = {"a": whole, "b": whole.conj(), "c": whole[:2], "d": whole.conj()[:2]}
    store("torch", where, place(where, "one.pt"), content, emulator)
    convert_checkpoint(place(where, "one.pt"), str(tmp_path / "to.safetensors"), client)
    found = safetensors.torch.load_file(tmp_path / "to.safetensors")
    assert same(found, content)


def test_a_file_of_torch_is_as_torch_writes_it(tmp_path: Path) -> None:
    safetensors.torch.save_file(tensors(), tmp_path / "a.safetensors")
    convert_checkpoint(str(tmp_path / "a.safetensors"), str(tmp_path / "a.pt"))
    torch.save(tensors(), tmp_path / "theirs.pt")
    with zipfile.ZipFile(tmp_path / "a.pt") as ours, zipfile.ZipFile(tmp_path / "theirs.pt") as theirs:
        assert ours.testzip() is None
        assert [name.partition("/")[2] for name in ours.namelist()] == [
            name.partition("/")[2] for name in theirs.namelist()
        ]
        for entry in ours.infolist():
            if "/data/" in entry.filename and entry.file_size:
                with (tmp_path / "a.pt").open("rb") as file:
                    file.seek(entry.header_offset + 26)
                    name, extra = (int.from_bytes(file.read(2), "little") for _ in range(2))
                assert (entry.header_offset + 30 + name + extra) % 64 == 0
    mapped = torch.load(tmp_path / "a.pt", mmap=True, weights_only=True)
    assert same(mapped, tensors())


def test_shards_of_a_distributed_save_become_one_directory(emulator: Emulator, client: OssClient, bucket: str) -> None:
    """As torch's consolidation does on a disk."""
    uri = f"oss://{bucket}/sharded"
    for rank in range(2):
        part = torch.arange(8.0).reshape(4, 2)[2 * rank : 2 * rank + 2].contiguous()
        info = {"w": {"saved_offsets": [2 * rank, 0]}}
        texts = {"DCP_SHARDING_INFO": json.dumps(info), "DCP_VERSION": "1.0", "format": "pt"}
        client.put(
            f"{uri}/shard-{rank + 1:05}-model-00001-of-00001.safetensors", safetensors.torch.save({"w": part}, texts)
        )
    convert_checkpoint(uri, f"oss://{bucket}/whole/", client)
    assert torch.equal(load("hf", "bucket", f"oss://{bucket}/whole/", emulator)["w"], torch.arange(8.0).reshape(4, 2))


@pytest.mark.skipif(not hasattr(dcp, "HuggingFaceStorageWriter"), reason="torch 2.8 has it")
def test_torchs_own_writer_and_reader_and_its_consolidation(
    emulator: Emulator, client: OssClient, bucket: str, tmp_path: Path
) -> None:
    content = {name: tensor for name, tensor in tensors().items() if tensor.numel()}
    path = str(tmp_path / "sharded")
    dcp.save(content, storage_writer=dcp.HuggingFaceStorageWriter(path, save_distributed=True), no_dist=True)
    convert_checkpoint(path, f"oss://{bucket}/whole/", client)
    assert same(load("hf", "bucket", f"oss://{bucket}/whole/", emulator), content)
    # And its reader reads what is written here.
    convert_checkpoint(f"oss://{bucket}/whole/", str(tmp_path / "whole/"), client, form="hf", max_shard_size=4000)
    loaded = {name: torch.zeros_like(tensor) for name, tensor in content.items()}
    dcp.load(loaded, storage_reader=dcp.HuggingFaceStorageReader(str(tmp_path / "whole")), no_dist=True)
    assert same(loaded, content)


WRONG = [
    ("oss://BUCKET/none", "to", {}, OssNotFoundError, "none"),
    ("oss://BUCKET/none/", "to", {}, OssNotFoundError, "there is no checkpoint at"),
    ("oss://BUCKET/text", "to", {}, OssConfigError, "is no checkpoint: it has neither"),
    ("oss://BUCKET/text/a.txt", "to", {}, OssError, "a.txt"),
    ("NOWHERE", "to", {}, OssConfigError, "does not exist"),
    ("FULL", "to", {}, OssConfigError, "is no checkpoint: it has neither"),
    ("FULL/file.txt", "to", {}, OssFormatError, "was not written by torch.save"),
    ("oss://BUCKET/a.pt", "FULL", {}, OssConfigError, "is not empty: give a target where nothing is"),
    ("oss://BUCKET/a.pt", "FULL/file.txt", {}, OssConfigError, "is there already"),
    ("oss://BUCKET/a.pt", "oss://BUCKET/text", {}, OssConfigError, "text/a.txt is there already"),
    ("oss://BUCKET/a.pt", "oss://BUCKET/text/a.txt", {}, OssConfigError, "text/a.txt is there already"),
    ("oss://BUCKET/a.pt", "to", {"form": "gguf"}, OssConfigError, "form must be one of hf, safetensors, torch, dcp"),
    ("oss://BUCKET/a.pt", "to", {"max_shard_size": "5 parsec"}, OssConfigError, "max_shard_size must be"),
    ("oss://BUCKET/list.pt", "to", {}, OssConfigError, "holds a list: a dictionary is needed"),
    ("oss://BUCKET/inside.pt", "to", {}, OssConfigError, "has tensors in a list at 'a'"),
    ("oss://BUCKET/code.pt", "to", {}, OssConfigError, "holds more than tensors and plain values"),
    ("oss://BUCKET/sparse.pt", "to", {}, OssConfigError, "tensor 'a' is sparse"),
]


class Mine:
    pass


@pytest.mark.parametrize(("source", "target", "options", "kind", "complaint"), WRONG)
def test_wrong_places(
    emulator: Emulator,
    client: OssClient,
    bucket: str,
    tmp_path: Path,
    source: str,
    target: str,
    options: Any,
    kind: Any,
    complaint: str,
) -> None:
    checkpoint = OssCheckpoint(**emulator.connection)
    checkpoint.save({"a": torch.ones(2)}, f"oss://{bucket}/a.pt")
    checkpoint.save([torch.ones(2)], f"oss://{bucket}/list.pt")
    checkpoint.save({"a": [torch.ones(2)]}, f"oss://{bucket}/inside.pt")
    checkpoint.save({"a": Mine()}, f"oss://{bucket}/code.pt")
    checkpoint.save({"a": torch.ones(2).to_sparse()}, f"oss://{bucket}/sparse.pt")
    client.put(f"oss://{bucket}/text/a.txt", b"text" * 100)
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file.txt").write_text("text" * 100)
    places = {"BUCKET": bucket, "FULL": str(tmp_path / "full"), "NOWHERE": str(tmp_path / "nowhere")}
    source, target = (
        re.sub("BUCKET|FULL|NOWHERE", lambda match: places[match[0]], place) for place in (source, target)
    )
    if target == "to":
        target = str(tmp_path / "to")
    with pytest.raises(kind, match=re.escape(complaint)):
        convert_checkpoint(source, target, client, **options)
    assert not (tmp_path / "to").exists()


def test_a_tensor_that_only_the_index_has_is_missing(
    emulator: Emulator, client: OssClient, bucket: str, tmp_path: Path
) -> None:
    uri = f"oss://{bucket}/from/"
    OssSafetensor(**emulator.connection).save_file(tensors(), uri)
    index = json.loads(client.get(f"{uri}model.safetensors.index.json"))
    index["weight_map"]["more"] = index["weight_map"]["scalar"]
    client.put(f"{uri}model.safetensors.index.json", json.dumps(index).encode())
    with pytest.raises(OssFormatError, match=r"has no tensor 'more', but the index of .* says that it has"):
        convert_checkpoint(uri, str(tmp_path / "to"), client)
    with pytest.raises(OssFormatError, match=r"has no tensor 'more', but the index of .* says that it has"):
        OssSafetensor(**emulator.connection).load_file(uri)
    assert not (tmp_path / "to").exists()


def test_one_of_two_models_is_chosen(emulator: Emulator, client: OssClient, bucket: str, tmp_path: Path) -> None:
    uri = f"oss://{bucket}/from/"
    for name, value in (("consolidated", 1.0), ("model", 2.0), ("other", 3.0)):
        file = f"{name}-00001-of-00001.safetensors"
        OssSafetensor(**emulator.connection).save_file({"a": torch.tensor(value)}, uri + file)
        index = {"metadata": {}, "weight_map": {"a": file}}
        client.put(f"{uri}{name}.safetensors.index.json", json.dumps(index).encode())
    # The usual name wins, as it does when a model is loaded.
    convert_checkpoint(uri, str(tmp_path / "to.pt"), client)
    assert torch.load(tmp_path / "to.pt")["a"] == 2.0
    client.delete(f"{uri}model.safetensors.index.json")
    with pytest.raises(OssFormatError, match=r"holds 2 models, consolidated\..* and other\..*: give the URI of one"):
        convert_checkpoint(uri, str(tmp_path / "none.pt"), client)
    convert_checkpoint(f"{uri}other.safetensors.index.json", str(tmp_path / "other.pt"), client)
    assert torch.load(tmp_path / "other.pt")["a"] == 3.0


def test_the_index_of_a_directory_on_a_disk_has_any_name(tmp_path: Path) -> None:
    (tmp_path / "from").mkdir()
    for name in ("one", "two"):
        safetensors.torch.save_file({name: torch.ones(1)}, tmp_path / f"from/{name}.safetensors")
        index = {"metadata": {}, "weight_map": {name: f"{name}.safetensors"}}
        (tmp_path / f"from/{name}.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(OssFormatError, match=r"holds 2 models, one\..* and two\..*: move all but one away"):
        convert_checkpoint(str(tmp_path / "from"), str(tmp_path / "to.pt"))
    (tmp_path / "from/one.safetensors.index.json").unlink()
    convert_checkpoint(str(tmp_path / "from"), str(tmp_path / "to.pt"))
    assert torch.load(tmp_path / "to.pt").keys() == {"two"}


@pytest.mark.parametrize("other", ["other-00001-of-00001", "model-00001-of-00002", "consolidated"])
@pytest.mark.parametrize("where", ["bucket", "disk"])
def test_two_models_without_an_index_are_not_mixed(
    emulator: Emulator, client: OssClient, place: Any, tmp_path: Path, where: str, other: str
) -> None:
    (tmp_path / "from").mkdir()
    names = ["model-00001-of-00001", other] + ["model-00002-of-00002"] * other.startswith("model")
    for name in names:
        store("safetensors", where, place(where, f"from/{name}.safetensors"), {name: torch.ones(1)}, emulator)
    first, second = sorted(f"{name}.safetensors" for name in names[:2])
    with pytest.raises(OssFormatError, match=f"has no index, and holds 2 models, with {first} and {second}: put each"):
        convert_checkpoint(place(where, "from"), str(tmp_path / "to.pt"), client)
    assert not (tmp_path / "to.pt").exists()


class Code:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("where", ["bucket", "disk"])
@pytest.mark.parametrize("form", ["torch", "dcp", "object"])
def test_code_in_a_checkpoint_is_not_run(
    emulator: Emulator, client: OssClient, place: Any, tmp_path: Path, where: str, form: str
) -> None:
    code = Code(tmp_path / "ran")
    source = place(where, NAMES["torch" if form == "torch" else "dcp"])
    store("torch" if form == "torch" else "dcp", where, source, {"a": torch.ones(2), "b": code}, emulator)
    if form == "dcp":
        content = pickle.dumps(code)
        if where == "bucket":
            client.put(f"{source}/.metadata", content)
        else:
            Path(source, ".metadata").write_bytes(content)
    with pytest.raises(OssError, match=r"names|holds more than tensors and plain values"):
        convert_checkpoint(source, str(tmp_path / "to"), client)
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "to").exists()


def test_a_client_is_needed_for_buckets(tmp_path: Path) -> None:
    for source, target in (("oss://bucket/a", "b"), (str(tmp_path), "oss://bucket/b")):
        with pytest.raises(OssConfigError, match="is in a bucket: give a client"):
            convert_checkpoint(source, target)


@pytest.mark.parametrize("form", NAMES)
def test_a_conversion_that_fails_leaves_nothing_that_loads(
    emulator: Emulator, client: OssClient, bucket: str, form: str
) -> None:
    store("hf", "bucket", f"oss://{bucket}/from/", tensors(), emulator)
    target = f"oss://{bucket}/to/{NAMES[form]}"
    calls: list[int] = []

    def fail(count: int, _total: int) -> None:
        calls.append(count)
        if len(calls) == 4:
            raise OssError("stopped")

    with pytest.raises(OssError, match="stopped"):
        convert_checkpoint(f"oss://{bucket}/from/", target, client, form=form, max_shard_size=4000, progress=fail)
    with pytest.raises((OssError, CheckpointException)):
        load(form, "bucket", target, emulator)
    assert [item.name for item in client.list(f"oss://{bucket}/to/") if not item.name.endswith(".distcp")] == []


@pytest.mark.parametrize("where", ["bucket", "disk"])
def test_shards_that_are_not_complete(emulator: Emulator, client: OssClient, place: Any, where: str) -> None:
    store("safetensors", where, place(where, "from.safetensors"), tensors(), emulator)
    convert_checkpoint(place(where, "from.safetensors"), place(where, "to/"), client, form="hf", max_shard_size=4000)
    if where == "bucket":
        names = sorted(item.name for item in client.list(place(where, "to/")))
        client.delete_many(f"oss://{place(where, '').split('/')[2]}/{name}" for name in names[-2:])
    else:
        names = sorted(str(path) for path in Path(place(where, "to/")).iterdir())
        for name in names[-2:]:
            Path(name).unlink()
    missing = re.escape(names[-2].rpartition("/")[2])
    with pytest.raises(OssFormatError, match=f"is not complete: {missing} is missing"):
        convert_checkpoint(place(where, "to/"), place(where, "dcp"), client)
    if where == "bucket":
        with pytest.raises(OssNotFoundError, match=r"is missing: the model is not complete"):
            OssSafetensor(**emulator.connection).load_file(place(where, "to/"))


PEAK = """
import resource, sys, torch
from osstorchconnector import OssClient
from osstorchconnector.conversion import convert_checkpoint
import osstorchconnector.conversion.source as source_module
import torch.distributed.checkpoint, osstorchconnector.conversion.targets, osstorchconnector.conversion.torch_file
endpoint, key, region, source, target, form = sys.argv[1:]
client = OssClient(endpoint, key, region=region)
client.list_buckets()
source_module._BATCH = 16 << 20
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
before = peak()
convert_checkpoint(source, target, client, form=form)
print(peak() - before)
"""


@pytest.mark.slow(120)
@pytest.mark.parametrize(("source_form", "target_form"), [("dcp", "hf"), ("hf", "torch"), ("torch", "dcp")])
def test_a_model_is_never_in_memory(emulator: Emulator, bucket: str, source_form: str, target_form: str) -> None:
    content = {f"layer.{number}": torch.full((2 << 20,), float(number)) for number in range(24)}
    source, target = f"oss://{bucket}/from-{NAMES[source_form]}", f"oss://{bucket}/to/{NAMES[target_form]}"
    store(source_form, "bucket", source, content, emulator)
    del content
    command = [sys.executable, "-c", PEAK, emulator.endpoint, emulator.cred_path, emulator.region]
    out = subprocess.run([*command, source, target, target_form], capture_output=True, text=True, check=True).stdout
    # Two batches of 16 MiB, what an upload and a reader hold, and libraries that are loaded late.
    assert int(out) < 160 << 20
