"""OSS as the storage of Ray Train. The example trains; these tests start no cluster."""

import pickle
import re
from pathlib import Path
from typing import Any

import pytest

from osstorchconnector import OssClient
from osstorchconnector.testing import Emulator

pyarrow_fs = pytest.importorskip("pyarrow.fs")
ray_train = pytest.importorskip("ray.train")

pytestmark = [
    pytest.mark.slow(120),
    # Ray warns about this machine.
    pytest.mark.filterwarnings("ignore"),
]


@pytest.fixture
def run(emulator: Emulator, bucket: str) -> Any:
    """The configuration that the guide makes."""
    guide = (Path(__file__).parents[1] / "docs" / "guides" / "ray.md").read_text()
    (block,) = re.findall(r"```python\n(.*?)```", guide, flags=re.DOTALL)
    replaced = {
        '"oss-cn-hangzhou-internal.aliyuncs.com"': f'"{emulator.endpoint}", region="{emulator.region}"',
        "/root/.alibabacloud/credentials": emulator.cred_path,
        "bucket/runs": f"{bucket}/runs",
    }
    for given, here in replaced.items():
        assert given in block
        block = block.replace(given, here)
    made: dict[str, Any] = {}
    exec(block, made)
    return made["run"]


def test_a_checkpoint_is_copied_as_ray_copies_it(run: Any, client: OssClient, bucket: str, tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "state.pt").write_bytes(b"weights")
    (tmp_path / "deep" / "more").write_bytes(b"1")
    # A worker gets the file system in a pickle.
    files = pickle.loads(pickle.dumps(run.storage_filesystem))
    place = f"{run.storage_path}/{run.name}/checkpoint_1"
    files.create_dir(place)
    pyarrow_fs.copy_files(str(tmp_path), place, destination_filesystem=files)
    keys = [item.name for item in client.list(f"oss://{bucket}/runs/")]
    assert [key for key in keys if not key.endswith("/")] == [
        "runs/run-1/checkpoint_1/deep/more",
        "runs/run-1/checkpoint_1/state.pt",
    ]
    checkpoint = ray_train.Checkpoint(place, files)
    with checkpoint.as_directory() as folder:
        assert Path(folder, "state.pt").read_bytes() == b"weights"
        assert Path(folder, "deep", "more").read_bytes() == b"1"
    files.delete_dir(place)
    assert not list(client.list(f"oss://{bucket}/runs/run-1/checkpoint_1/"))


def test_the_access_key_is_not_sent(run: Any, emulator: Emulator) -> None:
    assert emulator.access_key_secret.encode() not in pickle.dumps(run.storage_filesystem)
