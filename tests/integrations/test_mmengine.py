"""The file backend of MMEngine, beside its backend for local files."""

import pickle
import warnings
from pathlib import Path
from shutil import SameFileError
from typing import Any

import pytest
import torch

from osstorchconnector import OssClient, OssConfigError, OssExistsError, OssNotFoundError
from osstorchconnector.fsspec import use_client
from osstorchconnector.testing import Emulator

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    fileio = pytest.importorskip("mmengine.fileio")
    from osstorchconnector.integrations.mmengine import OssStorageBackend

pytestmark = [
    pytest.mark.slow(120),
    # MMEngine and what it imports warn of each other.
    pytest.mark.filterwarnings("ignore"),
]

FILES = {"a.txt": b"a", "b.jpg": b"bb", "sub/c.txt": b"ccc", "sub/deep/d.txt": b"d" * 1000}


@pytest.fixture
def arguments(emulator: Emulator) -> dict[str, Any]:
    return {"backend": "oss", **emulator.connection}


@pytest.fixture
def backend(arguments: dict[str, Any]) -> Any:
    return fileio.get_file_backend(backend_args=arguments)


@pytest.fixture
def roots(client: OssClient, bucket: str, backend: Any, tmp_path: Path) -> list[tuple[Any, str]]:
    """The same files, as objects and as files, each with its backend."""
    local = tmp_path / "local"
    for name, content in FILES.items():
        client.put(f"oss://{bucket}/root/{name}", content)
        path = local / "root" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return [(backend, f"oss://{bucket}"), (fileio.LocalBackend(), str(local))]


def outcome(call: Any, root: str) -> Any:
    """What a call returns, or raises: one of the classes of Python that a program catches."""
    try:
        found = call()
    except (FileExistsError, FileNotFoundError, IsADirectoryError, SameFileError, TypeError) as error:
        kinds = (SameFileError, FileExistsError, FileNotFoundError, IsADirectoryError, TypeError)
        return next(kind for kind in kinds if isinstance(error, kind))
    return found.replace(root, "") if isinstance(found, str) else found


CALLS: dict[str, Any] = {
    "get": lambda b, r: b.get(f"{r}/root/a.txt"),
    "get missing": lambda b, r: b.get(f"{r}/root/none"),
    "get text": lambda b, r: b.get_text(f"{r}/root/sub/c.txt"),
    "put": lambda b, r: (b.put(b"new", f"{r}/new/file"), b.get(f"{r}/new/file")),
    "put text": lambda b, r: (b.put_text("ä", f"{r}/new/text", encoding="latin-1"), b.get(f"{r}/new/text")),
    "exists": lambda b, r: [b.exists(f"{r}/root{name}") for name in ("", "/", "/sub", "/a.txt", "/none")],
    "isdir": lambda b, r: [b.isdir(f"{r}/root{name}") for name in ("", "/sub", "/a.txt", "/none")],
    "isfile": lambda b, r: [b.isfile(f"{r}/root{name}") for name in ("", "/sub", "/a.txt", "/none")],
    "join": lambda b, r: b.join_path(f"{r}/root/", "sub", "c.txt"),
    "local path": lambda b, r: _local(b, f"{r}/root/b.jpg"),
    "local path of a missing file": lambda b, r: b.get(_path_in(b, f"{r}/root/none")),
    "copy": lambda b, r: b.copyfile(f"{r}/root/a.txt", f"{r}/copied"),
    "copy into a directory": lambda b, r: b.copyfile(f"{r}/root/a.txt", f"{r}/root/sub"),
    "copy to itself": lambda b, r: b.copyfile(f"{r}/root/a.txt", f"{r}/root/a.txt"),
    "copy a missing file": lambda b, r: b.copyfile(f"{r}/root/none", f"{r}/copied"),
    "copy a tree": lambda b, r: (b.copytree(f"{r}/root", f"{r}/tree"), _tree(b, f"{r}/tree"))[1],
    "copy a tree over another": lambda b, r: b.copytree(f"{r}/root", f"{r}/root/sub"),
    "copy a missing tree": lambda b, r: b.copytree(f"{r}/none", f"{r}/tree"),
    "remove": lambda b, r: (b.remove(f"{r}/root/a.txt"), b.exists(f"{r}/root/a.txt")),
    "remove a missing file": lambda b, r: b.remove(f"{r}/root/none"),
    "remove a directory": lambda b, r: b.remove(f"{r}/root/sub"),
    "remove a tree": lambda b, r: (b.rmtree(f"{r}/root/sub"), _tree(b, f"{r}/root")),
    "list": lambda b, r: sorted(b.list_dir_or_file(f"{r}/root")),
    "list everything": lambda b, r: sorted(b.list_dir_or_file(f"{r}/root", recursive=True)),
    "list directories": lambda b, r: sorted(b.list_dir_or_file(f"{r}/root", list_file=False, recursive=True)),
    "list an ending": lambda b, r: sorted(
        b.list_dir_or_file(f"{r}/root", list_dir=False, suffix=(".txt", ".png"), recursive=True)
    ),
    "list with a slash": lambda b, r: sorted(b.list_dir_or_file(f"{r}/root/sub/")),
    "list an ending of directories": lambda b, r: list(b.list_dir_or_file(f"{r}/root", suffix=".txt")),
    "list a wrong ending": lambda b, r: list(b.list_dir_or_file(f"{r}/root", list_dir=False, suffix=[".txt"])),
    "list what is missing": lambda b, r: list(b.list_dir_or_file(f"{r}/none")),
}


