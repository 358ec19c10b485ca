"""The tests that fsspec has for every file system."""

from collections.abc import Callable

import fsspec.tests.abstract as suite
import pytest

from osstorchconnector.fsspec import FsspecFileSystem


class Fixtures(suite.AbstractFixtures):  # type: ignore[misc]
    @pytest.fixture
    def fs(self, files: FsspecFileSystem) -> FsspecFileSystem:
        return files

    @pytest.fixture
    def fs_path(self, bucket: str) -> str:
        return bucket

    @pytest.fixture
    def fs_join(self) -> Callable[..., str]:
        return lambda *parts: "/".join(parts)

    @pytest.fixture
    def supports_empty_directories(self) -> bool:
        return False


class TestCopy(Fixtures, suite.AbstractCopyTests):  # type: ignore[misc]
    pass


class TestGet(Fixtures, suite.AbstractGetTests):  # type: ignore[misc]
    pass


class TestOpen(Fixtures, suite.AbstractOpenTests):  # type: ignore[misc]
    pass


class TestPipe(Fixtures, suite.AbstractPipeTests):  # type: ignore[misc]
    pass


class TestPut(Fixtures, suite.AbstractPutTests):  # type: ignore[misc]
    pass
