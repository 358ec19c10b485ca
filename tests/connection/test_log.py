import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from osstorchconnector import OssConfig, OssConfigError
from osstorchconnector.connection.log import write_log

LOGGER = logging.getLogger("osstorchconnector")


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    handlers, level = list(LOGGER.handlers), LOGGER.level
    yield
    for handler in LOGGER.handlers:
        if handler not in handlers:
            handler.close()
    LOGGER.handlers, LOGGER.level = handlers, level


def test_it_is_silent_by_default(capfd: pytest.CaptureFixture[str]) -> None:
    write_log(OssConfig())
    LOGGER.propagate = False
    try:
        LOGGER.warning("nobody asked")
    finally:
        LOGGER.propagate = True
    assert capfd.readouterr() == ("", "")
    assert not any(isinstance(handler, logging.FileHandler) for handler in LOGGER.handlers)


def test_a_log_file_gets_each_line_once_from_its_level_on(tmp_path: Path) -> None:
    path = tmp_path / "connector.log"
    path.write_text("kept\n")
    config = OssConfig(log_path=str(path), log_level="info")
    write_log(config)
    write_log(config)
    LOGGER.getChild("native").info("an info")
    LOGGER.getChild("native").debug("a debug")
    kept, line = path.read_text().splitlines()
    assert kept == "kept"
    assert line.endswith("|osstorchconnector.native|an info")
    assert "|INFO   |" in line


def test_a_log_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "connector.log"
    with pytest.raises(OssConfigError, match=r"connector\.log' cannot be written: No such file"):
        write_log(OssConfig(log_path=str(path)))
