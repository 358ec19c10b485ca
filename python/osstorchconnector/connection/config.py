"""The configuration: one frozen value, and the one function that resolves what a user gave into a connection."""

import dataclasses
import inspect
import math
import os
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Literal, Self, get_args

from osstorchconnector.connection.config_file import read_config_file
from osstorchconnector.connection.endpoint import check_region, infer_region, normalize_endpoint
from osstorchconnector.credentials import (
    CredentialSource,
    DefaultCredentials,
    ExplicitCredentials,
    FileCredentials,
    ProviderCredentials,
)
from osstorchconnector.credentials.source import refuse_to_pickle_secrets
from osstorchconnector.exceptions import OssConfigError

KIB: Final = 1024
MIB: Final = 1024 * KIB
GIB: Final = 1024 * MIB

# https://www.alibabacloud.com/help/en/oss/user-guide/multipart-upload: a part has 100 KB to 5 GB.
_SMALLEST_PART: Final = 100 * KIB
_LARGEST_PART: Final = 5 * GIB

# A quarter of it is the least that a request is worth.
_SMALLEST_WINDOW: Final = 64 * KIB

# As many connections as one address has ports to one server; the same bound serves for attempts.
_MOST_REQUESTS: Final = 65_535
# More memory than a machine has: the bound catches a wrong unit, not a large machine.
_MOST_BYTES: Final = 1024 * GIB
# More threads than a machine has processors.
_MOST_THREADS: Final = 1024

_SECRETS: Final = ("access_key_id", "access_key_secret", "security_token")

SignatureVersion = Literal["v4", "v1"]
Addressing = Literal["virtual_host", "path", "cname"]
LogLevel = Literal["debug", "info", "warning", "error"]


