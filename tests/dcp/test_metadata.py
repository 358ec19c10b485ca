"""Reading ``.metadata`` runs nothing, and what torch and its users write there is read."""

import os
import pickle
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path, PureWindowsPath
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    StorageMeta,
    TensorProperties,
    TensorStorageMetadata,
)

from osstorchconnector import OssCheckpoint, OssClient, OssFileSystem, OssIntegrityError
from osstorchconnector._torch.distributed import StorageInfo
from osstorchconnector._torch.metadata import metadata_enumeration
from osstorchconnector.dcp.metadata import files_of, read_metadata
from osstorchconnector.testing import Emulator

METADATA = "torch.distributed.checkpoint.metadata"
FILESYSTEM = "torch.distributed.checkpoint.filesystem"


class Opcodes:
    """Pickles written opcode by opcode, with the names of any version of torch."""

    @staticmethod
    def name(module: str, name: str) -> bytes:
        return f"c{module}\n{name}\n".encode()

    @staticmethod
    def text(value: str) -> bytes:
        return b"X" + len(value.encode()).to_bytes(4, "little") + value.encode()

    @staticmethod
    def number(value: int) -> bytes:
        return b"J" + value.to_bytes(4, "little")

    @classmethod
    def value(cls, value: Any) -> bytes:
        if isinstance(value, bytes):
            return value
        if isinstance(value, dict):
            return b"}(" + b"".join(cls.value(part) for pair in value.items() for part in pair) + b"u"
        if isinstance(value, list | tuple):
            start, end = (b"](", b"e") if isinstance(value, list) else (b"(", b"t")
            return start + b"".join(map(cls.value, value)) + end
        if isinstance(value, str):
            return cls.text(value)
        if isinstance(value, int) and not isinstance(value, bool):
            return cls.number(value)
        return {None: b"N", True: b"\x88", False: b"\x89"}[value]

    @classmethod
    def made(cls, module: str, name: str, state: Any) -> bytes:
        """Return an object of a class, with its state."""
        return cls.name(module, name) + b")\x81" + cls.value(state) + b"b"

    @classmethod
    def called(cls, module: str, name: str, *arguments: Any) -> bytes:
        """Return the result of a function."""
        return cls.name(module, name) + cls.value(arguments) + b"R"

    @classmethod
    def size(cls, *sizes: int) -> bytes:
        return cls.called("torch", "Size", sizes)

    @staticmethod
    def whole(body: bytes) -> bytes:
        return b"\x80\x04" + body + b"."


def described(properties: bytes, info: bytes, **fields: Any) -> bytes:
    """Return the metadata of one tensor, ``weight`` of 2 x 3 elements in ``__0_0.distcp``."""
    o = Opcodes
    chunk = o.made(METADATA, "ChunkStorageMetadata", {"offsets": o.size(0, 0), "sizes": o.size(2, 3)})
    tensor = {"properties": properties, "size": o.size(2, 3), "chunks": [chunk]}
    index = o.made(METADATA, "MetadataIndex", {"fqn": "weight", "index": 0, "offset": o.size(0, 0)})
    state = {
        "state_dict_metadata": {"weight": o.made(METADATA, "TensorStorageMetadata", tensor)},
        "planner_data": {"weight": ("weight",)},
        "storage_data": {index: info},
        **fields,
    }
    return o.whole(o.made(METADATA, "Metadata", state))


def properties_of(module: str, encoding: bytes, *more: Any) -> bytes:
    layout = Opcodes.called("torch.serialization", "_get_layout", "torch.strided")
    state = (Opcodes.name("torch", "float32"), layout, False, encoding, False, *more)
    return Opcodes.made(module, "TensorProperties", state)


