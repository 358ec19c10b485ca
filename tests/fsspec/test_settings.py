"""Where ``oss://`` gets its settings from, whose they are, and what becomes of secrets."""

import copy
import json
import multiprocessing
import os
import pickle
import subprocess
import sys
import tomllib
import traceback
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import cloudpickle
import fsspec
import pytest
from fsspec.config import conf

from osstorchconnector import OssClient, OssConfig, OssConfigError, OssCredentialsError, OssPermissionError
from osstorchconnector.credentials import EnvironmentCredentials, ExplicitCredentials
from osstorchconnector.fsspec import FsspecFileSystem, use_client
from osstorchconnector.testing import Emulator
from tests.fsspec.forking import in_child

SECRET = "a-secret-that-nobody-may-see"
CONFIG: dict[str, Any] = {"access_key_id": "id", "access_key_secret": SECRET}
VARIABLES = ("OSS_ENDPOINT", "OSS_REGION", "OSS_ACCESS_KEY_ID", "OSS_ACCESS_KEY_SECRET")


def place_of(emulator: Emulator) -> dict[str, Any]:
    return {"endpoint": emulator.endpoint, "region": emulator.region}


@pytest.fixture
def nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment that says nothing."""
    for name in VARIABLES:
        monkeypatch.delenv(name)


@pytest.fixture
def keys(emulator: Emulator) -> dict[str, str]:
    return {"key": emulator.access_key_id, "secret": emulator.access_key_secret}


@pytest.fixture
def object_path(client: OssClient, bucket: str) -> str:
    client.put(f"oss://{bucket}/object", b"content")
    return f"{bucket}/object"


@pytest.mark.usefixtures("nothing")
def test_options_of_both_kinds_of_names(
    emulator: Emulator, keys: dict[str, str], object_path: str, tmp_path: Path
) -> None:
    place = place_of(emulator)
    ours: dict[str, Any] = {"access_key_id": keys["key"], "access_key_secret": keys["secret"]}
    file = tmp_path / "credentials.json"
    file.write_text(json.dumps({"AccessKeyId": keys["key"], "AccessKeySecret": keys["secret"]}))
    options: list[dict[str, Any]] = [
        keys,
        ours,
        {"cred_path": str(file)},
        {"cred_provider": ExplicitCredentials(*keys.values())},
        {"config": OssConfig(**ours)},
        {"config": OssConfig(read_timeout=7), **ours},
    ]
    for one in options:
        with fsspec.open(f"oss://{object_path}", **place, **one) as opened:
            assert opened.read() == b"content"
    files = fsspec.filesystem("oss", **place, **keys, config=OssConfig(read_timeout=7, max_attempts=2), max_attempts=3)
    assert (files.client.config.read_timeout, files.client.config.max_attempts) == (7, 3)
    assert fsspec.filesystem("oss", client=emulator.client()).cat_file(object_path) == b"content"


@pytest.mark.usefixtures("nothing")
def test_the_environment_and_the_configuration_of_fsspec(
    emulator: Emulator, keys: dict[str, str], object_path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(OssConfigError, match=r"no endpoint: give storage_options.*OSS_ENDPOINT"):
        fsspec.filesystem("oss")
    monkeypatch.setenv("OSS_ENDPOINT", emulator.endpoint)
    with pytest.raises(OssConfigError, match="does not name its region"):
        fsspec.filesystem("oss")
    monkeypatch.setenv("OSS_REGION", emulator.region)
    with pytest.raises(OssCredentialsError, match="no credentials"):
        fsspec.filesystem("oss")
    monkeypatch.setitem(conf, "oss", dict(keys))
    files = fsspec.filesystem("oss")
    assert files.cat_file(object_path) == b"content"
    assert keys["secret"] not in str(files.storage_options)


@pytest.mark.usefixtures("nothing")
def test_a_region_names_its_public_endpoint(keys: dict[str, str]) -> None:
    client = fsspec.filesystem("oss", region="cn-hangzhou", **keys).client
    assert (client.endpoint, client.region) == ("https://oss-cn-hangzhou.aliyuncs.com", "cn-hangzhou")


@pytest.mark.usefixtures("nothing")
def test_a_profile(
    emulator: Emulator,
    keys: dict[str, str],
    object_path: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    place = place_of(emulator)
    with pytest.raises(OssCredentialsError, match=r"no profile 'train': .*config.json.*credentials"):
        fsspec.filesystem("oss", profile="train", **place)
    (tmp_path / ".aliyun").mkdir()
    profiles = [
        {"name": "train", "mode": "AK", "access_key_id": keys["key"], "access_key_secret": keys["secret"]},
    ]
    (tmp_path / ".aliyun" / "config.json").write_text(json.dumps({"profiles": profiles}))
    (tmp_path / ".alibabacloud").mkdir()
    (tmp_path / ".alibabacloud" / "credentials.ini").write_text(
        f"[ini]\ntype = access_key\naccess_key_id = {keys['key']}\naccess_key_secret = {keys['secret']}\n"
    )
    for profile in ("train", "ini"):
        files = fsspec.filesystem("oss", profile=profile, **place)
        assert files.cat_file(object_path) == b"content"
        assert pickle.loads(pickle.dumps(files)).cat_file(object_path) == b"content"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"acess_key_id": "x"}, "no storage option 'acess_key_id': did you mean 'access_key_id'"),
        ({"anon": True}, "did you mean 'anonymous'"),
        ({"zzz": 1}, "the options are access_key_id, "),
        ({"key": "x"}, "'secret' is missing: 'key' is given without it"),
        ({"secret": "x"}, "'key' is missing"),
        ({"key": "x", "access_key_id": "x", "secret": "y"}, "'key' and 'access_key_id' are the same"),
        ({"client": 5}, "must be an OssClient, not int"),
        ({"config": {}}, "must be an OssConfig, not dict"),
        ({"profile": "p", "cred_provider": EnvironmentCredentials()}, "both given"),
        ({"read_timeout": -1}, "read_timeout"),
        ({"pickle_secrets": "yes"}, "'pickle_secrets' must be True or False, not 'yes'"),
        ({"endpoint": "ftp://host"}, "scheme 'ftp'"),
    ],
)
def test_a_wrong_option_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OssConfigError, match=message):
        fsspec.filesystem("oss", **options)


def test_a_client_decides_everything(client: OssClient) -> None:
    with pytest.raises(OssConfigError, match="leave out 'endpoint'"):
        fsspec.filesystem("oss", client=client, endpoint="x")
    with pytest.raises(OssConfigError, match="by name"):
        FsspecFileSystem("endpoint")  # type: ignore[call-arg]


def test_an_instance_is_that_of_its_settings(
    emulator: Emulator, keys: dict[str, str], object_path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = place_of(emulator)
    right = fsspec.filesystem("oss", **place, **keys)
    assert right is fsspec.filesystem("oss", **place, **keys)
    assert right == fsspec.filesystem("oss", **place, **keys)
    others = [
        fsspec.filesystem("oss", **place, key=keys["key"], secret="wrong"),
        fsspec.filesystem("oss", **place, config=OssConfig(access_key_id=keys["key"], access_key_secret="wrong")),
        fsspec.filesystem("oss", **place, cred_provider=ExplicitCredentials(keys["key"], "wrong")),
    ]
    same_text: list[dict[str, Any]] = [
        {"config": OssConfig(access_key_id=keys["key"], access_key_secret=keys["secret"])},
        {"cred_provider": ExplicitCredentials(*keys.values())},
    ]
    for options in same_text:
        assert fsspec.filesystem("oss", **place, **options).cat_file(object_path) == b"content"
    for other in others:
        assert other != right
        with pytest.raises(OssPermissionError):
            other.cat_file(object_path)
    before = fsspec.filesystem("oss")
    assert before is fsspec.filesystem("oss")
    monkeypatch.setenv("OSS_ACCESS_KEY_SECRET", "wrong")
    with pytest.raises(OssPermissionError):
        fsspec.filesystem("oss").cat_file(object_path)


@pytest.fixture
def own_client(emulator: Emulator) -> Iterator[OssClient]:
    client = OssClient(**place_of(emulator), cred_provider=ExplicitCredentials("stranger", SECRET))
    yield client
    use_client(None)


def test_a_program_chooses_the_client_of_plain_urls(
    own_client: OssClient, keys: dict[str, str], object_path: str
) -> None:
    before = fsspec.filesystem("oss")
    use_client(own_client)
    with pytest.raises(OssPermissionError):
        fsspec.filesystem("oss").cat_file(object_path)
    # Options are those of their caller.
    assert fsspec.filesystem("oss", **keys).cat_file(object_path) == b"content"
    assert SECRET.encode() not in pickle.dumps(fsspec.filesystem("oss"))
    use_client(None)
    assert fsspec.filesystem("oss") is before


def secretive(emulator: Emulator) -> list[dict[str, Any]]:
    place = place_of(emulator)
    return [
        {**place, "key": "id", "secret": SECRET},
        {**place, "key": "id", "secret": "s", "token": SECRET},
        {**place, "access_key_id": "id", "access_key_secret": SECRET},
        {**place, "config": OssConfig(access_key_id="id", access_key_secret=SECRET)},
        {**place, "cred_provider": ExplicitCredentials("id", SECRET)},
        {**place, "proxy": f"http://user:{SECRET}@127.0.0.1:1"},
        {"client": OssClient(**place, cred_provider=ExplicitCredentials("id", SECRET))},
    ]


@pytest.mark.parametrize("number", range(7))
def test_a_secret_is_neither_shown_nor_written(emulator: Emulator, number: int) -> None:
    files = fsspec.filesystem("oss", **secretive(emulator)[number])
    shown = [repr(files), str(files.storage_options), repr(files.__dict__), files._fs_token, str(files.fsid)]
    shown += [repr(files.client), files.to_json(include_password=False)]
    assert SECRET not in "".join(shown)
    with pytest.raises(OssConfigError, match="no secret gets into a file") as caught:
        files.to_json()
    assert SECRET not in "".join(traceback.format_exception(caught.value))
    # A pickle serves this process and its forks, where libraries compare and copy.
    for written in (pickle.dumps(files), cloudpickle.dumps(files)):
        assert SECRET.encode() not in written
        again = pickle.loads(written)
        assert again.client._resolved.credentials is not None
        assert "nothing" in in_child(partial(pickle.loads, written))
    assert copy.deepcopy(files).client.endpoint == files.client.endpoint
    program = f"import pickle; pickle.loads({pickle.dumps(files)!r})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "OssCredentialsError: this pickle of oss:// does not hold the storage option" in done.stderr
    assert SECRET not in done.stderr


@pytest.mark.parametrize("options", [{"secret": SECRET}, {"key": SECRET, "secret": SECRET, "zzz": 1}])
def test_the_traceback_of_a_wrong_option_holds_no_secret(options: dict[str, Any]) -> None:
    with pytest.raises(OssConfigError) as caught:
        FsspecFileSystem(**options)
    frames = traceback.walk_tb(caught.value.__traceback__)
    # The frame of this test has them.
    shown = [repr(frame.f_locals) for frame, _ in frames if "/osstorchconnector/" in frame.f_code.co_filename]
    assert SECRET not in "".join(shown)


@pytest.mark.usefixtures("nothing")
def test_a_program_may_want_its_key_in_pickles(emulator: Emulator, keys: dict[str, str], object_path: str) -> None:
    options: dict[str, Any] = {**place_of(emulator), **keys, "pickle_secrets": True}
    files = fsspec.filesystem("oss", **options)
    assert files is not fsspec.filesystem("oss", **{**options, "pickle_secrets": False})
    assert keys["secret"] not in repr(files.storage_options) + files.to_json(include_password=False)
    for written in (pickle.dumps(files), cloudpickle.dumps(files)):
        assert pickle.loads(written) is files
        program = f"import pickle; print(pickle.loads({written!r}).cat_file({object_path!r}))"
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "b'content'"
    # Its pickle is its own business.
    hidden = fsspec.filesystem("oss", **place_of(emulator), config=OssConfig(**CONFIG), pickle_secrets=True)
    assert SECRET.encode() not in pickle.dumps(hidden)


def test_options_without_secrets_are_written(object_path: str) -> None:
    plain = fsspec.filesystem("oss", read_timeout=11, listings_expiry_time=5)
    assert plain.to_dict()["read_timeout"] == 11
    again = fsspec.AbstractFileSystem.from_json(plain.to_json())
    assert again is plain
    for dumps in (pickle.dumps, cloudpickle.dumps):
        copied = pickle.loads(dumps(plain))
        assert copied.client.config.read_timeout == 11
        assert copied.cat_file(object_path) == b"content"


def test_a_pickle_says_what_the_environment_said(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    pickled = pickle.dumps(fsspec.filesystem("oss"))
    monkeypatch.setenv("OSS_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("OSS_REGION", "cn-beijing")
    client = pickle.loads(pickled).client
    assert (client.endpoint, client.region) == (emulator.endpoint, emulator.region)


def read_there(files: Any, path: str, queue: Any) -> None:
    try:
        queue.put(files.cat_file(path))
    except BaseException as error:  # noqa: BLE001 - the other process shows it
        queue.put(error)


@pytest.mark.usefixtures("nothing")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_an_instance_goes_to_a_process_that_is_started(
    keys: dict[str, str], emulator: Emulator, object_path: str, method: str
) -> None:
    files = fsspec.filesystem("oss", **place_of(emulator), **keys)
    files.cat_file(object_path)
    context: Any = multiprocessing.get_context(method)
    queue = context.Queue()
    process = context.Process(target=read_there, args=(files, object_path, queue))
    process.start()
    assert queue.get(timeout=20) == b"content"
    process.join(20)


def test_an_open_file_and_a_transaction_belong_to_their_process(
    files: FsspecFileSystem, client: OssClient, object_path: str
) -> None:
    with files.open(object_path) as reader:
        assert "another process" in in_child(reader.read) or "process" in in_child(reader.read)
        assert reader.read() == b"content"
    with files.transaction:
        writer = files.open(f"{object_path}-new", "wb")
        writer.write(b"new")
        assert "process" in in_child(lambda: writer.write(b"more"))
        assert "begin one in this process" in in_child(lambda: files.open(f"{object_path}-child", "wb"))
        assert "begin one in this process" in in_child(files.end_transaction)
        writer.close()
        assert not files.exists(f"{object_path}-new")
    assert client.get(f"oss://{object_path}-new") == b"new"
    assert in_child(lambda: files.pipe_file(f"{object_path}-child", b"child")) == "nothing"
    assert client.get(f"oss://{object_path}-child") == b"child"


POINTS = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]["entry-points"]

PROGRAM = """
import sys
for name in sys.argv[1].split(","):
    if name: __import__(name)
