"""With an empty endpoint objects are files of this machine."""

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
from torch.utils.data import DataLoader

from osstorchconnector import (
    DataObject,
    OssConfigError,
    OssError,
    OssIterableDataset,
    OssMapDataset,
    OssNotFoundError,
    generate_tar_archive,
)

DATASETS = [OssIterableDataset, OssMapDataset]
FILES = {"b/2.bin": b"two", "b/10.bin": b"", "a b/ä.bin": b"x" * 100_000, "b-c": b"3", "top": b"4"}
ORDERED = sorted(FILES, key=str.encode)


def described(item: DataObject) -> tuple[str, str, int, bytes]:
    return item.key, item.label, item.size, item.read()


@pytest.fixture
def root(tmp_path: Path) -> str:
    for name, content in FILES.items():
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / name).write_bytes(content)
    return f"{tmp_path}/data/"


def expected(root: str, names: list[str] = ORDERED, label: str = "") -> list[tuple[str, str, int, bytes]]:
    return [(root + name, label, len(FILES[name]), FILES[name]) for name in names]


@pytest.mark.parametrize("dataset", DATASETS)
def test_a_directory_is_a_prefix(root: str, dataset: Any) -> None:
    for uri in (root, "oss:/" + root):
        assert list(dataset.from_prefix(uri, endpoint="", transform=described)) == expected(root)
        assert list(dataset.from_prefix(uri + "b", "", transform=described)) == expected(
            root, [name for name in ORDERED if name.startswith("b")]
        )
    with pytest.warns(UserWarning, match=f"no file matches the path {root}none"):
        assert list(dataset.from_prefix(root + "none", "", transform=described)) == []


@pytest.mark.parametrize("dataset", DATASETS)
def test_files_may_be_named(root: str, dataset: Any) -> None:
    uris = [root + "top", "oss:/" + root + "b/2.bin", root + "top"]
    assert list(dataset.from_objects(uris, "", transform=described)) == expected(root, ["top", "b/2.bin", "top"])


@pytest.mark.parametrize("dataset", DATASETS)
def test_a_manifest_names_files(root: str, tmp_path: Path, dataset: Any) -> None:
    (tmp_path / "manifest").write_text(f"b/2.bin two\noss:/{root}top two\n")
    for manifest in (str(tmp_path / "manifest"), f"oss:/{tmp_path}/manifest"):
        read = dataset.from_manifest_file(manifest, None, root, "", transform=described)
        assert list(read) == expected(root, ["b/2.bin", "top"], "two")


@pytest.mark.parametrize("dataset", DATASETS)
@pytest.mark.parametrize("indexed", ["indexed", ""])
def test_an_archive_may_be_a_file(root: str, tmp_path: Path, dataset: Any, indexed: str) -> None:
    tar, index = f"{tmp_path}/all.tar", f"{tmp_path}/all.idx"
    generate_tar_archive("", "", "", tar, index, root)
    read = dataset.from_tar(
        "oss:/" + tar, index if indexed else "", "", transform=lambda item: (item.name, item.key, item.read())
    )
    assert list(read) == [(name, f"{tar}/{name}", FILES[name]) for name in ORDERED]


def test_neither_network_nor_access_key_is_used(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OSS_REGION", "not a region")
    read = OssIterableDataset.from_prefix(
        root, "", cred_path="/absent", cred_provider=object(), region="nowhere!", transform=described
    )
    assert list(read) == expected(root)


@pytest.mark.slow(60)
@pytest.mark.parametrize("start_method", ["fork", "spawn"])
@pytest.mark.parametrize("dataset", DATASETS)
def test_workers_share_the_files(root: str, dataset: Any, start_method: str) -> None:
    read = dataset.from_prefix(root, "", transform=described)
    loader = DataLoader(read, batch_size=None, num_workers=2, multiprocessing_context=start_method)
    assert sorted(tuple(item) for item in loader) == sorted(expected(root))


def test_order_and_resuming_are_those_of_objects(root: str) -> None:
    def dataset() -> OssIterableDataset:
        return OssIterableDataset.from_prefix(root, "", transform=described, shuffle=True, seed=3)

    whole, first, second = list(dataset()), dataset(), dataset()
    assert sorted(whole) == sorted(expected(root))
    iterator = iter(first)
    consumed = [next(iterator), next(iterator)]
    second.load_state_dict(first.state_dict())
    assert consumed + list(second) == whole


def test_a_file_is_pickled_with_its_bytes(root: str) -> None:
    item = OssMapDataset.from_objects(root + "b/2.bin", "")[0]
    found = pickle.loads(pickle.dumps(item))
    assert (found.key, found.read(), found.etag) == (root + "b/2.bin", b"two", item.etag)


def test_an_unreadable_file_is_reported_by_its_path(root: str) -> None:
    for dataset in (OssIterableDataset, OssMapDataset):
        read: Any = dataset.from_objects([root + "absent", root + "top"], "")
        with pytest.raises(OssNotFoundError, match="absent: No such file") as caught:
            list(read)
        assert caught.value.attempts is None
        with pytest.raises(OssNotFoundError, match="nowhere/: No such file"):
            list(dataset.from_prefix(root + "nowhere/", ""))
    os.mkfifo(root + "pipe")
    with pytest.raises(OssError, match="pipe is neither a file nor a directory"):
        list(OssIterableDataset.from_prefix(root, ""))
    Path(root, "pipe").unlink()
    Path(root, "b", "loop").symlink_to(root)
    read = OssIterableDataset.from_prefix(root, "", transform=lambda item: item.key)
    iterator = iter(read)
    assert next(iterator) == root + "a b/ä.bin"
    with pytest.raises(OssError, match="b/loop/ is a symbolic link to a directory that it lies in"):
        list(iterator)


@pytest.mark.parametrize("uri", ["data/file", "/", "/file", "oss://", "oss:/dir/file", "", "oss://dir"])
def test_an_invalid_path_is_reported_at_construction(uri: str) -> None:
    for build in (OssIterableDataset.from_prefix, OssMapDataset.from_objects):
        with pytest.raises(OssConfigError, match="not an absolute path below a directory"):
            build(uri, "")
