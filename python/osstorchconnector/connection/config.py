"""The configuration: one frozen value, and the one function that resolves the connection arguments."""

import dataclasses
import inspect
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Literal, Self, get_args

from osstorchconnector.connection.config_file import read_config_file
from osstorchconnector.connection.endpoint import check_region, infer_region, normalize_endpoint
from osstorchconnector.connection.proxy import SETTING, ProxySetting, parse_proxy
from osstorchconnector.connection.write_options import Headers, WriteOptions, check_headers, check_options
from osstorchconnector.credentials import (
    CredentialSource,
    DefaultCredentials,
    ExplicitCredentials,
    FileCredentials,
    ProviderCredentials,
)
from osstorchconnector.credentials.shield import shielded
from osstorchconnector.credentials.source import refuse_to_pickle_secrets
from osstorchconnector.exceptions import OssConfigError

KIB: Final = 1024
MIB: Final = 1024 * KIB
GIB: Final = 1024 * MIB

# https://www.alibabacloud.com/help/en/oss/user-guide/multipart-upload: a part has 100 KB to 5 GB.
_SMALLEST_PART: Final = 100 * KIB
_LARGEST_PART: Final = 5 * GIB

# A reader asks for a quarter of its window at a time; a request for less than 16 KiB is not worth its time.
_SMALLEST_WINDOW: Final = 64 * KIB

# One address has so many ports for connections to one server. Attempts have the same bound.
_MOST_REQUESTS: Final = 65_535
# More memory than a machine has: the bound catches a wrong unit, not a large machine.
_MOST_BYTES: Final = 1024 * GIB
# More threads than a machine has processors.
_MOST_THREADS: Final = 1024

_SECRETS: Final = ("access_key_id", "access_key_secret", "security_token")
_SECONDS: Final = (
    "connect_timeout",
    "read_timeout",
    "total_timeout",
    "credential_refresh_seconds",
    "audit_slow_seconds",
)

SignatureVersion = Literal["v4", "v1"]
Addressing = Literal["virtual_host", "path", "cname"]
LogLevel = Literal["debug", "info", "warning", "error"]


