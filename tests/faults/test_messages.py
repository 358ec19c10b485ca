"""Messages that end the search: each names the object, the cause and the remedy."""

import json
import logging
import socket
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save

from osstorchconnector import (
    OssArchivedError,
    OssClient,
    OssConfig,
    OssConfigError,
    OssConnectionError,
    OssError,
    OssIterableDataset,
    OssMapDataset,
    OssNotFoundError,
    OssPermissionError,
    OssSafetensor,
)
from osstorchconnector.cli.__main__ import main
from osstorchconnector.testing import Emulator
from tests.faults.objects import BUCKET, ObjectServer, error_answer, uri
from tests.faults.readers import (
    ACCESS_KEY_SECRET,
    LISTERS,
    READERS,
    SECURITY_TOKEN,
    Reader,
    connect,
    get,
    settings,
    with_each,
)
from tests.faults.server import Answer, Exchange, ScriptedServer


def refusing(status: int, code: str, message: str, more: str = "") -> ObjectServer:
    def refuse(exchange: Exchange, _: Answer) -> None:
        exchange.reply(error_answer(exchange.request, status, code, message, more))

    return ObjectServer({"a": b"content"}, refuse, where=lambda _: True)


@with_each(READERS)
def test_the_endpoint_that_the_service_names_is_named(reader: Reader) -> None:
    message = "The bucket you are attempting to access must be addressed using the specified endpoint."
    more = f"<Bucket>{BUCKET}</Bucket><Endpoint>oss-cn-beijing.aliyuncs.com</Endpoint>"
    with refusing(403, "AccessDenied", message, more) as server:
        with pytest.raises(OssPermissionError, match="specified endpoint: the bucket is in another region") as caught:
            reader(connect(server), ["a"])
        assert "pass endpoint='oss-cn-beijing.aliyuncs.com' and region='cn-beijing'" in str(caught.value)
        assert f"instead of '{server.endpoint}'" in str(caught.value)
        assert caught.value.bucket == BUCKET
        assert caught.value.key == (None if reader in LISTERS else "a")


def test_a_wrong_signing_region_is_named(emulator: Emulator, bucket: str) -> None:
    config = OssConfig(access_key_id=emulator.access_key_id, access_key_secret=emulator.access_key_secret)
    client = OssClient(emulator.endpoint, region="cn-elsewhere", config=config)
    with pytest.raises(
        OssError, match="the request was signed for region 'cn-elsewhere', which is not the bucket's"
    ) as caught:
        client.get(f"oss://{bucket}/a")
    assert "pass the region of the bucket's location" in str(caught.value)
    assert (caught.value.bucket, caught.value.key) == (bucket, "a")


def test_both_signing_regions_are_named_if_the_service_names_one() -> None:
    more = "<Region>cn-beijing</Region>"
    with refusing(403, "InvalidArgument", "Invalid signing region in Authorization header.", more) as server:
        with pytest.raises(
            OssError, match=r"signed for region 'cn-hangzhou', but .* belongs to 'cn-beijing'"
        ) as caught:
            get(connect(server), ["a"])
        assert "pass region='cn-beijing'" in str(caught.value)


