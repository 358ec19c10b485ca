"""Who is measured: this package, the published peers with their default settings, and the least that any client needs."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.suite.measure import ROOT, Run, job

OURS = "osstorchconnector 2"
ORIGINAL = "osstorchconnector 1.2.3"
S3 = "s3torchconnector"
OSSFS = "ossfs"
FLOOR = "floor"

# Each peer in a folder of its own, which `make bench` fills: two of them have this package's name.
_PEERS = ROOT / ".venv" / "peers"
PATHS = {OURS: ROOT / "python", ORIGINAL: _PEERS / "original", S3: _PEERS / "s3"}

BUCKET = "bench"
REGION = "cn-hangzhou"


@dataclass(frozen=True)
class Site:
    """A server of objects, and how to reach it."""

    port: int
    folder: Path
    access_key_id: str = "bench"
    access_key_secret: str = "bench"
    host: str = "127.0.0.1"

    @property
    def endpoint(self) -> str:
        """The endpoint of clients that put the bucket into the path."""
        return f"http://{self.host}:{self.port}"

    @property
    def named_endpoint(self) -> str:
        """The endpoint of clients that put the bucket before the host's name."""
        return f"http://localhost:{self.port}"

    @property
    def cred_path(self) -> str:
        """A file with the access key."""
        path = self.folder / "credentials.json"
        keys = {"AccessKeyId": self.access_key_id, "AccessKeySecret": self.access_key_secret}
        path.write_text(json.dumps(keys))
        return str(path)

    @property
    def config_path(self) -> str:
        """The documented configuration file, without which the original does not start."""
        path = self.folder / "config.json"
        logs = {"logLevel": 2, "logPath": f"{self.folder}/connector.log", "auditPath": f"{self.folder}/audit.log"}
        path.write_text(json.dumps({**logs, "datasetConfig": {"prefetchConcurrency": 24, "prefetchWorker": 2}}))
        return str(path)


Task = dict[str, Any]
Contenders = dict[str, Callable[[], Run]]


def contender(name: str, site: Site, task: Mapping[str, Any], *, config_path: str = "") -> Callable[[], Run]:
    """Return what runs a task with one connector, with its default settings unless a configuration file is given."""
    keys = {"access_key_id": site.access_key_id, "access_key_secret": site.access_key_secret}
    whole: Task = {"connector": name, "cred_path": site.cred_path, "region": REGION, "config_path": config_path} | keys
    whole["endpoint"] = site.endpoint
    if name == ORIGINAL:
        whole |= {"endpoint": site.named_endpoint, "config_path": site.config_path}
    return partial(job, PATHS.get(name, PATHS[OURS]), {**whole, **task})


def contenders(names: tuple[str, ...], site: Site, task: Mapping[str, Any]) -> Contenders:
    """Return those of the named contenders that are installed, each with its default settings."""
    found = {}
    for name in names:
        if name in PATHS and not PATHS[name].exists():
            print(f"{name} is not installed in {PATHS[name]} and is left out")
            continue
        found[name] = contender(name, site, task)
    return found
