"""Run suites that others wrote against the emulator: those of both official Python SDKs, of OpenDAL and of ossfs.

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
from typing import Any, Final

from osstorchconnector.testing import Emulator

ROOT: Final = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Suite:
    """A suite in a repository.

    Attributes:
        repository: Name of the folder.
        tests: Files to run, below `folder`.
        packages: What its environment holds besides pytest.
        folder: The working directory of its tests, below the repository.
        name: What it is called if a repository has several.
        without: Parts of names of tests about what the emulator does not have, and why.
        deselected: Parts of names of tests that would call the cloud; they do not run.
        server: Arguments of the emulator.
        variables: What the suite reads from its environment; ``{endpoint}`` and the like stand for the emulator's own.
        plugins: Plugins of pytest, in this folder or installed.
    """

    repository: str
    tests: tuple[str, ...]
    packages: tuple[str, ...]
    folder: str = ""
    name: str = ""
    without: dict[str, str] = field(default_factory=dict)
    deselected: tuple[str, ...] = ()
    server: dict[str, Any] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)
    plugins: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """The name in the figures."""
        return self.name or self.repository


# What must pass of the tests that are about what the emulator has.
SHARE: Final = 0.97

SDK_VARIABLES: Final = {
    "OSS_TEST_ACCESS_KEY_ID": "{key}",
    "OSS_TEST_ACCESS_KEY_SECRET": "{secret}",
    "OSS_TEST_ENDPOINT": "{endpoint}",
    "OSS_TEST_REGION": "{region}",
    "OSS_TEST_CNAME": "{endpoint}",
    "OSS_TEST_USER_ID": "1000000000000000",
    "no_proxy": "*",
}


def opendal(style: str, server: dict[str, Any], variables: dict[str, str]) -> Suite:
    """Return OpenDAL's suite for one style of addresses."""
    return Suite(
        "opendal",
        ("tests",),
        ("opendal", "python-dotenv", "pytest-asyncio"),
        folder="bindings/python",
        name=f"opendal, {style} style",
        server={"buckets": ["opendal-suite"], **server},
        variables={
            "OPENDAL_TEST": "oss",
            "OPENDAL_OSS_BUCKET": "opendal-suite",
            "OPENDAL_OSS_ACCESS_KEY_ID": "{key}",
            "OPENDAL_OSS_ACCESS_KEY_SECRET": "{secret}",
            "OPENDAL_OSS_ADDRESSING_STYLE": style,
            **variables,
        },
    )


SUITES: Final = (
    Suite(
        "alibabacloud-oss-python-sdk-v2",
        tuple(
            f"tests/integration/test_{name}.py"
            for name in ("object_basic", "client", "client_filelike", "paginator", "presign")
        ),
        without={
            "version": "versioning",
            "region": "the list of the cloud's regions",
            "process": "image processing",
            "callback": "callbacks",
        },
        packages=("alibabacloud-oss-v2", "aiohttp", "mock"),
        # It follows endpoints from listings, which have no scheme.
        server={"tls": True},
        variables=SDK_VARIABLES,
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
        without={
            "version": "versioning",
            "process": "image processing",
            "callback": "callbacks",
            "live_channel": "live channels",
            "sign_v2": "signatures of version 2, which no service accepts any more",
            "timeout": "a network that is slower than a millisecond",
        },
        # They have an endpoint of the cloud; one of them is spelled like this.
        deselected=("sequential", "sequenial"),
        packages=("oss2", "mock", "aliyun-python-sdk-kms"),
        # It opens buckets and objects to everyone.
        server={"allow_public_access": True},
        variables=SDK_VARIABLES,
        plugins=("suite_without_kms",),
    ),
    opendal(
        "path",
        server={},
        variables={
            "OPENDAL_OSS_ENDPOINT": "{endpoint}",
            "no_proxy": "*",
        },
    ),
    opendal(
        "virtual",
        server={"domain": "oss.emulator.test"},
        variables={
            "OPENDAL_OSS_ENDPOINT": "http://oss.emulator.test",
            # No name server knows the domain, so the emulator stands for the proxy, too.
            "http_proxy": "{endpoint}",
            "no_proxy": "",
        },
    ),
    Suite(
        "ossfs",
        ("tests/func",),
        # The last releases that ossfs 2025.5 runs with.
        (
            "ossfs==2025.5.0",
            "fsspec==2025.5.1",
            "aiohttp<3.10",
            "aliyun-python-sdk-sts",
            "pytest-benchmark",
            "pytest-mock",
        ),
        # They ask the cloud for a token.
        deselected=("test_sts_login", "test_set_endpoint", "test_env_endpoint"),
        server={
            "buckets": ["ossfs-suite", "ossfs-anonymous"],
            "allow_public_access": True,
            # Two buckets of others, by the names that the suite gives them.
            "faults": [{"bucket": bucket, "error": "AccessDenied"} for bucket in ("non-exist-bucket", "xxxx")],
        },
        variables={
            "OSS_ACCESS_KEY_ID": "{key}",
            "OSS_SECRET_ACCESS_KEY": "{secret}",
            "OSS_ENDPOINT": "{endpoint}",
            "OSS_TEST_BUCKET_NAME": "ossfs-suite",
            "OSS_TEST_ANONYMOUS_BUCKET_NAME": "ossfs-anonymous",
            "no_proxy": "*",
        },
    ),
)


