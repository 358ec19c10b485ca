from pathlib import Path

import pytest

from osstorchconnector import OssConnectionError, OssError
from osstorchconnector.cli.__main__ import main
from osstorchconnector.testing import Emulator


def test_files_are_loaded_before_it_is_ready(tmp_path: Path) -> None:
    (tmp_path / "cats").mkdir()
    (tmp_path / "cats" / "a.jpg").write_bytes(b"cat")
    (tmp_path / "b.txt").write_bytes(b"text")
    with Emulator(buckets=["images"], import_directory=tmp_path) as emulator:
        client = emulator.client()
        assert [entry.uri for entry in client.list("oss://images/")] == [
            "oss://images/b.txt",
            "oss://images/cats/a.jpg",
        ]
        assert client.get("oss://images/cats/a.jpg") == b"cat"


def test_files_need_one_bucket_to_go_to(tmp_path: Path) -> None:
    with pytest.raises(OssConnectionError, match="name exactly one bucket"):
        Emulator(import_directory=tmp_path).start()


def test_what_exceeds_the_memory_limit_is_refused_with_its_reason() -> None:
    with Emulator(buckets=["images"], memory_limit=1000) as emulator:
        client = emulator.client()
        client.put("oss://images/a", bytes(800))
        with pytest.raises(OssError, match="memory limit of 1000 bytes") as refused:
            client.put("oss://images/b", bytes(800))
        assert refused.value.code == "InsufficientStorage"
        client.put("oss://images/b", bytes(200))


@pytest.mark.parametrize("size", ["", "0", "-1", "1X", "M", "1.5G", "²", "18446744073709551616", "16777216T"])
def test_a_size_is_a_whole_number_with_a_unit(size: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["emulator", f"--memory-limit={size}"])
    assert "is not a size" in capsys.readouterr().err
