"""Arguments by position and by name, as the original has them and as the first releases of this package had them."""

import inspect
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from osstorchconnector import (
    OssCheckpoint,
    OssClient,
    OssConfigError,
    OssDCPFileSystem,
    OssStorageReader,
    OssStorageWriter,
    generate_tar_archive,
)
from osstorchconnector.testing import Emulator


class Provider:
    """A provider of access keys, as the OSS SDKs have them."""

    def __init__(self, emulator: Emulator) -> None:
        """Take the emulator's key."""
        self.emulator = emulator
        self.calls = 0

    def get_credentials(self) -> Any:
        """Return the key."""
        self.calls += 1
        return type(
            "Key",
            (),
            {
                "access_key_id": self.emulator.access_key_id,
                "access_key_secret": self.emulator.access_key_secret,
                "security_token": None,
            },
        )


@pytest.mark.parametrize("name", ["", "5f0c", uuid.uuid4(), None])
def test_the_fourth_place_is_the_uuid(emulator: Emulator, name: object) -> None:
    client = OssClient(emulator.endpoint, emulator.cred_path, "", name, 0, 1, None, emulator.region)
    assert client.region == emulator.region
    assert isinstance(client.list_buckets(), list)


def test_the_seventh_place_is_the_provider(emulator: Emulator) -> None:
    provider = Provider(emulator)
    OssClient(emulator.endpoint, "", "", "5f0c", 1, 2, provider, emulator.region).list_buckets()
    assert provider.calls > 0


@pytest.mark.parametrize("how", ["by position", "by name"])
def test_a_provider_at_the_fourth_place_still_works(emulator: Emulator, how: str) -> None:
    provider = Provider(emulator)
    client = (
        OssClient(emulator.endpoint, "", "", provider, emulator.region)
        if how == "by position"
        else OssClient(emulator.endpoint, "", "", provider, region=emulator.region)
    )
    client.list_buckets()
    assert provider.calls > 0
    assert client.region == emulator.region


def test_no_provider_and_a_region_at_the_former_places_still_work(emulator: Emulator) -> None:
    assert OssClient(emulator.endpoint, emulator.cred_path, "", None, emulator.region).region == emulator.region


def test_two_providers_are_refused(emulator: Emulator) -> None:
    with pytest.raises(OssConfigError, match="uuid must be a text, not Provider"):
        OssClient(emulator.endpoint, "", "", Provider(emulator), cred_provider=Provider(emulator))


@pytest.mark.parametrize(("number", "total"), [(2, 2), (-1, 1), (0, 0)])
def test_a_share_that_does_not_exist_is_refused(emulator: Emulator, number: int, total: int) -> None:
    with pytest.raises(OssConfigError, match=f"id={number} of total={total}: 0 <= id < total is needed"):
        OssClient(id=number, total=total, **emulator.connection)


def test_keys_given_as_the_uuid_are_in_no_frame(emulator: Emulator) -> None:
    with pytest.raises(OssConfigError) as raised:
        OssClient(emulator.endpoint, "", "", ("id", "the secret"), region=emulator.region)
    traceback = raised.value.__traceback__
    while traceback is not None:
        if traceback.tb_frame.f_code is not inspect.currentframe().f_code:  # type: ignore[union-attr]
            assert "the secret" not in repr(traceback.tb_frame.f_locals)
        traceback = traceback.tb_next


NAMES: list[tuple[Callable[..., Any], str, str]] = [
    (OssCheckpoint.reader, "oss_uri", "uri"),
    (OssCheckpoint.writer, "oss_uri", "uri"),
    (OssDCPFileSystem.reader, "path", "uri"),
    (OssDCPFileSystem.writer, "path", "uri"),
    (OssDCPFileSystem.rename, "old_path", "path"),
    (OssStorageReader.__init__, "fs", "file_system"),
    (OssStorageWriter.__init__, "fs", "file_system"),
]


@pytest.mark.parametrize(("function", "name", "second"), NAMES)
def test_names(function: Callable[..., Any], name: str, second: str) -> None:
    assert list(inspect.signature(function).parameters)[1] == name
    with pytest.raises(TypeError, match=f"got '{name}' twice: '{second}' is its second name"):
        function(None, **{name: "oss://bucket/key", second: "oss://bucket/key"})


def test_both_names_do_the_same(emulator: Emulator, client: OssClient, bucket: str) -> None:
    checkpoint, file_system = OssCheckpoint(**emulator.connection), OssDCPFileSystem(**emulator.connection)
    uri, moved = f"oss://{bucket}/a", f"oss://{bucket}/b"
    writers: list[dict[str, Any]] = [{"oss_uri": uri}, {"uri": uri}]
    for number, name in enumerate(writers):
        with checkpoint.writer(**name) as writer:
            writer.write(b"%d" % number)
        assert checkpoint.reader(**name).read() == b"%d" % number
    renames: list[dict[str, Any]] = [{"old_path": uri, "new_path": moved}, {"path": moved, "new_path": uri}]
    for arguments in renames:
        file_system.rename(**arguments)
    assert client.get(uri) == b"1"
    named: list[dict[str, Any]] = [{"fs": file_system, "path": uri}, {"file_system": file_system, "path": uri}]
    for arguments in named:
        assert OssStorageReader(**arguments).path == OssStorageWriter(**arguments).path == uri
    paths: list[dict[str, Any]] = [{"path": uri}, {"uri": uri}]
    for arguments in paths:
        assert file_system.reader(**arguments).path == file_system.writer(**arguments).path == uri


def test_an_archive_returns_what_the_original_returns(emulator: Emulator, client: OssClient, bucket: str) -> None:
    client.put(f"oss://{bucket}/data/a", b"1")
    paths = (f"oss://{bucket}/a.tar", f"oss://{bucket}/a.index", f"oss://{bucket}/data/")
    assert client.gen_tar_archive(*paths) == 0
    assert client.gen_tar_archive(paths[0], paths[1], "", index_only=True) == 0
    assert generate_tar_archive(emulator.endpoint, emulator.cred_path, "", *paths, region=emulator.region) == 0
