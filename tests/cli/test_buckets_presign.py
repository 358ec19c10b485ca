import urllib.request

import pytest

from osstorchconnector import OssClient, OssConfig
from osstorchconnector.testing import Emulator

from .conftest import Osst


@pytest.fixture
def name(bucket: str, client: OssClient) -> str:
    """A bucket that does not exist yet."""
    client.delete_bucket(bucket)
    return bucket


def test_making_and_removing(osst: Osst, client: OssClient, name: str) -> None:
    assert osst("mb", f"oss://{name}").status == 0
    assert osst("mb", f"oss://{name}/").status == 0
    assert name in client.list_buckets()
    assert osst("rb", f"oss://{name}").status == 2
    assert osst("rb", f"oss://{name}", "--dry-run").out == f"would remove oss://{name}\n"
    client.put(f"oss://{name}/a", b"x")
    ended = osst("rb", f"oss://{name}", "--yes")
    assert ended.status == 1
    assert "BucketNotEmpty" in ended.err
    planned = osst("rb", "-r", f"oss://{name}", "--dry-run")
    assert planned.lines == [f"would delete oss://{name}/a", f"would remove oss://{name}"]
    assert client.get(f"oss://{name}/a") == b"x"
    assert osst("rb", "-r", f"oss://{name}", "--yes").status == 0
    assert name not in client.list_buckets()


def test_unfinished_uploads_do_not_keep_a_bucket(osst: Osst, emulator: Emulator, bucket: str) -> None:
    client = OssClient(**emulator.connection, config=OssConfig(part_size=100 * 1024))
    with emulator.fault(bucket=bucket, operation="AbortMultipartUpload", error="AccessDenied"):
        writer = client.writer(f"oss://{bucket}/a")
        writer.write(bytes(300 * 1024))
        with pytest.raises(PermissionError):
            writer.abort()
    assert osst("rb", "-r", "-y", f"oss://{bucket}").status == 0
    assert bucket not in client.list_buckets()


def test_a_bucket_whose_objects_cannot_be_deleted_stays(
    osst: Osst, client: OssClient, emulator: Emulator, bucket: str
) -> None:
    client.put(f"oss://{bucket}/a", b"x")
    with emulator.fault(bucket=bucket, operation="DeleteMultipleObjects", error="AccessDenied"):
        ended = osst("rb", "-r", "-y", f"oss://{bucket}")
    assert ended.status == 1
    assert "the bucket stays" in ended.err
    assert client.get(f"oss://{bucket}/a") == b"x"


@pytest.mark.parametrize("command", ["mb", "rb"])
@pytest.mark.parametrize("text", ["bucket", "oss://bucket/key", "oss://UPPER", "oss://", "/bucket"])
def test_what_names_no_bucket(osst: Osst, command: str, text: str) -> None:
    ended = osst(command, text)
    assert (ended.status, ended.out) == (2, "")
    assert f"osst {command}: error: argument oss://BUCKET: " in ended.err


def test_a_url_needs_no_key(osst: Osst, client: OssClient, bucket: str) -> None:
    client.put(f"oss://{bucket}/a b", b"content")
    (url,) = osst("presign", f"oss://{bucket}/a b").lines
    assert urllib.request.urlopen(url).read() == b"content"
    (document,) = osst(
        "presign",
        "--json",
        "--method",
        "PUT",
        "--expires",
        "10m",
        "--content-type",
        "text/plain",
        f"oss://{bucket}/new",
    ).documents
    assert (document["method"], document["expires"]) == ("PUT", 600)
    request = urllib.request.Request(document["url"], data=b"put", method="PUT", headers={"Content-Type": "text/plain"})
    assert urllib.request.urlopen(request).status == 200
    assert client.stat(f"oss://{bucket}/new").content_type == "text/plain"


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["oss://bucket"], 1),
        (["/bucket/key"], 1),
        (["oss://bucket/a", "--expires", "8d"], 1),
        (["oss://bucket/a", "--expires", "0s"], 1),
        (["oss://bucket/a", "--expires", "soon"], 2),
        (["oss://bucket/a", "--method", "POST"], 2),
    ],
)
def test_what_is_not_signed(osst: Osst, arguments: list[str], status: int) -> None:
    ended = osst("presign", *arguments)
    assert (ended.status, ended.out) == (status, "")
    assert "Traceback" not in ended.err
