"""What a model holds, and its tensors: all, some, parts of them, in another type, in given memory."""

import gc
import multiprocessing
import pickle
import random

import pytest
import torch

from osstorchconnector import OssClient, OssConfigError, OssError, OssKeyError
from osstorchconnector.model import blocks
from osstorchconnector.testing import Emulator
from tests.model.models import Tensors, opened, put, random_tensors, same, same_tensor


def test_what_a_model_holds(emulator: Emulator, model_uri: str, tensors: Tensors) -> None:
    with opened(emulator, model_uri) as model:
        assert model.tensors.keys() == tensors.keys()
        for name, tensor in tensors.items():
            info = model.tensors[name]
            assert (info.shape, info.torch_dtype, info.nbytes) == (tuple(tensor.shape), tensor.dtype, tensor.nbytes)
            assert len(info.files) == 1
        assert model.nbytes == sum(tensor.nbytes for tensor in tensors.values())
        assert sum(model.files.values()) > model.nbytes
        assert repr(model) == f"OssModel({model_uri!r}, form='index', tensors=10, nbytes={model.nbytes})"


def test_tensors_stay_valid_after_the_next_step(emulator: Emulator, model_uri: str, tensors: Tensors) -> None:
    with opened(emulator, model_uri) as model:
        found = dict(model)
    gc.collect()
    assert same(found, tensors)


def test_each_byte_is_fetched_once(emulator: Emulator, client: OssClient, bucket: str) -> None:
    tensors = {f"layer.{number}": torch.randn(300_000 + number) for number in range(12)}
    put(client, f"oss://{bucket}/model.safetensors", tensors)
    with opened(emulator, f"oss://{bucket}/model.safetensors") as model:
        emulator.clear_requests()
        assert same(model.load(), tensors)
        requests = emulator.requests()
        # The header is fetched again, so that the checksum of the whole object can be compared.
        assert sum(request.response_bytes for request in requests) == sum(model.files.values())
        assert {request.operation for request in requests} == {"GetObject"}


def test_requests_for_all_objects_are_in_flight_from_the_start(
    emulator: Emulator, client: OssClient, bucket: str
) -> None:
    tensors = {f"{number}": torch.randn(400_000) for number in range(16)}
    for number in range(4):
        part = {name: tensor for name, tensor in tensors.items() if int(name) % 4 == number}
        put(client, f"oss://{bucket}/m-{number + 1}-of-4.safetensors", part)
    with opened(emulator, f"oss://{bucket}/", concurrency=8) as model:
        emulator.clear_requests()
        with emulator.fault(operation="GetObject", delay=0.1):
            assert same(model.load(), tensors)
        first = {request.key for request in emulator.requests(operation="GetObject")[:8]}
        assert len(first) == 4
        assert 6 <= emulator.peak_concurrency() <= 8


def test_a_subset_fetches_its_bytes_only(emulator: Emulator, model_uri: str, tensors: Tensors) -> None:
    names = ["embed.weight", "layer.0.mask"]
    with opened(emulator, model_uri) as model:
        emulator.clear_requests()
        found = model.load(names)
        assert list(found) == [name for name in model.tensors if name in names]
        assert same(found, {name: tensors[name] for name in names})
        assert sum(request.response_bytes for request in emulator.requests()) == sum(
            found[name].nbytes for name in names
        )
        assert same(dict(model.iterate(iter(names))), found)
        assert model.load([]) == {}


@pytest.mark.parametrize("index", [slice(10, 20), slice(None, None), slice(-5, None), slice(7, 7), slice(100, 50)])
def test_rows(emulator: Emulator, model_uri: str, tensors: Tensors, index: slice) -> None:
    with opened(emulator, model_uri) as model:
        emulator.clear_requests()
        (found,) = model.load(["embed.weight"], slices={"embed.weight": index}).values()
        expected = tensors["embed.weight"][index]
        assert same_tensor(found, expected)
        assert sum(request.response_bytes for request in emulator.requests()) == expected.nbytes


