"""A secret in an argument of any public method is in no frame of this package when an exception leaves the method."""

import ast
import contextlib
import gc
import importlib
import inspect
import re
import traceback
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

import osstorchconnector
from osstorchconnector import (
    OssCheckpoint,
    OssClient,
    OssConfig,
    OssConfigError,
    OssFileSystem,
    OssHuggingFaceStorageReader,
    OssIterableDataset,
    OssMapDataset,
    OssModelConnector,
    OssSafetensor,
    OssStorageReader,
    OssStorageWriter,
    SeekableWriter,
    Writer,
    generate_tar_archive,
)
from osstorchconnector.credentials.shield import _PROVIDERS, guarded
from osstorchconnector.fsspec import FsspecFileSystem
from osstorchconnector.model import open_model
from tests.credentials.test_tracebacks import KEY, SECRET

PRESIGNED: Final = f"https://b.oss-cn-hangzhou.aliyuncs.com/key?x-oss-signature={SECRET}"
NOWHERE: Final = "http://127.0.0.1:1"
CONFIG: Final = OssConfig(access_key_id="id", access_key_secret="other", max_attempts=1, total_timeout=1)
CONNECTION: Final[dict[str, Any]] = {"endpoint": NOWHERE, "region": "cn-hangzhou", "config": CONFIG}
URI: Final = "oss://some-bucket/key"

MODULES: Final = (
    "osstorchconnector",
    "osstorchconnector.credentials",
    "osstorchconnector.dataset",
    "osstorchconnector.dcp",
    "osstorchconnector.dcp.history",
    "osstorchconnector.fsspec",
    "osstorchconnector.lightning",
    "osstorchconnector.model",
    "osstorchconnector.safetensor",
)

# Classes that take neither URIs nor connection arguments, or are not made by a program itself.
OTHERS: Final = {
    "Checkpoint",
    "ClientStats",
    "Credentials",
    "DatasetStats",
    "HexadecimalPrefix",
    "ObjectStat",
    "OssConfig",
    "OssFabricShardedCheckpoints",
    "OssModel",
    "OssSafeOpen",
    "OssShardedCheckpoints",
    "OssSlice",
    "PrefixStrategy",
    "ReadReport",
    "RoundRobinPrefix",
    "SeekableWriter",
    "TensorInfo",
    "WriteOptions",
}

# Names of arguments in which a URL may stand.
LOCATION: Final = re.compile(r"(.*uris?|(new_|source_|tar_|index_)?path[12]?|.*bucket|endpoint|prefix|dirpath|target)")

# Valid values of required arguments; the probed one is replaced.
VALUES: Final[dict[str, Any]] = {
    **CONNECTION,
    "uri": URI,
    "uris": [URI],
    "oss_uri": URI,
    "object_uris": [URI],
    "path": URI,
    "new_path": URI,
    "source_uri": URI,
    "target": URI,
    "prefix": "oss://some-bucket/",
    "dirpath": "oss://some-bucket/run",
    "bucket": "some-bucket",
    "new_bucket": "some-bucket",
    "data": b"",
    "manifest_file_path": "/nowhere",
    "tar_path": "oss://some-bucket/tar",
    "index_path": "oss://some-bucket/index",
    "tar_uri": "oss://some-bucket/tar",
    "tags": {},
    "tensors": {},
    "n": 1,
    "obj": {},
    "size_hint": None,
}


def instance(cls: type) -> object:
    if (
        cls in {FsspecFileSystem, OssClient, OssCheckpoint, OssFileSystem, OssModelConnector, OssSafetensor}
        or cls.__name__ == "OssCheckpointIO"
    ):
        return cls(**CONNECTION)
    if cls in {OssStorageReader, OssStorageWriter}:
        return cls(OssFileSystem(**CONNECTION), URI)
    if cls is OssHuggingFaceStorageReader:
        return cls(URI, file_system=OssFileSystem(**CONNECTION))
    if cls is OssIterableDataset or cls is OssMapDataset:
        return cls.from_objects([URI], **CONNECTION)
    raise AssertionError(f"say here how a {cls.__name__} is made, or that it takes no secret")


def public_classes() -> list[type]:
    found: dict[type, None] = {}
    for name in MODULES:
        module = importlib.import_module(name)
        for public in getattr(module, "__all__", None) or vars(module):
            value = getattr(module, public)
            if (
                inspect.isclass(value)
                and value.__module__.startswith("osstorchconnector.")
                and (hasattr(module, "__all__") or value.__module__ == name)
                and "_native" not in value.__module__
                and not issubclass(value, BaseException)
                and not public.startswith("_")
                and value.__name__ not in OTHERS
            ):
                found[value] = None
    return list(found)


CLASSES: Final = public_classes()
SOURCES: Final = [cls for cls in CLASSES if cls.__module__.startswith("osstorchconnector.credentials")]


def own_methods(cls: type) -> Iterator[str]:
    for name in dir(cls):
        owner = next((base for base in cls.__mro__ if name in vars(base)), object)
        if owner.__module__.startswith("osstorchconnector") and (not name.startswith("_") or name == "__init__"):
            member = inspect.getattr_static(cls, name)
            if callable(member) or isinstance(member, (classmethod, staticmethod)):
                yield name


def use(result: object) -> None:
    """Do what a caller does with a result: iterate over it, enter it, or call it."""
    if isinstance(result, (OssIterableDataset, Iterator)):
        next(iter(result))
    elif isinstance(result, OssMapDataset):
        result[0]
    elif isinstance(result, (Writer, SeekableWriter)):
        result.abort()
    elif isinstance(result, contextlib.AbstractContextManager):
        with result:
            pass


