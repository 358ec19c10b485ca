"""Proxies: which one is used, what goes through it, and what happens if it fails."""

import logging
import multiprocessing
import os
import pickle
import shutil
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from osstorchconnector import OssClient, OssConfig, OssConfigError, OssConnectionError, OssCredentialsError, OssError
from osstorchconnector.connection.proxy import ProxySetting
from osstorchconnector.testing import Emulator
from tests.connection.http_proxy import HttpProxy

# It has no address: only the proxy knows where it is.
HOST = "oss-cn-hangzhou.example"
VARIABLES = ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"]


@pytest.fixture(scope="module")
def plain_emulator() -> Iterator[Emulator]:
    with Emulator(domain=HOST, buckets=["bucket"]) as server:
        yield server


@pytest.fixture(scope="module")
def tls_emulator() -> Iterator[Emulator]:
    with Emulator(tls=True, domain=HOST, buckets=["bucket"]) as server:
        yield server


def client_of(server: Emulator, host: str = HOST, **options: object) -> OssClient:
    scheme, _, port = server.endpoint.split(":")
    addressing = "path" if host == "127.0.0.1" else "virtual_host"
    options = {"addressing": addressing, "connect_timeout": 2.0, "read_timeout": 2.0, **options}
    config = OssConfig(**options, ca_bundle=server.ca_bundle or None)  # type: ignore[arg-type]
    return OssClient(f"{scheme}://{host}:{port}", cred_path=server.cred_path, region=server.region, config=config)


def round_trip(client: OssClient, bucket: str = "bucket") -> None:
    uri = f"oss://{bucket}/{uuid.uuid4()}"
    client.put(uri, b"bytes")
    assert client.get(uri) == b"bytes"
    with pytest.raises(Exception, match="NoSuchKey"):
        client.get(f"{uri}-missing")


def test_http_is_forwarded_and_https_goes_through_a_tunnel(plain_emulator: Emulator, tls_emulator: Emulator) -> None:
    with HttpProxy(plain_emulator.endpoint) as proxy:
        round_trip(client_of(plain_emulator, proxy=proxy.url))
        assert {line.partition("/")[0] for line in proxy.lines} == {"PUT http:", "GET http:"}
        assert f"PUT http://bucket.{HOST}:{proxy.endpoint_port}/" in proxy.lines[0]
    with HttpProxy(tls_emulator.endpoint) as proxy:
        round_trip(client_of(tls_emulator, proxy=proxy.url))
        assert set(proxy.lines) == {f"CONNECT bucket.{HOST}:{proxy.endpoint_port} HTTP/1.1"}


