"""Local copies of models: made once, shared, checked, removed or kept, whatever kills the processes that use them."""

import fcntl
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from osstorchconnector import OssClient, OssConfigError, OssError, OssIntegrityError
from osstorchconnector.files import space
from osstorchconnector.model_files import copies as copies_module
from osstorchconnector.model_files.copies import LocalCopies, LocalCopy
from osstorchconnector.model_files.listing import model_files
from osstorchconnector.model_files.lock import FileLock
from osstorchconnector.testing import Emulator
from tests.forks import idle_fork
from tests.model_files.conftest import FILES, TOTAL, store

WEIGHTS = "model-00001-of-00002.safetensors"

USER = """
import sys
from osstorchconnector import OssClient
from osstorchconnector.model_files.copies import LocalCopies
from osstorchconnector.model_files.listing import model_files
from pathlib import Path
endpoint, key, region, place, uri, keep = sys.argv[1:]
client = OssClient(endpoint, key, region=region)
copies = LocalCopies(Path(place), keep=bool(keep))
copy = copies.acquire(client, uri, model_files(client, uri), advance=lambda _count: None,
                      waiting=lambda: print("waiting", flush=True))
print(copy.directory, flush=True)
sys.stdin.read()
copy.release()
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "place"


@pytest.fixture
def acquire(client: OssClient, model: str, place: Path) -> Callable[..., LocalCopy]:
    def acquire(*, keep: bool = False, uri: str = model, limit: int | None = None, **options: Any) -> LocalCopy:
        copies = LocalCopies(place, keep=keep, limit=limit)
        return copies.acquire(client, uri, model_files(client, uri), **{"advance": lambda _count: None, **options})

    return acquire


def start(emulator: Emulator, place: Path, uri: str, keep: str = "") -> "subprocess.Popen[str]":
    command = [
        sys.executable,
        "-c",
        USER,
        emulator.endpoint,
        emulator.cred_path,
        emulator.region,
        str(place),
        uri,
        keep,
    ]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def line_of(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def finish(process: "subprocess.Popen[str]") -> None:
    process.communicate(timeout=20)
    assert process.returncode == 0


def files_in(directory: Path) -> dict[str, bytes]:
    return {
        path.relative_to(directory).as_posix(): path.read_bytes() for path in directory.rglob("*") if path.is_file()
    }


def left(place: Path) -> list[str]:
    """Return what is left below a place besides the lock of those who decide about space."""
    return sorted(path.name for path in place.iterdir() if path.name != "space")


def fetched(emulator: Emulator) -> set[str]:
    return {str(request.key).rpartition("/")[2] for request in emulator.requests(operation="GetObject")}


def until(condition: Callable[[], bool]) -> None:
    limit = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.01)


def test_a_copy_has_all_files_and_goes_with_its_last_user(acquire: Any, place: Path) -> None:
    counted: list[int] = []
    first = acquire(advance=counted.append)
    assert first.directory.name == "llama"
    assert files_in(first.directory) == FILES
    assert sum(counted) == TOTAL
    assert place.stat().st_mode & 0o777 == 0o700
    assert all(path.stat().st_mode & 0o222 == 0 for path in first.directory.rglob("*") if path.is_file())
    second = acquire()
    assert second.directory == first.directory
    assert not first.release()
    assert files_in(second.directory) == FILES
    assert second.release()
    assert left(place) == []
    assert not second.release()


def test_several_processes_fetch_once(model: str, place: Path, emulator: Emulator) -> None:
    emulator.clear_requests()
    processes = [start(emulator, place, model) for _ in range(4)]
    lines = [[line for line in (line_of(process),) if line] for process in processes]
    directories = {
        found[-1] if found[-1] != "waiting" else line_of(process)
        for found, process in zip(lines, processes, strict=True)
    }
    assert len(directories) == 1
    assert files_in(Path(*directories)) == FILES
    requests = emulator.requests(operation="GetObject")
    # Each reads the listing, and one of them the files.
    assert sum(request.response_bytes for request in requests) == TOTAL
    for process in processes:
        finish(process)
    assert left(place) == []


def test_what_a_killed_process_left_is_removed_by_the_next(
    acquire: Any, client: OssClient, model: str, place: Path, emulator: Emulator
) -> None:
    killed = start(emulator, place, model)
    directory = Path(line_of(killed))
    killed.kill()
    killed.communicate()
    assert files_in(directory) == FILES
    other = f"{model}-2"
    store(client, other, {"config.json": b"{}"})
    with_other = acquire(uri=other)
    assert not directory.exists()
    with_other.release()
    assert left(place) == []


@pytest.mark.parametrize("keep", ["", "keep"])
def test_a_process_that_is_killed_while_it_fetches_is_continued(
    model: str, place: Path, emulator: Emulator, keep: str
) -> None:
    with emulator.fault(operation="GetObject", key=f"*{WEIGHTS}", stall="middle"):
        killed = start(emulator, place, model, keep)
        until(lambda: sum(path.name in FILES for path in place.rglob("*-00002-*")) == 1)
        waiting = start(emulator, place, model, keep)
        assert line_of(waiting) == "waiting"
        killed.kill()
        killed.communicate()
        emulator.clear_requests()
    # The one that waited has the lock now.
    directory = Path(line_of(waiting))
    assert files_in(directory).items() >= FILES.items()
    assert WEIGHTS in fetched(emulator)
    assert "model-00002-of-00002.safetensors" not in fetched(emulator)
    finish(waiting)
    assert bool(list(place.glob("*.lock"))) == bool(keep)


def test_a_program_that_inherits_the_descriptor_keeps_the_copy(acquire: Any, client: OssClient, model: str) -> None:
    copy = acquire()
    os.set_inheritable(copy.descriptor, True)  # noqa: FBT003 - it has no name
    program = subprocess.Popen(
        [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=[copy.descriptor], text=True
    )
    # As if this process was killed: the system closes its descriptors.
    copy._end.detach()
    copy._lock.close()
    other = f"{model}-2"
    store(client, other, {"config.json": b"{}"})
    acquire(uri=other).release()
    assert files_in(copy.directory) == FILES
    program.communicate("\n")
    acquire(uri=other).release()
    assert not copy.directory.exists()


def test_an_interrupted_fetch_leaves_nothing(acquire: Any, place: Path, emulator: Emulator) -> None:
    for error in (KeyboardInterrupt, OssError("no")):

        def interrupt(_count: int, error: Any = error) -> None:
            raise error

        with pytest.raises(type(error) if isinstance(error, Exception) else error):
            acquire(advance=interrupt)
        assert left(place) == []
    with emulator.fault(operation="GetObject", key=f"*{WEIGHTS}", flip="middle"), pytest.raises(OssIntegrityError):
        acquire()
    assert left(place) == []
    copy = acquire()
    assert files_in(copy.directory) == FILES


def test_a_process_that_waited_for_one_that_failed_fetches_itself(
    acquire: Any, model: str, place: Path, emulator: Emulator
) -> None:
    with emulator.fault(operation="GetObject", key=f"*{WEIGHTS}", flip="middle", delay=0.5):
        failing = start(emulator, place, model)
        until(lambda: any(place.glob("*.lock")))
        found: list[LocalCopy] = []
        asked = threading.Event()
        thread = threading.Thread(target=lambda: found.append(acquire(waiting=asked.set)))
        thread.start()
        assert asked.wait(20)
        # The fault ends before this process begins.
        until(lambda: len(emulator.requests(operation="GetObject")) > 0)
        assert failing.wait(20) == 1
    thread.join(30)
    assert not thread.is_alive()
    assert not found or files_in(found[0].directory) == FILES
    failing.communicate()


def test_a_copy_is_kept_and_checked_without_fetching(acquire: Any, emulator: Emulator) -> None:
    acquire(keep=True).release()
    emulator.clear_requests()
    copy = acquire(keep=True)
    assert emulator.requests(operation="GetObject") == []
    assert files_in(copy.directory) == FILES
    copy.release()
    acquire(keep=True, compare=True).release()
    assert emulator.requests(operation="GetObject") == []


@pytest.mark.parametrize("damage", ["content", "content and time", "size", "gone", "link"])
def test_a_damaged_file_of_a_cache_is_fetched_again(
    acquire: Any, emulator: Emulator, damage: str, tmp_path: Path
) -> None:
    copy = acquire(keep=True)
    path = copy.directory / WEIGHTS
    copy.release()
    before = path.stat()
    path.chmod(0o644)
    if damage == "gone":
        path.unlink()
    elif damage == "link":
        (tmp_path / "other").write_bytes(bytes(len(FILES[WEIGHTS])))
        path.unlink()
        path.symlink_to(tmp_path / "other")
    else:
        with path.open("r+b") as file:
            file.write(b"damaged")
            file.truncate(100 if damage == "size" else len(FILES[WEIGHTS]))
    if damage == "content and time":
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    emulator.clear_requests()
    # Without a look at the content, a change that hides itself is not seen.
    copy = acquire(keep=True, compare=damage == "content and time")
    assert fetched(emulator) == {WEIGHTS}
    assert files_in(copy.directory) == FILES
    assert not (copy.directory / WEIGHTS).is_symlink()


def test_a_new_version_shares_the_files_that_are_the_same(
    acquire: Any, client: OssClient, model: str, emulator: Emulator
) -> None:
    old = acquire(keep=True)
    client.put(f"{model}/config.json", b'{"new": 1}')
    emulator.clear_requests()
    new = acquire(keep=True)
    assert fetched(emulator) == {"config.json"}
    assert new.directory != old.directory
    assert (old.directory / "config.json").read_bytes() == b"{}"
    assert (new.directory / "config.json").read_bytes() == b'{"new": 1}'
    assert (new.directory / WEIGHTS).stat().st_ino == (old.directory / WEIGHTS).stat().st_ino


def test_the_cache_removes_what_was_not_used_for_longest(
    acquire: Any, client: OssClient, bucket: str, place: Path
) -> None:
    uris = [f"oss://{bucket}/{name}" for name in ("one", "two", "three")]
    for uri in uris:
        store(client, uri, {"model.safetensors": os.urandom(1000)})
    one, two = (acquire(keep=True, uri=uri, limit=2500) for uri in uris[:2])
    two.release()
    one.release()
    for lock, moment in ((one, 2), (two, 1)):
        os.utime(place / f"{lock.directory.parent.name}.lock", (moment, moment))
    acquire(keep=True, uri=uris[0], limit=2500).release()
    three = acquire(keep=True, uri=uris[2], limit=2500)
    assert [copy.directory.exists() for copy in (one, two, three)] == [True, False, True]
    one = acquire(keep=True, uri=uris[0], limit=2500)
    with pytest.raises(OssConfigError, match=r"whose limit is 0\.00 GiB, and programs use .* a larger limit"):
        acquire(keep=True, uri=uris[1], limit=2500)
    assert files_in(one.directory).keys() == files_in(three.directory).keys() == {"model.safetensors"}


def test_no_room_is_said_before_anything_is_fetched(
    acquire: Any, model: str, place: Path, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copies_module, "free_space", lambda _place: TOTAL - 1)
    emulator.clear_requests()
    with pytest.raises(OssConfigError, match=rf"{model} needs 0\.01 GiB below {place} \(.* are free\): give a dir"):
        acquire()
    assert emulator.requests(operation="GetObject") == []
    assert list(place.glob("*.lock")) == []


def test_room_is_made_if_the_disk_is_full(
    acquire: Any, client: OssClient, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(client, f"{model}-2")
    first = acquire(keep=True)
    first.release()
    monkeypatch.setattr(
        copies_module,
        "free_space",
        lambda place: TOTAL * 3 // 2 - sum(path.stat().st_size for path in place.rglob("*.safetensors")),
    )
    second = acquire(keep=True, uri=f"{model}-2")
    assert not first.directory.exists()
    assert files_in(second.directory) == FILES


@pytest.mark.parametrize("keep", [False, True])
def test_files_of_others_in_the_place_stay(acquire: Any, client: OssClient, model: str, place: Path, keep: Any) -> None:
    # A directory of a project, whose package managers have lock files beside directories of the same name.
    mine = {"Cargo.lock": b"1", "Cargo/main.rs": b"2", "poetry.lock": b"3", "poetry.json": b"4", ".lock": b"5"}
    for name, content in mine.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(content)
    place.chmod(0o700)
    store(client, f"{model}-2")
    acquire(keep=keep).release()
    acquire(keep=keep, uri=f"{model}-2", limit=TOTAL * 3 // 2).release()
    client.put(f"{model}/../config.json", b"{}")
    with pytest.raises(OssConfigError, match="cannot become a path"):
        acquire(keep=keep, uri=f"{model}/..")
    found = files_in(place)
    assert {name: found[name] for name in mine} == mine


def test_a_place_that_others_can_write_to_is_refused(acquire: Any, place: Path) -> None:
    place.mkdir()
    place.chmod(0o777)
    with pytest.raises(OssConfigError, match="other users can write to"):
        acquire()
    place.chmod(0o700)
    place.rmdir()
    place.write_bytes(b"")
    with pytest.raises(OssConfigError, match="cannot be made"):
        acquire()


def test_a_forked_child_does_not_remove_the_copy(acquire: Any) -> None:
    copy = acquire()
    child = os.fork()
    if child == 0:
        copy.release()
        os._exit(0)
    os.waitpid(child, 0)
    assert files_in(copy.directory) == FILES


def can_be_shared(lock: Path) -> bool:
    with lock.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def test_a_kept_copy_can_be_used_while_a_fork_of_its_former_user_runs(acquire: Any, place: Path) -> None:
    copy = acquire(keep=True)
    with idle_fork():
        copy.release()
        assert [can_be_shared(lock) for lock in place.glob("*.lock")] == [True]


def test_a_copy_that_was_broken_off_can_be_made_while_a_fork_runs(acquire: Any, place: Path) -> None:
    once = iter([idle_fork()])
    with ExitStack() as stack:

        def break_off(_count: int) -> None:
            for fork in once:
                stack.enter_context(fork)
            raise LookupError

        with pytest.raises(LookupError):
            acquire(keep=True, advance=break_off)
        assert [can_be_shared(lock) for lock in place.glob("*.lock")] == [True]


def test_who_decides_about_space_leaves_the_lock_to_others_while_a_fork_runs(place: Path) -> None:
    place.mkdir()
    with ExitStack() as stack:
        with LocalCopies(place, keep=True)._deciding():
            stack.enter_context(idle_fork())
        assert can_be_shared(place / "space")


def test_a_lock_that_was_removed_meanwhile_is_not_one(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    first = FileLock.alone(path)
    assert first is not None
    assert FileLock.alone(path) is None
    found: list[FileLock | None] = []
    waiting = threading.Thread(target=lambda: found.append(FileLock.together(path)))
    waiting.start()
    while not Path("/proc/locks").read_text().count("->"):
        time.sleep(0.01)
    first.remove()
    first.close()
    waiting.join(20)
    assert found == [None]


def test_memory_bounds_what_is_free_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(space, "available_memory", lambda: 12345)
    mounts = tmp_path / "mounts"
    mounts.write_text(f"disk / ext4 rw 0 0\nshm {str(tmp_path).replace(' ', chr(92) + '040')} tmpfs rw 0 0\n")
    monkeypatch.setattr(space, "_MOUNTS", mounts)
    (tmp_path / "below").mkdir()
    assert space.in_memory(tmp_path / "below")
    assert space.free_space(tmp_path) == 12345
    assert not space.in_memory(tmp_path.parent)


@pytest.mark.parametrize(
    ("meminfo", "limit", "used", "expected"),
    [
        ("MemTotal: 100 kB\nMemAvailable: 50 kB\n", "max", "1", 50 << 10),
        ("MemTotal: 100 kB\nMemAvailable: 50 kB\n", "3000", "1000", 2000),
        ("MemTotal: 100 kB\nMemAvailable: 50 kB\n", "3000", "4000", 0),
        ("", "3000", "1000", 2000),
    ],
)
def test_the_memory_that_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, meminfo: str, limit: str, used: str, expected: int
) -> None:
    for name, text in (("meminfo", meminfo), ("memory.max", limit), ("memory.current", used)):
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(space, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(space, "_CGROUP", tmp_path)
    assert space.available_memory() == expected