@dataclass(frozen=True, kw_only=True, repr=False)
class OssConfig:
    """Everything about a connection that is neither where nor what.

    A field that is given here wins over the environment and over the configuration file; a field that is left out
    gives way to them. ``dataclasses.replace`` gives every field.

    Attributes:
        signature_version: ``"v4"``, or ``"v1"`` for the old signature, which OSS closes to new accounts and buckets.
            Default ``"v4"``.
        addressing: ``"virtual_host"`` (``bucket.endpoint``), ``"path"`` (``endpoint/bucket``) or ``"cname"`` (the
            endpoint is a domain of the bucket's own). Default None: path for an IP address or ``localhost``, virtual
            host for everything else.
        connect_timeout: Seconds until a connection must stand. Default 10.
        read_timeout: Seconds without a byte in either direction. Default 20.
        total_timeout: Seconds for one request with all its attempts. Default 600.
        max_attempts: How many times a request is sent at most, the first time included. Default 6.
        prefetch_bytes: Bytes that one process reads ahead across objects at most; of objects that are no members of
            archives, 16 MiB and what is on its way while the reader need not wait. An object above a quarter of it is
            not read ahead but streamed, within that quarter. Default 256 MiB.
        reader_window: Bytes that one reader of a large object holds fetched or on their way, 64 KiB at least. Default
            256 MiB.
        prefetch_concurrency: Requests in flight at the start; the number grows while throughput does. A reader of one
            object has at most so many in flight. Default 24.
        max_concurrency: Requests in flight at most. Default 512, or ``prefetch_concurrency`` where that is larger.
        part_size: Bytes of one part of an upload and of one range of a large read, 100 KiB to 5 GiB. Parts of a large
            object, and ranges of which many are left, grow from there. Default 8 MiB.
        upload_concurrency: Parts of one upload in flight at most. Default 16.
        upload_bytes: Bytes of one upload in flight or being filled at most, so that fewer parts are in flight where
            they are larger; one part is always allowed. Default 256 MiB.
        fast_list: List a prefix for a dataset in several places at once, in the same order, with at most a tenth more
            requests and 64. False lists one page after the other. Default True.
        io_threads: Native I/O threads of one process. Default None: one in a DataLoader worker, elsewhere half the
            processors, at least 1 and at most 8.
        ca_bundle: PEM file with the certificate authorities to trust. Default None: those of the operating system.
        credential_refresh_seconds: Seconds after which a credential source is asked again. Default 60.
        access_key_id: An access key given in the program. It never shows in ``repr`` and is pickled only to start
            a process.
        access_key_secret: The secret that belongs to it.
        security_token: The token of a temporary access key.
        anonymous: Send unsigned requests, for public buckets. Default False.
        log_level: The least severe level to write to ``log_path``: ``"debug"``, ``"info"``, ``"warning"`` or
            ``"error"``. Default ``"info"``.
        log_path: File to append log lines to. Default None: none is opened.
        audit_path: Accepted from existing configuration files. The original connector writes slow requests there; this
            one writes no audit file, and says so once in its log. Default None.

    Raises:
        OssConfigError: A value is not allowed; the message names the field, the value and what is allowed.
    """

    # Ten and twenty seconds are what the OSS SDKs wait; a region's slowest first byte is far below either.
    connect_timeout: float = 10.0
    read_timeout: float = 20.0
    # Ten minutes carry a 5 GiB part at 10 MB/s and outlast a short outage, yet fail within a scheduler's patience.
    total_timeout: float = 600.0
    # Five retries with doubling pauses ride out some ten seconds of throttling, where the SDKs' two give up in one.
    max_attempts: int = 6
    # 512 requests in flight for objects of 100 KB fill 50 MB; the rest is room for larger ones. 32 workers take 8 GiB.
    prefetch_bytes: int = 256 * MIB
    # Room for 24 ranges of 8 MiB in flight, which carry 5 GB/s at 35 ms to the first byte.
    reader_window: int = 256 * MIB
    # The number that existing configuration files carry, so that a start looks the same to the service.
    prefetch_concurrency: int = 24
    # At 35 ms to the first byte this is 14,000 objects per second: more than one process decodes.
    max_concurrency: int = 512
    # 10,000 parts of 8 MiB are an object of 80 GB; below 8 MiB the requests, not the bytes, cost the time.
    part_size: int = 8 * MIB
    # 16 parts of 8 MiB in flight fill a 10 Gbit/s link at 100 ms per part and hold 128 MiB.
    upload_concurrency: int = 16
    # As much as is read ahead: 16 parts of 8 MiB and one being filled need half of it, parts of up to 15 MiB all of it.
    upload_bytes: int = 256 * MIB
    fast_list: bool = True
    io_threads: int | None = None
    signature_version: SignatureVersion = "v4"
    addressing: Addressing | None = None
    ca_bundle: str | None = None
    # Kubernetes and agents renew a key minutes before it expires, so a minute never misses a renewal.
    credential_refresh_seconds: float = 60.0
    access_key_id: str | None = None
    access_key_secret: str | None = None
    security_token: str | None = None
    anonymous: bool = False
    log_level: LogLevel = "info"
    log_path: str | None = None
    audit_path: str | None = None

    _given: ClassVar[frozenset[str]] = frozenset()
    # What help() shows: without it, the parameters of __new__.
    __signature__: ClassVar[inspect.Signature]

    def __new__(cls, **given: Any) -> Self:  # noqa: ANN401 - the fields are typed and checked by __init__
        """Remember which fields were given: those left out give way to the environment and the file."""
        config = super().__new__(cls)
        object.__setattr__(config, "_given", frozenset(given))
        return config

    def __post_init__(self) -> None:
        """Check every field."""
        for name in ("connect_timeout", "read_timeout", "total_timeout", "credential_refresh_seconds"):
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
        for name in ("ca_bundle", "log_path", "audit_path"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, str) or not value):
                raise self._error(name, "a non-empty string or None")
        self._check_keys()
        self._fit_concurrency()

    def credentials(self) -> ExplicitCredentials | None:
        """Return the access key given here, or None."""
        if self.access_key_id is None or self.access_key_secret is None:
            return None
        return ExplicitCredentials(self.access_key_id, self.access_key_secret, self.security_token)

    def over(self, defaults: dict[str, Any]) -> Self:
        """Return a configuration with this one's given fields over other values for the rest."""
        return type(self)(**{**defaults, **{name: getattr(self, name) for name in self._given}})

    def without_secrets(self) -> Self:
        """Return the configuration without its access key."""
        return type(self)(**{name: getattr(self, name) for name in self._given.difference(_SECRETS)})

    def __repr__(self) -> str:
        """Return the given fields, without access keys."""
        shown = (
            f"{field.name}={'***' if field.name in _SECRETS else repr(getattr(self, field.name))}"
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
        """Travel with what was given; an access key only to a process that is being started.

        Raises:
            OssCredentialsError: There is an access key and no process is being started.
        """
        if any(getattr(self, name) is not None for name in _SECRETS):
            refuse_to_pickle_secrets("an access key given in OssConfig")
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

    def _check_keys(self) -> None:
        for name in _SECRETS:
            value = getattr(self, name)
            if value is not None and (not isinstance(value, str) or not value):
                # The value may be a secret of the wrong type, so only its type is told.
                raise OssConfigError(f"OssConfig.{name} is a {type(value).__name__}: a non-empty string is needed")
        given = [name for name in _SECRETS if getattr(self, name) is not None]
        if given and self.anonymous:
            raise OssConfigError(f"OssConfig.anonymous is True, yet {given[0]} is given: leave one of them out")
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


_initializer: Final = inspect.signature(OssConfig.__init__)
OssConfig.__signature__ = _initializer.replace(parameters=list(_initializer.parameters.values())[1:])


@dataclass(frozen=True, slots=True)
class Connection:
    """A resolved configuration: all that a native client is made from, as plain data."""

    #: Empty where objects are files of this machine.
    endpoint: str
    #: Empty only where nothing signs with it: signature V1, anonymous requests and files of this machine.
    region: str
    #: Without its access key, which is in `credentials`.
    config: OssConfig
    #: None for anonymous requests.
    credentials: CredentialSource | None


def resolve(
    endpoint: str,
    cred_path: str | os.PathLike[str] = "",
    config_path: str | os.PathLike[str] = "",
    cred_provider: object = None,
    region: str = "",
    config: OssConfig | None = None,
) -> Connection:
    """Resolve what a user gave, without using the network.

    An explicit argument wins over `config`, that over the environment, that over the file at `config_path`, and that
    over the default. For access keys: `cred_provider`, then those in `config`, then `cred_path`, then the places of
    :class:`~osstorchconnector.credentials.DefaultCredentials`.

    Args:
        endpoint: Host with optional scheme and port. Without a scheme: HTTPS, or HTTP for an IP address or
            ``localhost``.
        cred_path: JSON file with an access key.
        config_path: JSON configuration file.
        cred_provider: Object with a method ``get_credentials()``.
        region: Region ID. Empty: ``OSS_REGION`` in the environment, else what the endpoint's name tells.
        config: Everything else.

    Raises:
        OssConfigError: A value is wrong, a file is missing or malformed, or the region cannot be told.
        OssCredentialsError: There is no usable access key.
    """
    endpoint = normalize_endpoint(endpoint)
    _check_path("cred_path", cred_path)
    config = _resolve_config(config_path, config)
    if config.ca_bundle is not None and not os.access(config.ca_bundle, os.R_OK):
        raise OssConfigError(f"OssConfig.ca_bundle names a file that cannot be read: {config.ca_bundle!r}")
    return Connection(
        endpoint=endpoint,
        region=_resolve_region(region, endpoint, config),
        config=config.without_secrets(),
        credentials=_resolve_credentials(cred_provider, config, os.fspath(cred_path) if cred_path else ""),
    )


def resolve_local(config_path: str | os.PathLike[str] = "", config: OssConfig | None = None) -> Connection:
    """Resolve what a user gave for files of this machine: no endpoint, no region, no access key.

    Args:
        config_path: JSON configuration file.
        config: Everything else.

    Raises:
        OssConfigError: A value is wrong, or a file is missing or malformed.
    """
    config = _resolve_config(config_path, config).without_secrets()
    return Connection(endpoint="", region="", config=config, credentials=None)


def _resolve_config(config_path: str | os.PathLike[str], config: OssConfig | None) -> OssConfig:
    if config is None:
        config = OssConfig()
    elif not isinstance(config, OssConfig):
        raise OssConfigError(f"config must be an OssConfig, not {type(config).__name__}")
    _check_path("config_path", config_path)
    return config.over(_settings_of(os.fspath(config_path))) if config_path else config


def _check_path(name: str, path: str | os.PathLike[str]) -> None:
    # An error of the file system would repeat it, and with it the secret.
    if os.fspath(path).lstrip().startswith("{"):
        raise OssConfigError(f"{name} must be the path of a JSON file, not what the file holds")


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
        f"the region cannot be told from endpoint {endpoint!r}: give the argument region, such as 'cn-hangzhou', "
        "or set OSS_REGION"
    )


def _resolve_credentials(provider: object, config: OssConfig, path: str) -> CredentialSource | None:
    if config.anonymous:
        for name, value in (("cred_provider", provider), ("cred_path", path)):
            if value:
                raise OssConfigError(f"OssConfig.anonymous is True, yet {name} is given: leave one of them out")
        return None
    if provider is not None:
        # Not asked yet: a provider may use the network.
        return provider if isinstance(provider, CredentialSource) else ProviderCredentials(provider)
    explicit = config.credentials()
    if explicit is not None:
        return explicit
    # Both look once here, so that a missing or malformed file is told where it was named.
    if path:
        file = FileCredentials(path)
        file()
        return file
    default = DefaultCredentials()
    default.check()
    return default


def _rebuild(given: dict[str, Any]) -> OssConfig:
    return OssConfig(**given)
