"""Single checks: this machine, the origin of settings, identity, proxies."""

import argparse
import json
import os
import resource
import ssl
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from osstorchconnector import OssConfig
from osstorchconnector.cli.doctor_checks import machine, network, service, software
from osstorchconnector.cli.doctor_checks.finding import Finding, State, ok
from osstorchconnector.cli.doctor_checks.probing import Probe, run_probes
from osstorchconnector.cli.doctor_checks.settings import settings, shortened
from osstorchconnector.cli.doctor_checks.target import Target, internal_twin, public_twin
from osstorchconnector.credentials import ExplicitCredentials
from tests.credentials.stand_in import Answer, standing_in


def target(endpoint: str = "https://oss-cn-hangzhou.aliyuncs.com", **more: Any) -> Target:
    return Target(endpoint, "cn-hangzhou", OssConfig(), ExplicitCredentials("access-key-id", "the-secret"), **more)


def named(findings: list[Finding], name: str) -> Finding:
    (found,) = [one for one in findings if one.name == name]
    return found


def test_each_setting_has_its_origin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"timeoutMs": 5000, "datasetConfig": {"prefetchConcurrency": 8}}))
    monkeypatch.setenv("OSS_ENDPOINT", "oss-cn-hangzhou.aliyuncs.com")
    options = argparse.Namespace(
        endpoint=None, region="", cred_path="", config_path=str(path), uri="oss://bucket/a", profile=""
    )
    made, found = settings(options)
    assert made is not None
    assert (made.bucket, made.prefix, made.host) == ("bucket", "a", "bucket.oss-cn-hangzhou.aliyuncs.com")
    assert named(found, "endpoint").values["origin"] == "environment OSS_ENDPOINT"
    assert named(found, "region").values["origin"] == "name of the endpoint"
    values = named(found, "settings").values
    assert values["read_timeout"] == {"value": 5.0, "origin": f"file {path}: timeoutMs"}
    assert values["prefetch_concurrency"]["origin"] == f"file {path}: datasetConfig.prefetchConcurrency"
    assert values["max_concurrency"] == {"value": 512, "origin": "default"}
    path.write_text("{")
    made, found = settings(options)
    assert made is None
    assert named(found, "configuration").state is State.FAILURE


def test_an_access_key_id_is_never_shown_whole() -> None:
    for length in range(1, 40):
        identifier = "".join(chr(ord("A") + number % 26) for number in range(length))
        assert len(shortened(identifier).replace("...", "")) <= max(2, length * 0.6)


def test_internal_and_public_endpoints_are_known() -> None:
    assert internal_twin("oss-cn-hangzhou.aliyuncs.com") == "oss-cn-hangzhou-internal.aliyuncs.com"
    for other in ("oss-cn-hangzhou-internal.aliyuncs.com", "oss-accelerate.aliyuncs.com", "127.0.0.1", "files.example"):
        assert internal_twin(other) is None
    assert public_twin("oss-cn-hangzhou-internal.aliyuncs.com") == "oss-cn-hangzhou.aliyuncs.com"
    assert target("https://oss-cn-hangzhou-internal.aliyuncs.com").is_internal
    assert not target().is_internal


def test_a_proxy_is_a_warning_and_its_password_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://user:password@127.0.0.1:3128")
    options = argparse.Namespace(
        endpoint="oss-cn-hangzhou.aliyuncs.com", region="", cred_path="", config_path="", uri="", profile=""
    )
    found = named(settings(options)[1], "proxy")
    assert found.state is State.WARNING
    assert found.values == {"proxy": "127.0.0.1:3128"}
    assert "password" not in found.text
    options.endpoint = "oss-cn-hangzhou-internal.aliyuncs.com"
    found = named(settings(options)[1], "proxy")
    assert found.state is State.OK
    assert "https_proxy in the environment does not apply" in found.text


def test_the_way_leads_to_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    with standing_in(lambda _: (200, "")) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        way = network.Way(target())
        found = list(way.findings())
    assert [one.name for one in found] == ["name", "tcp", "tls"]
    assert found[0].values["host"] == "127.0.0.1"
    assert way.open


@pytest.mark.parametrize(
    ("entry", "host", "named"),
    [
        ("*", "a.example", True),
        ("example", "a.example", True),
        (".example", "a.example", True),
        ("*.example", "a.example", True),
        ("ample", "a.example", False),
        ("a.example:443", "a.example", True),
        ("a.example:80", "a.example", False),
        ("10.0.0.0/8", "10.1.2.3", True),
        ("10.0.0.0/8", "11.1.2.3", False),
        ("10.1.2.3", "10.1.2.3", True),
        ("10.1.2.3:443", "10.1.2.3", True),
        ("10.0.0.0/8", "a.example", False),
    ],
)
def test_hosts_that_need_no_proxy_are_connected_to(entry: str, host: str, named: bool) -> None:  # noqa: FBT001 - a row of the table
    assert network._bypasses(host, 443, ["other.example.org", entry]) is named