def test_parts_of_every_shape(
    emulator: Emulator, client: OssClient, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Blocks of every kind occur in small tensors too.
    monkeypatch.setattr(blocks, "LEAST_RUN", 64)
    draw = random.Random(5)
    tensors = {
        "vector": torch.arange(1000),
        "matrix": torch.randn(40, 50),
        "cube": torch.randn(6, 20, 30).to(torch.bfloat16),
        "four": torch.randn(3, 4, 5, 6),
    }
    put(client, f"oss://{bucket}/model.safetensors", tensors)
    with opened(emulator, f"oss://{bucket}/") as model:
        for _ in range(25):
            slices = {}
            for name, tensor in tensors.items():
                ends = [sorted(draw.choices(range(length + 1), k=2)) for length in tensor.shape]
                slices[name] = tuple(slice(*pair) for pair in ends[: draw.randint(1, tensor.ndim)])
            expected = {name: tensor[slices[name]] for name, tensor in tensors.items()}
            assert same(model.load(slices=slices), expected)
            assert same(
                dict(model.iterate(slices=slices, dtype=torch.float64)),
                {name: part.to(torch.float64) if part.is_floating_point() else part for name, part in expected.items()},
            )


def test_columns_are_fetched_alone_where_their_pieces_are_long(
    emulator: Emulator, client: OssClient, bucket: str
) -> None:
    # Experts of a model: two of three, half of the rows of each.
    tensor = torch.randn(3, 512, 512)
    put(client, f"oss://{bucket}/model.safetensors", {"experts": tensor})
    index = (slice(0, 2), slice(256, None))
    with opened(emulator, f"oss://{bucket}/") as model:
        emulator.clear_requests()
        found = model.load(slices={"experts": index})["experts"]
        assert same_tensor(found, tensor[index])
        assert sum(request.response_bytes for request in emulator.requests()) == found.nbytes
        narrow = (slice(None), slice(None), slice(8))
        emulator.clear_requests()
        assert same_tensor(model.load(slices={"experts": narrow})["experts"], tensor[narrow])
        assert sum(request.response_bytes for request in emulator.requests()) == tensor.nbytes


@pytest.mark.parametrize(
    "slices", [slice(0, 10, 2), slice("a"), slice(0.5), (slice(1), 3), 5, (slice(1), slice(1), slice(1))]
)
def test_other_indices_are_refused(emulator: Emulator, model_uri: str, slices: object) -> None:
    with opened(emulator, model_uri) as model, pytest.raises(OssConfigError, match=r"slices of tensor 'embed.weight'"):
        model.load(slices={"embed.weight": slices})  # type: ignore[dict-item]


def test_another_type(emulator: Emulator, model_uri: str, tensors: Tensors) -> None:
    with opened(emulator, model_uri) as model:
        found = model.load(dtype=torch.bfloat16)
        assert found["layer.0.scale"].dtype == torch.float8_e4m3fn
        assert same(
            found,
            {
                name: tensor.to(torch.bfloat16) if tensor.is_floating_point() and tensor.itemsize > 1 else tensor
                for name, tensor in tensors.items()
            },
        )
        with pytest.raises(OssConfigError, match="dtype must be a torch type of floating-point numbers"):
            model.load(dtype=torch.int8)


def test_given_tensors(emulator: Emulator, model_uri: str, tensors: Tensors) -> None:
    given = {name: torch.empty_like(tensor) for name, tensor in tensors.items()}
    places = {name: tensor.data_ptr() for name, tensor in given.items()}
    # Another type, another order in memory, a part of something larger, and a parameter.
    given["layer.0.weight"] = torch.empty(128, 96, dtype=torch.float32)
    given["layer.1.experts"] = torch.empty(4, 32, 24, dtype=torch.float16).transpose(1, 2)
    larger = torch.zeros(302, 1030)
    given["embed.weight"] = torch.nn.Parameter(larger[1:301, 3:1027])
    version = given["embed.weight"]._version
    with opened(emulator, model_uri) as model:
        model.load_into(given)
    assert given["embed.weight"]._version > version
    assert torch.equal(larger[1:301, 3:1027], tensors["embed.weight"])
    assert larger[0].sum() == larger[:, :3].sum() == larger[:, 1027:].sum() == 0
    assert torch.equal(given["layer.0.weight"], tensors["layer.0.weight"].float())
    assert same_tensor(given["layer.1.experts"], tensors["layer.1.experts"])
    others = [name for name in tensors if name not in {"layer.0.weight", "layer.1.experts", "embed.weight"}]
    assert all(same_tensor(given[name], tensors[name]) for name in others)
    assert all(given[name].data_ptr() == places[name] for name in others)


def test_given_tensors_of_another_shape_or_name(emulator: Emulator, model_uri: str) -> None:
    with opened(emulator, model_uri) as model:
        with pytest.raises(OssConfigError, match=r"'layer.0.mask' of oss://.* has the shape \(3,\), and .* has \(4,\)"):
            model.load_into({"layer.0.mask": torch.empty(4, dtype=torch.bool)})
        with pytest.raises(OssKeyError, match="has no tensor 'other'"):
            model.load_into({"other": torch.empty(4)})
        wrong: list[tuple[str, object, str]] = [
            (
                "layer.0.mask",
                torch.empty(3, dtype=torch.bool, device="meta"),
                "cannot fill a tensor on the device meta",
            ),
            ("layer.0.norm", torch.empty(64, dtype=torch.int64), "is torch.bfloat16, which the given .* cannot hold"),
            ("layer.1.complex", torch.empty(9), "is torch.complex64, which the given .* cannot hold"),
            ("layer.0.mask", [True, False, True], "needs a tensor to fill, got list"),
            ("layer.0.ids", torch.arange(17).to_sparse(), "cannot fill a tensor with the layout torch.sparse_coo"),
            ("layer.0.ids", torch.ones(1, dtype=torch.int64).expand(17), "cannot fill .* share memory: give a clone"),
        ]
        for name, tensor, message in wrong:
            with pytest.raises(OssConfigError, match=f"tensor '{name}' of oss://.*safetensors {message}"):
                model.load_into({name: tensor})  # type: ignore[dict-item]
        part = torch.empty(10, 1024)
        model.load_into({"embed.weight": part}, slices={"embed.weight": slice(5, 15)})


def test_a_model_fills_a_module(emulator: Emulator, client: OssClient, bucket: str) -> None:
    source, module = torch.nn.Linear(30, 40), torch.nn.Linear(30, 40)
    put(client, f"oss://{bucket}/model.safetensors", dict(source.state_dict()))
    with opened(emulator, f"oss://{bucket}/") as model:
        model.load_into(dict(module.named_parameters()))
        assert same(module.state_dict(), source.state_dict())
        meta = torch.nn.Linear(30, 40, device="meta")
        meta.load_state_dict(model.load(), assign=True)
    assert same(meta.state_dict(), source.state_dict())


def test_wrong_arguments(emulator: Emulator, model_uri: str) -> None:
    for options in ({"budget": 1 << 20}, {"concurrency": 0}):
        with pytest.raises(OssConfigError, match=next(iter(options))):
            opened(emulator, model_uri, **options)
    with opened(emulator, model_uri) as model:
        with pytest.raises(OssKeyError, match="has no tensor 'x'"):
            model.load(["x"])
        with pytest.raises(OssKeyError, match="has no tensor 'x'"):
            model.load(slices={"x": slice(1)})
        with pytest.raises(OssConfigError, match=r"not one text: \['embed.weight'\]"):
            model.load("embed.weight")
        with pytest.raises(OssConfigError, match="device must be"):
            model.load(device="nowhere")
        for device in ("xpu:77", "cuda:77"):
            with pytest.raises(OssConfigError, match=f"device '{device}' does not exist here: "):
                model.load(device=device)
        with pytest.raises(OssConfigError, match="only tensors in main memory can be pinned"):
            model.load(device="meta", pin_memory=True)


def test_a_default_device_and_type_of_the_program_change_nothing(
    emulator: Emulator, model_uri: str, tensors: Tensors
) -> None:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float16)
    try:
        with torch.device("meta"), opened(emulator, model_uri) as model:
            found = model.load()
    finally:
        torch.set_default_dtype(before)
    assert same(found, tensors)


