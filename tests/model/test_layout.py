"""Which objects of a directory are its model."""

import pytest
import torch

from osstorchconnector import OssClient, OssFileSystem, OssFormatError, OssNotFoundError
from osstorchconnector.model import layout
from osstorchconnector.model.blocks import Chunk, overlap
from osstorchconnector.testing import Emulator
from tests.model.models import opened, put, put_index, put_shards, random_tensors, same

TENSORS = random_tensors()
OTHER = {"other": torch.ones(3)}


def test_an_index_and_its_shards(emulator: Emulator, client: OssClient, bucket: str) -> None:
    directory = f"oss://{bucket}/model/"
    index = put_shards(client, directory, TENSORS)
    put_index(client, f"{directory}model.safetensors.index.json", index)
    put(client, f"{directory}model-of-an-earlier-save.safetensors", OTHER)
    for uri in (directory, directory[:-1], f"{directory}model.safetensors.index.json"):
        with opened(emulator, uri) as model:
            assert model.form == "index"
            assert len(model.files) == 3
            assert same(model.load(), TENSORS)
            assert model.metadata == {"format": "pt"}


@pytest.mark.parametrize("stem", ["model", "diffusion_pytorch_model", "weights.v1", "shard-00001-model"])
def test_shards_without_an_index(emulator: Emulator, client: OssClient, bucket: str, stem: str) -> None:
    put_shards(client, f"oss://{bucket}/", TENSORS, stem=stem)
    with opened(emulator, f"oss://{bucket}/") as model:
        assert model.form == "shards"
        assert same(model.load(), TENSORS)


@pytest.mark.parametrize("name", ["model", "diffusion_pytorch_model", "adapter_model", "consolidated.00", "any name"])
def test_one_file(emulator: Emulator, client: OssClient, bucket: str, name: str) -> None:
    put(client, f"oss://{bucket}/sub/{name}.safetensors", TENSORS, a="b")
    client.put(f"oss://{bucket}/sub/config.json", b"{}")
    put(client, f"oss://{bucket}/sub/deeper/model.safetensors", OTHER)
    for uri in (f"oss://{bucket}/sub", f"oss://{bucket}/sub/{name}.safetensors"):
        with opened(emulator, uri) as model:
            assert model.form == "file"
            assert same(model.load(), TENSORS)
            assert model.metadata == {"a": "b"}


def test_sharded_wins_over_consolidated(emulator: Emulator, client: OssClient, bucket: str) -> None:
    put(client, f"oss://{bucket}/consolidated.safetensors", OTHER)
    put_shards(client, f"oss://{bucket}/", TENSORS)
    with opened(emulator, f"oss://{bucket}/") as model:
        assert same(model.load(), TENSORS)


def test_a_usual_name_wins_over_others_and_an_index_over_one_file(
    emulator: Emulator, client: OssClient, bucket: str
) -> None:
    put(client, f"oss://{bucket}/model.safetensors", TENSORS)
    put(client, f"oss://{bucket}/adapter_model.safetensors", OTHER)
    with opened(emulator, f"oss://{bucket}/") as model:
        assert same(model.load(), TENSORS)
    put_index(client, f"oss://{bucket}/model.safetensors.index.json", {"other": "adapter_model.safetensors"})
    with opened(emulator, f"oss://{bucket}/") as model:
        assert same(model.load(), OTHER)


@pytest.mark.parametrize("old_style", [False, True])
def test_a_variant(emulator: Emulator, client: OssClient, bucket: str, old_style: bool) -> None:  # noqa: FBT001
    put(client, f"oss://{bucket}/model.safetensors", OTHER)
    for number, part in enumerate((TENSORS, {"more": torch.ones(1)}), start=1):
        place = f"model-0000{number}-of-00002.fp16" if old_style else f"model.fp16-0000{number}-of-00002"
        put(client, f"oss://{bucket}/{place}.safetensors", part)
    with opened(emulator, f"oss://{bucket}/") as model:
        assert same(model.load(), OTHER)
    with opened(emulator, f"oss://{bucket}/", variant="fp16") as model:
        assert same(model.load(), {**TENSORS, "more": torch.ones(1)})
        put(client, f"oss://{bucket}/model.ema.fp16.safetensors", OTHER)
    with opened(emulator, f"oss://{bucket}/", variant="fp16") as model:
        assert same(model.load(), {**TENSORS, "more": torch.ones(1)})
    with pytest.raises(OssNotFoundError, match="no safetensors object of the variant 'bf16', but model"):
        opened(emulator, f"oss://{bucket}/", variant="bf16")


def test_a_distributed_checkpoint_in_the_form_of_safetensors(
    emulator: Emulator, client: OssClient, bucket: str
) -> None:
    import torch.distributed.checkpoint as dcp  # noqa: PLC0415 - slow to import

    uri = f"oss://{bucket}/checkpoint"
    file_system = OssFileSystem(**emulator.connection)
    for tensors in (OTHER, TENSORS):
        # The files of the first save stay, and are not part of the second.
        dcp.save(
            dict(tensors), storage_writer=file_system.writer(uri, serialization_format="safetensors"), no_dist=True
        )
    with opened(emulator, uri) as model:
        assert model.form == "checkpoint"
        assert same(model.load(), TENSORS)
    dcp.save(dict(TENSORS), storage_writer=file_system.writer(f"{uri}-2"), no_dist=True)
    with pytest.raises(OssFormatError, match=r"files are not safetensors.*OssFileSystem.reader"):
        opened(emulator, f"{uri}-2")
    put(client, f"{uri}/model.safetensors", TENSORS)
    with pytest.raises(OssFormatError, match=r"holds two models, model.safetensors and a distributed checkpoint"):
        opened(emulator, uri)