PLAIN_INFO = Opcodes.made(FILESYSTEM, "_StorageInfo", {"relative_path": "__0_0.distcp", "offset": 0, "length": 900})
CONTIGUOUS = Opcodes.called(METADATA, "_MEM_FORMAT_ENCODING", 0)
OLD_METADATA = "torch.distributed._shard.sharded_tensor.metadata"
VERSIONS = {
    # Since 2.3, TensorProperties is a class of the metadata's own module; 2.9 adds `version`, a later one the strides.
    "2.2": described(properties_of(OLD_METADATA, Opcodes.called(OLD_METADATA, "MEM_FORMAT_ENCODING", 0)), PLAIN_INFO),
    "2.7 on Python 3.12": described(properties_of(METADATA, CONTIGUOUS), PLAIN_INFO, storage_meta=None),
    "2.7 on Python 3.11": described(
        properties_of(
            METADATA,
            Opcodes.called(
                "builtins", "getattr", Opcodes.name(METADATA, "_MEM_FORMAT_ENCODING"), "TORCH_CONTIGUOUS_FORMAT"
            ),
        ),
        PLAIN_INFO,
    ),
    "2.9": described(properties_of(METADATA, CONTIGUOUS), PLAIN_INFO, version="1.0.0"),
    "2.15": described(properties_of(METADATA, CONTIGUOUS, (3, 1)), PLAIN_INFO, version="1.0.0"),
    "Python 3.13, a path": described(
        properties_of(METADATA, CONTIGUOUS),
        PLAIN_INFO,
        storage_meta=Opcodes.made(
            METADATA,
            "StorageMeta",
            {"checkpoint_id": Opcodes.called("pathlib._local", "PosixPath", "/", "x"), "save_id": "1", "modules": []},
        ),
    ),
    "Hugging Face": described(
        properties_of(METADATA, CONTIGUOUS),
        Opcodes.made(
            "torch.distributed.checkpoint._hf_utils",
            "_HFStorageInfo",
            {"relative_path": "__0_0.distcp", "shape": Opcodes.size(2, 3), "dtype": Opcodes.name("torch", "float32")},
        ),
    ),
}


@pytest.fixture
def read(client: OssClient, bucket: str) -> Callable[[bytes], Metadata]:
    def read(content: bytes) -> Metadata:
        client.put(f"oss://{bucket}/run/epoch-1/.metadata", content)
        return read_metadata(client, f"oss://{bucket}/run/epoch-1/.metadata")

    return read


@pytest.mark.parametrize("version", VERSIONS)
def test_the_metadata_of_each_version_is_read(read: Callable[[bytes], Metadata], version: str) -> None:
    metadata = read(VERSIONS[version])
    weight = metadata.state_dict_metadata["weight"]
    assert isinstance(weight, TensorStorageMetadata)
    assert weight.properties.dtype == torch.float32
    assert weight.properties.memory_format == torch.contiguous_format
    assert weight.chunks == [ChunkStorageMetadata(torch.Size([0, 0]), torch.Size([2, 3]))]
    assert files_of(metadata) == {"__0_0.distcp"}
    assert [*metadata.storage_data] == [MetadataIndex("weight", [0, 0])]


def test_everything_that_this_torch_writes_is_read(
    read: Callable[[bytes], Metadata], file_system: OssFileSystem, client: OssClient, checkpoint_uri: str
) -> None:
    state = {
        "all": [torch.zeros(2, dtype=dtype) for dtype in (torch.float32, torch.float8_e4m3fn, torch.bool)],
        "nested": {"list": [1, "a"], "tensor": torch.ones(2, 3, 4, 5).to(memory_format=torch.channels_last)},
    }
    for form in ("torch_save", "safetensors"):
        dcp.save(state, storage_writer=file_system.writer(checkpoint_uri, serialization_format=form))
        content = client.get(f"{checkpoint_uri}/.metadata")
        assert read(content) == pickle.loads(content)


def test_plain_values_paths_and_memory_formats_are_read(read: Callable[[bytes], Metadata]) -> None:
    data: Any = {
        "ordered": OrderedDict(a=1),
        "default": defaultdict(list, a=[1]),
        "sets": ({1}, frozenset({2}), 1j, b"x", 2.5),
        "formats": (torch.channels_last, torch.preserve_format, torch.sparse_coo, torch.bfloat16),
        "path": Path("/x/y"),
        "windows": PureWindowsPath("c:/x"),
    }
    metadata = Metadata({}, data, {}, StorageMeta(Path("/x")))
    for protocol in (4, 5):
        assert read(pickle.dumps(metadata, protocol)) == metadata


class Own:
    """A class of the user's own."""

    def __init__(self, value: int) -> None:
        self.value = value


def test_own_classes_need_the_programs_word(read: Callable[[bytes], Metadata], monkeypatch: pytest.MonkeyPatch) -> None:
    content = pickle.dumps(Metadata({}, Own(3)))
    with pytest.raises(OssIntegrityError, match=rf"names {__name__}\.Own.*add_safe_globals"):
        read(content)
    with torch.serialization.safe_globals([Own]):
        assert read(content).planner_data.value == 3
        # It gives no way to change the class for everyone.
        changing = Opcodes.whole(Opcodes.name(__name__, "Own") + b"N" + Opcodes.value({"value": 1}) + b"\x86b")
        with pytest.raises(OssIntegrityError, match="changes a class"):
            read(changing)
        monkeypatch.setattr("osstorchconnector.dcp.unpickling.pickle_problem", lambda _: None)
        with pytest.raises(OssIntegrityError, match="changes 'value' of Own"):
            read(changing)


