"""The native client that a resolved configuration stands for, and what it shares with others of its process."""

import hashlib
import os
from pathlib import Path
from typing import Final

from osstorchconnector._native import Client
from osstorchconnector.connection.config import OssConfig, ResolvedConfig
from osstorchconnector.connection.log import write_log
from osstorchconnector.connection.proxy import Proxy, log_proxy
from osstorchconnector.credentials.shield import shielded
from osstorchconnector.exceptions import OssCredentialsError
from osstorchconnector.process.worker import worker_share

# One thread moves 3 to 4 GB/s; eight move more than the network card of a training machine.
_MOST_IO_THREADS: Final = 8


def native_client(resolved: ResolvedConfig) -> Client:
    """Make the native client of this process; the network is not used.

    Raises:
        OssConfigError: An argument or the environment is wrong.
    """
    write_log(resolved.config)
    proxy = resolved.proxy.proxy_for(resolved.endpoint)
    if proxy is not None:
        log_proxy(resolved.endpoint, proxy)
    return Client(
        endpoint=resolved.endpoint,
        region=resolved.region,
        config=resolved.config,
        credentials=resolved.credentials,
        io_threads=_io_threads(resolved.config),
        shared=shared_identity(resolved, proxy),
        proxy=proxy,
    )


@shielded
def shared_identity(resolved: ResolvedConfig, proxy: Proxy | None) -> bytes:
    """Return what decides which connections a client shares: a digest, since secrets are part of it."""
    config = resolved.config
    source = resolved.credentials
    try:
        credentials = None if source is None else source.identity()
    except OssCredentialsError:
        # For example, the file is being replaced. The source itself may still have a key.
        credentials = id(source)
    through = (
        None if proxy is None else (proxy.host, proxy.port, proxy.user, proxy.password, proxy.without, proxy.way_around)
    )
    certificates = [_version(config.ca_bundle), *map(os.environ.get, ("SSL_CERT_FILE", "SSL_CERT_DIR"))]
    what = (resolved.endpoint, resolved.region, credentials, config.credential_refresh_seconds, certificates, through)
    return hashlib.sha256(repr(what).encode()).digest()


def _version(path: str | None) -> object:
    if path is None:
        return None
    file = Path(path).absolute()
    # The native client says what is wrong with a file that is missing.
    return str(file), file.stat().st_mtime_ns if file.exists() else None


def _io_threads(config: OssConfig) -> int:
    if config.io_threads is not None:
        return config.io_threads
    if worker_share() is not None:
        # Many workers share a machine: with one thread each, the processors are free for decoding.
        return 1
    return max(1, min(_MOST_IO_THREADS, (os.cpu_count() or 1) // 2))