def test_chunks_that_overlap_are_found_among_many() -> None:
    def chunk(begin: tuple[int, ...], shape: tuple[int, ...]) -> Chunk:
        return Chunk("file", 0, 0, begin, shape)

    rows = [chunk((number, 0), (1, 4)) for number in range(20_000)]
    columns = [chunk((0, number), (4, 2)) for number in range(0, 20, 2)]
    for apart in (rows, columns, [chunk((0, 0), (2, 2)), chunk((2, 0), (2, 2)), chunk((0, 2), (4, 1))], []):
        assert not overlap(apart)
    for together in (
        [*rows, chunk((19_000, 1), (1, 1))],
        [*columns, chunk((3, 19), (1, 1))],
        [chunk((), ()), chunk((), ())],
        [chunk((0,), (9,)), chunk((1,), (1,)), chunk((8,), (1,))],
    ):
        assert overlap(together)


def test_tensors_in_several_shards_are_put_together(emulator: Emulator, client: OssClient, bucket: str) -> None:
    whole = torch.arange(6000, dtype=torch.float32).reshape(60, 100)
    parts = {(0, 0): whole[:25, :40], (25, 0): whole[25:, :40], (0, 40): whole[:, 40:]}
    for number, (offsets, part) in enumerate(parts.items(), start=1):
        sharding = f'{{"w": {{"saved_offsets": {list(offsets)}}}}}'
        name = f"shard-0000{number}-model-00001-of-00001.safetensors"
        put(client, f"oss://{bucket}/{name}", {"w": part.contiguous()}, DCP_SHARDING_INFO=sharding)
    with opened(emulator, f"oss://{bucket}/") as model:
        assert model.tensors["w"].shape == (60, 100)
        assert len(model.tensors["w"].files) == 3
        assert torch.equal(model.load()["w"], whole)
        slices = (slice(20, 40), slice(30, 50))
        assert torch.equal(model.load(slices={"w": slices})["w"], whole[slices])
    client.delete(f"oss://{bucket}/shard-00001-model-00001-of-00001.safetensors")
    with pytest.raises(OssFormatError, match="holds a part of tensor 'w' only"):
        opened(emulator, f"oss://{bucket}/")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["model", "diffusion_pytorch_model"], "holds 2 models, diffusion_pytorch_model.safetensors, model"),
        (["one", "two"], "holds 2 models, one.safetensors, two.safetensors: give the URI"),
        (["m-00001-of-00002"], r"lacks shard 2 of 2 beside m-00001-of-00002\.safetensors"),
        (["m-00001-of-00001", "m-00001-of-00002"], "files of two models under one name"),
        (["m-00001-of-00001", "m"], "files of two models under one name"),
        (["m-1-of-2", "m-00001-of-00002", "m-00002-of-00002"], "files of two models under one name"),
        (["m-00001-of-99999999999999"], "lacks shard 2 of 99999999999999"),
    ],
)
def test_two_models_or_half_a_model_are_refused(
    emulator: Emulator, client: OssClient, bucket: str, names: list[str], message: str
) -> None:
    for name in names:
        put(client, f"oss://{bucket}/{name}.safetensors", OTHER)
    with pytest.raises(OssFormatError, match=message):
        opened(emulator, f"oss://{bucket}/")


def test_no_model(emulator: Emulator, client: OssClient, bucket: str) -> None:
    client.put(f"oss://{bucket}/run/config.json", b"{}")
    with pytest.raises(OssNotFoundError, match=r"has no safetensors object, but config.json"):
        opened(emulator, f"oss://{bucket}/run")
    with pytest.raises(OssNotFoundError, match="the nearest one with objects is"):
        opened(emulator, f"oss://{bucket}/run/model")
    with pytest.raises(OssNotFoundError):
        opened(emulator, f"oss://{bucket}/run/model.safetensors")


def test_a_directory_of_very_many_objects(
    emulator: Emulator, client: OssClient, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layout, "_MOST_LISTED", 5)
    for number in range(6):
        put(client, f"oss://{bucket}/a{number}.safetensors", OTHER)
    with pytest.raises(
        OssNotFoundError, match="none of the usual names of a model, and holds more than 5 objects: give"
    ):
        opened(emulator, f"oss://{bucket}/")
    put(client, f"oss://{bucket}/model.safetensors", TENSORS)
    with opened(emulator, f"oss://{bucket}/") as model:
        assert same(model.load(), TENSORS)


@pytest.mark.parametrize("shards", [1, 3])
def test_a_directory_that_may_not_be_listed(emulator: Emulator, client: OssClient, bucket: str, shards: int) -> None:
    if shards == 1:
        put(client, f"oss://{bucket}/model.safetensors", TENSORS)
    else:
        put_index(
            client, f"oss://{bucket}/model.safetensors.index.json", put_shards(client, f"oss://{bucket}/", TENSORS)
        )
    with (
        emulator.fault(operation="ListObjects", error="AccessDenied"),
        opened(emulator, f"oss://{bucket}/") as model,
    ):
        assert same(model.load(), TENSORS)