import fsspec
if sys.argv[2] == "ossfs":
    import ossfs
    fsspec.register_implementation("oss", ossfs.OSSFileSystem, clobber=True)
print(fsspec.get_filesystem_class("oss").__module__.partition(".")[0], "oss" in fsspec.available_protocols())
"""


@pytest.mark.parametrize(
    ("imports", "chosen", "winner"),
    [
        ("", "", "osstorchconnector"),
        ("ossfs,osstorchconnector.fsspec", "", "osstorchconnector"),
        ("osstorchconnector.fsspec,ossfs", "", "osstorchconnector"),
        ("osstorchconnector.fsspec", "ossfs", "ossfs"),
    ],
)
def test_the_installed_package_answers_for_plain_urls(tmp_path: Path, imports: str, chosen: str, winner: str) -> None:
    if "ossfs" in imports + chosen:
        pytest.importorskip("ossfs")
    # As pip installs it, however the package of this test was installed.
    metadata = tmp_path / "installed" / "stand_in-1.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: stand-in\nVersion: 1\n")
    points = "".join(f"{name} = {place}\n" for name, place in POINTS["fsspec.specs"].items())
    (metadata / "entry_points.txt").write_text(f"[fsspec.specs]\n{points}")
    path = os.pathsep.join([str(metadata.parent), *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, imports, chosen],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert done.stdout.split() == [winner, "True"]
