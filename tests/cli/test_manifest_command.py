"""``osst manifest``, and the snapshots it writes."""

import io
import json
import os
from pathlib import Path
from typing import Any

import pytest

from osstorchconnector import (
    OssClient,
    OssConfigError,
    OssIntegrityError,
    OssIterableDataset,
    OssMapDataset,
    imagenet_manifest_parser,
    line_manifest_parser,
)
from osstorchconnector.cli.__main__ import main
from osstorchconnector.dataset.manifest import default_manifest_parser
from osstorchconnector.dataset.snapshot import SnapshotWriter, snapshot_parser
from osstorchconnector.testing import Emulator

KEYS = ["train/cat/1.jpg", "train/cat/2.jpg", "train/dog/deep/1.jpg", "train/top.txt"]
LABELS = ["cat", "cat", "dog", ""]


@pytest.fixture
def images(client: OssClient, bucket: str) -> str:
    for number, key in enumerate(KEYS):
        client.put(f"oss://{bucket}/{key}", b"x" * number)
    client.put(f"oss://{bucket}/train/cat/", b"")
    client.put(f"oss://{bucket}/other", b"")
    return bucket


@pytest.fixture
def run(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run the command against the server and return its exit status."""
    monkeypatch.setenv("OSS_ENDPOINT", emulator.endpoint)

    def run(*arguments: str) -> int:
        return main(["manifest", "--region", emulator.region, "--cred-path", emulator.cred_path, *arguments])

    return run


@pytest.mark.parametrize("dataset", [OssIterableDataset, OssMapDataset])
@pytest.mark.parametrize("options", [[], ["--snapshot"]])
def test_a_dataset_reads_what_was_written(
    emulator: Emulator, images: str, run: Any, tmp_path: Path, dataset: Any, options: list[str]
) -> None:
    for output in (str(tmp_path / "manifest"), f"oss://{images}/manifest"):
        assert run(f"oss://{images}/train/", "--labels-from-prefix", "--output", output, *options) == 0
        read = dataset.from_manifest_file(output, None, f"oss://{images}/", **emulator.connection)
        found = [(item.name, item.label, item.size) for item in read]
        assert found == list(zip(KEYS, LABELS, range(len(KEYS)), strict=True))


def test_lines_are_the_documented_ones(images: str, run: Any, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(f"oss://{images}/train/") == 0
    output, errors = capfd.readouterr()
    assert output.splitlines() == KEYS
    assert errors.splitlines() == ["osst manifest: left out 1 directory markers", "osst manifest: 4 objects"]
    assert run(f"oss://{images}/train/", "--labels-from-prefix") == 0
    assert capfd.readouterr().out.splitlines()[:1] == ["train/cat/1.jpg cat"]


def test_keys_with_spaces_are_separated_by_a_tab(client: OssClient, bucket: str, run: Any, tmp_path: Path) -> None:
    names = ["a b/c d", "a\u3000b/c", " ", "plain/x"]
    for name in names:
        client.put(f"oss://{bucket}/p/{name}", b"")
    output = tmp_path / "manifest"
    for options in ([], ["--labels-from-prefix"]):
        assert run(f"oss://{bucket}/p/", "--output", str(output), *options) == 0
        found = list(line_manifest_parser(io.BytesIO(output.read_bytes())))
        expected = [(f"p/{name}", name.rpartition("/")[0] if options else "") for name in sorted(names)]
        assert found == expected
        assert list(default_manifest_parser(io.BytesIO(output.read_bytes()))) == expected


def test_a_snapshot_holds_keys_that_a_manifest_cannot(
    client: OssClient, bucket: str, run: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    hostile = ["p/tab\tand\nline\r\\", "p/ä\u2028ö"]
    for key in hostile:
        client.put(f"oss://{bucket}/{key}", b"123")
    output = tmp_path / "manifest"
    assert run(f"oss://{bucket}/p/", "--output", str(output)) == 1
    assert "use --snapshot" in capfd.readouterr().err
    assert not output.exists()
    assert run(f"oss://{bucket}/p/", "--output", str(output), "--snapshot") == 0
    found = list(snapshot_parser(io.BytesIO(output.read_bytes())))
    etag = client.head(f"oss://{bucket}/{hostile[0]}").etag
    assert found == [(f"oss://{bucket}/{key}", "", 3, etag) for key in sorted(hostile)]


def test_failures_are_one_line(images: str, run: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for arguments, reason in [
        (["oss://nosuchbucket/p"], "NoSuchBucket"),
        (["p"], "names no bucket"),
        ([f"oss://{images}/", "--output", str(tmp_path / "absent" / "file")], "cannot be written"),
        ([f"oss://{images}/", "--config-path", str(tmp_path / "absent")], "absent"),
    ]:
        assert run(*arguments) == 1
        (line,) = capfd.readouterr().err.splitlines()
        assert line.startswith("osst manifest: ")
        assert reason in line


def test_a_missing_endpoint_is_reported(capfd: pytest.CaptureFixture[str]) -> None:
    assert "OSS_ENDPOINT" not in os.environ
    assert main(["manifest", "oss://bucket/"]) == 1
    assert "give --endpoint, or set OSS_ENDPOINT" in capfd.readouterr().err


def snapshot() -> bytes:
    target = io.BytesIO()
    writer = SnapshotWriter(target, "bucket", "p/")
    writer.add("p/a", 10, "AA")
    writer.add("p/b", 20, "BB", "label")
    writer.finish()
    return target.getvalue()


def test_a_snapshot_holds_the_listed_objects() -> None:
    data = snapshot()
    rows = [("oss://bucket/p/a", "", 10, "AA"), ("oss://bucket/p/b", "label", 20, "BB")]
    assert list(snapshot_parser(io.BytesIO(data))) == rows
    assert list(default_manifest_parser(io.BytesIO(data))) == rows
    last = json.loads(data.splitlines()[-1])
    assert (last["objects"], last["bytes"]) == (2, 30)


def test_a_snapshot_that_was_cut_or_edited_is_refused() -> None:
    data = snapshot()
    lines = data.splitlines(keepends=True)
    for damaged in [
        *(data[:length] for length in range(len(lines[0]), len(data) - 1)),
        data.replace(b"p/b", b"p/c"),
        data.replace(b"\t20\t", b"\t21\t").replace(b"20\t", b"21\t"),
        data + lines[1],
        b"".join([lines[0], *lines[2:]]),
        data.replace(b"p/a", b"p\\a"),
    ]:
        with pytest.raises(OssIntegrityError):
            list(snapshot_parser(io.BytesIO(damaged)))
    with pytest.raises(OssConfigError, match="not a snapshot"):
        list(snapshot_parser(io.BytesIO(b"a b\n")))
    with pytest.raises(OssConfigError, match="version 2"):
        list(snapshot_parser(io.BytesIO(data.replace(b'"version": 1', b'"version": 2'))))


@pytest.mark.parametrize("dataset", [OssIterableDataset, OssMapDataset])
def test_a_dataset_refuses_an_edited_snapshot(
    emulator: Emulator, images: str, run: Any, tmp_path: Path, dataset: Any
) -> None:
    output = tmp_path / "snapshot"
    assert run(f"oss://{images}/train/", "--snapshot", "--output", str(output)) == 0
    edited = output.read_bytes().replace(b"\n1\t", b"\n7\t")
    assert edited != output.read_bytes()
    output.write_bytes(edited)
    read = dataset.from_manifest_file(str(output), None, "", transform=lambda item: item.uri, **emulator.connection)
    with pytest.raises(OssIntegrityError, match="edited or damaged"):
        list(read)


def test_the_default_parser_reads_the_documented_forms() -> None:
    assert list(default_manifest_parser(io.BytesIO(b"a/b.png\nc.png 7\n\nd e.png\tcat\n"))) == [
        ("a/b.png", ""),
        ("c.png", "7"),
        ("d e.png", "cat"),
    ]
    assert list(default_manifest_parser(io.BytesIO(b""))) == []
    with pytest.raises(OssConfigError, match="line 1 of the manifest has 3 fields"):
        list(default_manifest_parser(io.BytesIO(b"a b c\n")))
    assert list(imagenet_manifest_parser(io.BytesIO(b"\t\n \n"))) == []