def _tree(backend: Any, root: str) -> dict[str, bytes]:
    names = backend.list_dir_or_file(root, list_dir=False, recursive=True)
    return {name: backend.get(backend.join_path(root, name)) for name in names}


def _local(backend: Any, uri: str) -> tuple[bytes, str]:
    with backend.get_local_path(uri) as path:
        return Path(path).read_bytes(), Path(path).suffix


def _path_in(backend: Any, uri: str) -> Any:
    with backend.get_local_path(uri) as path:
        return path


@pytest.mark.parametrize("name", CALLS)
def test_it_does_what_the_backend_for_files_does(name: str, roots: list[tuple[Any, str]]) -> None:
    objects, files = (outcome(lambda b=backend, r=root: CALLS[name](b, r), root) for backend, root in roots)
    assert objects == files


def test_files_are_copied_to_objects_and_back(backend: Any, bucket: str, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    (source / "sub").mkdir(parents=True)
    (source / "a").write_bytes(b"1")
    (source / "sub" / "b").write_bytes(b"2")
    root = f"oss://{bucket}/tree"
    assert backend.copytree_from_local(source, root) == root
    with pytest.raises(OssExistsError, match=f"{root} exists already"):
        backend.copytree_from_local(source, root)
    assert backend.copyfile_from_local(source / "a", f"{root}/sub/") == f"{root}/sub/a"
    assert backend.copytree_to_local(root, target) == target
    assert (target / "sub" / "b").read_bytes() == b"2"
    assert backend.copyfile_to_local(f"{root}/a", target / "sub") == target / "sub" / "a"
    with pytest.raises(OssNotFoundError, match=f"there are no objects below oss://{bucket}/none"):
        backend.copytree_to_local(f"oss://{bucket}/none", target)
    with pytest.raises(NotADirectoryError):
        backend.copytree_from_local(source / "none", f"oss://{bucket}/none")


def test_a_link_is_a_copy(backend: Any, client: OssClient, bucket: str) -> None:
    client.put(f"oss://{bucket}/a/b", b"1")
    assert backend.copy_if_symlink_fails(f"oss://{bucket}/a", f"oss://{bucket}/c") is False
    assert client.get(f"oss://{bucket}/c/b") == b"1"


def test_removing_a_tree_is_about_that_tree_alone(backend: Any, client: OssClient, bucket: str) -> None:
    for key in ("run*/1", "run*/", "run*", "run2/1", "running/1"):
        client.put(f"oss://{bucket}/{key}", b"1")
    backend.rmtree(f"oss://{bucket}/run*")
    assert [item.name for item in client.list(f"oss://{bucket}")] == ["run*", "run2/1", "running/1"]


def test_a_key_that_leaves_the_folder_is_refused(backend: Any, client: OssClient, bucket: str, tmp_path: Path) -> None:
    client.put(f"oss://{bucket}/tree/../../evil", b"1")
    with pytest.raises(OssConfigError, match="cannot become a path"):
        backend.copytree_to_local(f"oss://{bucket}/tree", tmp_path / "in" / "folder")
    assert not (tmp_path / "evil").exists()


def test_paths_are_mapped(emulator: Emulator, client: OssClient, bucket: str) -> None:
    client.put(f"oss://{bucket}/coco/a.json", b"[1]")
    arguments = {"backend": "oss", "path_mapping": {"data/coco/": f"oss://{bucket}/coco/"}, **emulator.connection}
    assert fileio.load("data/coco/a.json", backend_args=arguments) == [1]
    assert fileio.join_path("data/coco/", "a.json", backend_args=arguments) == f"oss://{bucket}/coco/a.json"
    with pytest.raises(OssConfigError, match=r"'elsewhere/a\.json' is no oss:// URI"):
        fileio.get("elsewhere/a.json", backend_args=arguments)
    with pytest.raises(OssConfigError, match="path_mapping maps 'a' to 's3://b'"):
        OssStorageBackend(path_mapping={"a": "s3://b"})


def test_paths_are_joined_without_a_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OSS_ENDPOINT", raising=False)
    assert fileio.join_path("oss://bucket/coco", "train/") == "oss://bucket/coco/train/"
    assert fileio.join_path("oss://bucket/coco", "oss://other/train") == "oss://other/train"


def test_the_environment_decides_without_arguments(
    emulator: Emulator, client: OssClient, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.put(f"oss://{bucket}/a", b"1")
    with pytest.raises(OssConfigError, match="OSS_ENDPOINT"):
        fileio.get(f"oss://{bucket}/a")
    monkeypatch.setenv("OSS_ENDPOINT", emulator.endpoint)
    monkeypatch.setenv("OSS_REGION", emulator.region)
    monkeypatch.setenv("OSS_ACCESS_KEY_ID", emulator.access_key_id)
    monkeypatch.setenv("OSS_ACCESS_KEY_SECRET", emulator.access_key_secret)
    assert fileio.get(f"oss://{bucket}/a") == b"1"


def test_an_unknown_argument_is_named() -> None:
    with pytest.raises(OssConfigError, match="'endpiont': did you mean 'endpoint'"):
        fileio.get_file_backend(backend_args={"backend": "oss", "endpiont": "x"})


def test_an_image_in_memory_is_written(backend: Any, client: OssClient, bucket: str) -> None:
    import io  # noqa: PLC0415

    backend.put(io.BytesIO(b"png"), f"oss://{bucket}/a.png")
    assert client.get(f"oss://{bucket}/a.png") == b"png"


def test_a_presigned_url_reads(backend: Any, client: OssClient, bucket: str) -> None:
    import urllib.request  # noqa: PLC0415

    client.put(f"oss://{bucket}/v.mp4", b"video")
    with urllib.request.urlopen(backend.generate_presigned_url(f"oss://{bucket}/v.mp4", expires_in=60)) as answer:
        assert answer.read() == b"video"
    with pytest.raises(OssConfigError, match="client_method must be get_object or put_object"):
        backend.generate_presigned_url(f"oss://{bucket}/v.mp4", "delete_object")


def test_a_secret_is_in_no_text_and_no_pickle(emulator: Emulator) -> None:
    made = OssStorageBackend(endpoint=emulator.endpoint, access_key_id="id", access_key_secret="hidden-secret")
    assert "hidden-secret" not in f"{made!r} {vars(made)!r}"
    assert b"hidden-secret" not in pickle.dumps(made)


@pytest.fixture
def default_client(client: OssClient) -> Any:
    use_client(client)
    yield client
    use_client(None)


def test_a_training_keeps_its_checkpoints_and_resumes(
    default_client: OssClient, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # MMEngine 0.10 keeps classes in checkpoints that torch refuses since 2.6, in local files too.
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    first = trained(tmp_path / "first", f"oss://{bucket}/work", 2)
    names = {item.name for item in default_client.list(f"oss://{bucket}/work/")}
    assert names == {"work/first/epoch_2.pth"}
    whole = trained(tmp_path / "whole", None, 4)
    resumed = trained(tmp_path / "resumed", None, 4, load_from=f"oss://{bucket}/work/first/epoch_2.pth", resume=True)
    assert not torch.equal(first, whole)
    assert torch.equal(resumed, whole)


def trained(folder: Path, out_dir: str | None, epochs: int, **options: Any) -> torch.Tensor:
    from mmengine.model import BaseModel  # noqa: PLC0415
    from mmengine.runner import Runner  # noqa: PLC0415

    class Model(BaseModel):  # type: ignore[misc, unused-ignore]
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(3, 1)

        def forward(self, inputs: torch.Tensor, mode: str) -> dict[str, torch.Tensor]:
            assert mode == "loss"
            return {"loss": self.layer(inputs).square().mean()}

    rows = [{"inputs": torch.full((3,), float(number))} for number in range(8)]
    loader = {
        "dataset": rows,
        "batch_size": 4,
        "num_workers": 0,
        "sampler": {"type": "DefaultSampler", "shuffle": False},
    }
    loader["collate_fn"] = {"type": "default_collate"}
    hook = {"type": "CheckpointHook", "interval": 1, "max_keep_ckpts": 1, "out_dir": out_dir}
    torch.manual_seed(1)
    runner = Runner(
        model=Model(),
        work_dir=str(folder),
        train_dataloader=loader,
        train_cfg={"by_epoch": True, "max_epochs": epochs},
        optim_wrapper={"optimizer": {"type": "SGD", "lr": 0.01, "momentum": 0.9}},
        default_hooks={"checkpoint": hook},
        experiment_name=f"{folder.name}-{folder.parent.name}-{epochs}",
        **options,
    )
    weight: torch.Tensor = runner.train().layer.weight.detach()
    return weight
