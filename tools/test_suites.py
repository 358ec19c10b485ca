"""Run the tests of both official Python SDKs against the emulator.

``python tools/test_suites.py DIR`` looks in DIR for the checked-out repositories, by the names below. It prints the
figures of each suite: all tests, and those that are not about what the emulator does not have.
"""

import os
import re
import subprocess
import sys
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from osstorchconnector.testing import Emulator

ROOT: Final = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Suite:
    """A suite in a repository.

    Attributes:
        repository: Name of the folder.
        tests: Files to run, below the repository.
        without: Parts of names of tests about what the emulator does not have, and why.
        tls: Whether the suite needs HTTPS: it follows endpoints from listings, which have no scheme.
    """

    repository: str
    tests: tuple[str, ...]
    without: dict[str, str] = field(default_factory=dict)
    tls: bool = False


# They ask the key management service of the cloud for a key.
KEY_MANAGEMENT: Final = (
    *(
        f"TestUpload::test_{name}"
        for name in ("concurrency", "file_changed", "interrupt_at", "record_", "resume_", "upload_")
    ),
    *(
        f"TestDownload::test_{name}"
        for name in ("insane_", "large_", "progress", "relpath", "remote_changed", "resume_hole")
    ),
    "TestDownload::test_two_downloaders",
)
# What must pass of the tests that are about what the emulator has.
SHARE: Final = 0.97

SUITES: Final = (
    Suite(
        "alibabacloud-oss-python-sdk-v2",
        tuple(
            f"tests/integration/test_{name}.py"
            for name in ("object_basic", "client", "client_filelike", "paginator", "presign")
        ),
        {
            "version": "versioning",
            "region": "the list of the cloud's regions",
            "process": "image processing",
            "callback": "callbacks",
        },
        tls=True,
    ),
    Suite(
        "aliyun-oss-python-sdk",
        tuple(
            f"tests/test_{name}.py"
            for name in (
                "object",
                "multipart",
                "list_objects_v2",
                "upload",
                "download",
                "iterator",
                "chinese",
                "bucket",
                "headers",
                "put_object_chunked",
                "exception_ec",
                "server_side_encryotion",
                "traffic_limit",
                "sign",
            )
        ),
        {
            "version": "versioning",
            "process": "image processing",
            "callback": "callbacks",
            "live_channel": "live channels",
            **dict.fromkeys(KEY_MANAGEMENT, "keys of the key management service"),
            "sequential": "an endpoint of the cloud",
            "sign_v2": "signatures of version 2, which no service accepts any more",
            "timeout": "a network that is slower than a millisecond",
        },
    ),
)


@contextmanager
def environment_for(suite: Suite) -> Iterator[dict[str, str]]:
    """Start an emulator and yield the variables that a suite reads."""
    with Emulator(tls=suite.tls, allow_public_access=True) as emulator:
        variables = {
            "OSS_TEST_ACCESS_KEY_ID": emulator.access_key_id,
            "OSS_TEST_ACCESS_KEY_SECRET": emulator.access_key_secret,
            "OSS_TEST_ENDPOINT": emulator.endpoint,
            "OSS_TEST_REGION": emulator.region,
            "OSS_TEST_CNAME": emulator.endpoint,
            "OSS_TEST_USER_ID": "1000000000000000",
            "no_proxy": "*",
        }
        if emulator.ca_bundle:
            variables["REQUESTS_CA_BUNDLE"] = emulator.ca_bundle
        yield {**os.environ, **variables}


def python() -> Path:
    """Return the interpreter of an environment with what the suites import."""
    folder = ROOT / ".venv" / "suites"
    if not folder.exists():
        venv.create(folder, with_pip=True)
        wanted = ["pytest", "pytest-timeout", "mock", "aiohttp", "oss2", "alibabacloud-oss-v2", "aliyun-python-sdk-kms"]
        subprocess.run([str(folder / "bin" / "pip"), "install", "--quiet", *wanted], check=True)
    return folder / "bin" / "python"


def outcomes(report: str) -> dict[str, bool]:
    """Return whether each test passed, from a verbose report of pytest."""
    found: dict[str, bool] = {}
    for name, outcome in re.findall(r"^(\S+::\S+) (PASSED|FAILED|ERROR)", report, re.MULTILINE):
        found[name] = found.get(name, True) and outcome == "PASSED"
    return found


def run(suite: Suite, folder: Path) -> bool:
    """Run a suite and print its figures; return whether enough of them passed."""
    tests = [name for name in suite.tests if (folder / name).exists()]
    with environment_for(suite) as variables:
        variables["PYTHONPATH"] = str(folder)
        command = [str(python()), "-m", "pytest", "-v", "--tb=line", "-p", "no:cacheprovider", "--timeout=120"]
        command += ["-c", os.devnull, "--rootdir", str(folder), *tests]
        ended = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, check=False)
    found = outcomes(ended.stdout)
    if not found:
        print(ended.stdout[-2000:], ended.stderr[-2000:])
        return False
    within = {name: ok for name, ok in found.items() if not any(part in name for part in suite.without)}
    for name, ok in sorted(within.items()):
        if not ok:
            print(f"  failed: {name}")
    share = sum(within.values()) / len(within)
    without = ", ".join(sorted(set(suite.without.values())))
    print(f"{suite.repository}: {sum(found.values())} of {len(found)} tests pass")
    print(f"  {sum(within.values())} of {len(within)} ({share:.1%}) without {without}")
    return share >= SHARE


def main() -> int:
    """Run what is in the folder; exit status 1 if a suite falls below its share or none is there."""
    _, *folders = sys.argv
    if len(folders) != 1:
        print("usage: make test-suites SUITES=DIR, where DIR holds " + " and ".join(one.repository for one in SUITES))
        return 2
    folder = Path(folders[0]).resolve()
    there = [suite for suite in SUITES if (folder / suite.repository).is_dir()]
    if not there:
        print(f"{folder} holds none of: {', '.join(suite.repository for suite in SUITES)}. Check them out there.")
        return 1
    results = [run(suite, folder / suite.repository) for suite in there]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
