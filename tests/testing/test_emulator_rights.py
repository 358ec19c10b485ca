"""Users with rights, public access, limits and profiles of the emulator, as a program of Python sees them."""

import json
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from osstorchconnector import OssClient, OssConfig, OssError, OssPermissionError
from osstorchconnector.testing import Emulator, KeyPair

READ_ONLY = {
    "Version": "1",
    "Statement": [
        {
            "Effect": "Allow",
            "Action": ["oss:Get*", "oss:List*"],
            "Resource": ["acs:oss:*:*:bucket", "acs:oss:*:*:bucket/shared/*"],
        }
    ],
}


def client_of(emulator: Emulator, access_key_id: str, access_key_secret: str) -> OssClient:
    config = OssConfig(access_key_id=access_key_id, access_key_secret=access_key_secret)
    return OssClient(emulator.endpoint, region=emulator.region, config=config)


def test_a_user_may_do_what_its_policy_allows() -> None:
    with Emulator(buckets=["bucket"], key_pairs=[KeyPair("reader", "secret", policy=READ_ONLY)]) as emulator:
        owner, reader = emulator.client(), client_of(emulator, "reader", "secret")
        owner.put("oss://bucket/shared/a", b"1")
        owner.put("oss://bucket/private", b"2")
        assert reader.get("oss://bucket/shared/a") == b"1"
        assert len(list(reader.list("oss://bucket/"))) == 2
        for attempt in (
            lambda: reader.get("oss://bucket/private"),
            lambda: reader.put("oss://bucket/shared/a", b"3"),
            lambda: reader.delete("oss://bucket/shared/a"),
        ):
            with pytest.raises(OssPermissionError) as caught:
                attempt()
            assert caught.value.code == "AccessDenied"
        assert owner.get("oss://bucket/shared/a") == b"1"


@pytest.mark.parametrize(
    ("statement", "complaint"),
    [
        ({"Effect": "Allow", "Action": "oss:Fly", "Resource": "*"}, "oss:Fly"),
        ({"Effect": "Deny", "Action": "oss:*", "Resource": "*"}, "Allow"),
        ({"Sid": "mine", "Effect": "Perhaps", "Action": "oss:*", "Resource": "*"}, "statement 1 (mine)"),
    ],
)
def test_a_wrong_policy_is_refused_at_the_start(tmp_path: Path, statement: dict[str, str], complaint: str) -> None:
    path = tmp_path / "key.json"
    policy = {"Version": "1", "Statement": [statement]}
    path.write_text(json.dumps({"AccessKeyId": "user", "AccessKeySecret": "secret-0a1b", "Policy": policy}))
    command = [sys.executable, "-m", "osstorchconnector.cli", "emulator", "--port", "0", "--credentials", str(path)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert ended.returncode == 1
    assert complaint in ended.stderr
    assert "'user'" in ended.stderr or '"user"' in ended.stderr
    assert "secret-0a1b" not in ended.stderr


def test_requests_a_second_and_a_quota() -> None:
    with Emulator(buckets=["bucket"], requests_per_second=1000, quota=10) as emulator:
        client = emulator.client()
        client.put("oss://bucket/a", bytes(10))
        with pytest.raises(OssError) as caught:
            client.put("oss://bucket/b", b"1")
        assert caught.value.code == "QuotaExceeded"
    with Emulator(buckets=["bucket"], requests_per_second=2) as emulator:
        client = OssClient(**emulator.connection, config=OssConfig(max_attempts=1))

        def put_ten() -> None:
            for _ in range(10):
                client.put("oss://bucket/a", b"1")

        with pytest.raises(OssError) as caught:
            put_ten()
        assert caught.value.code == "QpsLimitExceeded"


@pytest.mark.parametrize("profile", ["35ms", "throttled", "flaky", "wan"])
def test_a_profile_is_survived(profile: Any) -> None:
    with Emulator(buckets=["bucket"], profile=profile) as emulator:
        client = OssClient(**emulator.connection, config=OssConfig(max_attempts=20))
        for number in range(5):
            client.put(f"oss://bucket/{number}", bytes([number]) * 1000)
        for number in range(5):
            assert client.get(f"oss://bucket/{number}") == bytes([number]) * 1000


def test_health_and_metrics_need_no_key() -> None:
    with Emulator(buckets=["bucket"]) as emulator:
        emulator.client().put("oss://bucket/a", b"1")
        with urllib.request.urlopen(f"{emulator.endpoint}/-/health", timeout=10) as answer:
            assert answer.read() == b"ok\n"
        with urllib.request.urlopen(f"{emulator.endpoint}/-/metrics", timeout=10) as answer:
            assert b'oss_requests_total{operation="PutObject"} 1' in answer.read()


def test_public_access_is_blocked_unless_it_is_allowed() -> None:
    for allowed in (False, True):
        with Emulator(buckets=["bucket"], allow_public_access=allowed) as emulator:
            request = urllib.request.Request(f"{emulator.endpoint}/bucket/", method="GET")
            with pytest.raises(urllib.error.HTTPError) as caught:
                urllib.request.urlopen(request, timeout=10)
            with caught.value as refusal:
                assert refusal.code == 403


@pytest.mark.parametrize("more", [[], ["--profile", "flaky"]])
def test_a_malformed_file_of_rules_is_named(tmp_path: Path, more: list[str]) -> None:
    path = tmp_path / "rules.json"
    path.write_text('{"operation": ')
    command = [sys.executable, "-m", "osstorchconnector.cli", "emulator", "--port", "0", "--faults", str(path), *more]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert ended.returncode == 1
    assert f"{path} cannot be read as JSON" in ended.stderr