class _Runs:
    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def hostile(directory: str) -> dict[str, bytes]:
    """Return pickles that would make the directory, change a class, or take memory without end."""
    o = Opcodes
    return {
        "a function": pickle.dumps(_Runs(os.mkdir, directory)),
        "a function in a field": pickle.dumps(Metadata({}, _Runs(os.mkdir, directory))),
        "a function in the path": pickle.dumps(Metadata({}, {}, {}, StorageMeta(_Runs(os.mkdir, directory)))),  # type: ignore[arg-type]
        "eval": o.whole(o.called("builtins", "eval", f"__import__('os').mkdir({directory!r})")),
        "getattr": o.whole(o.called("builtins", "getattr", o.name(METADATA, "Metadata"), "__init__")),
        "getattr of a member": o.whole(
            o.called("builtins", "getattr", o.name(METADATA, "_MEM_FORMAT_ENCODING"), "__class__")
        ),
        "a name with dots": o.whole(b"\x8c\x05torch\x8c\x0bos.getcwdb\x93)R"),
        "torch.load": o.whole(o.called("torch", "load", directory)),
        "a device mesh, which torch allows": o.whole(
            o.called("torch.distributed.device_mesh", "DeviceMesh", "cpu", [0])
        ),
        "a method of a class": o.whole(o.name(METADATA, "Metadata") + b"N" + o.value({"__eq__": 1}) + b"\x86b"),
        "an instance of a function": o.whole(o.name("torch.serialization", "_get_layout") + b")\x81"),
        "an attribute of torch as layout": o.whole(o.called("torch.serialization", "_get_layout", "torch.load")),
        "an enumeration made": o.whole(o.called(METADATA, "_MEM_FORMAT_ENCODING", "X", ("a", "b"))),
        "a member changed": o.whole(
            o.called("builtins", "getattr", o.name(METADATA, "_MEM_FORMAT_ENCODING"), "TORCH_CONTIGUOUS_FORMAT")
            + o.value({"_value_": 5})
            + b"b"
        ),
        "a member changed that is looked up by its value": o.whole(
            o.called(METADATA, "_MEM_FORMAT_ENCODING", 0) + o.value({"_value_": 5}) + b"b"
        ),
        "a member changed that is made": o.whole(
            o.name(METADATA, "_MEM_FORMAT_ENCODING") + o.value(0) + b"\x85\x81" + o.value({"_value_": 5}) + b"b"
        ),
        "copies without end": b"\x80\x04]((" + b"N" * 100_000 + b"t\x94" + b"cbuiltins\nlist\nh\0\x85R" * 3000 + b"e.",
        "much memory": o.whole(o.called("builtins", "bytearray", 1 << 30)),
        "a stated length": b"\x80\x05\x96" + (1 << 60).to_bytes(8, "little") + b".",
        "an object of a store": o.whole(b"Px\n"),
        "an extension": o.whole(b"\x82\x01"),
        "a memo without end": b"\x80\x02Nr\xff\xff\xff\xff.",
        "a stated text": b"\x80\x04X\xff\xff\xff\x7fabc",
        "keys that take forever to hash": b"\x80\x04})\x94"
        + b"".join(b"h%ch%c\x86\x94" % (i, i) for i in range(64))
        + b"Ns.",
        "a key nested without end": b"\x80\x04}(" + b")" + b"\x85" * 500_000 + b"Nu.",
        "an object that is changed later": b"\x80\x04" + o.name(METADATA, "MetadataIndex") + b")\x81\x94\x85h\x00}b.",
        "no object": b"",
        "another object": pickle.dumps({"a": 1}),
    }


NAMES = [*hostile("")]


@pytest.fixture
def untouched(tmp_path: Path) -> Iterator[str]:
    """A directory that must not appear, and classes that must not change."""
    formats = metadata_enumeration(METADATA, "_MEM_FORMAT_ENCODING").__members__  # type: ignore[union-attr]
    members = {name: dict(vars(member)) for name, member in formats.items()}
    before = {name: value for name, value in vars(Metadata).items() if name != "__annotations__"}
    yield str(tmp_path / "made")
    assert not (tmp_path / "made").exists()
    assert {name: value for name, value in vars(Metadata).items() if name != "__annotations__"} == before
    assert {name: vars(member) for name, member in formats.items()} == members