def probes(function: Callable[..., object]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the name of each argument, and arguments of which that one is a secret."""
    parameters = inspect.signature(function).parameters
    named = [name for name, p in parameters.items() if p.kind not in {p.VAR_POSITIONAL, p.VAR_KEYWORD}]
    valid = {name: VALUES.get(name) for name in named if name in VALUES or parameters[name].default is inspect._empty}
    for name in named:
        if not LOCATION.fullmatch(name) and name != "cred_provider":
            continue
        wrongs: list[object] = [[PRESIGNED]] if name.endswith("s") else [PRESIGNED]
        if name == "cred_provider":
            wrongs = [KEY, tuple(KEY.values())]
            # The key of the configuration would win.
            valid.pop("config", None)
        for wrong in wrongs:
            yield name, {**valid, name: wrong}


def locals_of(error: BaseException) -> Iterator[str]:
    """Yield what the frames of this package show in the tracebacks of an error, of its causes and contexts."""
    seen: list[BaseException | None] = [None]
    waiting = [error.__cause__, error.__context__, error]
    while waiting:
        found = waiting.pop()
        if found is None or found in seen:
            continue
        seen.append(found)
        waiting += [found.__cause__, found.__context__]
        for frame, _ in traceback.walk_tb(found.__traceback__):
            if "osstorchconnector" in frame.f_code.co_filename or frame.f_code.co_filename == "<string>":
                yield from (f"{frame.f_code.co_name}: {name} = {value!r}" for name, value in frame.f_locals.items())


def check(label: str, call: Callable[[], object]) -> tuple[bool, list[str]]:
    try:
        use(call())
    except Exception as error:  # noqa: BLE001 - any error
        return True, [f"{label}: {shown}" for shown in locals_of(error) if SECRET in shown]
    return False, []


@pytest.mark.parametrize("cls", [cls for cls in CLASSES if cls not in SOURCES], ids=lambda cls: cls.__name__)
def test_no_frame_of_a_public_method_shows_a_secret_argument(cls: type) -> None:
    raised = 0
    leaks: list[str] = []
    for method in own_methods(cls):
        function = cls if method == "__init__" else getattr(instance(cls), method)
        for name, arguments in probes(function):
            label = f"{cls.__name__}.{method}({name}=)"
            failed, found = check(label, lambda function=function, given=arguments: function(**given))  # type: ignore[misc]
            raised += failed
            leaks += found
    assert raised > 0
    assert leaks == []


@pytest.mark.parametrize("function", [generate_tar_archive, open_model], ids=lambda function: function.__name__)
def test_no_frame_of_a_public_function_shows_a_secret_argument(function: Callable[..., object]) -> None:
    found = [check(name, lambda given=given: function(**given)) for name, given in probes(function)]  # type: ignore[misc]
    assert any(failed for failed, _ in found)
    assert [leak for _, leaks in found for leak in leaks] == []


def test_a_mix_in_that_cannot_be_made_by_itself_is_guarded_too() -> None:
    mix_in = importlib.import_module("osstorchconnector.lightning").OssShardedCheckpoints
    own = [member for name, member in vars(mix_in).items() if not name.startswith("_") and inspect.isfunction(member)]
    assert own
    assert all(hasattr(member, "__wrapped__") for member in own)


# Only guarded functions call them.
INNER: Final = {"connect", "resolve"}


def takes_a_provider(node: ast.AST) -> bool:
    if not isinstance(node, ast.FunctionDef):
        return False
    arguments = (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
    return any(argument.arg.endswith("cred_provider") for argument in arguments)


def test_every_entry_that_takes_a_provider_is_guarded_also_those_of_libraries_that_are_not_installed() -> None:
    found: dict[str, bool] = {}
    for path in Path(osstorchconnector.__file__).parent.rglob("*.py"):
        for node in ast.parse(path.read_text()).body:
            if not isinstance(node, (ast.ClassDef, ast.FunctionDef)) or node.name in INNER:
                continue
            if any(map(takes_a_provider, node.body if isinstance(node, ast.ClassDef) else [node])):
                decorators = {one.id for one in node.decorator_list if isinstance(one, ast.Name)}
                found[node.name] = not decorators.isdisjoint({"guards_methods", "guarded", "shielded"})
    assert {"OSSDetDataset", "OSSYOLODataset", "make_oss_trainer", "OssClient"} <= found.keys()
    assert [name for name, is_guarded in found.items() if not is_guarded] == []


@pytest.mark.parametrize("name", sorted(_PROVIDERS))
def test_an_argument_that_may_be_the_keys_themselves_is_in_no_frame(name: str) -> None:
    namespace: dict[str, Any] = {"__name__": "osstorchconnector.made_up"}
    exec(f"def entry({name}):\n    raise ValueError", namespace)
    failed, leaks = check(name, lambda: guarded(namespace["entry"])(KEY))
    assert failed
    assert leaks == []


def test_frames_without_a_secret_stay() -> None:
    with pytest.raises(OssConfigError) as caught:
        OssClient(**CONNECTION).get("some-bucket/key")
    names = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert names[-2:] == ["get", "split_object"] or names[-3:] == ["get", "split_object", "split_prefix"]


def test_an_error_is_freed_without_the_garbage_collector() -> None:
    class Held:
        pass

    held = Held()
    reference = weakref.ref(held)

    @guarded
    def fail(_: object) -> None:
        raise ValueError

    gc.disable()
    try:
        with contextlib.suppress(ValueError):
            fail(held)
        del held
        assert reference() is None
    finally:
        gc.enable()