def test_sts_says_who_the_key_belongs_to() -> None:
    who = {"AccountId": "1234", "Arn": "acs:ram::1234:user/train", "IdentityType": "RAMUser", "RequestId": "R"}
    with standing_in(lambda _: (200, who)) as sts:
        (found,) = service.identity(target(), sts.url)
        (asked,) = sts.asked
    assert found.text == "acs:ram::1234:user/train (account 1234)"
    assert asked.form["Action"] == "GetCallerIdentity"
    assert asked.form["AccessKeyId"] == "access-key-id"
    assert "the-secret" not in str(asked)
    answers: list[Answer] = [
        (403, {"Code": "InvalidAccessKeyId.NotFound"}),
        (200, "<html>"),
        (200, {"Arn": "x"}),
        (0, ""),
    ]
    while answers:
        with standing_in(lambda _: answers.pop()) as sts:
            (found,) = service.identity(target(), sts.url)
        assert found.state is State.OK
        assert found.text.startswith("not known: STS GetCallerIdentity")


def test_sts_is_not_asked_about_keys_of_other_services() -> None:
    (found,) = service.identity(target("http://127.0.0.1:1"))
    assert found.text.startswith("not asked")


def test_few_descriptors_are_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = {1024: State.OK, 1023: State.WARNING, 256: State.WARNING, 65536: State.OK}
    for soft, state in limits.items():
        monkeypatch.setattr(resource, "getrlimit", lambda _, soft=soft: (soft, 65536))
        found = named(machine.machine(None), "descriptors")
        assert found.state is state, soft
        if state is State.WARNING:
            assert found.remedy == "ulimit -n 1024"
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 512))
    assert "raise the hard limit" in named(machine.machine(None), "descriptors").remedy


def test_the_limits_of_a_container_count(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(machine, "_CGROUP", tmp_path)
    (tmp_path / "memory.max").write_text(f"{1 << 30}\n")
    (tmp_path / "memory.current").write_text(f"{1 << 29}\n")
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    found = machine.machine(None)
    assert named(found, "memory").state is State.WARNING
    assert "the container may use 1.0 GiB, of which 0.5 are free" in named(found, "memory").text
    assert named(found, "processors").values["quota"] == 0.5
    assert named(found, "processors").state is State.WARNING
    for name in ("memory.max", "cpu.max"):
        (tmp_path / name).write_text("max 100000\n" if name == "cpu.max" else "max\n")
    found = machine.machine(None)
    assert named(found, "memory").values["limit"] is None
    assert named(found, "processors").values["quota"] is None


def test_little_shared_memory_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = type("Status", (), {"f_blocks": 16384, "f_frsize": 4096, "f_bavail": 16384})
    monkeypatch.setattr(os, "statvfs", lambda _: kind)
    assert "--shm-size" in named(machine.machine(None), "shared memory").remedy


def test_versions_that_were_not_tried_are_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = {"torch": "2.5.1", "webdataset": "3.0"}
    monkeypatch.setattr(software, "_installed", installed.get)
    found = software.software()
    assert "pip install 'torch>=2.6'" in named(found, "torch").remedy
    assert "webdataset 3.0 (tried: 0.2.100 to 1.0)" in named(found, "frameworks").remedy
    installed.clear()
    assert named(software.software(), "torch").state is State.OK


def test_the_checks_load_no_torch() -> None:
    program = (
        "import sys\n"
        "from osstorchconnector.cli.doctor_checks import examination, software\n"
        "software.software()\n"
        "sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_a_check_that_does_not_end_is_given_up() -> None:
    end = threading.Event()

    def slow() -> Any:
        yield ok("first", "came in time")
        end.wait()

    def failing() -> Any:
        raise ssl.SSLError("broken")

    probes = [Probe("slow", slow, 0.2), Probe("failing", failing, 1.0), Probe("fine", lambda: [ok("a", "b")], 1.0)]
    run_probes(probes)
    end.set()
    assert [one.name for one in probes[0].result()][:1] == ["first"]
    assert [(one.name, one.state.value) for one in probes[1].result()] == [("failing", "failure")]
    assert [one.text for one in probes[2].result()] == ["b"]


def test_a_check_that_is_wrong_itself_raises() -> None:
    def wrong() -> list[Finding]:
        raise ZeroDivisionError

    probe = Probe("wrong", wrong, 1.0)
    run_probes([probe])
    with pytest.raises(ZeroDivisionError):
        probe.result()
