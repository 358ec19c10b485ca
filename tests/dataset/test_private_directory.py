import copy
import gc
import multiprocessing
import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from osstorchconnector import OssConfigError
from osstorchconnector.dataset import private_directory
from osstorchconnector.dataset.private_directory import PrivateDirectory, sweep
from tests.border.running import Program


@pytest.fixture(autouse=True)
def _temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    yield
    gc.collect()


def test_nothing_is_made_before_it_is_needed(tmp_path: Path) -> None:
    directory = PrivateDirectory()
    assert directory.path.parent == tmp_path
    assert list(tmp_path.iterdir()) == []
    assert directory.make() == directory.make() == directory.path
    assert directory.path.stat().st_mode & 0o777 == 0o700


def test_it_is_removed_with_its_object() -> None:
    directory = PrivateDirectory()
    path = directory.make()
    (path / "file").write_text("content")
    del directory
    gc.collect()
    assert not path.exists()


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
def test_a_copy_has_its_own(duplicate: "type[PrivateDirectory]") -> None:
    directory = PrivateDirectory()
    twin = duplicate(directory)  # type: ignore[call-arg]
    assert twin.path != directory.path
    path = twin.make()
    del twin
    gc.collect()
    assert not path.exists()


def use(directory: PrivateDirectory, name: str) -> None:
    (directory.make() / name).touch()
    del directory
    gc.collect()


@pytest.mark.slow(120)
@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_a_started_process_uses_it_and_leaves_it(method: str) -> None:
    directory = PrivateDirectory()
    for name in ("first", "second"):
        process = multiprocessing.get_context(method).Process(target=use, args=(directory, name))  # type: ignore[attr-defined]
        process.start()
        process.join()
        assert process.exitcode == 0
    assert {entry.name for entry in directory.path.iterdir()} == {"first", "second"}


PROGRAM = """
import os, sys, tempfile
tempfile.tempdir = sys.argv[1]
from osstorchconnector.dataset.private_directory import PrivateDirectory
directory = PrivateDirectory()
print(directory.make(), flush=True)
{end}
"""


@pytest.mark.parametrize(
    ("end", "left"),
    [("", False), ("raise SystemExit(3)", False), ("if os.fork(): os.wait()", False), ("os._exit(0)", True)],
)
def test_the_end_of_its_process_removes_it(tmp_path: Path, end: str, left: bool) -> None:  # noqa: FBT001
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(end=end), str(tmp_path)], stdout=subprocess.PIPE, text=True, check=False
    )
    path = Path(ended.stdout.strip())
    assert path.parent == tmp_path
    assert path.exists() == left
    # The next process that makes a directory removes the one that was left behind.
    PrivateDirectory().make()
    assert not path.exists()


def test_directories_of_others_are_not_removed(tmp_path: Path) -> None:
    own = PrivateDirectory().path.name.split("-")
    dead = [*own[:2], "4194304", *own[3:]]
    assert not Path("/proc/4194304").exists()
    names = {
        "living": "-".join(own),
        "dead": "-".join(dead),
        "recycled": "-".join([*own[:3], "1", *own[4:]]),
        "another user's": "-".join([own[0], str(os.getuid() + 1), *dead[2:]]),
        "another namespace's": "-".join([*dead[:4], "1", *dead[5:]]),
        "another program's": "osstorchconnector-notes",
    }
    for name in names.values():
        (tmp_path / name).mkdir()
    target = tmp_path / "target"
    target.mkdir()
    link = tmp_path / ("-".join(dead[:5]) + "-" + "0" * 32)
    link.symlink_to(target)
    sweep(tmp_path)
    gone = {which for which, name in names.items() if not (tmp_path / name).exists()}
    assert gone == {"dead", "recycled"}
    assert link.is_symlink()
    assert target.is_dir()


def test_directories_of_another_machine_are_not_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Both share a directory for temporary files, and the first pid namespace of each has the same number.
    (tmp_path / "boot").write_text("00000000-0000-4000-8000-000000000001\n")
    with monkeypatch.context() as patch:
        patch.setattr(private_directory, "_BOOT_ID", tmp_path / "boot", raising=False)
        theirs = PrivateDirectory().path.name.split("-")
    other = tmp_path / "-".join([*theirs[:2], "4194304", *theirs[3:]])
    other.mkdir()
    sweep(tmp_path)
    assert other.is_dir()
    assert list(private_directory.living(tmp_path)) == []


def test_a_directory_that_is_not_private_is_refused(tmp_path: Path) -> None:
    ways: list[Callable[[Path], object]] = [
        lambda path: path.mkdir(mode=0o755),
        lambda path: path.symlink_to(tmp_path),
        lambda path: path.write_text(""),
    ]
    for spoil in ways:
        directory = PrivateDirectory()
        spoil(directory.path)
        with pytest.raises(OssConfigError, match="not a private directory of this user: remove it"):
            directory.make()


def test_a_directory_that_cannot_be_made_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/nonexistent")
    with pytest.raises(OssConfigError, match=r"/nonexistent/.*No such file or directory.*TMPDIR"):
        PrivateDirectory().make()


def test_the_next_process_removes_the_directory_of_a_killed_one(tmp_path: Path) -> None:
    with Program("holding_directory", str(tmp_path)) as program:
        program.expect("made")
        (path,) = tmp_path.iterdir()
        sweep(tmp_path)
        assert path.exists()
    sweep(tmp_path)
    assert not path.exists()
