import importlib
import json
import os
import subprocess
import sys
from types import ModuleType

import pytest

import osstorchconnector
from osstorchconnector.integrations import MODULES
from tests import public_api
from tests.docs.test_reference import PUBLIC


def test_all_is_what_can_be_imported_sorted() -> None:
    for name in osstorchconnector.__all__:
        assert getattr(osstorchconnector, name) is not None
    public = {
        name
        for name, value in vars(osstorchconnector).items()
        # Other tests may have used names of integrations.
        if name not in MODULES
        and not name.startswith("_")
        and not isinstance(value, ModuleType)
        and name not in {"Final", "TYPE_CHECKING"}
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
        # It imports the framework only for types.
        ("accelerate", ["OssAcceleratorState"]),
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
        pytest.param(
            "lightning",
            ["OssCheckpointIO", "OssFabricShardedCheckpoints", "OssShardedCheckpoints"],
            marks=pytest.mark.slow(120),
        ),
        pytest.param("transformers", ["OssTrainerCallback"], marks=pytest.mark.slow(120)),
        ("safetensor", ["OssSafeOpen", "OssSafetensor", "OssSlice"]),
        (
            "testing",
            ["Connection", "ConnectionArguments", "Emulator", "Fault", "FaultRule", "KeyPair", "RecordedRequest"],
        ),
    ],
)
def test_a_public_module_keeps_its_place(path: str, names: list[str]) -> None:
    if path == "transformers":
        pytest.importorskip(path)
    module = importlib.import_module(f"osstorchconnector.{path}")
    assert all(getattr(module, name) is not None for name in names)


def test_the_old_name_of_the_connection_arguments_still_works() -> None:
    testing = importlib.import_module("osstorchconnector.testing")
    assert testing.Connection is testing.ConnectionArguments


@pytest.mark.parametrize(
    "package",
    ["archive", "checkpoint", "connection", "credentials", "dataset", "dcp", "fsspec", "safetensor", "testing"],
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
from osstorchconnector.fsspec import FsspecFileSystem, use_client
from osstorchconnector.testing import Emulator
with Emulator() as emulator:
    emulator.create_bucket("bucket")
    client = emulator.client()
    with client.writer("oss://bucket/k") as writer:
        writer.write(b"bytes")
    use_client(client)
    import fsspec
    fsspec.register_implementation("oss", FsspecFileSystem, clobber=True)
    with fsspec.open("oss://bucket/k") as file:
        print(file.read())
print(sys.modules.get("torch"))
"""
    done = subprocess.run([sys.executable, "-c", WITHOUT_TORCH + program], capture_output=True, text=True, check=False)
    assert (done.stdout.split("\n")[:2], done.stderr) == (["b'bytes'", "None"], "")


DISTRIBUTED = {
    "OssDCPFileSystem",
    "OssFileSystem",
    "OssHuggingFaceStorageReader",
    "OssStorageReader",
    "OssStorageWriter",
    "osstorchconnector.dcp",
}


def test_everything_that_needs_torch_reports_that_it_is_missing() -> None:
    names = [
        *DISTRIBUTED - {"osstorchconnector.dcp"},
        "OssCheckpoint",
        "OssIterableDataset",
        "OssMapDataset",
        "OssSafetensor",
    ]
    modules = [f"osstorchconnector.{name}" for name in ("accelerate", "dcp", "lightning", "transformers")]
    statements = {
        **{f"from osstorchconnector import {name}": (f"osstorchconnector.{name}", name) for name in names},
        **{f"import {name}": (name, name) for name in modules},
        # The first name of all that needs torch.
        "from osstorchconnector import *": ("osstorchconnector.OssCheckpoint", ""),
    }
    program = f"""{WITHOUT_TORCH}
for statement in {list(statements)!r}:
    try:
        exec(statement)
    except ImportError as error:
        print(statement, error.name, error, sep="|")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        f"{statement}|torch|{what} needs PyTorch, which is not installed; run: pip install "
        f"'torch>={'2.7' if name in DISTRIBUTED else '2.6'}'"
        for statement, (what, name) in statements.items()
    ]


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


@pytest.mark.parametrize(
    ("before", "now", "is_broken"),
    [
        (["self", "uri"], ["self", "uri"], False),
        (["self", "uri"], ["self", "uri", "limit=None"], False),
        (["self", "uri"], ["self", "uri", "*", "limit=None"], False),
        (["self", "*", "limit=None"], ["self", "limit=None"], False),
        (["self", "uri", "/"], ["self", "uri"], False),
        (["self", "uri"], ["self"], True),
        (["self", "uri"], ["self", "key"], True),
        (["self", "uri", "limit=1"], ["self", "uri", "limit=2"], True),
        (["self", "uri", "limit=1"], ["self", "limit=1", "uri"], True),
        (["self", "uri", "limit=1"], ["self", "uri", "*", "limit=1"], True),
        (["self", "uri"], ["self", "uri", "bucket"], True),
        (["self"], ["self", "*", "bucket"], True),
        (["self", "*args"], ["self"], True),
    ],
)
def test_a_change_that_breaks_callers_is_found(before: list[str], now: list[str], is_broken: object) -> None:
    assert bool(public_api.broken({"package.get": before}, {"package.get": now})) is is_broken


def test_a_name_or_a_base_that_is_gone_is_found() -> None:
    before = {"package.OssError": ["RuntimeError", "Exception"], "package.get": []}
    assert public_api.broken(before, before) == []
    assert (
        public_api.broken(before, {"package.OssError": ["OSError", "RuntimeError", "Exception"], "package.get": []})
        == []
    )
    assert public_api.broken(before, {"package.OssError": ["Exception"]}) == [
        "package.OssError(RuntimeError, Exception) is now (Exception)",
        "package.get is gone",
    ]


# They import Transformers, or name what others have that are not installed for the tests.
WITH_FRAMEWORKS = {"integrations", "integrations.ultralytics", "transformers"}


def test_the_record_is_of_every_module_that_the_reference_shows() -> None:
    recorded = {path.removeprefix("osstorchconnector.") for path in public_api.MODULES}
    assert set(PUBLIC) - recorded == WITH_FRAMEWORKS


# The first import of lightning takes long.
@pytest.mark.slow(120)
def test_programs_that_were_written_before_still_run() -> None:
    before = json.loads(public_api.FILE.read_text())
    assert len(before) > 400
    # What is new is written down when it is released: python -m tests.public_api
    assert public_api.broken(before, public_api.public()) == []
