"""The page about errors quotes what the package says, and names the classes that it raises."""

import ctypes
import errno
import os
import re
import socket
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from osstorchconnector import OssClient, OssConfig, OssError
from osstorchconnector.testing import Emulator
from tests.docs.pages import ROOT

PAGE = ROOT / "docs" / "guides" / "troubleshooting.md"
CODES, MESSAGES = PAGE.read_text().partition("## By message")[::2]
# Messages of torch that users of this package meet, and the modules that have them.
FOREIGN = {
    "default_collate: batch must contain tensors": "torch.utils.data._utils.collate",
    "exited unexpectedly": "torch.utils.data.dataloader",
}
# Texts of the operating system by their number, as Rust and Python show them.
SYSTEM = {
    "Too many open files": errno.EMFILE,
    "No space left on device": errno.ENOSPC,
    "Connection reset by peer": errno.ECONNRESET,
    "Broken pipe": errno.EPIPE,
    "Connection refused": errno.ECONNREFUSED,
    "Permission denied": errno.EACCES,
    "Read-only file system": errno.EROFS,
    "Cannot allocate memory": errno.ENOMEM,
}
# Texts of the resolver, of which the second needs a resolver that does not answer; and of Python's TLS.
RESOLVER = {
    "Name or service not known": socket.EAI_NONAME,
    "Temporary failure in name resolution": socket.EAI_AGAIN,
}
TLS = "CERTIFICATE_VERIFY_FAILED"
NOT_OURS = {*FOREIGN, *SYSTEM, *RESOLVER, TLS}


def first_cells(text: str) -> list[str]:
    return re.findall(r"^\| `(.+?)` \| ", text, re.MULTILINE)


def sources() -> str:
    """Return the code, with its texts joined: those of several lines in Python and in Rust."""
    paths = [*(ROOT / "python").rglob("*.py"), *(ROOT / "crates").glob("*/src/**/*.rs")]
    text = "\n".join(path.read_text() for path in paths)
    text = re.sub(r"\\\n\s*", "", text)
    text = re.sub(r"""(['"])\n\s*f?['"]""", "", text)
    return text.replace('\\"', '"')


@pytest.fixture(scope="module")
def code() -> str:
    return sources()


@pytest.mark.parametrize("message", [message for message in first_cells(MESSAGES) if message not in NOT_OURS])
def test_a_quoted_message_is_in_the_code(message: str, code: str) -> None:
    # What stands between the parts is an expression, which may be a message of its own.
    assert [part for part in message.split("…") if part.strip() not in code] == []


@pytest.mark.parametrize(("message", "module"), FOREIGN.items())
def test_a_message_of_torch_is_torchs(message: str, module: str) -> None:
    assert message in Path(pytest.importorskip(module).__file__).read_text()
    assert f"`{message}`" in MESSAGES


@pytest.mark.parametrize(("text", "number"), SYSTEM.items())
def test_a_text_of_the_system_is_the_systems(text: str, number: int) -> None:
    # macOS has other words for some.
    if sys.platform == "linux":
        assert os.strerror(number) == text
    assert f"| `{text}` |" in MESSAGES


@pytest.mark.parametrize(("text", "number"), RESOLVER.items())
def test_a_text_of_the_resolver_is_the_resolvers(text: str, number: int) -> None:
    if sys.platform == "linux":
        library = ctypes.CDLL(None)
        library.gai_strerror.restype = ctypes.c_char_p
        assert library.gai_strerror(number) == text.encode()
    assert f"| `{text}` |" in MESSAGES


def test_a_text_of_pythons_tls_is_pythons() -> None:
    with (
        Emulator(tls=True) as emulator,
        pytest.raises(urllib.error.URLError, match=rf"\[SSL: {TLS}\]"),
    ):
        urllib.request.urlopen(emulator.endpoint)
    assert f"| `{TLS}` |" in MESSAGES


@pytest.mark.parametrize(("code", "name"), re.findall(r"^\| `(\w+)` \| `(Oss\w+)` \|", CODES, re.MULTILINE))
def test_a_code_is_raised_as_the_page_says(code: str, name: str, emulator: Emulator, bucket: str) -> None:
    client = OssClient(**emulator.connection, config=OssConfig(max_attempts=1))
    # Each code under a key of its own, since the emulator is everyone's.
    with emulator.fault(bucket=bucket, operation="PutObject", error=code), pytest.raises(OssError) as raised:
        client.put(f"oss://{bucket}/{code}", b"")
    assert (type(raised.value).__name__, raised.value.code) == (name, code)


def test_there_are_codes_and_messages() -> None:
    assert len(first_cells(CODES)) > 20
    assert len(first_cells(MESSAGES)) > 35


def test_the_form_of_the_first_lines_is_that_of_an_error() -> None:
    text = re.findall(r"```text\nOssPermissionError: (.*)\n```", CODES)[0]
    error = OssError(text)
    assert (error.code, error.status, error.key, error.attempts) == ("AccessDenied", 403, "train/1.jpg", 1)
