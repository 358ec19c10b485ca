"""The contenders: this package, the published peers with default settings, and the least that any client needs."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.suite.jobs import Task
from benchmarks.suite.measure import ROOT, Run, job

OURS = "osstorchconnector 2"
ORIGINAL = "osstorchconnector 1.2.3"
S3 = "s3torchconnector"
RUNAI = "run:ai, local files"
FLOOR = "floor"

# Each peer has a folder of its own, because one of them has this package's name. They share torch.
_PEERS = Path(os.environ.get("BENCH_PEERS", ROOT / ".venv"))
PATHS = {
    OURS: ROOT / "python",
    ORIGINAL: _PEERS / "original-1.2.3",
    S3: _PEERS / "s3torchconnector",
    RUNAI: _PEERS / "runai",
}
_WHEELS = {
    ORIGINAL: ["osstorchconnector==1.2.3", "safetensors==0.8.0"],
    S3: ["s3torchconnector==1.5.0", "s3torchconnectorclient==1.5.0", "tenacity==9.2.1"],
    RUNAI: ["runai-model-streamer==0.17.1", "humanize==4.17.0"],
}

BUCKET = "bench"
REGION = "cn-hangzhou"


@dataclass(frozen=True)
class Site:
    """A server of objects, and how to connect to it."""

    port: int
    folder: Path
    access_key_id: str = "bench"
    access_key_secret: str = "bench"  # noqa: S105 - of no real account
    host: str = "127.0.0.1"
    named_host: str = "localhost"
    scheme: str = "http"

    @property
    def endpoint(self) -> str:
        """The endpoint for clients that put the bucket into the path."""
        return f"{self.scheme}://{self.host}:{self.port}"

    @property
    def named_endpoint(self) -> str:
        """The endpoint for clients that put the bucket before the host name."""
        return f"{self.scheme}://{self.named_host}:{self.port}"

    @property
    def cred_path(self) -> str:
        """A file with the access key."""
        path = self.folder / "credentials.json"
        keys = {"AccessKeyId": self.access_key_id, "AccessKeySecret": self.access_key_secret}
        path.write_text(json.dumps(keys))
        return str(path)

    @property
    def config_path(self) -> str:
        """The documented configuration file. The original does not start without it."""
        path = self.folder / "config.json"
        logs = {"logLevel": 2, "logPath": f"{self.folder}/connector.log", "auditPath": f"{self.folder}/audit.log"}
        path.write_text(json.dumps({**logs, "datasetConfig": {"prefetchConcurrency": 24, "prefetchWorker": 2}}))
        return str(path)


Contenders = dict[str, Callable[[], Run]]


def contender(name: str, site: Site, task: Mapping[str, Any], *, config_path: str = "") -> Callable[[], Run]:
    """Return a function that runs a task with one connector; without a configuration file, with default settings."""
    return partial(job, PATHS.get(name, PATHS[OURS]), task_of(name, site, task, config_path=config_path))


def task_of(name: str, site: Site, task: Mapping[str, Any], *, config_path: str = "") -> Task:
    """Return the whole task of a contender: with its connection."""
    keys = {"access_key_id": site.access_key_id, "access_key_secret": site.access_key_secret}
    whole: Task = {"connector": name, "cred_path": site.cred_path, "region": REGION, "config_path": config_path} | keys
    whole["endpoint"] = site.endpoint
    if name == ORIGINAL:
        whole |= {"endpoint": site.named_endpoint, "config_path": config_path or site.config_path}
    return {**whole, **task}


def install_peers() -> None:
    """Install the peers that are missing."""
    for name, wheels in _WHEELS.items():
        if not PATHS[name].exists():
            command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(PATHS[name])]
            if subprocess.run([*command, *wheels], check=False).returncode != 0:
                print(f"{name} cannot be installed here: it is left out")
    try:
        socket.getaddrinfo(f"{BUCKET}.localhost", 80)
    except OSError:
        raise SystemExit(f"{BUCKET}.localhost does not resolve; on Debian: apt-get install libnss-myhostname") from None


def contenders(names: tuple[str, ...], site: Site, task: Mapping[str, Any]) -> Contenders:
    """Return the named contenders, if they are installed, each with its default settings."""
    found = {}
    for name in names:
        if name in PATHS and not PATHS[name].exists():
            continue
        found[name] = contender(name, site, task)
    return found
