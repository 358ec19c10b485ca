"""The local copies of annotation files."""

import fcntl
import json
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from osstorchconnector import OssClient, OssConfigError, OssError, OssNotFoundError, get_oss_ann_path
from osstorchconnector.integrations.annotations import _alone, copy_annotations
from osstorchconnector.testing import Emulator
from tests.forks import idle_fork

CONTENT = json.dumps({"images": [{"id": number} for number in range(2000)]}).encode()


def downloads(emulator: Emulator, bucket: str) -> int:
    return sum(request.bucket == bucket for request in emulator.requests(operation="GetObject"))


@pytest.fixture
def place(client: OssClient, bucket: str, tmp_path: Path) -> tuple[str, str, str]:
    client.put(f"oss://{bucket}/coco/ann/train.json", CONTENT)
    return get_oss_ann_path(f"oss://{bucket}/coco/", "ann/train.json", str(tmp_path / "cache"))


def test_a_path_names_bucket_and_key() -> None:
    bucket, key, path = get_oss_ann_path("oss://bucket/coco", "annotations/train.json")
    assert (bucket, key) == ("bucket", "coco/annotations/train.json")
    assert Path(path).parent == Path("/tmp", f"osstorchconnector-{os.getuid()}")
    assert path.endswith("_bucket_coco_annotations_train.json")


def test_every_object_has_a_path_of_its_own() -> None:
    names = ["a/b.json", "a_b.json", "c.json", "ü" * 300, "ü" * 301]
    paths = {get_oss_ann_path("oss://bucket", name, "/cache")[2] for name in names}
    assert len(paths) == len(names)
    assert all(len(Path(path).name.encode()) < 240 for path in paths)


def test_a_path_needs_a_uri() -> None:
    with pytest.raises(OssConfigError, match="data_root is 'data/coco': it must begin with 'oss://'"):
        get_oss_ann_path("data/coco", "train.json")


def test_a_copy_is_whole_and_private(client: OssClient, place: tuple[str, str, str]) -> None:
    copy_annotations(client, *place)
    path = Path(place[2])
    assert path.read_bytes() == CONTENT
    assert path.parent.stat().st_mode & 0o077 == 0
    assert not list(path.parent.glob(".*"))


def test_a_copy_is_used_until_the_object_is_replaced(
    emulator: Emulator, client: OssClient, place: tuple[str, str, str]
) -> None:
    bucket, key, path = place
    copy_annotations(client, *place)
    copy_annotations(client, *place)
    assert downloads(emulator, bucket) == 1
    replaced = CONTENT.replace(b"1", b"2")
    client.put(f"oss://{bucket}/{key}", replaced)
    copy_annotations(client, *place)
    assert Path(path).read_bytes() == replaced


def test_a_copy_that_was_cut_short_is_made_again(client: OssClient, place: tuple[str, str, str]) -> None:
    copy_annotations(client, *place)
    os.truncate(place[2], 100)
    copy_annotations(client, *place)
    assert Path(place[2]).read_bytes() == CONTENT


def test_ranks_that_begin_together_download_once(
    emulator: Emulator, client: OssClient, place: tuple[str, str, str]
) -> None:
    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(copy_annotations, client, *place) for _ in range(4)]:
            done.result()
    assert Path(place[2]).read_bytes() == CONTENT
    assert downloads(emulator, place[0]) == 1


def test_a_process_that_is_forked_meanwhile_keeps_no_lock(tmp_path: Path) -> None:
    path = tmp_path / "copy"
    with ExitStack() as stack:
        with _alone(path):
            stack.enter_context(idle_fork())
        with (tmp_path / "copy.lock").open("rb") as file:
            # Raises if somebody has the lock.
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_download_that_fails_leaves_no_copy_that_counts(
    emulator: Emulator, client: OssClient, place: tuple[str, str, str]
) -> None:
    bucket, key, path = place
    copy_annotations(client, *place)
    client.put(f"oss://{bucket}/{key}", CONTENT + b" ")
    with (
        emulator.fault(operation="GetObject", bucket=bucket, error="AccessDenied"),
        pytest.raises(OssError, match=key),
    ):
        copy_annotations(client, *place)
    copy_annotations(client, *place)
    assert Path(path).read_bytes() == CONTENT + b" "


def test_a_missing_file_is_named(client: OssClient, bucket: str, tmp_path: Path) -> None:
    with pytest.raises(OssNotFoundError, match=f'bucket="{bucket}", key="coco/none.json"'):
        copy_annotations(client, *get_oss_ann_path(f"oss://{bucket}/coco", "none.json", str(tmp_path)))


def test_a_directory_that_others_can_read_is_refused(client: OssClient, place: tuple[str, str, str]) -> None:
    directory = Path(place[2]).parent
    directory.mkdir(parents=True)
    directory.chmod(0o755)
    with pytest.raises(OssConfigError, match=f"{directory} is not a private directory of this user"):
        copy_annotations(client, *place)


def test_a_link_in_place_of_the_directory_is_refused(client: OssClient, place: tuple[str, str, str]) -> None:
    directory = Path(place[2]).parent
    elsewhere = directory.parent.parent / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    directory.parent.mkdir()
    directory.symlink_to(elsewhere)
    with pytest.raises(OssConfigError, match="is not a private directory"):
        copy_annotations(client, *place)


def test_a_directory_that_cannot_be_made_is_named(client: OssClient, place: tuple[str, str, str]) -> None:
    directory = Path(place[2]).parent
    directory.parent.write_bytes(b"")
    with pytest.raises(OssConfigError, match=f"the directory {directory} cannot be made"):
        copy_annotations(client, *place)