@pytest.mark.parametrize("variable", VARIABLES)
def test_the_environment_names_a_proxy(
    plain_emulator: Emulator, tls_emulator: Emulator, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = tls_emulator if variable.lower() == "https_proxy" else plain_emulator
    with HttpProxy(server.endpoint) as proxy:
        monkeypatch.setenv(variable, proxy.url)
        round_trip(client_of(server))
        assert proxy.lines


def test_one_log_line_names_the_proxy_without_its_password(
    plain_emulator: Emulator, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        HttpProxy(plain_emulator.endpoint, password="user:p@ss") as proxy,
        caplog.at_level(logging.INFO, "osstorchconnector"),
    ):
        monkeypatch.setenv("HTTP_PROXY", proxy.url.replace("http://", "http://user:p%40ss@"))
        for _ in range(3):
            round_trip(client_of(plain_emulator))
    [line] = [record.getMessage() for record in caplog.records if "proxy" in record.getMessage()]
    assert line == (
        f"requests to http://{HOST}:{proxy.endpoint_port} go through the proxy 127.0.0.1:{proxy.port} "
        "of HTTP_PROXY in the environment"
    )


@pytest.mark.parametrize(
    ("endpoint", "environment", "used"),
    [
        (f"http://{HOST}", {"HTTP_PROXY": "proxy:1"}, True),
        (f"http://{HOST}", {"HTTPS_PROXY": "proxy:1"}, False),
        (f"https://{HOST}", {"HTTP_PROXY": "proxy:1"}, False),
        (f"http://{HOST}", {"HTTP_PROXY": "proxy:1", "http_proxy": ""}, False),
        (f"http://{HOST}", {"HTTP_PROXY": "proxy:1", "REQUEST_METHOD": "GET"}, False),
        ("http://127.0.0.1:80", {"HTTP_PROXY": "proxy:1"}, False),
        ("http://[::1]:80", {"HTTP_PROXY": "proxy:1"}, False),
        ("http://localhost", {"HTTP_PROXY": "proxy:1"}, False),
        ("http://100.100.100.200", {"HTTP_PROXY": "proxy:1"}, False),
        ("https://oss-cn-hangzhou-internal.aliyuncs.com", {"ALL_PROXY": "proxy:1"}, False),
        ("https://oss-cn-hangzhou.aliyuncs.com", {"ALL_PROXY": "proxy:1"}, True),
    ],
)
def test_a_variable_never_takes_near_hosts_away(
    endpoint: str, environment: dict[str, str], *, used: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert (ProxySetting(None).proxy_for(endpoint) is not None) == used
    assert ProxySetting("http://given:8080").proxy_for(endpoint) is not None
    assert ProxySetting("").proxy_for(endpoint) is None


def test_no_proxy_names_hosts_that_are_reached_without_it(
    plain_emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    with HttpProxy(plain_emulator.endpoint) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("NO_PROXY", "other.example, .cn-hangzhou.example")
        round_trip(client_of(plain_emulator))
        assert proxy.lines
        proxy.lines.clear()
        monkeypatch.setenv("NO_PROXY", "other.example, .example")
        with pytest.raises(OssConnectionError, match=f"no connection to bucket.{HOST}"):
            client_of(plain_emulator).get("oss://bucket/k")
        assert not proxy.lines


@pytest.mark.parametrize(
    ("without", "host", "used"),
    [
        ("10.9.8.7:9000", "10.9.8.7", False),
        ("10.9.8.7:9001", "10.9.8.7", True),
        ("localhost 127.0.0.1 .example", HOST, False),
        ("localhost 127.0.0.1\t other.example", HOST, True),
    ],
)
def test_no_proxy_has_ports_of_addresses_and_spaces(
    plain_emulator: Emulator, without: str, host: str, *, used: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with HttpProxy(plain_emulator.endpoint) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("NO_PROXY", without)
        config = OssConfig(connect_timeout=0.1, total_timeout=0.3, max_attempts=1)
        client = OssClient(f"http://{host}:9000", plain_emulator.cred_path, region="cn-hangzhou", config=config)
        with pytest.raises(OssError):
            client.get("oss://bucket/k")
        assert bool(proxy.lines) == used


def test_an_entry_of_no_proxy_that_names_nothing_is_reported_once(
    plain_emulator: Emulator, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    entries = ["*", ".a.example", "*.b.example", "c.example:80", "10.9.8.7", "10.9.8.7:9000", "10.0.0.0/8", "fd00::/8"]
    entries += ["[fd00::1]:80", "fd00::1", "my_host", "oss-*.example", "http://d.example", "10.0.0.0/33", "e.example/"]
    with HttpProxy(plain_emulator.endpoint) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("NO_PROXY", ",".join(entries[1:]))
        for _ in range(2):
            round_trip(client_of(plain_emulator))
        monkeypatch.setenv("NO_PROXY", "*")
        with pytest.raises(OssConnectionError):
            client_of(plain_emulator, total_timeout=1.0, connect_timeout=0.1).get("oss://bucket/k")
    reported = [record.getMessage() for record in caplog.records if "NO_PROXY" in record.getMessage()]
    assert [line.split("'")[1] for line in reported] == entries[-4:]


def test_a_proxy_gets_user_name_and_password(plain_emulator: Emulator, tls_emulator: Emulator) -> None:
    for server in (plain_emulator, tls_emulator):
        with HttpProxy(server.endpoint, password="user:p@ss") as proxy:
            url = proxy.url.replace("http://", "http://user:p%40ss@")
            round_trip(client_of(server, proxy=url))
            with pytest.raises(
                OssConnectionError, match=r"the proxy 127.0.0.1:[0-9]+ refused .* 407 .*user name"
            ) as info:
                client_of(server, proxy=proxy.url).get("oss://bucket/k")
            assert HOST in str(info.value)
            assert info.value.attempts == 1


def test_a_password_is_neither_shown_nor_pickled() -> None:
    config = OssConfig(proxy="http://user:secret@proxy:3128")
    client = OssClient(
        f"http://{HOST}",
        region="cn-hangzhou",
        config=OssConfig(proxy="http://user:secret@proxy:3128", access_key_id="id", access_key_secret="key"),
    )
    for shown in (repr(config), repr(client), repr(client._resolved), repr(client.config)):
        assert "secret" not in shown
    for value in (config, client._resolved.proxy):
        with pytest.raises(OssCredentialsError, match=r"password in OssConfig.proxy cannot be pickled"):
            pickle.dumps(value)
    plain = OssConfig(proxy="http://proxy:3128")
    assert pickle.loads(pickle.dumps(plain)) == plain
    assert repr(plain) == "OssConfig(proxy='http://proxy:3128')"


def read_in_child(client: OssClient, uri: str, answers: "multiprocessing.Queue[bytes]") -> None:
    answers.put(client.get(uri))


@pytest.mark.slow(90)
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_started_processes_use_the_proxy_too(plain_emulator: Emulator, method: str) -> None:
    context: Any = multiprocessing.get_context(method)
    with HttpProxy(plain_emulator.endpoint, password="user:secret") as proxy:
        client = client_of(plain_emulator, proxy=proxy.url.replace("http://", "http://user:secret@"))
        client.put("oss://bucket/k", b"bytes")
        answers = context.Queue()
        child = context.Process(target=read_in_child, args=(client, "oss://bucket/k", answers))
        child.start()
        assert answers.get(timeout=60) == b"bytes"
        child.join()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("socks5://proxy:1080", "only HTTP proxies are supported"),
        ("https://proxy:1080", "only HTTP proxies are supported"),
        ("http://", "which is no proxy"),
        ("http://proxy:99999", "which is no proxy"),
        ("http://proxy/path", "which is no proxy"),
        ("http://pro xy:1", "which is no proxy"),
        ("http://user:secret@proxy\r\nHost: x", "which is no proxy"),
    ],
)
def test_what_is_no_proxy_is_refused_before_anything_is_sent(
    url: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(OssConfigError, match=f"OssConfig.proxy is .*{message}") as info:
        OssConfig(proxy=url)
    assert "secret" not in str(info.value)
    monkeypatch.setenv("ALL_PROXY", url)
    config = OssConfig(access_key_id="id", access_key_secret="key")
    with pytest.raises(OssConfigError, match=f"ALL_PROXY in the environment is .*{message}"):
        OssClient(f"http://{HOST}", region="cn-hangzhou", config=config)


FAILURES: list[tuple[Callable[[str], HttpProxy], str, int]] = [
    (
        lambda server: HttpProxy(server, answer=b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"),
        "refused .* 403",
        1,
    ),
    (lambda server: HttpProxy(server, answer=b"SSH-2.0-OpenSSH_9.2\r\n\r\n"), "HTTP", 1),
    (lambda server: HttpProxy(server, silent=True), "no connection|no answer|within", 0),
]


@pytest.mark.slow(60)
@pytest.mark.parametrize(("make", "message", "attempts"), FAILURES)
@pytest.mark.parametrize("tls", [False, True])
def test_a_proxy_that_fails_is_named(
    plain_emulator: Emulator,
    tls_emulator: Emulator,
    make: Callable[[str], HttpProxy],
    message: str,
    attempts: int,
    *,
    tls: bool,
) -> None:
    server = tls_emulator if tls else plain_emulator
    with make(server.endpoint) as proxy:
        client = client_of(server, proxy=proxy.url, read_timeout=0.5, total_timeout=3.0, connect_timeout=1.0)
        began = time.monotonic()
        with pytest.raises(Exception, match=message) as info:
            client.get("oss://bucket/k")
        assert f"127.0.0.1:{proxy.port}" in str(info.value)
        assert HOST in str(info.value)
        assert time.monotonic() - began < 10
        if attempts:
            assert info.value.attempts == attempts  # type: ignore[attr-defined]


@pytest.mark.parametrize("variable", [False, True])
@pytest.mark.parametrize(
    ("status", "body", "remedied"),
    [
        ("200 OK", b"<html>log in</html>", True),
        ("302 Found", b"", True),
        ("403 Forbidden", b"", True),
        ("503 Service Unavailable", b"", False),
    ],
)
def test_an_answer_without_a_request_id_is_ascribed_to_the_proxy(
    plain_emulator: Emulator,
    status: str,
    body: bytes,
    *,
    remedied: bool,
    variable: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answer = b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status.encode(), len(body), body)
    with HttpProxy(plain_emulator.endpoint, answer=answer) as proxy:
        if variable:
            monkeypatch.setenv("HTTP_PROXY", proxy.url)
        client = client_of(plain_emulator, max_attempts=1, proxy=None if variable else proxy.url)
        actions: list[Callable[[], object]] = [
            lambda: client.get("oss://bucket/k"),
            lambda: client.put("oss://bucket/k", b""),
            lambda: client.delete("oss://bucket/k"),
            lambda: list(client.list("oss://bucket/")),
        ]
        for action in actions:
            with pytest.raises(OssError, match=f"the proxy 127.0.0.1:{proxy.port}") as info:
                action()
            assert status in str(info.value)
            if remedied:
                remedy = "name the host in NO_PROXY" if variable else "set OssConfig(proxy='')"
                assert f"or {remedy}" in str(info.value)
            else:
                assert info.value.status == int(status[:3])


def test_a_proxy_that_does_not_listen_is_named(plain_emulator: Emulator) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    client = client_of(plain_emulator, proxy=f"http://127.0.0.1:{port}", connect_timeout=0.3)
    named = f"no connection to bucket.{HOST}:[0-9]+ through the proxy 127.0.0.1:{port}"
    with pytest.raises(OssConnectionError, match=named):
        client.get("oss://bucket/k")


@pytest.fixture
def tinyproxy(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    program = shutil.which("tinyproxy")
    if program is None:
        if "OSSTORCHCONNECTOR_REQUIRE_CONTRACT" in os.environ:
            pytest.fail("tinyproxy is not installed")
        pytest.skip("tinyproxy is not installed")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    log = tmp_path / "log"
    settings = tmp_path / "tinyproxy.conf"
    settings.write_text(
        f'Port {port}\nListen 127.0.0.1\nTimeout 60\nLogFile "{log}"\nLogLevel Info\nMaxClients 100\n'
        "Allow 127.0.0.1\nBasicAuth user secret\n"
    )
    process = subprocess.Popen([program, "-d", "-c", settings], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except ConnectionRefusedError:
                assert process.poll() is None
                time.sleep(0.02)
        yield f"http://user:secret@127.0.0.1:{port}", log
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def test_a_real_proxy_forwards_and_tunnels(tinyproxy: tuple[str, Path], emulator: Emulator, bucket: str) -> None:
    url, log = tinyproxy
    round_trip(client_of(emulator, "127.0.0.1", proxy=url), bucket)
    assert f"PUT http://127.0.0.1:{emulator.endpoint.rpartition(':')[2]}/{bucket}/" in log.read_text()
    with Emulator(tls=True, buckets=["bucket"]) as server:
        round_trip(client_of(server, "127.0.0.1", proxy=url))
        assert f"CONNECT 127.0.0.1:{server.endpoint.rpartition(':')[2]}" in log.read_text()
