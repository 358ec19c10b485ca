import importlib
import subprocess
import sys
from types import ModuleType

import pytest

import osstorchconnector


def test_all_is_what_can_be_imported_sorted() -> None:
    for name in osstorchconnector.__all__:
        assert getattr(osstorchconnector, name) is not None
    public = {
        name
        for name, value in vars(osstorchconnector).items()
        if not name.startswith("_") and not isinstance(value, ModuleType) and name not in {"Final", "TYPE_CHECKING"}
    }
    assert osstorchconnector.__all__ == sorted(public | {"__version__"}, key=str.casefold)


def test_everything_of_the_exceptions_module_is_at_the_top() -> None:
    from osstorchconnector import exceptions  # noqa: PLC0415 - at the top it would count as public

    assert set(exceptions.__all__) <= set(osstorchconnector.__all__)


def test_star_import() -> None:
    namespace: dict[str, object] = {}
    exec("from osstorchconnector import *", namespace)
    assert set(osstorchconnector.__all__) <= set(namespace)


def test_lazy_names_are_listed() -> None:
    assert set(osstorchconnector.__all__) <= set(dir(osstorchconnector))


def test_an_unknown_name_is_reported() -> None:
    with pytest.raises(AttributeError, match="module 'osstorchconnector' has no attribute 'OssNothing'"):
        osstorchconnector.OssNothing  # type: ignore[attr-defined]  # noqa: B018


@pytest.mark.parametrize(
    "statement",
    [
        "import osstorchconnector",
        "from osstorchconnector import OssClient, OssConfig, OssError",
        "import osstorchconnector.testing",
        "import osstorchconnector.testing.pytest_plugin",
        "import osstorchconnector.testing_plugin",
        "import osstorchconnector.cli.__main__",
    ],
)
def test_torch_is_not_imported_before_it_is_needed(statement: str) -> None:
    check = "import sys; print('torch' in sys.modules, 'osstorchconnector' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", f"{statement}\n{check}"], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["False", "True"]


@pytest.mark.slow(90)
def test_a_lazy_name_imports_torch() -> None:
    check = "from osstorchconnector import OssIterableDataset; import sys; print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["True"]


@pytest.mark.parametrize(
    ("path", "name", "new_path"),
    [
        ("iterable_dataset", "OssIterableDataset", "osstorchconnector"),
        ("map_dataset", "OssMapDataset", "osstorchconnector"),
        ("testing_plugin", "oss_emulator", "osstorchconnector.testing.pytest_plugin"),
        ("dcp.catalogue", "checkpoints", "osstorchconnector.dcp.history"),
    ],
)
def test_an_old_import_path_works_and_names_the_new_one(path: str, name: str, new_path: str) -> None:
    sys.modules.pop(f"osstorchconnector.{path}", None)
    with pytest.warns(
        DeprecationWarning, match=f"osstorchconnector.{path} is deprecated; import from osstorchconnector"
    ):
        old = importlib.import_module(f"osstorchconnector.{path}")
    assert getattr(old, name) is getattr(importlib.import_module(new_path), name)


# The public modules of release 2.0.0a1, and their public names.
@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("checkpoint", ["OssCheckpoint"]),
        ("credentials", ["DefaultCredentials", "EcsRoleCredentials"]),
        ("dcp", ["OssFileSystem", "OssStorageReader", "OssStorageWriter"]),
        ("dcp.file_system", ["OssFileSystem"]),
        ("dcp.hugging_face", ["OssHuggingFaceStorageReader"]),
        ("dcp.prefix", ["HexadecimalPrefix", "PrefixStrategy", "RoundRobinPrefix"]),
        ("dcp.reader", ["OssStorageReader", "ReadReport"]),
        ("dcp.writer", ["OssStorageWriter"]),
        ("exceptions", ["OssError"]),
        # The first import of lightning takes long.
        pytest.param("lightning", ["OssCheckpointIO"], marks=pytest.mark.slow(120)),
        ("safetensor", ["OssSafeOpen", "OssSafetensor", "OssSlice"]),
        (
            "testing",
            ["Connection", "ConnectionArguments", "Emulator", "Fault", "FaultRule", "KeyPair", "RecordedRequest"],
        ),
    ],
)
def test_a_public_module_keeps_its_place(path: str, names: list[str]) -> None:
    module = importlib.import_module(f"osstorchconnector.{path}")
    assert all(getattr(module, name) is not None for name in names)


def test_the_old_name_of_the_connection_arguments_still_works() -> None:
    testing = importlib.import_module("osstorchconnector.testing")
    assert testing.Connection is testing.ConnectionArguments


@pytest.mark.parametrize(
    "package", ["archive", "checkpoint", "connection", "credentials", "dataset", "dcp", "safetensor", "testing"]
)
def test_a_package_lists_what_users_import(package: str) -> None:
    module = importlib.import_module(f"osstorchconnector.{package}")
    assert module.__all__ == sorted(module.__all__, key=str.casefold)
    assert all(getattr(module, name) is not None for name in module.__all__)
    assert set(module.__all__) <= set(dir(module))