@contextmanager
def environment_for(suite: Suite) -> Iterator[dict[str, str]]:
    """Start an emulator and yield the variables that a suite reads."""
    with Emulator(**suite.server) as emulator:
        own = {
            "key": emulator.access_key_id,
            "secret": emulator.access_key_secret,
            "endpoint": emulator.endpoint,
            "region": emulator.region,
        }
        variables = {name: value.format(**own) for name, value in suite.variables.items()}
        if emulator.ca_bundle:
            variables["REQUESTS_CA_BUNDLE"] = emulator.ca_bundle
        if "ossfs-anonymous" in suite.server.get("buckets", ()):
            open_to_everyone(emulator, "ossfs-anonymous")
        yield {**os.environ, **variables}


def open_to_everyone(emulator: Emulator, bucket: str) -> None:
    """Let everyone read a bucket, which has an object."""
    script = (
        "import sys, oss2\n"
        "key, secret, endpoint, name = sys.argv[1:]\n"
        "bucket = oss2.Bucket(oss2.Auth(key, secret), endpoint, name)\n"
        "bucket.put_object('present', b'')\n"
        "bucket.put_bucket_acl('public-read')\n"
    )
    arguments = [emulator.access_key_id, emulator.access_key_secret, emulator.endpoint, bucket]
    ossfs = next(suite for suite in SUITES if suite.repository == "ossfs")
    subprocess.run([str(python(ossfs)), "-c", script, *arguments], env={**os.environ, "no_proxy": "*"}, check=True)


def python(suite: Suite) -> Path:
    """Return the interpreter of an environment with what a suite imports."""
    folder = ROOT / ".venv" / "suites" / suite.repository
    wanted = ["pytest", "pytest-timeout", *suite.packages]
    # What an earlier run installed.
    installed = folder / "packages.txt"
    if not installed.exists() or installed.read_text() != "\n".join(wanted):
        venv.create(folder, with_pip=True, clear=True)
        subprocess.run([str(folder / "bin" / "pip"), "install", "--quiet", *wanted], check=True)
        installed.write_text("\n".join(wanted))
    return folder / "bin" / "python"


def outcomes(report: str) -> dict[str, bool]:
    """Return whether each test passed, from a verbose report of pytest."""
    found: dict[str, bool] = {}
    for name, outcome in re.findall(r"^(\S+::.+?) (PASSED|FAILED|ERROR)\b", report, re.MULTILINE):
        found[name] = found.get(name, True) and outcome == "PASSED"
    return found


def run(suite: Suite, repository: Path) -> bool:
    """Run a suite and print its figures; return whether enough of them passed."""
    folder = repository / suite.folder
    tests = [name for name in suite.tests if (folder / name).exists()]
    with environment_for(suite) as variables:
        # The SDKs' suites test the sources beside them; the other two test what is installed.
        variables["PYTHONPATH"] = os.pathsep.join([str(folder), str(ROOT / "tools")])
        command = [str(python(suite)), "-m", "pytest", "-v", "--tb=line", "-p", "no:cacheprovider", "--timeout=120"]
        for plugin in suite.plugins:
            command += ["-p", plugin]
        if suite.deselected:
            command += ["-k", " and ".join(f"not {name}" for name in suite.deselected)]
        command += ["-c", os.devnull, "--rootdir", str(folder), *tests]
        ended = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, check=False)
    found = outcomes(ended.stdout)
    if not found:
        print(f"{suite.title}: no test ran")
        print(ended.stdout[-2000:], ended.stderr[-2000:])
        return False
    within = {name: ok for name, ok in found.items() if not any(part in name for part in suite.without)}
    for name, ok in sorted(within.items()):
        if not ok:
            print(f"  failed: {name}")
    share = sum(within.values()) / len(within)
    print(f"{suite.title}: {sum(found.values())} of {len(found)} tests pass")
    without = ", ".join(sorted(set(suite.without.values())))
    if without:
        print(f"  {sum(within.values())} of {len(within)} ({share:.1%}) without {without}")
    return share >= SHARE


def main(arguments: list[str]) -> int:
    """Run what is in the folder; exit status 1 if a suite falls below its share, 2 if the folder holds none."""
    names = list(dict.fromkeys(suite.repository for suite in SUITES))
    if len(arguments) != 1:
        print(f"usage: make test-suites SUITES=DIR, where DIR holds {' and '.join(names)}")
        return 2
    folder = Path(arguments[0]).resolve()
    if not folder.is_dir():
        print(f"{folder} is not a directory. SUITES=DIR names one with checkouts of {', '.join(names)}.")
        return 2
    absent = [name for name in names if not (folder / name).is_dir()]
    if absent == names:
        print(f"{folder} holds none of: {', '.join(names)}. Check them out there.")
        return 2
    for name in absent:
        print(f"{name}: skipped, {folder / name} does not exist")
    results = [run(suite, folder / suite.repository) for suite in SUITES if suite.repository not in absent]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
