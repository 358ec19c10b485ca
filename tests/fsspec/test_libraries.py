"""Libraries that read and write ``oss://`` by themselves. Each test needs its library, and is skipped without it."""

import io
import json
import tarfile
import tempfile
import warnings
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import torch

from osstorchconnector import OssClient, OssCredentialsError
from osstorchconnector.fsspec import FsspecFileSystem, register_webdataset
from osstorchconnector.testing import Emulator

pytestmark = [
    # The first import of some of them takes seconds.
    pytest.mark.slow(120),
    # They warn of their own future.
    pytest.mark.filterwarnings("ignore"),
]


@pytest.fixture
def options(emulator: Emulator) -> dict[str, str]:
    return {
        "endpoint": emulator.endpoint,
        "region": emulator.region,
        "key": emulator.access_key_id,
        "secret": emulator.access_key_secret,
    }


@pytest.fixture(params=["environment", "options"])
def given(request: pytest.FixtureRequest, options: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Storage options, or None with everything in the environment."""
    if request.param == "environment":
        return None
    for name in ("OSS_ENDPOINT", "OSS_REGION", "OSS_ACCESS_KEY_ID", "OSS_ACCESS_KEY_SECRET"):
        monkeypatch.delenv(name)
    return options


def table(pandas: Any) -> Any:
    return pandas.DataFrame({"a": [1, 2, 3], "b": ["x", "y", "z"]})


@pytest.mark.parametrize("form", ["csv", "csv.gz", "json", "pickle", "parquet", "feather"])
def test_pandas(bucket: str, given: Any, form: str) -> None:
    pandas = pytest.importorskip("pandas")
    if form in {"parquet", "feather"}:
        pytest.importorskip("pyarrow")
    frame, uri = table(pandas), f"oss://{bucket}/table.{form}"
    name = form.partition(".")[0]
    more: dict[str, Any] = {"index": False} if name == "csv" else {}
    getattr(frame, f"to_{name}")(uri, storage_options=given, **more)
    assert getattr(pandas, f"read_{name}")(uri, storage_options=given).equals(frame)


def test_pandas_with_partitions(bucket: str, given: Any) -> None:
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    table(pandas).to_parquet(f"oss://{bucket}/parts", partition_cols=["b"], storage_options=given)
    for uri in (f"oss://{bucket}/parts", f"oss://{bucket}/parts/"):
        assert sorted(pandas.read_parquet(uri, storage_options=given)["a"]) == [1, 2, 3]
    assert pandas.read_parquet(f"oss://{bucket}/parts", filters=[("b", "=", "y")], storage_options=given).shape == (
        1,
        2,
    )


def test_pyarrow(files: FsspecFileSystem, bucket: str) -> None:
    arrow = pytest.importorskip("pyarrow")
    dataset = pytest.importorskip("pyarrow.dataset")
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = arrow.table({"a": [1, 2, 3], "b": ["x", "y", "z"]})
    parquet.write_table(rows, f"{bucket}/one.parquet", filesystem=files)
    assert parquet.read_table(f"{bucket}/one.parquet", filesystem=files, columns=["a"])["a"].to_pylist() == [1, 2, 3]
    assert parquet.read_table(f"fsspec+oss://{bucket}/one.parquet").equals(rows)
    arguments = {"filesystem": files, "format": "parquet"}
    hive: dict[str, Any] = {"partitioning": ["b"], "partitioning_flavor": "hive"}
    for behavior in ("error", "delete_matching", "overwrite_or_ignore"):
        dataset.write_dataset(rows, f"{bucket}/parts", existing_data_behavior=behavior, **arguments, **hive)
    assert files.find(f"{bucket}/parts") == [f"{bucket}/parts/b={name}/part-0.parquet" for name in "xyz"]
    read = dataset.dataset(f"{bucket}/parts", partitioning="hive", **arguments)
    assert read.to_table(filter=dataset.field("b") == "y")["a"].to_pylist() == [2]
    assert read.count_rows() == 3
    with pytest.raises(arrow.ArrowInvalid, match="Unrecognized filesystem"):
        parquet.read_table(f"oss://{bucket}/one.parquet")


def test_polars(files: FsspecFileSystem, bucket: str) -> None:
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame({"a": [1, 2, 3], "b": ["x", "y", "z"]})
    for form in ("parquet", "csv", "ndjson", "ipc"):
        with files.open(f"{bucket}/table.{form}", "wb") as file:
            getattr(frame, f"write_{form}")(file)
        with files.open(f"{bucket}/table.{form}") as file:
            assert getattr(polars, f"read_{form}")(file).equals(frame)
    assert polars.scan_parquet(files.open(f"{bucket}/table.parquet")).select("a").sum().collect().item() == 6
    if pytest.importorskip("pyarrow"):
        assert polars.read_parquet(f"oss://{bucket}/table.parquet", use_pyarrow=True).equals(frame)
    # Its own reader knows no oss://, and takes it for a path.
    with pytest.raises((OSError, polars.exceptions.PolarsError)):
        polars.read_parquet(f"oss://{bucket}/table.parquet")
    with pytest.raises((OSError, polars.exceptions.PolarsError)):
        frame.write_parquet(f"oss://{bucket}/other.parquet")


def test_duckdb(files: FsspecFileSystem, bucket: str) -> None:
    duckdb = pytest.importorskip("duckdb")
    with duckdb.connect() as connection:
        connection.register_filesystem(files)

        def run(statement: str) -> Any:
            return connection.execute(statement.replace("BUCKET", bucket)).fetchall()

        run("copy (select 1 as a, 2 as b) to 'oss://BUCKET/one.parquet' (format parquet)")
        run("copy (select 3 as a, 4 as b) to 'oss://BUCKET/two.parquet' (format parquet)")
        run("copy (select 5 as a) to 'oss://BUCKET/three.csv'")
        assert run("select sum(a) from read_parquet('oss://BUCKET/*.parquet')") == [(4,)]
        assert run("select a from 'oss://BUCKET/three.csv'") == [(5,)]
        partitioned = "(format parquet, partition_by (a), overwrite_or_ignore true)"
        run(f"copy (select 1 as a, 2 as b) to 'oss://BUCKET/parts' {partitioned}")
        assert run("select b from read_parquet('oss://BUCKET/parts/*/*.parquet', hive_partitioning = true)") == [(2,)]


def test_numpy(files: FsspecFileSystem, bucket: str) -> None:
    values = np.arange(1000)
    with files.open(f"{bucket}/a.npy", "wb") as file:
        np.save(file, values)
    with files.open(f"{bucket}/a.npz", "wb") as file:
        np.savez(file, a=values, b=values[::-1])
    with files.open(f"{bucket}/a.npy") as file:
        assert np.array_equal(np.load(file), values)
    with files.open(f"{bucket}/a.npz") as file:
        assert np.array_equal(np.load(file)["b"], values[::-1])


def test_pillow(files: FsspecFileSystem, bucket: str) -> None:
    image = pytest.importorskip("PIL.Image")
    for form in ("PNG", "JPEG"):
        with files.open(f"{bucket}/image", "wb") as file:
            image.new("RGB", (20, 10)).save(file, form)
        with files.open(f"{bucket}/image") as file, image.open(file) as opened:
            assert (opened.size, opened.format) == ((20, 10), form)
            opened.load()


def test_h5py(files: FsspecFileSystem, bucket: str) -> None:
    h5py = pytest.importorskip("h5py")
    values = np.arange(100_000).reshape(100, 1000)
    with files.open(f"{bucket}/a.h5", "wb", seekable=True) as file, h5py.File(file, "w") as written:
        written.create_dataset("x", data=values, chunks=(10, 100))
    blocks: dict[str, Any] = {"cache_type": "blockcache", "block_size": 65536}
    for more in ({}, blocks):
        with files.open(f"{bucket}/a.h5", **more) as file, h5py.File(file) as read:
            assert np.array_equal(read["x"][5:7, 90:300], values[5:7, 90:300])


def test_zarr(bucket: str, given: Any) -> None:
    zarr = pytest.importorskip("zarr")
    uri = f"oss://{bucket}/values.zarr"
    values = np.arange(10_000).reshape(100, 100)
    group = zarr.open_group(uri, mode="w", storage_options=given)
    group.create_array("x", shape=values.shape, chunks=(10, 100), dtype=values.dtype)[:] = values
    read = zarr.open_group(uri, mode="r", storage_options=given)
    assert list(read.keys()) == ["x"]
    assert np.array_equal(read["x"][5:25, 3], values[5:25, 3])


def test_dask(bucket: str, given: Any) -> None:
    pytest.importorskip("pyarrow")
    frames = pytest.importorskip("dask.dataframe")
    bag = pytest.importorskip("dask.bag")
    pandas = pytest.importorskip("pandas")
    split = frames.from_pandas(table(pandas), npartitions=2)
    split.to_parquet(f"oss://{bucket}/parts", storage_options=given)
    split.to_csv(f"oss://{bucket}/text/*.csv", storage_options=given, index=False)
    assert frames.read_parquet(f"oss://{bucket}/parts", storage_options=given)["a"].sum().compute() == 6
    assert frames.read_csv(f"oss://{bucket}/text/*.csv", storage_options=given)["a"].sum().compute() == 6
    lines = bag.read_text(f"oss://{bucket}/text/*.csv", storage_options=given)
    assert lines.count().compute(scheduler="threads") == 5


def test_dask_in_other_processes(bucket: str, options: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    bag = pytest.importorskip("dask.bag")
    for name in ("OSS_ENDPOINT", "OSS_REGION", "OSS_ACCESS_KEY_ID", "OSS_ACCESS_KEY_SECRET"):
        monkeypatch.delenv(name)
    fsspec.filesystem("oss", **options).pipe({f"{bucket}/{name}.txt": b"a line\nanother\n" for name in "xyz"})

    def lines(more: dict[str, bool]) -> int:
        read = bag.read_text(f"oss://{bucket}/*.txt", storage_options={**options, **more})
        count: int = read.count().compute(scheduler="processes", num_workers=2)
        return count

    with pytest.raises(OssCredentialsError, match="pickle_secrets=True"):
        lines({})
    assert lines({"pickle_secrets": True}) == 6


@pytest.fixture
def hugging_face(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "DOWNLOADED_DATASETS_PATH", tmp_path / "downloads")
    datasets.disable_progress_bars()
    return datasets


def archive() -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        for number in range(4):
            for suffix, member in (("txt", b"text"), ("json", json.dumps({"x": number}).encode())):
                info = tarfile.TarInfo(f"{number}.{suffix}")
                info.size = len(member)
                tar.addfile(info, io.BytesIO(member))
    return content.getvalue()


@pytest.mark.parametrize("way", ["cached", "streaming"])
def test_datasets_load(hugging_face: Any, client: OssClient, bucket: str, given: Any, way: str) -> None:
    streaming = way == "streaming"
    pandas = pytest.importorskip("pandas")
    content = io.BytesIO()
    table(pandas).to_parquet(content)
    client.put(f"oss://{bucket}/p/0.parquet", content.getvalue())
    client.put(f"oss://{bucket}/p/1.parquet", content.getvalue())
    client.put(f"oss://{bucket}/w/0.tar", archive())

    def load(kind: str, pattern: str) -> list[Any]:
        more = {"split": "train", "streaming": streaming, "storage_options": given and dict(given)}
        return list(hugging_face.load_dataset(kind, data_files=f"oss://{bucket}/{pattern}", **more))

    assert [row["a"] for row in load("parquet", "p/*.parquet")] == [1, 2, 3, 1, 2, 3]
    assert [row["json"]["x"] for row in load("webdataset", "w/*.tar")] == [0, 1, 2, 3]
    for number in (1, 2):
        client.put(f"oss://{bucket}/d.csv", f"a,b\n{number},{number}\n".encode())
        if streaming:
            assert load("csv", "d.csv") == [{"a": number, "b": number}]
            continue
        # By default, datasets keeps what it once downloaded from a URL, of any file system.
        looked_at = hugging_face.DownloadConfig(storage_options=given or {})
        rows = hugging_face.load_dataset(
            "csv",
            data_files=f"oss://{bucket}/d.csv",
            split="train",
            storage_options=given and dict(given),
            download_config=looked_at,
        )
        assert list(rows) == [{"a": number, "b": number}]


def test_datasets_save(hugging_face: Any, bucket: str, given: Any) -> None:
    rows = hugging_face.Dataset.from_dict({"a": [1, 2, 3]})
    rows.save_to_disk(f"oss://{bucket}/saved", storage_options=given)
    assert hugging_face.load_from_disk(f"oss://{bucket}/saved", storage_options=given)["a"][:] == [1, 2, 3]
    rows.to_parquet(f"oss://{bucket}/rows.parquet", storage_options=given)
    rows.to_csv(f"oss://{bucket}/rows.csv", storage_options=given)


def test_ray_data(files: FsspecFileSystem, bucket: str) -> None:
    ray = pytest.importorskip("ray")
    pandas = pytest.importorskip("pandas")
    table(pandas).to_parquet(f"oss://{bucket}/parts/0.parquet")
    files.pipe({f"{bucket}/blobs/0": b"one", f"{bucket}/blobs/1": b"two"})
    # Its workers have the environment of this test.
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
    try:
        rows = ray.data.read_parquet(f"{bucket}/parts", filesystem=files)
        assert sorted(row["a"] for row in rows.take_all()) == [1, 2, 3]
        blobs = ray.data.read_binary_files(f"{bucket}/blobs", filesystem=files)
        assert sorted(row["bytes"] for row in blobs.take_all()) == [b"one", b"two"]
        rows.write_parquet(f"{bucket}/written", filesystem=files)
    finally:
        ray.shutdown()
    assert len(pandas.read_parquet(f"oss://{bucket}/written")) == 3


def report_twice(_config: object) -> None:
    from ray import train  # noqa: PLC0415 - in a worker of Ray

    for step in range(2):
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "state").write_text(str(step))
            train.report({"step": step}, checkpoint=train.Checkpoint.from_directory(folder))


# Ray starts several processes, each of which imports all of it.
@pytest.mark.slow(280)
def test_ray_train(files: FsspecFileSystem, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Its workers would have a low priority, and get no time beside other programs.
    monkeypatch.setenv("RAY_worker_niceness", "0")
    train = pytest.importorskip("ray.train")
    trainers = pytest.importorskip("ray.train.torch")
    arrow = pytest.importorskip("pyarrow.fs")
    import ray  # noqa: PLC0415 - it is not installed everywhere

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        storage = arrow.PyFileSystem(arrow.FSSpecHandler(files))
        run = train.RunConfig(name="run", storage_path=f"{bucket}/runs", storage_filesystem=storage)
        trainer = trainers.TorchTrainer(report_twice, scaling_config=train.ScalingConfig(num_workers=1), run_config=run)
        result = trainer.fit()
    finally:
        ray.shutdown()
    assert files.read_text(f"{result.checkpoint.path}/state") == "1"


def test_webdataset(client: OssClient, bucket: str) -> None:
    webdataset = pytest.importorskip("webdataset")
    register_webdataset()
    with webdataset.ShardWriter(f"oss://{bucket}/shard-%02d.tar", maxcount=3, verbose=0) as writer:
        for number in range(5):
            writer.write({"__key__": f"{number:04}", "txt": f"text {number}", "cls": number})
    assert [item.name for item in client.list(f"oss://{bucket}/")] == ["shard-00.tar", "shard-01.tar"]
    shards = f"oss://{bucket}/shard-{{00..01}}.tar"
    read = webdataset.WebDataset(shards, shardshuffle=False).decode().to_tuple("txt", "cls")
    assert list(read) == [(f"text {number}", number) for number in range(5)]
    loader = torch.utils.data.DataLoader(read, batch_size=None, num_workers=2)
    assert sorted(label for _, label in loader) == [0, 1, 2, 3, 4]

    def failing() -> None:
        with webdataset.TarWriter(f"oss://{bucket}/failed.tar") as tar:
            tar.write({"__key__": "a", "txt": "text"})
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        failing()
    assert not fsspec.filesystem("oss").exists(f"{bucket}/failed.tar")


def test_tensorboard(files: FsspecFileSystem, bucket: str) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415 - skipped

    writer = SummaryWriter(f"oss://{bucket}/run")
    for step in range(3):
        writer.add_scalar("loss", step * 0.5, step)
        writer.flush()
    writer.close()
    assert len(files.find(f"{bucket}/run")) == 1
    read = accumulator.EventAccumulator(f"oss://{bucket}/run")
    read.Reload()
    assert [event.value for event in read.Scalars("loss")] == [0.0, 0.5, 1.0]


def test_torch_distributed_checkpoints(files: FsspecFileSystem, bucket: str) -> None:
    checkpoint = pytest.importorskip("torch.distributed.checkpoint")
    from torch import distributed  # noqa: PLC0415 - with the module above

    state: dict[str, Any] = {"weight": torch.arange(1000.0), "step": 5}

    def loaded(uri: str) -> dict[str, Any]:
        target: dict[str, Any] = {"weight": torch.zeros(1000), "step": 0}
        checkpoint.load(target, checkpoint_id=uri)
        return target

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(2):
            checkpoint.save(state, checkpoint_id=f"oss://{bucket}/saved")
        assert torch.equal(loaded(f"oss://{bucket}/saved")["weight"], state["weight"])
        distributed.init_process_group("gloo", init_method=f"file://{Path.cwd()}/group", rank=0, world_size=1)
        try:
            checkpoint.async_save(state, checkpoint_id=f"oss://{bucket}/async").result()
        finally:
            distributed.destroy_process_group()
        assert loaded(f"oss://{bucket}/async")["step"] == 5
    assert files.find(f"{bucket}/saved") == [f"{bucket}/saved/{name}" for name in (".metadata", "__0_0.distcp")]


def test_torch_saves_and_loads(files: FsspecFileSystem, bucket: str) -> None:
    with files.open(f"{bucket}/model.pt", "wb") as file:
        torch.save({"a": torch.ones(3)}, file)
    with files.open(f"{bucket}/model.pt") as file:
        assert torch.equal(torch.load(file)["a"], torch.ones(3))


@pytest.mark.parametrize("package", ["lightning.pytorch", "pytorch_lightning"])
def test_lightning_without_the_plugin(
    files: FsspecFileSystem, client: OssClient, bucket: str, tmp_path: Path, package: str
) -> None:
    pytorch = pytest.importorskip(package)
    callbacks = pytest.importorskip(f"{package}.callbacks")
    loggers = pytest.importorskip(f"{package}.loggers")

    class Model(pytorch.LightningModule):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(4, 1)

        def training_step(self, batch: Any, _: int) -> torch.Tensor:
            loss: torch.Tensor = self.layer(batch[0]).square().mean()
            self.log("loss", loss)
            return loss

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.randn(8, 4)), batch_size=4)

    def fit(epochs: int, ckpt_path: str | None = None, **more: Any) -> Any:
        common = {"accelerator": "cpu", "enable_progress_bar": False, "enable_model_summary": False}
        arguments = {"default_root_dir": tmp_path / "root", "logger": False, "log_every_n_steps": 1, **common, **more}
        trainer = pytorch.Trainer(max_epochs=epochs, **arguments)
        trainer.fit(Model(), data, ckpt_path=ckpt_path)
        return trainer

    fit(1, default_root_dir=f"oss://{bucket}/root")
    assert [name for name in files.find(f"{bucket}/root") if name.endswith(".ckpt")]
    saved = callbacks.ModelCheckpoint(dirpath=f"oss://{bucket}/run", monitor="loss", save_last=True)
    fit(2, callbacks=[saved])
    assert f"{bucket}/run/last.ckpt" in files.find(f"{bucket}/run")
    resumed = fit(3, f"oss://{bucket}/run/last.ckpt", enable_checkpointing=False)
    assert resumed.current_epoch == 3
    assert resumed.global_step == 6
    Model.load_from_checkpoint(f"oss://{bucket}/run/last.ckpt")
    log = loggers.CSVLogger(f"oss://{bucket}/csv", flush_logs_every_n_steps=1)
    fit(3, logger=log, enable_checkpointing=False)
    (metrics,) = files.glob(f"{bucket}/csv/**/metrics.csv")
    assert len(client.get(f"oss://{metrics}").splitlines()) == 1 + 6


def test_fabric(bucket: str) -> None:
    fabrics = pytest.importorskip("lightning.fabric")
    fabric = fabrics.Fabric(accelerator="cpu")
    fabric.save(f"oss://{bucket}/state.ckpt", {"a": torch.ones(3)})
    assert torch.equal(fabric.load(f"oss://{bucket}/state.ckpt")["a"], torch.ones(3))
