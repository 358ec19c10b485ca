"""A tiny Llama with random weights is the same from OSS and from a folder, saved by either."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from osstorchconnector import OssClient, OssConfigError, OssFormatError, OssNotFoundError
from osstorchconnector.testing import Emulator

transformers = pytest.importorskip("transformers", "5.24")
accelerate = pytest.importorskip("accelerate", "1.15")

from osstorchconnector.accelerate import load_checkpoint_and_dispatch  # noqa: E402 - they need the library
from osstorchconnector.transformers import load_pretrained, load_tokenizer, save_pretrained  # noqa: E402

pytestmark = pytest.mark.slow(100)
TOKENS = torch.arange(12).reshape(2, 6)


def llama(*, tied: bool) -> Any:
    torch.manual_seed(3)
    settings = transformers.LlamaConfig(
        vocab_size=60,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=tied,
        pad_token_id=0,
    )
    model = transformers.LlamaForCausalLM(settings).eval()
    model.generation_config.max_length = 17
    return model


def answer(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(TOKENS).logits
    return found


def upload(client: OssClient, folder: Path, uri: str) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            client.put(f"{uri}{path.relative_to(folder)}", path.read_bytes())


def download(client: OssClient, uri: str, folder: Path) -> None:
    for item in client.list(uri):
        path = folder / item.uri.removeprefix(uri)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(item.read())


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("shard", ["5GB", "10KB"])
def test_a_model_from_oss_answers_as_one_from_a_folder(
    emulator: Emulator,
    client: OssClient,
    bucket: str,
    tmp_path: Path,
    tied: bool,  # noqa: FBT001 - a case
    shard: str,
) -> None:
    model = llama(tied=tied)
    model.save_pretrained(tmp_path, max_shard_size=shard)
    upload(client, tmp_path, f"oss://{bucket}/llama/")
    emulator.clear_requests()
    loaded = load_pretrained(f"oss://{bucket}/llama", **emulator.connection)
    assert type(loaded) is transformers.LlamaForCausalLM
    assert not loaded.training
    assert torch.equal(answer(loaded), answer(model))
    assert torch.equal(answer(loaded), answer(transformers.LlamaForCausalLM.from_pretrained(tmp_path)))
    assert loaded.generation_config.max_length == 17
    assert (loaded.get_input_embeddings().weight is loaded.get_output_embeddings().weight) == tied
    assert loaded.config.name_or_path == f"oss://{bucket}/llama/"
    # The weights came once, and by requests of the model's own reader.
    weights = [request for request in emulator.requests(operation="GetObject") if "safetensors" in str(request.key)]
    stored = sum(path.stat().st_size for path in tmp_path.glob("*.safetensors"))
    assert sum(request.response_bytes for request in weights) <= 2.1 * stored + 10_000


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("shard", ["5GB", "10KB"])
def test_a_model_saved_to_oss_is_what_transformers_saves(
    emulator: Emulator,
    client: OssClient,
    bucket: str,
    tmp_path: Path,
    tied: bool,  # noqa: FBT001 - a case
    shard: str,
) -> None:
    model = llama(tied=tied)
    save_pretrained(model, f"oss://{bucket}/saved/", **emulator.connection, max_shard_size=shard)
    download(client, f"oss://{bucket}/saved/", tmp_path / "oss")
    model.save_pretrained(tmp_path / "disk", max_shard_size=shard)
    files = {path.name: path.read_bytes() for path in (tmp_path / "disk").iterdir()}
    assert {path.name: path.read_bytes() for path in (tmp_path / "oss").iterdir()} == files
    loaded = load_pretrained(f"oss://{bucket}/saved/", **emulator.connection, dtype=torch.float32)
    assert torch.equal(answer(loaded), answer(model))


def test_a_failed_save_leaves_the_previous_model(emulator: Emulator, client: OssClient, bucket: str) -> None:
    uri = f"oss://{bucket}/saved/"
    save_pretrained(llama(tied=False), uri, **emulator.connection)
    before = {item.uri: item.read() for item in client.list(uri)}

    class Failing:
        def save_pretrained(self, folder: str) -> None:
            llama(tied=True).save_pretrained(folder)
            raise ValueError("no space for the tokenizer")

    with pytest.raises(ValueError, match="no space"):
        save_pretrained(Failing(), uri, **emulator.connection)
    assert {item.uri: item.read() for item in client.list(uri)} == before
    with pytest.raises(OssConfigError, match="a dict has no method save_pretrained"):
        save_pretrained({}, uri, **emulator.connection)


def test_what_is_no_model_of_transformers(emulator: Emulator, client: OssClient, bucket: str) -> None:
    with pytest.raises(OssNotFoundError, match="has no configuration of a model"):
        load_pretrained(f"oss://{bucket}/none/", **emulator.connection)
    model = llama(tied=False)
    save_pretrained(model, f"oss://{bucket}/saved/", **emulator.connection)
    for name in ("Unknown", "utils", "LlamaConfig"):
        client.put(f"oss://{bucket}/saved/config.json", f'{{"architectures": ["{name}"]}}'.encode())
        with pytest.raises(OssConfigError, match=rf"names the architecture '{name}'.*give cls="):
            load_pretrained(f"oss://{bucket}/saved/", **emulator.connection)
    with pytest.raises(OssConfigError, match="subfolder='ema': give the URI of the folder itself"):
        load_pretrained(f"oss://{bucket}/saved/", **emulator.connection, subfolder="ema")
    client.put(f"oss://{bucket}/saved/config.json", b"{")
    with pytest.raises(OssFormatError, match=r"config\.json is not the configuration of a model"):
        load_pretrained(f"oss://{bucket}/saved/", **emulator.connection)


def test_a_tokenizer(emulator: Emulator, bucket: str) -> None:
    import tokenizers  # noqa: PLC0415 - of the library

    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0, "b": 1, "?": 2}, unk_token="?"))
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=words, unk_token="?")
    save_pretrained(tokenizer, f"oss://{bucket}/saved/", **emulator.connection)
    loaded = load_tokenizer(f"oss://{bucket}/saved/", **emulator.connection, cls=transformers.PreTrainedTokenizerFast)
    assert loaded("b")["input_ids"] == tokenizer("b")["input_ids"] == [1]


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("device_map", [None, {"": "cpu"}])
def test_accelerate_dispatches_a_checkpoint(
    emulator: Emulator,
    bucket: str,
    tied: bool,  # noqa: FBT001 - a case
    device_map: dict[str, str] | None,
) -> None:
    model = llama(tied=tied)
    save_pretrained(model, f"oss://{bucket}/saved/", **emulator.connection, max_shard_size="10KB")

    def empty() -> Any:
        with accelerate.init_empty_weights(include_buffers=False):
            return transformers.LlamaForCausalLM(model.config).eval()

    load: Callable[..., Any] = load_checkpoint_and_dispatch
    loaded = load(empty(), f"oss://{bucket}/saved/", **emulator.connection, device_map=device_map)
    assert torch.equal(answer(loaded), answer(model))
    assert (loaded.get_input_embeddings().weight is loaded.get_output_embeddings().weight) == tied
    with pytest.raises(OssConfigError, match="on the disk"):
        load(empty(), f"oss://{bucket}/saved/", **emulator.connection, device_map={"": "disk"})
    wrong = torch.nn.Linear(3, 3)
    with pytest.raises(OssFormatError, match=r"lacks tensor 'bias' of the model"):
        load(wrong, f"oss://{bucket}/saved/", **emulator.connection)
    with pytest.raises(OssFormatError, match=r"has a tensor 'lm_head.weight'|'model.embed_tokens.weight'"):
        load(wrong, f"oss://{bucket}/saved/", **emulator.connection, strict=True)
