"""A tiny model of Diffusers with random weights, and a pipeline of it, are the same from OSS and from a folder."""

from typing import Any

import pytest
import torch

from osstorchconnector import OssClient, OssConfigError, OssFormatError
from osstorchconnector.testing import Emulator
from tests.model.models import put, same

diffusers = pytest.importorskip("diffusers", "0.42")
pytest.importorskip("accelerate", "1.15")

from osstorchconnector.diffusers import load_pretrained, save_pretrained  # noqa: E402 - it needs the library

pytestmark = pytest.mark.slow(100)


def unet() -> Any:
    torch.manual_seed(5)
    return diffusers.UNet2DModel(
        sample_size=8,
        in_channels=3,
        out_channels=3,
        layers_per_block=1,
        block_out_channels=(8, 16),
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=4,
    ).eval()


def answer(model: Any) -> torch.Tensor:
    torch.manual_seed(6)
    with torch.no_grad():
        found: torch.Tensor = model(torch.randn(1, 3, 8, 8), 3).sample
    return found


@pytest.mark.parametrize("shard", ["10GB", "20KB"])
def test_a_model_from_oss_answers_as_the_one_saved(emulator: Emulator, bucket: str, shard: str) -> None:
    model = unet()
    save_pretrained(model, f"oss://{bucket}/unet/", **emulator.connection, max_shard_size=shard)
    loaded = load_pretrained(f"oss://{bucket}/unet/", **emulator.connection)
    assert type(loaded) is diffusers.UNet2DModel
    assert same(loaded.state_dict(), model.state_dict())
    assert torch.equal(answer(loaded), answer(model))
    half = load_pretrained(f"oss://{bucket}/unet/", **emulator.connection, torch_dtype=torch.float16)
    assert {tensor.dtype for tensor in half.state_dict().values()} == {torch.float16}


def test_a_pipeline_from_oss_answers_as_the_one_saved(emulator: Emulator, client: OssClient, bucket: str) -> None:
    pipeline = diffusers.DDPMPipeline(unet=unet(), scheduler=diffusers.DDPMScheduler(num_train_timesteps=10))
    pipeline.set_progress_bar_config(disable=True)
    save_pretrained(pipeline, f"oss://{bucket}/pipe/", **emulator.connection)
    names = {item.uri.removeprefix(f"oss://{bucket}/pipe/") for item in client.list(f"oss://{bucket}/pipe/")}
    assert {"model_index.json", "unet/diffusion_pytorch_model.safetensors", "scheduler/scheduler_config.json"} <= names
    loaded = load_pretrained(f"oss://{bucket}/pipe/", **emulator.connection)
    loaded.set_progress_bar_config(disable=True)
    assert type(loaded) is diffusers.DDPMPipeline
    assert same(loaded.unet.state_dict(), pipeline.unet.state_dict())

    def image(one: Any) -> Any:
        return one(generator=torch.Generator().manual_seed(7), num_inference_steps=2, output_type="np").images

    assert (image(loaded) == image(pipeline)).all()


def test_what_does_not_fit(emulator: Emulator, client: OssClient, bucket: str) -> None:
    save_pretrained(unet(), f"oss://{bucket}/unet/", **emulator.connection)
    with pytest.raises(OssConfigError, match="is a model, and 'subfolder' is an option of pipelines"):
        load_pretrained(f"oss://{bucket}/unet/", **emulator.connection, subfolder="ema")
    put(client, f"oss://{bucket}/unet/diffusion_pytorch_model.safetensors", {"other": torch.ones(2)})
    with pytest.raises(OssFormatError, match="does not fit a UNet2DModel"):
        load_pretrained(f"oss://{bucket}/unet/", **emulator.connection)
    for name in ("Unknown", "utils", "DDPMScheduler"):
        client.put(f"oss://{bucket}/unet/config.json", f'{{"_class_name": "{name}"}}'.encode())
        with pytest.raises(OssConfigError, match=f"names the class '{name}'"):
            load_pretrained(f"oss://{bucket}/unet/", **emulator.connection)


def test_a_class_of_one_pipeline_has_weights() -> None:
    from osstorchconnector.diffusers import _class_with_weights  # noqa: PLC0415 - it needs the library

    checker = _class_with_weights("stable_diffusion", "StableDiffusionSafetyChecker")
    assert checker.__name__ == "StableDiffusionSafetyChecker"
    assert _class_with_weights("diffusers", "UNet2DModel") is diffusers.UNet2DModel
    for library, name in (("diffusers", "DDPMScheduler"), ("os", "path"), ("stable_diffusion", "None")):
        assert _class_with_weights(library, name) is None
