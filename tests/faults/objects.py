"""A scripted server that answers like OSS, except for requests that a test chooses."""

import base64
import functools
import itertools
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import quote, unquote

from tests.faults.server import PATIENCE, Answer, Exchange, Request, ScriptedServer

BUCKET = "scripted-bucket"

#: Gets the right answer to a request, and sends a wrong one made from it.
Fault = Callable[[Exchange, Answer], None]


def uri(key: str) -> str:
    return f"oss://{BUCKET}/{key}"


def as_it_should_be(exchange: Exchange, answer: Answer) -> None:
    exchange.reply(answer)


@dataclass(frozen=True)
class Refusal:
    """An error as the answer; the request is not executed."""

    status: int
    code: str
    headers: Mapping[str, str] = field(default_factory=dict)


class Held:
    """A fault that holds answers back until it is released, at the latest at the end of its block."""

    def __init__(self) -> None:
        self._released = threading.Event()

    def release(self) -> None:
        self._released.set()

    def wait(self) -> None:
        self._released.wait(PATIENCE)

    def __call__(self, exchange: Exchange, answer: Answer) -> None:
        self.wait()
        exchange.reply(answer)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


class ObjectServer(ScriptedServer):
    """Serves objects, except for requests that a fault applies to."""

    def __init__(
        self,
        contents: Mapping[str, bytes],
        fault: Fault | Refusal = as_it_should_be,
        *,
        where: Callable[[Request], bool] = Request.is_object_get,
        times: int | None = None,
        page: int = 1000,
        port: int = 0,
    ) -> None:
        """Hold the objects.

        Args:
            contents: Objects by key.
            fault: What to do instead of answering.
            where: The requests that the fault applies to.
            times: How many of these requests it applies to. Default: all.
            page: Keys on a page of a listing.
            port: The port. Default: a free one.
        """
        super().__init__(self._answer, port)
        self.contents = dict(contents)
        self.uploads: dict[str, dict[int, bytes]] = {}
        self.aborted: list[str] = []
        self._fault = fault
        self._where = where
        self._left = iter(range(times)) if times is not None else itertools.repeat(0)
        self._page = page
        self._upload_numbers = itertools.count(1)

    def answer_to(self, request: Request) -> Answer:
        """Execute a request, and return the right answer."""
        if request.query.get("uploadId", "") not in {"", *self.uploads}:
            return error_answer(request, 404, "NoSuchUpload", "The specified upload does not exist.")
        match request.method:
            case "GET" | "HEAD":
                return self._listing(request) if request.is_listing() else self._object(request)
            case "PUT":
                return self._store(request)
            case "POST":
                return self._begin(request) if "uploads" in request.query else self._complete(request)
            case "DELETE" if "uploadId" in request.query:
                return self._abort(request)
        raise NotImplementedError(request)

    def _answer(self, exchange: Exchange) -> None:
        request = exchange.request
        if not self._where(request) or next(self._left, None) is None:
            exchange.reply(self.answer_to(request))
        elif isinstance(self._fault, Refusal):
            answer = error_answer(request, self._fault.status, self._fault.code, f"It is {self._fault.code}.")
            answer.headers.update(self._fault.headers)
            exchange.reply(answer)
        else:
            self._fault(exchange, self.answer_to(request))

    def _object(self, request: Request) -> Answer:
        content = self.contents.get(request.key)
        if content is None:
            return error_answer(request, 404, "NoSuchKey", "The specified key does not exist.")
        headers = {"ETag": etag_of(content), "x-oss-hash-crc64ecma": crc64_text(content), "x-oss-object-type": "Normal"}
        if request.headers.get("if-match", headers["ETag"]) != headers["ETag"]:
            return error_answer(request, 412, "PreconditionFailed", "The object is another one.")
        if request.range is None:
            return Answer(200, headers, content)
        start, end = request.range
        if start >= len(content):
            return error_answer(request, 416, "InvalidRange", "The requested range cannot be satisfied.")
        headers["Content-Range"] = f"bytes {start}-{min(end, len(content)) - 1}/{len(content)}"
        return Answer(206, headers, content[start:end])

    def _listing(self, request: Request) -> Answer:
        names = sorted(name for name in self.contents if name.startswith(request.query.get("prefix", "")))
        start = int(request.query.get("continuation-token", "0"))
        end = start + self._page
        entries = "".join(
            f"<Contents><Key>{quote(name)}</Key><LastModified>2025-01-01T00:00:00.000Z</LastModified>"
            f"<ETag>{etag_of(self.contents[name])}</ETag><Type>Normal</Type>"
            f"<Size>{len(self.contents[name])}</Size><StorageClass>Standard</StorageClass></Contents>"
            for name in names[start:end]
        )
        truncated = end < len(names)
        token = f"<NextContinuationToken>{end}</NextContinuationToken>" if truncated else ""
        return xml_answer(
            f"<ListBucketResult><Name>{request.bucket}</Name><Prefix></Prefix><MaxKeys>1000</MaxKeys>"
            f"<EncodingType>url</EncodingType><IsTruncated>{str(truncated).lower()}</IsTruncated>{token}"
            f"<KeyCount>{len(names[start:end])}</KeyCount>{entries}</ListBucketResult>"
        )

    def _store(self, request: Request) -> Answer:
        content, root = request.body, ""
        if "x-oss-copy-source" in request.headers:
            source = unquote(request.headers["x-oss-copy-source"]).split("/", 2)[2]
            if source not in self.contents:
                return error_answer(request, 404, "NoSuchKey", "The specified key does not exist.")
            content, root = self.contents[source], "CopyObjectResult"
            if request.headers.get("x-oss-copy-source-if-match", etag_of(content)) != etag_of(content):
                return error_answer(request, 412, "PreconditionFailed", "The source is another one.")
        if "uploadId" in request.query:
            if root:
                root = "CopyPartResult"
                first, _, last = request.headers["x-oss-copy-source-range"].removeprefix("bytes=").partition("-")
                content = content[int(first) : int(last) + 1]
            self.uploads[request.query["uploadId"]][int(request.query["partNumber"])] = content
        else:
            self.contents[request.key] = content
        answer = Answer()
        if root:
            fields = f"<ETag>{etag_of(content)}</ETag><LastModified>2025-01-01T00:00:00.000Z</LastModified>"
            answer = xml_answer(f"<{root}>{fields}</{root}>")
        answer.headers |= {"ETag": etag_of(content), "x-oss-hash-crc64ecma": crc64_text(content)}
        return answer

    def _abort(self, request: Request) -> Answer:
        del self.uploads[request.query["uploadId"]]
        self.aborted.append(request.query["uploadId"])
        return Answer(204)

    def _begin(self, request: Request) -> Answer:
        upload_id = f"UPLOAD-{next(self._upload_numbers)}"
        self.uploads[upload_id] = {}
        return xml_answer(
            f"<InitiateMultipartUploadResult><Bucket>{request.bucket}</Bucket><Key>{quote(request.key)}</Key>"
            f"<UploadId>{upload_id}</UploadId></InitiateMultipartUploadResult>"
        )

    def _complete(self, request: Request) -> Answer:
        parts = self.uploads.pop(request.query["uploadId"])
        content = b"".join(parts[number] for number in sorted(parts))
        self.contents[request.key] = content
        answer = xml_answer(
            f"<CompleteMultipartUploadResult><Location>http://example.com/</Location><Bucket>{request.bucket}</Bucket>"
            f"<Key>{quote(request.key)}</Key><ETag>{etag_of(content)}</ETag></CompleteMultipartUploadResult>"
        )
        answer.headers["x-oss-hash-crc64ecma"] = crc64_text(content)
        return answer


