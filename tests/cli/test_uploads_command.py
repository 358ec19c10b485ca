"""``osst uploads`` finds the unfinished uploads of writers, and removes old ones."""

import contextlib
import re

import pytest

from osstorchconnector import OssClient, OssConfig, OssPermissionError
from osstorchconnector.cli.__main__ import main
from osstorchconnector.testing import Emulator

PART = 100 * 1024


def leave_behind(emulator: Emulator, uri: str) -> None:
    client = OssClient(**emulator.connection, config=OssConfig(part_size=PART))
    with emulator.fault(operation="AbortMultipartUpload", error="AccessDenied"):
        writer = client.writer(uri)
        writer.write(bytes(3 * PART))
        with contextlib.suppress(OssPermissionError):
            writer.abort()


def options(emulator: Emulator) -> list[str]:
    return ["--endpoint", emulator.endpoint, "--region", emulator.region, "--cred-path", emulator.cred_path]


def test_uploads_are_listed_and_swept(emulator: Emulator, bucket: str, capsys: pytest.CaptureFixture[str]) -> None:
    names = ["run/1 a+b", "run/2", "other/3"]
    for name in names:
        leave_behind(emulator, f"oss://{bucket}/{name}")
    assert main(["uploads", "ls", f"oss://{bucket}/run/", *options(emulator)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[2] for line in lines] == [f"oss://{bucket}/run/1 a+b", f"oss://{bucket}/run/2"]
    assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ  \w+  oss://", line) for line in lines)
    assert main(["uploads", "ls", f"oss://{bucket}", "--older-than", "1h", *options(emulator)]) == 0
    assert capsys.readouterr().out == ""
    # By default, an upload is old after a day.
    assert main(["uploads", "sweep", f"oss://{bucket}", *options(emulator)]) == 0
    assert capsys.readouterr().out == "0 given up\n"
    assert main(["uploads", "sweep", f"oss://{bucket}/run/", "--older-than", "0s", *options(emulator)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "2 given up"
    assert main(["uploads", "ls", f"oss://{bucket}", *options(emulator)]) == 0
    assert f"oss://{bucket}/other/3" in capsys.readouterr().out


def test_an_upload_whose_identifier_was_lost_is_swept(
    emulator: Emulator, bucket: str, capsys: pytest.CaptureFixture[str]
) -> None:
    client = OssClient(**emulator.connection, config=OssConfig(part_size=PART))
    uri, content = f"oss://{bucket}/a", bytes(3 * PART)
    with emulator.fault(operation="InitiateMultipartUpload", nth=1, lose_reply=True) as lost:
        client.put(uri, content)
        assert lost.acted == 1
    assert client.get(uri) == content
    # The client began a second upload. For all OSS says, the first may be of another writer, so it stays.
    assert main(["uploads", "sweep", uri, "--older-than", "0s", *options(emulator)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "1 given up"
    assert client.get(uri) == content


def test_wrong_arguments_are_reported(emulator: Emulator, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["uploads", "ls", "oss://no-such-bucket-here/", *options(emulator)]) == 1
    assert "osst uploads: NoSuchBucket" in capsys.readouterr().err
    with pytest.raises(SystemExit) as caught:
        main(["uploads", "sweep", "oss://bucket/", "--older-than", "soon"])
    assert caught.value.code == 2
    assert "'soon' is no age" in capsys.readouterr().err
