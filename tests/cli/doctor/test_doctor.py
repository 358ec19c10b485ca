"""What the doctor says of a setup that works, and of each that does not."""

import json
import socket
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from osstorchconnector import OssClient
from osstorchconnector.testing import Emulator, KeyPair
from tests.cli.doctor.conftest import Examine


def write_key(path: Path, access_key_id: str, secret: str, **more: str) -> str:
    path.write_text(json.dumps({"AccessKeyId": access_key_id, "AccessKeySecret": secret, **more}))
    return str(path)


@pytest.fixture
def filled(client: OssClient, bucket: str) -> str:
    for number in range(20):
        client.put(f"oss://{bucket}/train/{number}", bytes(10_000))
    client.put(f"oss://{bucket}/train/large", bytes(8 << 20))
    return f"oss://{bucket}/train/"


def test_a_setup_that_works_has_no_failure(examine: Examine, filled: str, client: OssClient) -> None:
    before = [found.uri for found in client.list(filled)]
    found = examine(filled, "--write")
    assert found.failed() == []
    assert {one["name"] for one in found.document["findings"] if one["group"] == "Service"} == {
        *("bucket", "region", "identity", "list", "read", "quota", "write", "delete")
    }
    assert found["list"]["values"] == {"objects": 21}
    assert found["write"]["text"] == found["delete"]["text"] == "allowed"
    assert found["throttling"]["state"] == "ok"
    assert found["bandwidth"]["values"]["many"] > 0
    # The lines about this machine may warn.
    assert found.status == (0 if found.document["state"] == "ok" else 1)
    assert [found.uri for found in client.list(filled)] == before


@pytest.mark.usefixtures("bucket")
def test_without_a_uri_the_buckets_are_counted(examine: Examine) -> None:
    found = examine()
    assert found.failed() == []
    assert found["buckets"]["values"]["buckets"] >= 1
    assert "list" not in found.names()


def test_nothing_is_written_without_the_option(examine: Examine, filled: str, emulator: Emulator) -> None:
    emulator.clear_requests()
    assert "--write" in examine(filled)["write"]["text"]
    assert {request.method for request in emulator.requests()} == {"GET", "HEAD"}


def test_it_reads_no_more_than_it_says(examine: Examine, bucket: str, client: OssClient, emulator: Emulator) -> None:
    client.put(f"oss://{bucket}/large", bytes(80 << 20))
    emulator.clear_requests()
    examine(f"oss://{bucket}/")
    read = sum(request.response_bytes for request in emulator.requests(operation="GetObject"))
    assert 8 << 20 < read <= 64 << 20


def test_small_objects_are_counted_by_requests(examine: Examine, bucket: str, client: OssClient) -> None:
    for number in range(30):
        client.put(f"oss://{bucket}/{number}", bytes(1000))
    assert "objects/s" in examine(f"oss://{bucket}/")["bandwidth"]["text"]


def test_the_time_to_the_first_byte_is_that_of_the_service(examine: Examine, filled: str, emulator: Emulator) -> None:
    with emulator.fault(operation="GetObject", delay=0.035):
        seconds = examine(filled)["first byte"]["values"]["seconds"]
    assert 0.035 <= seconds < 0.2


def test_an_unknown_host_is_a_name_without_an_address(examine: Examine, bucket: str) -> None:
    found = examine(f"oss://{bucket}/", endpoint="https://oss.no-such-host.invalid")
    assert found.failed() == ["name"]
    assert f"{bucket}.oss.no-such-host.invalid has no address" in found["name"]["text"]
    assert "spelling" in found["name"]["remedy"]
    assert found.status == 2


def test_a_port_without_a_server_is_named(examine: Examine) -> None:
    with socket.socket() as taken:
        # Bound and not listening: nobody else gets the port, and connections are refused.
        taken.bind(("127.0.0.1", 0))
        found = examine(endpoint=f"http://127.0.0.1:{taken.getsockname()[1]}")
    assert found.failed() == ["tcp"]
    assert "refused" in found["tcp"]["text"].lower()
    assert "no server listens there" in found["tcp"]["remedy"]


def test_another_region_is_named_with_the_right_one(examine: Examine, filled: str) -> None:
    found = examine(filled, region="cn-beijing")
    assert found.failed() == ["region"]
    (_, second) = [one for one in found.document["findings"] if one["name"] == "region"]
    assert "the bucket is in cn-hangzhou" in second["text"]
    assert "--region cn-hangzhou" in second["remedy"]


def test_a_region_and_an_endpoint_that_contradict_each_other_are_named(examine: Examine) -> None:
    found = examine(endpoint="oss-cn-beijing.no-such-host.invalid", region="oss-cn-hangzhou")
    assert "the region ID is 'cn-hangzhou'" in found["region"]["text"]
    found = examine(endpoint="oss-cn-beijing-internal.aliyuncs.com", region="cn-hangzhou")
    assert "--region cn-beijing" in found["region"]["remedy"]


def test_a_wrong_secret_is_named(examine: Examine, filled: str, emulator: Emulator, tmp_path: Path) -> None:
    path = write_key(tmp_path / "key.json", emulator.access_key_id, "another-secret")
    found = examine(filled, cred_path=path)
    assert found.failed() == ["access key"]
    assert "the secret does not belong to the ID" in str(found.document)


