import pytest

from osstorchconnector import OssClient
from osstorchconnector.testing import Emulator

from .conftest import Osst

KEYS = ("a", "b/1", "b/2.tmp", "b/c/3.tmp", "b-side")


@pytest.fixture
def filled(client: OssClient, bucket: str) -> str:
    for key in KEYS:
        client.put(f"oss://{bucket}/{key}", b"x")
    return f"oss://{bucket}"


def left(client: OssClient, uri: str) -> list[str]:
    return [item.name for item in client.list(f"{uri}/")]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["{b}/a"], ["b-side", "b/1", "b/2.tmp", "b/c/3.tmp"]),
        (["{b}/a", "{b}/b/1"], ["b-side", "b/2.tmp", "b/c/3.tmp"]),
        (["-r", "{b}/b", "--yes"], ["a", "b-side"]),
        (["-r", "-y", "{b}"], []),
        (["{b}/b/*.tmp", "--yes"], ["a", "b-side", "b/1", "b/c/3.tmp"]),
        (["{b}/a", "--yes", "{b}/**.tmp"], ["b-side", "b/1"]),
        (["-r", "{b}", "-y", "--include", "*.tmp", "--exclude", "b/c/**"], ["a", "b-side", "b/1", "b/c/3.tmp"]),
        (["-r", "{b}", "-y", "--newer", "2999-01-01"], sorted(KEYS)),
        (["-r", "{b}", "--dry-run"], sorted(KEYS)),
        (["{b}/a", "--dry-run"], sorted(KEYS)),
        (["-f", "{b}/absent"], sorted(KEYS)),
    ],
)
def test_what_is_deleted(osst: Osst, client: OssClient, filled: str, arguments: list[str], expected: list[str]) -> None:
    planned = osst("rm", "--json", "--dry-run", *[argument.format(b=filled) for argument in arguments]).documents
    assert left(client, filled) == sorted(KEYS)
    done = osst("rm", "--json", *[argument.format(b=filled) for argument in arguments])
    assert done.status == 0
    assert left(client, filled) == expected
    status = "planned" if "--dry-run" in arguments else "done"
    assert sorted(item["uri"] for item in done.documents) == sorted(item["uri"] for item in planned)
    assert {item["status"] for item in done.documents} <= {status}


@pytest.mark.parametrize(
    ("arguments", "status", "complaint"),
    [
        (["-r", "{b}/b"], 2, "give --yes"),
        (["{b}/b/*"], 2, "give --yes"),
        (["{b}/b/"], 1, "is a directory: give --recursive"),
        (["{b}", "-y"], 1, "is a directory: give --recursive"),
        (["{b}/absent"], 1, "does not exist"),
        (["-r", "-y", "{b}/absent"], 1, "there is nothing at"),
        (["-y", "{b}/b/*x"], 1, "/b/*x: there is {b}/b/1, for instance"),
        (["-y", "{b}/absent*"], 1, "/absent*: no object matches the prefix {b}/absent: the nearest one"),
        (["{b}/b*/c*", "-y"], 0, "b/c/ is a directory, and was left out: give --recursive"),
        (["/tmp/a"], 1, "'/tmp/a' is no oss:// URI"),
        ([], 2, "URI"),
    ],
)
def test_what_is_refused(
    osst: Osst, client: OssClient, filled: str, arguments: list[str], status: int, complaint: str
) -> None:
    ended = osst("rm", *[argument.format(b=filled) for argument in arguments])
    assert ended.status == status
    assert complaint.format(b=filled) in ended.err
    assert "Traceback" not in ended.err
    assert left(client, filled) == sorted(KEYS)


def test_many_are_deleted_a_thousand_at_a_time(osst: Osst, client: OssClient, bucket: str, emulator: Emulator) -> None:
    for number in range(2001):
        client.put(f"oss://{bucket}/many/{number:04}", b"")
    emulator.clear_requests()
    ended = osst("rm", "-r", "-y", f"oss://{bucket}/many")
    assert (ended.status, ended.out, ended.err) == (0, "", "osst rm: 2001 deleted\n")
    deletes = [
        item for item in emulator.requests() if item.bucket == bucket and (item.operation or "").startswith("Delete")
    ]
    assert len(deletes) == 3
    assert left(client, f"oss://{bucket}") == []


def test_a_refused_batch_is_reported_and_the_others_are_deleted(
    osst: Osst, client: OssClient, bucket: str, emulator: Emulator
) -> None:
    for number in range(1500):
        client.put(f"oss://{bucket}/many/{number:04}", b"")
    with emulator.fault(bucket=bucket, operation="DeleteMultipleObjects", nth=1, error="AccessDenied"):
        ended = osst("rm", "-r", "-y", f"oss://{bucket}/many")
    assert ended.status == 1
    assert "more: " in ended.err
    assert "AccessDenied" in ended.err
    assert len(left(client, f"oss://{bucket}")) in {500, 1000}
