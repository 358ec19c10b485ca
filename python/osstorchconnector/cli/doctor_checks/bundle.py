"""The archive to send to those who help: the report, versions, and the environment, without secrets."""

import json
import os
import re
import tempfile
import zipfile
from collections.abc import Iterable
from importlib.metadata import distributions
from pathlib import Path
from typing import Any, Final

from osstorchconnector.cli.doctor_checks.target import Target
from osstorchconnector.connection.proxy import shown_proxy
from osstorchconnector.exceptions import OssConfigError, OssError

# Variables whose values are shown. Everything else in the environment is left out, also its name.
_SHOWN: Final = re.compile(
    r"OSS_ENDPOINT|OSS_REGION|OMP_NUM_THREADS|MKL_NUM_THREADS|CUDA_VISIBLE_DEVICES|NVIDIA_VISIBLE_DEVICES"
    r"|RANK|LOCAL_RANK|NODE_RANK|GROUP_RANK|WORLD_SIZE|LOCAL_WORLD_SIZE|MASTER_ADDR|MASTER_PORT"
    r"|SLURM_(?:JOB_ID|NNODES|NTASKS|PROCID|LOCALID|NODEID|CPUS_PER_TASK)"
    r"|MALLOC_[A-Z_]+|LD_PRELOAD|LD_LIBRARY_PATH|PYTHONPATH|PYTHONUNBUFFERED|PYTHONMALLOC|PYTHONDEVMODE"
    r"|TMPDIR|LANG|LC_ALL|TZ|SSL_CERT_FILE|SSL_CERT_DIR|NO_PROXY|no_proxy|KUBERNETES_SERVICE_PORT|container"
    r"|ALIBABA_CLOUD_(?:ECS_METADATA_DISABLED|IMDSV1_DISABLED|CLI_PROFILE_DISABLED|STS_REGION|VPC_ENDPOINT_ENABLED)"
)
_PROXIES: Final = re.compile(r"(?:https?|all)_proxy", re.IGNORECASE)
# Variables that are only said to be set: they name the place of a key, or are one.
_PRESENT: Final = re.compile(r"(?:OSS|ALIBABA_CLOUD)_[A-Z0-9_]+")
_LOG_BYTES: Final = 256 << 10
# Shorter texts are in everything by chance.
_SHORTEST_SECRET: Final = 4

_README: Final = """\
What `osst doctor --bundle` collected. It holds no access key, secret, token or password.

report.json       every check: its state, what was found, and what to do
report.txt        the same, as the terminal showed it
environment.json  variables of the environment: a fixed list with values; of OSS_* and ALIBABA_CLOUD_*, "set" only
packages.txt      names and versions of the installed Python packages
system.json       memory, limits and control group of this machine
log.txt           the end of the log file, if the configuration names one
audit.txt         the end of the audit file, which has slow and failed requests, if the configuration names one

It names the endpoint, the bucket, the prefix, addresses and paths of this machine. Look into it before you send it.
"""


def write_bundle(path: str, report: dict[str, Any], text: str, target: Target | None) -> None:
    """Write the archive.

    Args:
        path: The file, which is replaced as a whole.
        report: The report for programs.
        text: The report for people.
        target: What was examined; its secrets must not be in the archive.

    Raises:
        OssConfigError: A secret would be in the archive, so none was written.
        OSError: The file cannot be written.
    """
    files = {
        "README.txt": _README,
        "report.json": json.dumps(report, indent=1, ensure_ascii=False),
        "report.txt": text,
        "environment.json": json.dumps(environment(), indent=1, ensure_ascii=False),
        "packages.txt": "".join(f"{name} {version}\n" for name, version in _packages()),
        "system.json": json.dumps(_system(), indent=1, ensure_ascii=False),
    }
    config = None if target is None else target.config
    for name, named in (("log.txt", config and config.log_path), ("audit.txt", config and config.audit_path)):
        if named:
            files[name] = _end_of(named)
    hidden = secrets_of(target)
    for name, content in files.items():
        # The checks never show one, but an error of a foreign program, or the log of another one, might.
        if any(secret in content for secret in hidden):
            raise OssConfigError(f"{name} would contain a secret, so no archive was written; please report this")
    directory = Path(path).absolute().parent
    with tempfile.NamedTemporaryFile(dir=directory, prefix=".osst-doctor-", delete=False) as unfinished:
        try:
            with zipfile.ZipFile(unfinished, "w", zipfile.ZIP_DEFLATED) as archive:
                for name, content in files.items():
                    archive.writestr(name, content)
            unfinished.close()
            Path(unfinished.name).replace(path)
        except BaseException:
            Path(unfinished.name).unlink(missing_ok=True)
            raise


def environment() -> dict[str, str]:
    """Return those variables of the environment that help and hold no secret."""
    shown = {}
    for name, value in sorted(os.environ.items()):
        if _SHOWN.fullmatch(name):
            shown[name] = value
        elif _PROXIES.fullmatch(name):
            shown[name] = shown_proxy(value)
        elif _PRESENT.fullmatch(name):
            shown[name] = "set" if value else "empty"
    return shown


def secrets_of(target: Target | None) -> set[str]:
    """Return every secret that this process knows of."""
    found = {
        value
        for name, value in os.environ.items()
        if re.search(r"SECRET|TOKEN|PASSWORD|SECURITY|ACCESS_KEY|CREDENTIALS_URI", name) and not name.endswith("_FILE")
    }
    if target is not None and target.credentials is not None:
        try:
            key = target.credentials()
        except OssError:
            # It was reported. A key that cannot be read is in no file of the archive.
            key = None
        if key is not None:
            found |= {key.access_key_id, key.access_key_secret, key.security_token or ""}
    if target is not None and target.proxy is not None:
        found.add(target.proxy.password)
    return {secret for secret in found if len(secret) >= _SHORTEST_SECRET and secret not in {"true", "false"}}


def _packages() -> Iterable[tuple[str, str]]:
    return sorted({(found.metadata["Name"] or "", found.version) for found in distributions()})


def _system() -> dict[str, str]:
    files = ("/proc/meminfo", "/proc/self/limits", "/proc/self/cgroup", "/proc/loadavg", "/etc/os-release")
    groups = ("memory.max", "memory.current", "cpu.max", "cpu.stat", "pids.max")
    found = {}
    for file in (*files, *(f"/sys/fs/cgroup/{name}" for name in groups)):
        try:
            found[file] = Path(file).read_text(errors="replace")
        except OSError as error:
            found[file] = f"not readable: {error.strerror}"
    return found


def _end_of(path: str) -> str:
    try:
        with Path(path).open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - _LOG_BYTES))
            return log.read().decode(errors="replace")
    except OSError as error:
        return f"{path} cannot be read: {error.strerror}\n"