@dataclass(frozen=True, kw_only=True, repr=False)
class OssConfig:
    """The settings of a client, except endpoint, region and files.

    A field that is given here wins over the environment and over the configuration file. They decide about a field that
    is left out. ``dataclasses.replace`` gives every field.

    Attributes:
        signature_version: ``"v4"``, or ``"v1"`` for the old signature, which OSS closes to new accounts and buckets.
            Default ``"v4"``.
        addressing: ``"virtual_host"`` (``bucket.endpoint``), ``"path"`` (``endpoint/bucket``) or ``"cname"`` (the
            endpoint is a domain of the bucket). Default None: path for an IP address or ``localhost``, virtual host for
            everything else.
        connect_timeout: Seconds to make a connection. Default 10.
        read_timeout: Seconds without a byte in either direction. Default 20.
        total_timeout: Seconds for one request with all its attempts. Default 600.
        max_attempts: Attempts of one request, the first one included. Default 6.
        prefetch_bytes: Upper limit of what all datasets of one process read ahead together; each may hold one object
            beyond it. Normally a dataset uses 16 MiB plus the requests in flight; more only if the reader had to wait.
            Members of archives may use all of it. An object above a quarter of it is not prefetched: it is read by
            ranges, within that quarter, which all such objects share. Where settings differ, a dataset compares what
            the process holds with its own. Default 256 MiB.
        reader_window: Upper limit of the bytes of a large object that one reader holds or has in flight, at least
            64 KiB. Default 256 MiB.
        prefetch_concurrency: Requests in flight at the start. The number grows while that brings throughput. It is also
            the upper limit for a reader of one object. Default 24.
        max_concurrency: Upper limit of the requests that datasets have in flight. Those of one process that read from
            the same service with the same credentials share it; each may have one request beyond it. Default 512, or
            ``prefetch_concurrency`` if that is larger.
        part_size: Bytes of one part of an upload and of one range of a large read, 100 KiB to 5 GiB. Parts of a large
            object are larger, and so are ranges while many are left. Default 8 MiB.
        upload_concurrency: Upper limit of the parts of one upload that are in flight. Default 16.
        upload_bytes: Upper limit of the bytes of one upload that are in flight or being filled. If parts are large,
            fewer are in flight; one part is always allowed. Default 256 MiB.
        fast_list: List several segments of a dataset's prefix at once. The order is the same. It takes at most a tenth
            more requests, plus 64. False lists one page after the other. Default True.
        io_threads: Native I/O threads of one process. Default None: one in a DataLoader worker; half the processors in
            other processes, at least 1 and at most 8.
        ca_bundle: PEM file with the certificate authorities to trust. Default None: those of the operating system.
        proxy: HTTP proxy, ``"http://HOST:PORT"`` or ``"http://USER:PASSWORD@HOST:PORT"``; ``repr`` does not show the
            password, and it is pickled only to start a process. ``""``: none. Default None: ``HTTP_PROXY``,
            ``HTTPS_PROXY``, ``ALL_PROXY`` and ``NO_PROXY`` of the environment decide, except for this machine,
            ``-internal`` endpoints and metadata addresses, which are reached without a proxy.
        write_options: How objects are stored: the defaults of every write through this client, also of checkpoints,
            safetensors, distributed checkpoints and copies. Default None: OSS and the bucket decide.
        request_payer: Pay for requests to other accounts' buckets with "requester pays". Default False.
        headers: More headers of every request by name, as a dict. They are signed. Headers of writes are given in
            ``write_options``. Default None.
        credential_refresh_seconds: Seconds after which the client asks a credential source again. Default 60.
        access_key_id: An access key given in the program. ``repr`` does not show it, and it is pickled only to start a
            process.
        access_key_secret: The secret that belongs to it.
        security_token: The token of a temporary access key.
        anonymous: Send unsigned requests, for public buckets. Default False.
        log_level: The least severe level to write to ``log_path``: ``"debug"``, ``"info"``, ``"warning"`` or
            ``"error"``. Default ``"info"``.
        log_path: File to append log lines to. Default None: no file.
        audit_path: File to append a line to for each attempt at a request that was slow or failed. Default None: none.
        audit_slow_seconds: An attempt is slow if so many seconds passed before the last byte of its answer. Default
            0.1, as with the original.

    Raises:
        OssConfigError: A value is not allowed; the message names the field, the value and what is allowed.
    """

    # The OSS SDKs wait ten and twenty seconds; the slowest first byte of a region comes far earlier.
    connect_timeout: float = 10.0
    read_timeout: float = 20.0
    # Ten minutes are enough for a 5 GiB part at 10 MB/s and for a short outage, and no scheduler gives up before.
    total_timeout: float = 600.0
    # Five retries with doubling pauses survive some ten seconds of throttling; the two of the SDKs end after one.
    max_attempts: int = 6
    # 512 requests in flight for objects of 100 KB fill 50 MB; the rest is room for larger ones. 32 workers take 8 GiB.
    prefetch_bytes: int = 256 * MIB
    # Room for 24 ranges of 8 MiB in flight, which carry 5 GB/s at 35 ms to the first byte.
    reader_window: int = 256 * MIB
    # Existing configuration files have this number, so that the service sees the same start.
    prefetch_concurrency: int = 24
    # At 35 ms to the first byte this is 14,000 objects per second: more than one process decodes.
    max_concurrency: int = 512
    # 10,000 parts of 8 MiB are an object of 80 GB; below 8 MiB the requests, not the bytes, cost the time.
    part_size: int = 8 * MIB
    # 16 parts of 8 MiB in flight fill a 10 Gbit/s link at 100 ms per part and hold 128 MiB.
    upload_concurrency: int = 16
    # The same as prefetch_bytes: 16 parts of 8 MiB and one being filled need half of it, parts of 15 MiB all of it.
    upload_bytes: int = 256 * MIB
    fast_list: bool = True
    io_threads: int | None = None
    signature_version: SignatureVersion = "v4"
    addressing: Addressing | None = None
    ca_bundle: str | None = None
    proxy: str | None = None
    write_options: WriteOptions | None = None
    request_payer: bool = False
    headers: Mapping[str, str] | None = dataclasses.field(default=None, hash=False)
    # Kubernetes and agents renew a key minutes before it expires, so a minute is soon enough.
    credential_refresh_seconds: float = 60.0
    access_key_id: str | None = None
    access_key_secret: str | None = None
    security_token: str | None = None
    anonymous: bool = False
    log_level: LogLevel = "info"
    log_path: str | None = None
    audit_path: str | None = None
    # What the original calls slow.
    audit_slow_seconds: float = 0.1

    _given: ClassVar[frozenset[str]] = frozenset()
    # What help() shows: without it, the parameters of __new__.
    __signature__: ClassVar[inspect.Signature]

    def __new__(cls, **given: Any) -> Self:  # noqa: ANN401 - the fields are typed and checked by __init__
        """Remember which fields were given: environment and file decide about the others."""
        config = super().__new__(cls)
        object.__setattr__(config, "_given", frozenset(given))
        return config

    def __post_init__(self) -> None:
        """Check every field."""
        for name in _SECONDS:
            self._check_seconds(name)
        for name in ("max_attempts", "prefetch_concurrency", "max_concurrency", "upload_concurrency"):
            self._check_integer(name, 1, _MOST_REQUESTS)
        self._check_integer("prefetch_bytes", 1, _MOST_BYTES)
        self._check_integer("reader_window", _SMALLEST_WINDOW, _MOST_BYTES)
        self._check_integer("part_size", _SMALLEST_PART, _LARGEST_PART)
        self._check_integer("upload_bytes", 1, _MOST_BYTES)
        if self.io_threads is not None:
            self._check_integer("io_threads", 1, _MOST_THREADS)
        self._check_choice("signature_version", get_args(SignatureVersion))
        self._check_choice("addressing", (None, *get_args(Addressing)))
        self._check_choice("log_level", get_args(LogLevel))
        self._check_choice("anonymous", (False, True))
        self._check_choice("fast_list", (False, True))
        self._check_choice("request_payer", (False, True))
        check_options("OssConfig.write_options", self.write_options)
        if self.headers is not None:
            self._set("headers", dict(check_headers("OssConfig.headers", self.headers, every_request=True)))
        for name in ("ca_bundle", "log_path", "audit_path"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, str) or not value):
                raise self._error(name, "a non-empty string or None")
        self._check_proxy()
        self._check_keys()
        self._fit_concurrency()

    def credentials(self) -> ExplicitCredentials | None:
        """Return the access key given here, or None."""
        if self.access_key_id is None or self.access_key_secret is None:
            return None
        return ExplicitCredentials(self.access_key_id, self.access_key_secret, self.security_token)

    @property
    def request_headers(self) -> Headers:
        """The headers of every request, as the native client takes them."""
        payer = [("x-oss-request-payer", "requester")] if self.request_payer else []
        return [*(self.headers or {}).items(), *payer]

    def over(self, defaults: dict[str, Any]) -> Self:
        """Return a configuration with the fields that were given here, and `defaults` for the others."""
        return type(self)(**{**defaults, **{name: getattr(self, name) for name in self._given}})

    def without_secrets(self) -> Self:
        """Return the configuration without its access key, and without a proxy that has a password."""
        return type(self)(**{name: getattr(self, name) for name in self._given if not self._has_secret(name)})

    def __repr__(self) -> str:
        """Return the given fields, without access keys, passwords and the values of headers."""
        # The value of a header may be a secret of the user's.
        hidden = {"headers": dict.fromkeys(self.headers or {}, "***")}
        shown = (
            f"{field.name}="
            f"{'***' if self._has_secret(field.name) else repr(hidden.get(field.name, getattr(self, field.name)))}"
            for field in dataclasses.fields(self)
            if field.name in self._given and getattr(self, field.name) is not None
        )
        return f"{type(self).__name__}({', '.join(shown)})"

    def __copy__(self) -> Self:
        """Return this object: it does not change."""
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Return this object: it does not change."""
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the fields that were given; an access key or a password only to start a process.

        Raises:
            OssCredentialsError: There is a secret and no process is being started.
        """
        if any(getattr(self, name) is not None for name in _SECRETS):
            refuse_to_pickle_secrets("an access key given in OssConfig")
        if self._has_secret("proxy"):
            refuse_to_pickle_secrets("the password in OssConfig.proxy")
        return _rebuild, ({name: getattr(self, name) for name in sorted(self._given)},)

    def _check_seconds(self, name: str) -> None:
        value = getattr(self, name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
            raise self._error(name, "a number of seconds above 0")
        self._set(name, float(value))

    def _check_integer(self, name: str, least: int, most: int) -> None:
        value = getattr(self, name)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise self._error(name, f"a whole number from {least} to {most}")

    def _check_choice(self, name: str, allowed: tuple[object, ...]) -> None:
        value = getattr(self, name)
        if not any(value is choice or (isinstance(choice, str) and value == choice) for choice in allowed):
            raise self._error(name, " or ".join(repr(choice) for choice in allowed))

    def _check_proxy(self) -> None:
        if self.proxy is not None and not isinstance(self.proxy, str):
            raise OssConfigError(f"OssConfig.proxy is a {type(self.proxy).__name__}: a string or None is needed")
        if self.proxy:
            parse_proxy(self.proxy, SETTING, ())

    def _has_secret(self, name: str) -> bool:
        value = getattr(self, name)
        return value is not None and (name in _SECRETS or (name == "proxy" and "@" in value))

    def _check_keys(self) -> None:
        for name in _SECRETS:
            value = getattr(self, name)
            if value is not None and (not isinstance(value, str) or not value):
                # The value may be a secret of the wrong type, so the message has only its type.
                raise OssConfigError(f"OssConfig.{name} is a {type(value).__name__}: a non-empty string is needed")
        given = [name for name in _SECRETS if getattr(self, name) is not None]
        if given and self.anonymous:
            raise OssConfigError(f"OssConfig.anonymous is True, but {given[0]} is given: leave one of them out")
        for name in _SECRETS[:2]:
            if given and name not in given:
                raise OssConfigError(f"OssConfig.{name} is missing: {given[0]} is given without it")

    def _fit_concurrency(self) -> None:
        if self.prefetch_concurrency <= self.max_concurrency:
            return
        if "max_concurrency" not in self._given:
            self._set("max_concurrency", self.prefetch_concurrency)
        elif "prefetch_concurrency" not in self._given:
            self._set("prefetch_concurrency", self.max_concurrency)
        else:
            raise self._error("prefetch_concurrency", f"at most max_concurrency, which is {self.max_concurrency}")

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    def _error(self, name: str, allowed: str) -> OssConfigError:
        return OssConfigError(f"OssConfig.{name} is {getattr(self, name)!r}: allowed is {allowed}")


# Its arguments are secrets.
OssConfig.__init__ = shielded(OssConfig.__init__)  # type: ignore[method-assign]
_initializer: Final = inspect.signature(OssConfig.__init__)
OssConfig.__signature__ = _initializer.replace(parameters=list(_initializer.parameters.values())[1:])


@dataclass(frozen=True, slots=True)
class ResolvedConfig:
    """Everything that a native client is made from, as plain data."""

    #: Empty if objects are files of this machine.
    endpoint: str
    #: Empty only if no signature needs it: signature V1, anonymous requests and files of this machine.
    region: str
    #: Without its access key, which is in `credentials`.
    config: OssConfig
    #: None for anonymous requests.
    credentials: CredentialSource | None
    proxy: ProxySetting


def resolve(
    endpoint: str,
    cred_path: str | os.PathLike[str] = "",
    config_path: str | os.PathLike[str] = "",
    cred_provider: object = None,
    region: str = "",
    config: OssConfig | None = None,
) -> ResolvedConfig:
    """Resolve the connection arguments, which are those of :class:`OssClient`. The network is not used.

    The first of these decides: an explicit argument, `config`, the environment, the file at `config_path`, the default.
    For access keys: `cred_provider`, the key in `config`, `cred_path`, the places of
    :class:`~osstorchconnector.credentials.DefaultCredentials`.

    Raises:
        OssConfigError: A value is wrong, a file is missing or malformed, or the region is unknown.
        OssCredentialsError: There is no usable access key.
    """
    endpoint = normalize_endpoint(endpoint)
    _check_path("cred_path", cred_path)
    config = _resolve_config(config_path, config)
    if config.ca_bundle is not None and not os.access(config.ca_bundle, os.R_OK):
        raise OssConfigError(f"OssConfig.ca_bundle names a file that cannot be read: {config.ca_bundle!r}")
    proxy = ProxySetting(config.proxy)
    # Once here, so that a malformed variable raises in the call that needs it.
    proxy.proxy_for(endpoint)
    return ResolvedConfig(
        endpoint=endpoint,
        region=_resolve_region(region, endpoint, config),
        config=config.without_secrets(),
        credentials=_resolve_credentials(cred_provider, config, os.fspath(cred_path) if cred_path else ""),
        proxy=proxy,
    )


def resolve_local(config_path: str | os.PathLike[str] = "", config: OssConfig | None = None) -> ResolvedConfig:
    """Resolve the connection arguments for files of this machine, which need no endpoint, region and access key.

    Raises:
        OssConfigError: A value is wrong, or a file is missing or malformed.
    """
    config = _resolve_config(config_path, config).without_secrets()
    return ResolvedConfig(endpoint="", region="", config=config, credentials=None, proxy=ProxySetting(""))


def _resolve_config(config_path: str | os.PathLike[str], config: OssConfig | None) -> OssConfig:
    if config is None:
        config = OssConfig()
    elif not isinstance(config, OssConfig):
        raise OssConfigError(f"config must be an OssConfig, not {type(config).__name__}")
    _check_path("config_path", config_path)
    return config.over(_settings_of(os.fspath(config_path))) if config_path else config


def _check_path(name: str, path: str | os.PathLike[str]) -> None:
    # An error of the file system would repeat the text, and with it the secret.
    if os.fspath(path).lstrip().startswith("{"):
        raise OssConfigError(f"{name} must be the path of a JSON file, not its content")


def _settings_of(path: str) -> dict[str, Any]:
    settings = {}
    for key, field, value in read_config_file(path):
        try:
            OssConfig(**{field: value})
        except OssConfigError as error:
            raise OssConfigError(f"configuration file {path!r}: {key}: {error}") from None
        settings[field] = value
    return settings


def _resolve_region(region: str, endpoint: str, config: OssConfig) -> str:
    if region:
        return check_region(region, "region")
    from_environment = os.environ.get("OSS_REGION")
    if from_environment:
        return check_region(from_environment, "OSS_REGION in the environment")
    inferred = infer_region(endpoint)
    if inferred is not None:
        return inferred
    if config.anonymous or config.signature_version == "v1":
        return ""
    raise OssConfigError(
        f"endpoint {endpoint!r} does not name its region: give the argument region, such as 'cn-hangzhou', or set "
        "OSS_REGION"
    )


def _resolve_credentials(provider: object, config: OssConfig, path: str) -> CredentialSource | None:
    if config.anonymous:
        for name, value in (("cred_provider", provider), ("cred_path", path)):
            if value:
                raise OssConfigError(f"OssConfig.anonymous is True, but {name} is given: leave one of them out")
        return None
    if provider is not None:
        # The provider is not called yet: it may use the network.
        return provider if isinstance(provider, CredentialSource) else ProviderCredentials(provider)
    explicit = config.credentials()
    if explicit is not None:
        return explicit
    # Both look once here, so that a missing or malformed file raises in the call that names it.
    if path:
        file = FileCredentials(path)
        file()
        return file
    default = DefaultCredentials()
    default.check()
    return default


@shielded
def _rebuild(given: dict[str, Any]) -> OssConfig:
    return OssConfig(**given)