def test_an_unknown_key_is_named(examine: Examine, filled: str, tmp_path: Path) -> None:
    found = examine(filled, cred_path=write_key(tmp_path / "key.json", "unknown-access-key", "secret"))
    assert found.failed() == ["access key"]
    assert "the service does not know this key" in str(found.document)
    assert "unknown-access-key" not in str(found.document)


def test_a_key_that_has_ended_is_named(examine: Examine, filled: str, tmp_path: Path) -> None:
    path = write_key(
        tmp_path / "key.json", "STS.id-of-test", "secret", SecurityToken="token", Expiration="2020-01-01T00:00:00Z"
    )
    found = examine(filled, cred_path=path)
    assert found.failed() == ["access key"]
    assert "it ended at 2020-01-01" in found["access key"]["text"]


def test_a_key_that_soon_ends_is_a_warning(examine: Examine, emulator: Emulator, tmp_path: Path) -> None:
    end = (datetime.now(UTC) + timedelta(minutes=5)).strftime("%Y-%m-%dT%H:%M:%SZ")
    path = write_key(tmp_path / "key.json", emulator.access_key_id, emulator.access_key_secret, Expiration=end)
    found = examine(cred_path=path)
    assert found["access key"]["state"] == "warning"
    assert found["access key"]["values"]["expiration"] == end


def test_without_a_key_the_ways_to_give_one_are_named(examine: Examine, filled: str) -> None:
    found = examine(filled, cred_path="")
    assert found.failed() == ["access key"]
    assert "OSS_ACCESS_KEY_ID" in found["access key"]["text"]
    assert "--cred-path FILE" in found["access key"]["remedy"]
    # What does not need it is looked at.
    assert found["clock"]["state"] == "ok"


def test_a_key_given_as_a_path_is_not_shown(examine: Examine) -> None:
    found = examine(cred_path='{"AccessKeyId": "id", "AccessKeySecret": "very-secret"}')
    assert found.failed() == ["access key"]
    assert "very-secret" not in str(found.document)


@pytest.mark.parametrize(("seconds", "state"), [(1200, "failure"), (-1200, "failure"), (300, "warning"), (0, "ok")])
def test_a_wrong_clock_is_named(examine: Examine, filled: str, emulator: Emulator, seconds: int, state: str) -> None:
    with emulator.fault(clock_skew=seconds):
        clock = examine(filled)["clock"]
    assert clock["state"] == state
    assert abs(clock["values"]["offset"] + seconds) < 10
    assert bool(clock["remedy"]) == bool(seconds)
    if abs(seconds) > 900:
        assert ("behind" if seconds > 0 else "ahead of") in clock["text"]


def test_https_to_a_port_of_http_is_named(examine: Examine, emulator: Emulator) -> None:
    plain = emulator.endpoint.removeprefix("http://")
    found = examine(endpoint=f"https://{plain}")
    assert found.failed() == ["tls"]
    assert f"--endpoint http://{plain}" in found["tls"]["remedy"]


def test_http_to_a_port_of_https_is_named(examine: Examine) -> None:
    with Emulator(tls=True) as server:
        plain = server.endpoint.removeprefix("https://")
        found = examine(endpoint=f"http://{plain}", cred_path=server.cred_path)
    assert found.failed() == ["scheme"]
    assert f"--endpoint https://{plain}" in found["scheme"]["remedy"]