def xml_answer(body: str, status: int = 200) -> Answer:
    return Answer(status, {"Content-Type": "application/xml"}, f'<?xml version="1.0" encoding="UTF-8"?>{body}'.encode())


def error_answer(request: Request, status: int, code: str, message: str, more: str = "") -> Answer:
    """Return an error as OSS sends it: in the body, or in a header if the answer can have no body.

    Args:
        request: The request.
        status: The HTTP status.
        code: The error code.
        message: The message.
        more: Further elements of the body.
    """
    answer = xml_answer(
        f"<Error><Code>{code}</Code><Message>{message}</Message><RequestId>REQUEST-IN-BODY</RequestId>"
        f"<HostId>scripted</HostId><EC>0000-00000001</EC>{more}</Error>",
        status,
    )
    answer.headers["x-oss-ec"] = "0000-00000001"
    if request.method == "HEAD":
        answer.headers["x-oss-err"] = base64.b64encode(answer.body).decode()
    return answer


@functools.cache
def etag_of(content: bytes) -> str:
    return f'"{crc64(content):016X}"'


def crc64_text(content: bytes) -> str:
    return str(crc64(content))


@functools.cache
def crc64(content: bytes) -> int:
    """Return the CRC-64/XZ that OSS stores for each object."""
    value = 0xFFFFFFFFFFFFFFFF
    for byte in content:
        value = _CRC64_TABLE[(value ^ byte) & 0xFF] ^ (value >> 8)
    return value ^ 0xFFFFFFFFFFFFFFFF


def _crc64_of_byte(value: int) -> int:
    for _ in range(8):
        value = (value >> 1) ^ (0xC96C5795D7870F42 if value & 1 else 0)
    return value


_CRC64_TABLE = [_crc64_of_byte(byte) for byte in range(256)]