@pytest.mark.parametrize(
    ("reply", "attempts"), [(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", 1), (b"", 2)]
)
def test_tls_to_a_server_without_it(reply: bytes, attempts: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            for _ in range(attempts):
                connection, _ = listener.accept()
                with connection:
                    connection.recv(65536)
                    connection.sendall(reply)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        port = listener.getsockname()[1]
        client = OssClient(f"https://127.0.0.1:{port}", region="cn-hangzhou", config=settings())
        with pytest.raises(OssConnectionError, match="write the endpoint with http://") as caught:
            client.get(uri("a"))
        assert f"127.0.0.1:{port}" in str(caught.value)
        assert (caught.value.bucket, caught.value.key) == (BUCKET, "a")
        assert caught.value.attempts == attempts
        thread.join()


def test_no_tls_to_a_server_with_it() -> None:
    with Emulator(buckets=[BUCKET], tls=True) as tls:
        client = OssClient(tls.endpoint.replace("https:", "http:"), region="cn-hangzhou", config=settings())
        with pytest.raises(OssError, match="it speaks TLS; write the endpoint with https://") as caught:
            client.get(uri("a"))
        assert (caught.value.bucket, caught.value.key) == (BUCKET, "a")


def test_a_web_server_that_expects_tls() -> None:
    def refuse(exchange: Exchange) -> None:
        body = b"<html><center>The plain HTTP request was sent to HTTPS port</center></html>"
        exchange.reply(Answer(400, {"Content-Type": "text/html"}, body))

    with ScriptedServer(refuse) as server:
        with pytest.raises(OssError, match=r"the server expects TLS: pass endpoint='https://127\.0\.0\.1") as caught:
            get(connect(server), ["a"])
        assert (caught.value.bucket, caught.value.status) == (BUCKET, 400)


@pytest.mark.parametrize(
    ("host", "right"),
    [
        ("oss-cn-hangzhou.aliyuncs.com", "oss-cn-hangzhou.aliyuncs.com"),
        ("oss-cn-hangzhou-internal.aliyuncs.com", "oss-cn-hangzhou-internal.aliyuncs.com"),
        ("cn-hangzhou.oss.aliyuncs.com", "cn-hangzhou.oss.aliyuncs.com"),
        ("oss-accelerate.aliyuncs.com", "oss-accelerate.aliyuncs.com"),
        ("cn-beijing-h-internal.oss-data-acc.aliyuncs.com", "cn-beijing-h-internal.oss-data-acc.aliyuncs.com"),
    ],
)
def test_a_buckets_host_is_no_endpoint(host: str, right: str) -> None:
    config = settings()
    for scheme in ("", "http://", "https://"):
        with pytest.raises(OssConfigError, match="is the host of bucket 'my-bucket'") as caught:
            OssClient(f"{scheme}my-bucket.{host}", region="cn-hangzhou", config=config)
        assert f"pass endpoint='{right}'" in str(caught.value)
        OssClient(f"{scheme}{host}", region="cn-hangzhou", config=config)


SIGNED = "Expires=1700000000&OSSAccessKeyId=id&Signature=the-signature-9a7f3c"


def test_a_presigned_url_is_quoted_without_its_query(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    url = f"https://my-bucket.oss-cn-hangzhou.aliyuncs.com/a?{SIGNED}"
    client = OssClient("oss-cn-hangzhou.aliyuncs.com", config=settings())
    calls: list[Callable[[], object]] = [
        lambda: OssClient(url, config=settings()),
        lambda: OssClient(f"https://example.com/?{SIGNED}", region="cn-hangzhou", config=settings()),
        lambda: OssClient(f"example.com:x?{SIGNED}", region="cn-hangzhou", config=settings()),
        lambda: client.get(url),
        lambda: client.get(url.replace("https://", "")),
        lambda: client.get(f"oss:/my-bucket/a?{SIGNED}"),
        lambda: client.get(f"oss://My-Bucket/a?{SIGNED}"),
        lambda: client.get(f"oss://my-bucket?{SIGNED}"),
        lambda: client.get(f"oss://my-bucket//a?{SIGNED}"),
        lambda: OssIterableDataset.from_prefix(url, "oss-cn-hangzhou.aliyuncs.com", config=settings()),
        lambda: OssMapDataset.from_manifest_file(url, None, "", "oss-cn-hangzhou.aliyuncs.com", config=settings()),
    ]
    for call in calls:
        with pytest.raises(OssConfigError) as caught:
            call()
        assert "the-signature" not in str(caught.value)
        assert "..." in str(caught.value) or "host of bucket" in str(caught.value)
    with pytest.raises(SystemExit, match="2"):
        main(["cp", url, str(tmp_path / "a")])
    assert "the-signature" not in capfd.readouterr().err


def test_what_the_server_repeats_of_the_request_is_hidden() -> None:
    def repeat(exchange: Exchange, _: Answer) -> None:
        sent = json.dumps(dict(exchange.request.headers)).replace("&", "&amp;").replace("\\", "")
        exchange.reply(error_answer(exchange.request, 403, "AccessDenied", f"{sent} {ACCESS_KEY_SECRET}"))

    for version in ("v4", "v1"):
        with ObjectServer({"a": b""}, repeat, where=lambda _: True) as server:
            with pytest.raises(OssPermissionError, match=r"\*\*\*") as caught:
                get(connect(server, signature_version=version), ["a"])
            signature = server.requests[0].headers["authorization"].split("=" if version == "v4" else ":")[-1]
            for secret in (signature, ACCESS_KEY_SECRET, SECURITY_TOKEN):
                assert secret not in str(caught.value)


def test_no_connection_is_said_once_and_logged_after_the_first_attempt(caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    client = OssClient(f"http://127.0.0.1:{port}", region="cn-hangzhou", config=settings(max_attempts=3))
    with caplog.at_level(logging.WARNING, "osstorchconnector"), pytest.raises(OssConnectionError) as caught:
        client.get(uri("a"))
    assert str(caught.value).count("no connection") == 1
    assert f"no connection to 127.0.0.1:{port}: " in str(caught.value)
    assert "refused" in str(caught.value)
    assert "check endpoint" in str(caught.value)
    assert "(after 2 failed attempts, for the same reason)" in str(caught.value)
    assert caught.value.attempts == 3
    assert not getattr(caught.value, "__notes__", [])
    assert "retrying" in caplog.records[0].getMessage()
    assert f"no connection to 127.0.0.1:{port}" in caplog.records[0].getMessage()


@pytest.mark.parametrize(
    ("endpoint", "hint"),
    [
        ("http://no-such-host.invalid:8080", "check endpoint"),
        ("http://oss-no-such-region-internal.aliyuncs.com:8080", "an endpoint with -internal is reached only from"),
    ],
)
def test_a_name_that_does_not_resolve_is_named(endpoint: str, hint: str) -> None:
    client = OssClient(endpoint, region="cn-hangzhou", config=settings(max_attempts=1, connect_timeout=5))
    with pytest.raises(
        OssConnectionError, match=r"no connection to .*:8080.* its name (cannot be|was not) resolved"
    ) as caught:
        client.get(uri("a"))
    assert f"{BUCKET}.{endpoint.removeprefix('http://')}" in str(caught.value)
    assert hint in str(caught.value)


@with_each(READERS)
def test_an_archived_object_is_no_matter_of_permission(reader: Reader) -> None:
    message = "The operation is not valid for the object's state."
    with refusing(403, "InvalidObjectState", message) as server:
        with pytest.raises(OssArchivedError, match="the object is archived: restore it first") as caught:
            reader(connect(server), ["a"])
        assert (caught.value.code, caught.value.status) == ("InvalidObjectState", 403)
        assert not isinstance(caught.value, PermissionError)


def test_a_command_without_credentials_names_its_options(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("OSS_ACCESS_KEY_ID", "OSS_ACCESS_KEY_SECRET", "ALIBABA_CLOUD_ACCESS_KEY_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ALIBABA_CLOUD_ECS_METADATA_DISABLED", "true")
    assert main(["uploads", "ls", uri(""), "--endpoint", "oss-cn-hangzhou.aliyuncs.com"]) == 1
    said = capfd.readouterr().err
    assert "no credentials: give --cred-path FILE" in said
    assert "set OSS_ACCESS_KEY_ID and OSS_ACCESS_KEY_SECRET" in said
    assert "cred_provider" not in said


@pytest.mark.parametrize("wrong", ["oss:/b/k", "oss:b/k", "OSS://b/k", "s3://b/k"])
def test_cp_refuses_what_is_nearly_a_uri(
    wrong: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x").write_bytes(b"x")
    for paths in (["x", wrong], [wrong, "x"], ["oss://bucket/a", wrong], [wrong, "oss://bucket/a"], ["-r", "x", wrong]):
        with pytest.raises(SystemExit, match="2"):
            main(["cp", *paths])
        said = capfd.readouterr().err
        assert repr(wrong) in said
        assert ("write 'oss://b/k'" if wrong[:2].lower() == "os" else "write 'oss://bucket/key'") in said
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_a_manifest_is_not_written_to_what_is_nearly_a_uri(
    emulator: Emulator, bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OSS_ACCESS_KEY_ID", emulator.access_key_id)
    monkeypatch.setenv("OSS_ACCESS_KEY_SECRET", emulator.access_key_secret)
    emulator.client().put(f"oss://{bucket}/a", b"a")
    connection = ["--endpoint", emulator.endpoint, "--region", emulator.region]
    assert main(["manifest", f"oss://{bucket}/", "--output", "oss:/b/k", *connection]) == 1
    assert "write 'oss://b/k'" in capfd.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("document", "meant"),
    [
        ({"datasetConfig": {"prefetchConcurency": 3}}, "datasetConfig.prefetchConcurrency"),
        ({"datasetconfig": {}}, "datasetConfig"),
        ({"loglevel": 1}, "logLevel"),
        ({"prefetchConcurrency": 3}, "datasetConfig.prefetchConcurrency"),
        ({"checkpointConfig": {"enableFastLists": True}}, "datasetConfig.enableFastList"),
        ({"nonsense": 1}, None),
    ],
)
def test_a_misspelt_key_of_the_configuration(document: dict[str, Any], meant: str | None, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(document))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        OssClient("oss-cn-hangzhou.aliyuncs.com", config_path=str(path), config=settings())
    [warning] = caught
    assert str(path) in str(warning.message)
    assert str(warning.message).endswith("is ignored" if meant is None else f": did you mean {meant}?")


def iterated(prefix: str, **connection: Any) -> int:
    return len(list(OssIterableDataset.from_prefix(prefix, **connection)))


def mapped(prefix: str, **connection: Any) -> int:
    return len(OssMapDataset.from_prefix(prefix, **connection))


@pytest.mark.parametrize("count", [iterated, mapped])
def test_a_prefix_that_matches_nothing_is_a_warning(emulator: Emulator, bucket: str, count: Callable[..., int]) -> None:
    connection = emulator.connection
    with pytest.warns(UserWarning, match=f"no object matches the prefix oss://{bucket}/train/imgs/: the bucket"):
        assert count(f"oss://{bucket}/train/imgs/", **connection) == 0
    emulator.client().put(f"oss://{bucket}/train/images/cat.jpg", b"cat")
    nearest = f"the nearest one with objects is oss://{bucket}/train/, with oss://{bucket}/train/images/cat.jpg"
    with pytest.warns(UserWarning, match=nearest) as warned:
        assert count(f"oss://{bucket}/train/imgs/", **connection) == 0
    assert "to silence: warnings.filterwarnings('ignore', 'no (object|file) matches')" in str(warned[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "no (object|file) matches")
        assert count(f"oss://{bucket}/train/imgs/", **connection) == 0
    emulator.client().put(f"oss://{bucket}/marked/", b"")
    with pytest.warns(UserWarning, match="has only directory markers"):
        assert count(f"oss://{bucket}/marked/", **connection) == 0


@pytest.mark.parametrize(
    "command",
    [
        ["manifest", "{}"],
        ["cp", "-r", "{}", "{tmp}/target/"],
        ["checkpoint", "ls", "{}"],
        ["checkpoint", "verify", "{}"],
    ],
)
def test_a_prefix_that_matches_nothing_fails_commands(
    command: list[str],
    emulator: Emulator,
    bucket: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("OSS_ACCESS_KEY_ID", emulator.access_key_id)
    monkeypatch.setenv("OSS_ACCESS_KEY_SECRET", emulator.access_key_secret)
    emulator.client().put(f"oss://{bucket}/train/a", b"a")
    arguments = [part.format(f"oss://{bucket}/train/imgs/", tmp=tmp_path) for part in command]
    assert main([*arguments, "--endpoint", emulator.endpoint, "--region", emulator.region]) == 1
    said = capfd.readouterr()
    assert f"the nearest one with objects is oss://{bucket}/train/, with oss://{bucket}/train/a" in said.err
    assert said.out == ""


def test_directories_of_models_without_the_usual_names(emulator: Emulator, bucket: str) -> None:
    client, models = emulator.client(), OssSafetensor(**emulator.connection)
    one, two = save({"one": torch.ones(1)}), save({"two": torch.ones(2)})

    def put(key: str, content: bytes = b"") -> None:
        client.put(f"oss://{bucket}/{key}", content)

    put("single/diffusion_pytorch_model.safetensors", one)
    put("single/config.json", b"{}")
    put(
        "named/other.safetensors.index.json",
        json.dumps({"weight_map": {"one": "1.safetensors", "two": "2.safetensors"}}).encode(),
    )
    for directory in ("named", "parts"):
        put(f"{directory}/1.safetensors", one)
        put(f"{directory}/2.safetensors", two)
    put("saved/.metadata")
    put("saved/shard.safetensors", one)
    put("nothing/config.json", b"{}")
    assert sorted(models.load_file(f"oss://{bucket}/single/")) == ["one"]
    assert sorted(models.load_file(f"oss://{bucket}/named/")) == ["one", "two"]
    usual = "has neither model.safetensors.index.json nor model.safetensors"
    for directory, said in {
        "parts": "1.safetensors, 2.safetensors; give the URI of one object, or make an index",
        "saved": ".metadata, shard.safetensors; it is a distributed checkpoint: load it with",
        "nothing": "config.json; none of them is a safetensors object",
        "missing": "no object matches the prefix",
    }.items():
        with pytest.raises(OssNotFoundError) as caught:
            models.load_file(f"oss://{bucket}/{directory}/")
        assert f"oss://{bucket}/{directory}/ {usual}" in str(caught.value)
        assert said in str(caught.value)
        assert (caught.value.bucket, caught.value.key) == (bucket, f"{directory}/")
