"""A checkpoint in OSS, loaded into a model whose parts are on several devices, by Accelerate."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from osstorchconnector.connection.client import OssClient
from osstorchconnector.connection.config import OssConfig
from osstorchconnector.credentials.shield import guarded
from osstorchconnector.exceptions import OssConfigError, OssFormatError
from osstorchconnector.model.model import OssModel, Share, before_opening

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

DeviceMap = Mapping[str, int | str | torch.device]


@guarded
def load_checkpoint_and_dispatch(
    model: torch.nn.Module,
    uri: str,
    endpoint: str,
    cred_path: str = "",
    config_path: str = "",
    cred_provider: object = None,
    region: str = "",
    *,
    config: OssConfig | None = None,
    device_map: str | DeviceMap | None = None,
    max_memory: Mapping[int | str, int | str] | None = None,
    no_split_module_classes: Sequence[str] | None = None,
    dtype: torch.dtype | None = None,
    strict: bool = False,
    variant: str | None = None,
    share: Share | None = None,
    process_group: "ProcessGroup | None" = None,
    **options: Any,  # noqa: ANN401 - of Accelerate
) -> torch.nn.Module:
    """Fill a model with a checkpoint of OSS, each tensor on its device, as Accelerate's function of this name does.

    Args:
        model: The model; make it with ``accelerate.init_empty_weights()`` so that it takes no memory before.
        uri: The checkpoint, as for :func:`~osstorchconnector.model.open_model`.
        endpoint: As for :class:`OssClient`, and so are the next arguments.
        cred_path: See there.
        config_path: See there.
        cred_provider: See there.
        region: See there.
        config: See there.
        device_map: The device of each part, or ``"auto"``, ``"balanced"``, ``"balanced_low_0"`` or ``"sequential"``. A
            part cannot be on ``"disk"``. Default: all is in main memory, and the model gets no hooks.
        max_memory: As for Accelerate, and so are the next arguments.
        no_split_module_classes: See there.
        dtype: See there.
        strict: A tensor that the model does not have is an error.
        variant: As for :func:`~osstorchconnector.model.open_model`, and so are the next arguments.
        share: See there.
        process_group: See there.
        options: More arguments of ``accelerate.dispatch_model``.

    Returns:
        The model.

    Raises:
        OssConfigError: An argument is wrong.
        OssFormatError: The checkpoint lacks a tensor of the model, or has another shape of it.
        OssError: A tensor could not be fetched.
    """
    from accelerate import dispatch_model, infer_auto_device_map  # noqa: PLC0415 - an extra
    from accelerate.utils import (  # noqa: PLC0415 - an extra
        find_tied_parameters,
        get_balanced_memory,
        retie_parameters,
        set_module_tensor_to_device,
    )

    with before_opening(share, process_group):
        client = OssClient(endpoint, cred_path, config_path, cred_provider=cred_provider, region=region, config=config)
        devices: DeviceMap | None = device_map if not isinstance(device_map, str) else None
        if isinstance(device_map, str):
            limits: Any = max_memory
            if device_map != "sequential":
                limits = get_balanced_memory(
                    model,
                    max_memory=limits,
                    no_split_module_classes=no_split_module_classes,
                    dtype=dtype,
                    low_zero=device_map == "balanced_low_0",
                )
            devices = infer_auto_device_map(
                model, max_memory=limits, no_split_module_classes=no_split_module_classes, dtype=dtype
            )
        if devices is not None and "disk" in {str(device) for device in devices.values()}:
            raise OssConfigError(
                "device_map puts a part of the model on the disk: download it, and give its folder to Accelerate"
            )
    if callable(getattr(model, "tie_weights", None)):
        # `init_empty_weights` makes a parameter of its own for each name.
        model.tie_weights()  # type: ignore[operator]
    tied = find_tied_parameters(model)
    expected = model.state_dict()
    with OssModel(client, uri, variant=variant, share=share, process_group=process_group) as opened:
        others = sorted(opened.tensors.keys() - expected.keys())
        if strict and others:
            raise OssFormatError(f"{uri} has a tensor {others[0]!r}, and the model has none of that name")
        names = [name for name in opened.tensors if name in expected]
        for name in names:
            _check_shape(name, opened.tensors[name].shape, expected[name], uri)
        missing = sorted(expected.keys() - names - {name for group in tied for name in group if {*group} & {*names}})
        if missing:
            raise OssFormatError(f"{uri} lacks tensor {missing[0]!r} of the model")
        for name, tensor in opened.iterate(names):
            device = _device_of(name, devices)
            set_module_tensor_to_device(model, name, device, value=tensor, dtype=_type_of(dtype, tensor))
    retie_parameters(model, tied)
    return model if devices is None else dispatch_model(model, device_map=dict(devices), **options)


def _check_shape(name: str, shape: tuple[int, ...], own: torch.Tensor, uri: str) -> None:
    if shape != tuple(own.shape):
        raise OssFormatError(
            f"tensor {name!r} of {uri} has the shape {shape}, and that of the model {tuple(own.shape)}"
        )


def _device_of(name: str, device_map: DeviceMap | None) -> int | str | torch.device:
    """Return the device of a tensor: that of the longest part of its name.

    Raises:
        OssConfigError: No part of the model that has a device holds it.
    """
    if device_map is None:
        return "cpu"
    parts = name.split(".")
    for length in range(len(parts), -1, -1):
        device = device_map.get(".".join(parts[:length]))
        if device is not None:
            return device
    raise OssConfigError(f"device_map has no device for {name!r}")


def _type_of(dtype: torch.dtype | None, tensor: torch.Tensor) -> torch.dtype:
    # A type that Accelerate does not get is the parameter's own, which `init_empty_weights` decides.
    return dtype if dtype is not None and tensor.is_floating_point() else tensor.dtype