def test_a_loop_that_is_left_early_ends_its_requests(emulator: Emulator, model_uri: str, tensors: Tensors) -> None:
    with opened(emulator, model_uri) as model:
        for _ in range(3):
            for name, tensor in model:
                assert same_tensor(tensor, tensors[name])
                break
        assert same(model.load(), tensors)


def test_a_closed_model_and_one_of_another_process(emulator: Emulator, model_uri: str) -> None:
    model = opened(emulator, model_uri)
    with pytest.raises(TypeError):
        pickle.dumps(model)
    queue = multiprocessing.get_context("fork").SimpleQueue()

    def child() -> None:
        try:
            model.load()
        except OssError as error:
            queue.put(str(error))
        model.close()

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join(10)
    assert "was opened in process" in queue.get()
    model.load()
    model.close()
    model.close()
    with pytest.raises(ValueError, match="closed"):
        model.load()


def test_nothing_is_imported_before_it_is_needed() -> None:
    import subprocess  # noqa: PLC0415
    import sys  # noqa: PLC0415

    program = "import sys, osstorchconnector, osstorchconnector.model; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_random_models_load_equally(emulator: Emulator, client: OssClient, bucket: str) -> None:
    for seed in range(3):
        tensors = random_tensors(seed, rows=1 + 500 * seed)
        put(client, f"oss://{bucket}/model.safetensors", tensors)
        with opened(emulator, f"oss://{bucket}/", budget=16 << 20, concurrency=2) as model:
            assert same(dict(model), tensors)
