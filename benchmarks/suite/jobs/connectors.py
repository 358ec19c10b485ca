"""The same parts of each connector: datasets, readers of one object, storage of distributed checkpoints."""

from pathlib import Path
from typing import Any

from benchmarks.suite.jobs import Task
from benchmarks.suite.jobs.figures import Counts

_S3 = "s3torchconnector"
_kept: list[Any] = []


def connection(task: Task) -> dict[str, Any]:
    """Return the arguments of both connectors of OSS."""
    return {name: task[name] for name in ("endpoint", "cred_path", "config_path", "region")}


def uri(task: Task, name: str) -> str:
    """Return the URI of a bucket and key, as the task's connector writes it."""
    return f"{'s3' if task['connector'] == _S3 else 'oss'}://{name}"


def named(task: Task) -> list[str]:
    """Return the URIs of the objects that a task names, all or the first ones."""
    return [uri(task, name) for name in Path(task["names"]).read_text().split()[: task.get("count")]]


def identity(item: Any) -> int:
    """Read an object and keep its length only, so that no consumer is measured."""
    return len(item.read())


def dataset(task: Task, source: str, *arguments: Any) -> Any:
    """Return the dataset of a task, from the task's connector."""
    transform = task.get("transform", identity)
    if task["connector"] == _S3:
        from s3torchconnector import S3ClientConfig, S3IterableDataset, S3MapDataset

        config = S3ClientConfig(force_path_style=True)
        options: dict[str, Any] = {"region": "us-east-1", "endpoint": task["endpoint"], "s3client_config": config}
        options["transform"] = transform
        if task["dataset"] == "iterable":
            return getattr(S3IterableDataset, source)(*arguments, enable_sharding=True, **options)
        return getattr(S3MapDataset, source)(*arguments, **options)
    from osstorchconnector import OssIterableDataset, OssMapDataset

    kind = {"iterable": OssIterableDataset, "map": OssMapDataset}[task["dataset"]]
    return getattr(kind, source)(*arguments, transform=transform, **connection(task))


def open_reader(task: Task) -> Any:
    """Open the object of a task for reading."""
    if task["connector"] == _S3:
        from s3torchconnector import S3Checkpoint, S3ClientConfig

        config = S3ClientConfig(force_path_style=True)
        checkpoint = S3Checkpoint(region="us-east-1", endpoint=task["endpoint"], s3client_config=config)
        return checkpoint.reader(uri(task, task["name"]))
    from osstorchconnector import OssCheckpoint

    checkpoint = OssCheckpoint(**connection(task))
    # The original crashes if the reader outlives the object that made it.
    _kept.append(checkpoint)
    return checkpoint.reader(uri(task, task["name"]))


def storage_writer(task: Task) -> Any:
    """Return what `dcp.save` writes to."""
    if task["connector"] == _S3:
        from s3torchconnector import S3ClientConfig
        from s3torchconnector.dcp import S3StorageWriter

        config = S3ClientConfig(force_path_style=True)
        return S3StorageWriter("us-east-1", uri(task, task["name"]), endpoint=task["endpoint"], s3client_config=config)
    return _file_system(task).writer(uri(task, task["name"]))


def storage_reader(task: Task) -> Any:
    """Return what `dcp.load` reads from, of a connector of OSS."""
    return _file_system(task).reader(uri(task, task["name"]))


def _file_system(task: Task) -> Any:
    import osstorchconnector

    name = "OssFileSystem" if Counts.ours else "OssDCPFileSystem"
    return getattr(osstorchconnector, name)(**connection(task))
