"""The dataset examples of the original's documentation run unchanged, except for endpoint and paths."""

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from osstorchconnector import OssClient, OssIterableDataset
from osstorchconnector.testing import Emulator

EXAMPLES = Path(__file__).with_name("original_examples.md")
BUCKET = "ossconnectorbucket"
BASE = "EnglistImg/"
FOLDER = "Img/BadImag/Bmp/Sample001/"
# More than one batch of 256, and more than ten objects for each of 32 workers.
COUNT = 330
KEYS = [f"{FOLDER}img001-{number:05}.png" for number in range(1, COUNT + 1)]


def image(number: int) -> bytes:
    target = io.BytesIO()
    size = (300 + number % 5, 280)
    Image.new("RGB", size, (number % 256, number // 256, 7)).save(target, "PNG", compress_level=1)
    return target.getvalue()


@pytest.fixture(scope="module")
def contents() -> list[bytes]:
    return [image(number) for number in range(COUNT)]


@pytest.fixture(scope="module")
def server(contents: list[bytes]) -> Iterator[Emulator]:
    with Emulator(buckets=[BUCKET]) as server:
        client: OssClient = server.client()
        for key, content in zip(KEYS, contents, strict=True):
            client.put(f"oss://{BUCKET}/{BASE}{key}", content)
        client.put(f"oss://{BUCKET}/manifest_file/EnglistImg/manifest_file", labelled_manifest())
        yield server


def labelled_manifest() -> bytes:
    """The three lines of the documentation."""
    return "".join(f"{KEYS[index]} label{index + 1}\n" for index in range(3)).encode()


class Example:
    """Runs one of the examples and keeps what it printed."""

    def __init__(self, server: Emulator, directory: Path) -> None:
        """Write the configuration and the access key that the examples name."""
        config, credentials = directory / "config.json", directory / "credentials"
        document = {
            "logLevel": 1,
            "logPath": str(directory / "connector.log"),
            "auditPath": str(directory / "audit.log"),
            "datasetConfig": {"prefetchConcurrency": 24, "prefetchWorker": 2},
            "checkpointConfig": {"prefetchConcurrency": 24, "prefetchWorker": 4, "uploadConcurrency": 64},
        }
        config.write_text(json.dumps(document))
        key = {"AccessKeyId": server.access_key_id, "AccessKeySecret": server.access_key_secret}
        credentials.write_text(json.dumps(key))
        self.values = {"ENDPOINT": server.endpoint, "CONFIG_PATH": str(config), "CRED_PATH": str(credentials)}
        self.printed: list[Any] = []

    def run(self, heading: str) -> dict[str, Any]:
        """Run the block below a heading and return its variables."""
        (code,) = re.findall(rf"## {heading}\n\n```py\n(.*?)```", EXAMPLES.read_text(), flags=re.DOTALL)
        for name, value in self.values.items():
            code, count = re.subn(rf'^{name} = ".*"$', f"{name} = {value!r}", code, flags=re.MULTILINE)
            assert count == 1, name
        variables: dict[str, Any] = {"print": self.printed.append}
        exec(compile(code, str(EXAMPLES), "exec"), variables)
        return variables


@pytest.fixture
def example(server: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Example:
    monkeypatch.chdir(tmp_path)
    # The documented endpoint names its region, but a server on this machine does not.
    monkeypatch.setenv("OSS_REGION", server.region)
    return Example(server, tmp_path)


def described(contents: list[bytes], *numbers: int) -> list[object]:
    """The lines that the examples print: key, size and number of bytes read."""
    lines: list[object] = []
    for number in numbers:
        lines += [f"/{BUCKET}/{BASE}{KEYS[number]}", len(contents[number]), len(contents[number])]
    return lines


def test_every_example_is_run_here() -> None:
    assert re.findall(r"^## (.*)$", EXAMPLES.read_text(), flags=re.MULTILINE) == [
        "Iterable dataset",
        "Map dataset",
        "Manifest file",
        "Transform",
        "DataLoader",
    ]


def test_iterable_dataset(example: Example, contents: list[bytes]) -> None:
    example.run("Iterable dataset")
    assert example.printed == described(contents, *range(COUNT), 0, 1, 2)


def test_map_dataset(example: Example, contents: list[bytes]) -> None:
    example.run("Map dataset")
    assert example.printed == described(contents, 0, 5, *range(COUNT), 1, 0, 1, 2)


def test_manifest_file(example: Example, contents: list[bytes], tmp_path: Path) -> None:
    (tmp_path / "manifest_file").write_bytes(labelled_manifest())
    variables = example.run("Manifest file")
    expected: list[object] = []
    for index in range(3):
        key, size, length = described(contents, index)
        expected += [key, size, f"label{index + 1}", length]
    assert example.printed == expected
    in_oss = variables["iterable_dataset"]
    assert [(item.key, item.label, item.read()) for item in in_oss] == [
        (f"/{BUCKET}/{BASE}{KEYS[index]}", f"label{index + 1}", contents[index]) for index in range(3)
    ]


def test_manifest_file_without_labels(
    example: Example, server: Emulator, tmp_path: Path, contents: list[bytes]
) -> None:
    (tmp_path / "manifest_file").write_text("".join(f"{key}\n" for key in KEYS[:3]))
    parser = example.run("Manifest file")["manifest_parser"]
    read = OssIterableDataset.from_manifest_file("manifest_file", parser, f"oss://{BUCKET}/{BASE}", **server.connection)
    assert [(item.label, item.read()) for item in read] == [("", content) for content in contents[:3]]


def transformed(content: bytes) -> torch.Tensor:
    import torchvision.transforms as transforms  # noqa: PLC0415, PLR0402 - as the example has it

    steps = transforms.Compose(
        [
            transforms.Resize(256),
            transforms.CenterCrop(224),
            transforms.ToTensor(),
            transforms.Normalize(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225]),
        ]
    )
    result: torch.Tensor = steps(Image.open(io.BytesIO(content)).convert("RGB"))
    return result


@pytest.mark.slow(120)
def test_transform(example: Example, contents: list[bytes]) -> None:
    example.run("Transform")
    images, labels = example.printed[::2], example.printed[1::2]
    assert labels == [""] * COUNT
    for number in (0, COUNT // 2, COUNT - 1):
        assert torch.equal(images[number], transformed(contents[number]))


@pytest.mark.slow(300)
def test_data_loader(example: Example) -> None:
    example.run("DataLoader")
    batches, keys = example.printed[::2], example.printed[1::2]
    assert all(batch.shape == (len(names), 3, 224, 224) for batch, names in zip(batches, keys, strict=True))
    # Each of the iterable dataset's 32 workers makes its own batch. The sampler makes the map dataset's batches.
    names = [name for batch in keys for name in batch]
    expected = [f"/{BUCKET}/{BASE}{key}" for key in KEYS]
    assert sorted(names[:COUNT]) == expected
    assert sorted(names[COUNT:]) == expected
    assert names[COUNT:] != expected
    assert [len(batch) for batch in keys[-2:]] == [256, COUNT - 256]