def test_a_certificate_that_is_not_trusted_is_named(
    examine: Examine, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Emulator(tls=True, buckets=[bucket]) as server:
        found = examine(endpoint=server.endpoint, cred_path=server.cred_path)
        assert found.failed() == ["tls"]
        assert "is not trusted" in found["tls"]["text"]
        monkeypatch.setenv("SSL_CERT_FILE", server.ca_bundle)
        trusted = examine(f"oss://{bucket}/", endpoint=server.endpoint, cred_path=server.cred_path)
    assert trusted.failed() == []
    assert "TLSv1.3" in trusted["tls"]["text"]


def test_a_missing_bucket_is_named(examine: Examine) -> None:
    found = examine("oss://no-such-bucket-anywhere/")
    assert found.failed() == ["bucket"]
    assert "check the name of the bucket" in found["bucket"]["remedy"]


def test_a_prefix_without_objects_is_a_warning(examine: Examine, bucket: str) -> None:
    found = examine(f"oss://{bucket}/none/")
    assert found["list"]["state"] == "warning"
    assert "no object below" in found["list"]["text"]


def policy(bucket: str, *actions: str) -> dict[str, object]:
    resources = [f"acs:oss:*:*:{bucket}", f"acs:oss:*:*:{bucket}/*"]
    return {"Version": "1", "Statement": [{"Effect": "Allow", "Action": list(actions), "Resource": resources}]}


@pytest.mark.parametrize(
    ("allowed", "denied"),
    [
        (["oss:GetBucketInfo", "oss:GetObject", "oss:PutObject", "oss:DeleteObject"], ["list"]),
        (["oss:ListObjects", "oss:PutObject", "oss:DeleteObject"], ["read"]),
        (["oss:ListObjects", "oss:GetObject"], ["write", "delete"]),
    ],
)
def test_denied_rights_are_named_one_by_one(
    examine: Examine, tmp_path: Path, allowed: list[str], denied: list[str]
) -> None:
    name = "rights-bucket"
    pair = KeyPair("reader-access-key", "reader-secret", policy=policy(name, *allowed))
    path = write_key(tmp_path / "key.json", pair.access_key_id, pair.access_key_secret)
    with Emulator(buckets=[name], key_pairs=[pair]) as server:
        server.client().put(f"oss://{name}/a/b", b"content")
        found = examine(f"oss://{name}/a/b", "--write", endpoint=server.endpoint, cred_path=path)
    assert found.failed() == denied
    for name in denied:
        right = {"list": "ListObjects", "read": "GetObject", "write": "PutObject", "delete": "DeleteObject"}[name]
        assert f"allow oss:{right} on acs:oss:*:*:rights-bucket" in found[name]["remedy"]


def test_an_object_that_may_not_be_deleted_is_named(examine: Examine, tmp_path: Path) -> None:
    name = "rights-bucket"
    pair = KeyPair("writer-access-key", "secret-of-it", policy=policy(name, "oss:PutObject", "oss:GetObject"))
    path = write_key(tmp_path / "key.json", pair.access_key_id, pair.access_key_secret)
    with Emulator(buckets=[name], key_pairs=[pair]) as server:
        found = examine(f"oss://{name}/a/", "--write", endpoint=server.endpoint, cred_path=path)
        (remaining,) = [item.uri for item in server.client().list(f"oss://{name}/")]
    assert f"{remaining} remains" in found["delete"]["text"]
    assert f"delete {remaining}" in found["delete"]["remedy"]


def test_throttling_is_counted(examine: Examine, filled: str, emulator: Emulator) -> None:
    with emulator.fault(operation="GetObject", nth=[2, 4], throttle=0.01):
        found = examine(filled)
    assert found["throttling"]["state"] == "warning"
    assert found["throttling"]["values"] == {"throttled": 2}
    with emulator.fault(operation="GetObject", nth=2, error="InternalError"):
        found = examine(filled)
    assert found["throttling"]["values"] == {"server_error": 1}


def test_a_bucket_that_is_almost_full_is_a_warning(examine: Examine) -> None:
    with Emulator(buckets=["full-bucket"]) as server:
        client = server.client()
        client.put("oss://full-bucket/a", bytes(1000))
        native = client._native_client
        body = b"<BucketUserQos><StorageCapacity>0</StorageCapacity></BucketUserQos>"
        native.request("PUT", "full-bucket", None, query=[("qos", "")], body=body)
        found = examine("oss://full-bucket/", endpoint=server.endpoint, cred_path=server.cred_path)
    assert found["quota"]["state"] == "warning"


@pytest.mark.parametrize("operation", ["GetBucketInfo", "GetObject", None])
def test_a_service_that_does_not_answer_takes_less_than_ten_seconds(
    examine: Examine, filled: str, emulator: Emulator, operation: str | None
) -> None:
    rule = {} if operation is None else {"operation": operation}
    started = time.monotonic()
    with emulator.fault(stall="before", **rule):  # type: ignore[arg-type]
        found = examine(filled, "--write")
    assert time.monotonic() - started < 10
    assert found.failed()
    assert found.status == 2


def test_checks_that_are_each_slow_take_less_than_ten_seconds_together(
    examine: Examine, filled: str, emulator: Emulator
) -> None:
    started = time.monotonic()
    with (
        emulator.fault(operation="GetBucketInfo", delay=1.8),
        emulator.fault(operation=["PutObject", "DeleteObject"], stall="before"),
        emulator.fault(operation="GetObject", delay=0.6),
    ):
        found = examine(filled, "--write")
    assert time.monotonic() - started < 10
    assert {"write", "delete"} <= {*found.failed()}


def test_a_server_that_is_not_oss_is_a_warning(examine: Examine) -> None:
    from tests.credentials.stand_in import standing_in  # noqa: PLC0415 - one test needs it

    with standing_in(lambda _: (200, "<html>log in</html>")) as other:
        found = examine(endpoint=other.url)
    assert "no request id of OSS" in found["server"]["text"]


def test_no_endpoint_and_no_region_are_named(examine: Examine) -> None:
    assert examine(endpoint="").failed() == ["endpoint"]
    assert examine(endpoint="ftp://host").failed() == ["endpoint"]
    assert "region" in examine(region="").failed()
    found = examine("https://bucket/key")
    assert found.failed() == ["uri"]
    assert found["descriptors"]["text"]


GUIDE = Path(__file__).parents[3] / "docs" / "guides" / "doctor.md"


def test_the_guide_names_each_line(examine: Examine, filled: str) -> None:
    table = "".join(line for line in GUIDE.read_text().splitlines() if line.startswith("| `"))
    missing = [name for name in examine(filled, "--write").names() if f"`{name}`" not in table]
    assert missing == []
