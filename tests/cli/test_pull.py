"""`osst pull`: which files of a model are fetched, and that none is ever half there."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from osstorchconnector import OssClient
from osstorchconnector.model_files import download
from osstorchconnector.testing import Emulator
from tests.cli.conftest import PROGRAM, Osst

SMALL = {
    "config.json": b"{}",
    "generation_config.json": b"{}",
    "tokenizer.json": b"t" * 3000,
    "tokenizer.model": b"sentencepiece",
    "merges.txt": b"",
    "processor/preprocessor_config.json": b"{}",
}
WEIGHTS = {
    "model-00001-of-00002.safetensors": os.urandom(9 << 20),
    "model-00002-of-00002.safetensors": os.urandom(1 << 20),
}
INDEX = json.dumps({"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}})


@pytest.fixture
def model(client: OssClient, bucket: str) -> str:
    uri = f"oss://{bucket}/models/llama"
    for name, content in {**SMALL, **WEIGHTS, "model.safetensors.index.json": INDEX.encode()}.items():
        client.put(f"{uri}/{name}", content)
    client.put(f"oss://{bucket}/models/llama-2/config.json", b"another model")
    return uri


def files_in(directory: Path) -> dict[str, bytes]:
    return {
        path.relative_to(directory).as_posix(): path.read_bytes() for path in directory.rglob("*") if path.is_file()
    }


@pytest.mark.parametrize("slash", ["", "/"])
def test_all_but_the_weights(osst: Osst, model: str, tmp_path: Path, emulator: Emulator, slash: str) -> None:
    emulator.clear_requests()
    ended = osst("pull", model + slash, tmp_path / "to")
    assert (ended.status, ended.out) == (0, "")
    assert ended.err == "osst pull: 7 fetched, 0 up to date; give --weights to fetch the weights too\n"
    assert files_in(tmp_path / "to") == {**SMALL, "model.safetensors.index.json": INDEX.encode()}
    assert not [
        request for request in emulator.requests(operation="GetObject") if str(request.key).endswith(".safetensors")
    ]


def test_with_the_weights_and_no_file_is_fetched_again(
    osst: Osst, model: str, tmp_path: Path, emulator: Emulator
) -> None:
    osst("pull", model, tmp_path)
    emulator.clear_requests()
    assert osst("pull", model, tmp_path, "--weights").err == "osst pull: 2 fetched, 7 up to date\n"
    fetched = {request.key for request in emulator.requests(operation="GetObject")}
    # The index says which weights there must be.
    assert {str(key).rpartition("/")[2] for key in fetched} == {*WEIGHTS, "model.safetensors.index.json"}
    assert files_in(tmp_path) == {**SMALL, **WEIGHTS, "model.safetensors.index.json": INDEX.encode()}
    emulator.clear_requests()
    assert osst("pull", model, tmp_path, "--weights").err == "osst pull: 0 fetched, 9 up to date\n"
    assert sum(request.response_bytes for request in emulator.requests(operation="GetObject")) == len(INDEX)


@pytest.mark.parametrize("damage", ["content", "size", "time"])
def test_a_file_that_differs_is_fetched_again(
    osst: Osst, model: str, tmp_path: Path, emulator: Emulator, damage: str
) -> None:
    osst("pull", model, tmp_path)
    path = tmp_path / "tokenizer.json"
    if damage != "time":
        path.write_bytes(b"x" * (3000 if damage == "content" else 10))
    os.utime(path, (1, 1))
    emulator.clear_requests()
    ended = osst("pull", model, tmp_path)
    assert f"{int(damage != 'time')} fetched" in ended.err
    assert path.read_bytes() == SMALL["tokenizer.json"]
    assert path.stat().st_mtime != 1


@pytest.mark.parametrize("limit", [3000, 2999])
def test_a_small_file_is_compared_also_if_size_and_time_are_equal(
    osst: Osst, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    osst("pull", model, tmp_path)
    path = tmp_path / "tokenizer.json"
    moment = path.stat().st_mtime
    path.write_bytes(b"x" * path.stat().st_size)
    os.utime(path, (moment, moment))
    monkeypatch.setattr(download, "_COMPARED", limit)
    small = limit >= path.stat().st_size
    assert f"{int(small)} fetched, {7 - small} up to date" in osst("pull", model, tmp_path).err
    assert (path.read_bytes() == SMALL["tokenizer.json"]) is small


def test_json_and_dry_run_and_verbose(osst: Osst, model: str, tmp_path: Path) -> None:
    planned = osst("pull", model, tmp_path / "to", "--dry-run", "--json", "--weights").documents
    assert {document["status"] for document in planned} == {"planned"}
    assert not (tmp_path / "to").exists()
    done = osst("pull", model, tmp_path / "to", "--json", "--weights").documents
    assert sorted(map(str, planned)) == [str(d).replace("'done'", "'planned'") for d in sorted(done, key=str)]
    assert {document["source"].removeprefix(f"{model}/") for document in done} == {
        *SMALL,
        *WEIGHTS,
        "model.safetensors.index.json",
    }
    assert all(Path(document["target"]).stat().st_size == document["size"] for document in done)
    assert osst("pull", model, tmp_path / "other", "-v").out.count(f"copy {model}/") == 7


def test_a_selection(osst: Osst, model: str, tmp_path: Path) -> None:
    osst("pull", model, tmp_path, "--weights", "--include", "*.safetensors", "--exclude", "*-00002-*")
    assert files_in(tmp_path).keys() == {"model-00001-of-00002.safetensors"}


def test_an_index_that_names_a_missing_shard(osst: Osst, client: OssClient, model: str, tmp_path: Path) -> None:
    client.delete(f"{model}/model-00002-of-00002.safetensors")
    ended = osst("pull", model, tmp_path / "to", "--weights")
    assert ended.status == 1
    assert "says that model-00002-of-00002.safetensors holds tensor 'b', but there is no such file" in ended.err
    assert not (tmp_path / "to").exists()


@pytest.mark.parametrize(
    ("arguments", "status", "complaint"),
    [
        (["models/llama", "to"], 2, "'models/llama' is no oss:// URI: write oss://bucket/key"),
        (["oss://", "to"], 2, "oss://"),
        (["oss://BUCKET/models/lama", "to"], 1, "there is no model at oss://BUCKET/models/lama: no object matches"),
        (["oss://BUCKET/models/llama/config.json", "to"], 1, "is an object, not the directory of a model"),
        (["oss://BUCKET/models/llama", "FILE"], 2, "is a file: give a directory"),
        (["oss://BUCKET/models/llama", "oss://BUCKET/to"], 2, "oss://BUCKET/to"),
        (["oss://BUCKET/models/llama", "to", "--include", "none"], 1, "the selection leaves out all files"),
    ],
)
def test_wrong_arguments(
    osst: Osst,
    model: str,
    bucket: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: Any,
    status: int,
    complaint: str,
) -> None:
    assert model
    monkeypatch.chdir(tmp_path)
    (tmp_path / "FILE").touch()
    ended = osst("pull", *(word.replace("BUCKET", bucket) for word in arguments))
    assert ended.status == status
    assert complaint.replace("BUCKET", bucket) in ended.err
    assert files_in(tmp_path) == {"FILE": b""}


def test_only_weights(osst: Osst, client: OssClient, bucket: str, tmp_path: Path) -> None:
    client.put(f"oss://{bucket}/m/model.safetensors", b"12345")
    ended = osst("pull", f"oss://{bucket}/m", tmp_path)
    assert (ended.status, "all 1 files are weights, of 5 B; give --weights" in ended.err) == (1, True)


def test_a_key_that_would_leave_the_directory(osst: Osst, client: OssClient, bucket: str, tmp_path: Path) -> None:
    for key in ("m/config.json", "m/../evil.json", "m/sub//x.json"):
        client.put(f"oss://{bucket}/{key}", b"{}")
    ended = osst("pull", f"oss://{bucket}/m", tmp_path / "to")
    assert ended.status == 1
    assert "cannot become a path below" in ended.err
    assert files_in(tmp_path) == {"to/config.json": b"{}"}


def test_a_shard_that_is_replaced_meanwhile(
    osst: Osst, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def replace(client: OssClient, file: Any, _path: Path) -> bool:
        if file.path == "model-00001-of-00002.safetensors":
            client.put(file.uri, b"another")
        return False

    monkeypatch.setattr(download, "is_current", replace)
    ended = osst("pull", model, tmp_path, "--weights", "--json")
    assert ended.status == 1
    assert "was replaced while its model was read: begin again" in ended.err
    assert "model-00001-of-00002.safetensors" not in files_in(tmp_path)
    failed = [document for document in ended.documents if document["status"] == "failed"]
    assert "was replaced" in failed[0]["error"]


@pytest.mark.parametrize("fault", [{"flip": "middle"}, {"reset": "middle"}])
def test_a_damaged_or_broken_answer_is_asked_for_again(
    osst: Osst, model: str, tmp_path: Path, emulator: Emulator, fault: Any
) -> None:
    with emulator.fault(operation="GetObject", key="*.safetensors", times=2, **fault):
        assert osst("pull", model, tmp_path, "--weights").status == 0
    assert files_in(tmp_path).items() >= WEIGHTS.items()


def test_damage_that_stays_is_an_error_and_leaves_nothing(
    osst: Osst, model: str, tmp_path: Path, emulator: Emulator
) -> None:
    with emulator.fault(operation="GetObject", key="*1-of-00002.safetensors", flip="middle"):
        ended = osst("pull", model, tmp_path, "--weights")
    assert ended.status == 1
    assert "1 could not be fetched; the same command continues" in ended.err
    assert files_in(tmp_path).keys() == {*SMALL, "model.safetensors.index.json", "model-00002-of-00002.safetensors"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_pull_continues(
    osst: Osst, connection: list[str], model: str, tmp_path: Path, emulator: Emulator, number: int
) -> None:
    with emulator.fault(operation="GetObject", key="*1-of-00002.safetensors", stall="middle"):
        command = [*PROGRAM, "pull", model, str(tmp_path), "--weights", *connection]
        with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
            until = time.monotonic() + 20
            while len([name for name in files_in(tmp_path) if not name.startswith(".")]) < 8:
                assert time.monotonic() < until
                assert process.poll() is None
                time.sleep(0.01)
            process.send_signal(number)
            process.wait(20)
    assert process.returncode == (-9 if number == signal.SIGKILL else 130)
    left = [name for name in files_in(tmp_path) if name.startswith(".")]
    # A killed process cannot remove its temporary file.
    assert len(left) <= (1 if number == signal.SIGKILL else 0)
    assert "model-00001-of-00002.safetensors" not in files_in(tmp_path)
    assert osst("pull", model, tmp_path, "--weights").err == "osst pull: 1 fetched, 8 up to date\n"
    assert files_in(tmp_path).items() >= WEIGHTS.items()


@pytest.mark.parametrize("links", [True, False])
def test_what_is_kept_is_not_fetched_again(
    osst: Osst, model: str, tmp_path: Path, emulator: Emulator, monkeypatch: pytest.MonkeyPatch, links: Any
) -> None:
    if not links:

        def refused(*_names: object) -> None:
            raise OSError(18, "Invalid cross-device link")

        monkeypatch.setattr(os, "link", refused)
    first = osst("pull", model, tmp_path / "one", "--weights", "--keep", "--cache", tmp_path / "cache")
    assert (first.status, first.err) == (0, "osst pull: 9 fetched, 0 up to date\n")
    emulator.clear_requests()
    monkeypatch.setenv("OSS_MODEL_CACHE", str(tmp_path / "cache"))
    second = osst("pull", model, tmp_path / "two", "--weights", "--json", "--keep")
    assert len(second.documents) == 9
    # The index alone says which shards there must be.
    assert sum(request.response_bytes for request in emulator.requests(operation="GetObject")) == len(INDEX)
    assert files_in(tmp_path / "two") == {**SMALL, **WEIGHTS, "model.safetensors.index.json": INDEX.encode()}
    places = [tmp_path / name / "model-00001-of-00002.safetensors" for name in ("one", "two")]
    assert (places[0].stat().st_ino == places[1].stat().st_ino) == bool(links)
    assert osst("pull", model, tmp_path / "two", "--weights", "--keep").err == "osst pull: 0 fetched, 9 up to date\n"
    assert osst("pull", model, tmp_path / "three", "--keep").status == 0
    for option in (["--cache-size", "1G"], ["--cache", "x"]):
        assert osst("pull", model, tmp_path / "three", *option).status == 2
