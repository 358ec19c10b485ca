import importlib
import os
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


def test_the_old_name_of_the_plan_check_works_and_names_the_new_one() -> None:
    sys.modules.pop("osstorchconnector.dcp.coverage", None)
    with pytest.warns(DeprecationWarning, match="import check_plan from osstorchconnector.dcp.plan_check"):
        old = importlib.import_module("osstorchconnector.dcp.coverage")
    assert old.check_coverage is importlib.import_module("osstorchconnector.dcp.plan_check").check_plan


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


# What a program sees that runs where torch is not installed, or is too old.
WITHOUT_TORCH = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            raise ModuleNotFoundError("No module named 'torch'", name="torch")
sys.meta_path.insert(0, Missing())
"""


def test_client_emulator_and_file_system_work_without_torch() -> None:
    program = """
from osstorchconnector import generate_tar_archive
from osstorchconnector.fsspec.file_system import register
from osstorchconnector.testing import Emulator
with Emulator() as emulator:
    emulator.create_bucket("bucket")
    client = emulator.client()
    with client.writer("oss://bucket/k") as writer:
        writer.write(b"bytes")
    register(client)
    import fsspec
    with fsspec.open("oss://bucket/k") as file:
        print(file.read())
print(sys.modules.get("torch"))
"""
    done = subprocess.run([sys.executable, "-c", WITHOUT_TORCH + program], capture_output=True, text=True, check=False)
    assert (done.stdout.split("\n")[:2], done.stderr) == (["b'bytes'", "None"], "")


@pytest.mark.parametrize(
    "name", ["OssIterableDataset", "OssMapDataset", "OssCheckpoint", "OssFileSystem", "OssSafetensor"]
)
def test_a_name_that_needs_torch_reports_that_it_is_missing(name: str) -> None:
    program = f"{WITHOUT_TORCH}\nfrom osstorchconnector import {name}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (
        f"osstorchconnector.{name} needs PyTorch, which is not installed; run: pip install 'torch>=2.6'" in done.stderr
    )


def test_a_command_that_needs_torch_reports_that_it_is_missing() -> None:
    program = f"""{WITHOUT_TORCH}
from osstorchconnector.cli.__main__ import main
sys.exit(main(["checkpoint", "ls", "oss://b/k/", "--endpoint", "http://127.0.0.1:9"]))
"""
    environment = {**os.environ, "OSS_ACCESS_KEY_ID": "id", "OSS_ACCESS_KEY_SECRET": "secret"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, env=environment)
    assert (done.returncode, done.stderr) == (1, "osst checkpoint: needs PyTorch; run: pip install 'torch>=2.7'\n")


@pytest.mark.parametrize(
    ("module", "version", "reason"),
    [
        ("osstorchconnector.dataset.map", "2.5.1+cu124", "torch 2.5.1+cu124 is too old: 2.6 or newer is needed"),
        ("osstorchconnector.checkpoint.checkpoint", "1.13.1", "torch 1.13.1 is too old: 2.6 or newer is needed"),
        ("osstorchconnector.dcp", "2.6.0", "torch 2.6.0 is too old: 2.7 or newer is needed"),
    ],
)
@pytest.mark.slow(90)
def test_a_torch_that_is_too_old_is_refused(module: str, version: str, reason: str) -> None:
    program = f"import torch\ntorch.__version__ = {version!r}\nimport {module}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert reason in done.stderr


@pytest.mark.slow(90)
def test_what_needs_no_distributed_checkpoints_takes_an_older_torch() -> None:
    program = "import torch\ntorch.__version__ = '2.6.0'\nfrom osstorchconnector import OssCheckpoint, OssMapDataset"
    subprocess.run([sys.executable, "-c", program], check=True)
