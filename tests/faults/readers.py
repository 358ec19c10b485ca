"""All the ways in which a user reads objects."""

from collections.abc import Callable
from typing import Any

from faults.objects import uri
from faults.server import ScriptedServer
from osstorchconnector import OssClient, OssConfig, OssIterableDataset, OssMapDataset

ACCESS_KEY_ID = "id-that-may-show"
# With characters that are escaped in URLs, in JSON and in representations.
ACCESS_KEY_SECRET = "secret+that/must=not show\\9a7f3c"
SECURITY_TOKEN = "token+that/must=not show\\51c20e"

#: Connects: the keyword arguments of every client and dataset.
Connect = dict[str, Any]
#: Reads objects by key, in order.
Reader = Callable[[Connect, list[str]], list[bytes]]


def settings(**given: Any) -> OssConfig:
    """Return a configuration with the secret, and few and short attempts."""
    defaults: dict[str, Any] = {
        "access_key_id": ACCESS_KEY_ID,
        "access_key_secret": ACCESS_KEY_SECRET,
        "security_token": SECURITY_TOKEN,
        "max_attempts": 2,
        # Anything that is not about time must not fail for a slow machine.
        "connect_timeout": 10,
        "read_timeout": 10,
        "total_timeout": 25,
    }
    return OssConfig(**{**defaults, **given})


def connect(server: ScriptedServer, **given: Any) -> Connect:
    return {"endpoint": server.endpoint, "region": "cn-hangzhou", "config": settings(**given)}


def get(connection: Connect, names: list[str]) -> list[bytes]:
    client = OssClient(**connection)
    return [client.get(uri(name)) for name in names]


def open_and_read(connection: Connect, names: list[str]) -> list[bytes]:
    client = OssClient(**connection)
    return [client.open(uri(name)).read() for name in names]


def iterate_objects(connection: Connect, names: list[str]) -> list[bytes]:
    return [item.read() for item in OssIterableDataset.from_objects(map(uri, names), **connection)]


def iterate_prefix(connection: Connect, names: list[str]) -> list[bytes]:
    found = {item.name: item.read() for item in OssIterableDataset.from_prefix(uri(""), **connection)}
    return [found[name] for name in names]


def map_one_by_one(connection: Connect, names: list[str]) -> list[bytes]:
    dataset = OssMapDataset.from_objects(map(uri, names), **connection)
    return [dataset[index].read() for index in range(len(names))]


def map_batch(connection: Connect, names: list[str]) -> list[bytes]:
    dataset = OssMapDataset.from_objects(map(uri, names), **connection)
    return [item.read() for item in dataset.__getitems__(range(len(names)))]


def map_prefix(connection: Connect, names: list[str]) -> list[bytes]:
    found = {item.name: item.read() for item in OssMapDataset.from_prefix(uri(""), **connection)}
    return [found[name] for name in names]


READERS = [get, open_and_read, iterate_objects, iterate_prefix, map_one_by_one, map_batch, map_prefix]
#: Those of them that list.
LISTERS = [iterate_prefix, map_prefix]
