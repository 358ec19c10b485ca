"""All ways in which a user reads objects."""

import inspect
import threading
from collections.abc import Callable, Iterable
from typing import Any, Concatenate, ParamSpec

from osstorchconnector import OssClient, OssConfig, OssIterableDataset, OssMapDataset
from tests.faults.objects import uri
from tests.faults.server import ScriptedServer

ACCESS_KEY_ID = "id-that-may-show"
# With characters that URLs, JSON and repr escape.
ACCESS_KEY_SECRET = "secret+that/must=not show\\9a7f3c"
SECURITY_TOKEN = "token+that/must=not show\\51c20e"

#: The connection arguments.
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
        # The scripted servers find pages by their number, not by a key to start after.
        "fast_list": False,
        # Tests that are not about time must pass on a slow machine.
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
#: The readers that list.
LISTERS = [iterate_prefix, map_prefix]


Arguments = ParamSpec("Arguments")


def with_each(readers: Iterable[Reader]) -> Callable[[Callable[Concatenate[Reader, Arguments], None]], Any]:
    """Run a test with all readers at the same time, because faults cost waiting, not processor time."""

    def decorate(test: Callable[Concatenate[Reader, Arguments], None]) -> Any:
        def run(*args: Arguments.args, **kwargs: Arguments.kwargs) -> None:
            failures: dict[str, BaseException] = {}

            def run_one(reader: Reader) -> None:
                try:
                    test(reader, *args, **kwargs)
                except BaseException as error:  # noqa: BLE001 - raised again below
                    failures[reader.__name__] = error

            # Daemons: a thread that hangs does not stop the test's time limit from ending it.
            threads = [threading.Thread(target=run_one, args=(reader,), daemon=True) for reader in readers]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            for name, error in failures.items():
                error.add_note(f"reader {name} of {len(threads)}, of which {len(failures)} failed")
                raise error

        signature = inspect.signature(test)
        run.__signature__ = signature.replace(parameters=[*signature.parameters.values()][1:])  # type: ignore[attr-defined]
        run.__name__, run.__doc__ = test.__name__, test.__doc__
        return run

    return decorate
