import sys

import pytest

from osstorchconnector import OssConfigError
from osstorchconnector.files.progress import progress_bar


def test_without_tqdm_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tqdm", None)
    with (
        pytest.raises(OssConfigError, match=r"pip install tqdm$"),
        progress_bar("x", None, shown=True),
    ):
        pass