@pytest.mark.parametrize("which", NAMES)
def test_nothing_that_metadata_names_is_run(
    read: Callable[[bytes], Metadata], untouched: str, bucket: str, which: str
) -> None:
    with pytest.raises(OssIntegrityError, match=rf"oss://{bucket}/run/epoch-1/\.metadata"):
        read(hostile(untouched)[which])


WRONG = {
    "a number as name": Metadata({1: None}),  # type: ignore[dict-item]
    "no description": Metadata({"a": None}),  # type: ignore[dict-item]
    "no dtype": Metadata({"a": TensorStorageMetadata(None, torch.Size([1]), [])}),  # type: ignore[arg-type]
    "a size that is a text": Metadata({"a": TensorStorageMetadata(TensorProperties(), "ab", [])}),  # type: ignore[arg-type]
    "a chunk of another rank": Metadata(
        {
            "a": TensorStorageMetadata(
                TensorProperties(), torch.Size([1]), [ChunkStorageMetadata(torch.Size([0, 0]), torch.Size([1, 1]))]
            )
        }
    ),
    "a negative size": Metadata(
        {
            "a": TensorStorageMetadata(
                TensorProperties(), torch.Size([1]), [ChunkStorageMetadata(torch.Size([0]), torch.Size([-1]))]
            )
        }
    ),
    "a list of items": Metadata({}, storage_data=[1]),
    "a file that is a number": Metadata({}, storage_data={MetadataIndex("a"): StorageInfo(1, 0, 1)}),  # type: ignore[arg-type]
    "a negative offset": Metadata({}, storage_data={MetadataIndex("a"): StorageInfo("f", -1, 1)}),
    "a length that is a text": Metadata({}, storage_data={MetadataIndex("a"): StorageInfo("f", 0, "1")}),  # type: ignore[arg-type]
    "an item that is a text": Metadata({}, storage_data={MetadataIndex("a"): "f"}),
    "a storage meta that is a text": Metadata({}, storage_meta="x"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("which", WRONG)
def test_fields_of_another_type_are_an_error(read: Callable[[bytes], Metadata], which: str) -> None:
    with pytest.raises(OssIntegrityError, match="is not the metadata of a checkpoint"):
        read(pickle.dumps(WRONG[which]))


def test_looking_runs_no_code(emulator: Emulator, client: OssClient, bucket: str, untouched: str) -> None:
    checkpoint = OssCheckpoint(**emulator.connection)
    prefix = f"oss://{bucket}/run/"
    checkpoint.save({"a": torch.zeros(2)}, f"{prefix}epoch-1.pt")
    client.put(f"{prefix}epoch-2/.metadata", pickle.dumps(_Runs(os.mkdir, untouched)))
    assert checkpoint.exists(f"{prefix}epoch-2")
    assert len(checkpoint.list(prefix)) == 2
    assert checkpoint.latest(prefix) == f"{prefix}epoch-1.pt"
    assert checkpoint.keep(prefix, 1) == []


def test_a_save_replaces_what_it_cannot_read(
    file_system: OssFileSystem, client: OssClient, checkpoint_uri: str, untouched: str
) -> None:
    client.put(f"{checkpoint_uri}/.metadata", pickle.dumps(_Runs(os.mkdir, untouched)))
    dcp.save({"a": torch.ones(2)}, storage_writer=file_system.writer(checkpoint_uri))
    state = {"a": torch.zeros(2)}
    dcp.load(state, storage_reader=file_system.reader(checkpoint_uri))
    assert state["a"].sum() == 2


def test_a_load_runs_no_code(
    file_system: OssFileSystem, client: OssClient, checkpoint_uri: str, untouched: str
) -> None:
    client.put(f"{checkpoint_uri}/.metadata", pickle.dumps(_Runs(os.mkdir, untouched)))
    with pytest.raises(dcp.CheckpointException, match=r"posix\.mkdir"):
        dcp.load({"a": torch.zeros(2)}, storage_reader=file_system.reader(checkpoint_uri))


def test_metadata_and_checksums_beyond_memory_are_not_read(
    checkpoint_uri: str, file_system: OssFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    dcp.save({"a": torch.ones(2)}, storage_writer=file_system.writer(checkpoint_uri))
    for module in ("metadata", "reader"):
        with monkeypatch.context() as patched:
            patched.setattr(f"osstorchconnector.dcp.{module}.LARGEST_DESCRIPTION", 100)
            with pytest.raises(dcp.CheckpointException, match="no memory for"):
                dcp.load({"a": torch.zeros(2)}, storage_reader=file_system.reader(checkpoint_uri))
