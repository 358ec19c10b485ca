"""Storage options: their names, the client that they describe, and how their secrets are kept from sight."""

import dataclasses
import difflib
import hashlib
import hmac
import os
import pickle
import secrets
import weakref
from typing import TYPE_CHECKING, Any, Final, Self

from fsspec.registry import available_protocols

from osstorchconnector.connection.client import OssClient
from osstorchconnector.connection.config import OssConfig
from osstorchconnector.credentials import CredentialSource
from osstorchconnector.credentials.shield import shielded
from osstorchconnector.credentials.source import NotConfiguredError
from osstorchconnector.exceptions import OssConfigError, OssCredentialsError
from osstorchconnector.process.starting import is_starting_process

if TYPE_CHECKING:
    from osstorchconnector.connection.profiles import Profile

#: Names of ossfs, and what they are called here.
_ALIASES: Final = {"key": "access_key_id", "secret": "access_key_secret", "token": "security_token"}
_SECRETS: Final = frozenset({"access_key_id", "access_key_secret", "security_token"})
_CONFIG_FIELDS: Final = frozenset(field.name for field in dataclasses.fields(OssConfig))
_ARGUMENTS: Final = frozenset({"endpoint", "region", "cred_path", "config_path", "cred_provider", "config"})
_CONNECTION: Final = _CONFIG_FIELDS | _ARGUMENTS | frozenset(_ALIASES) | {"client", "profile"}

#: What belongs to fsspec: the cache of listings, and caches of opened files.
FSSPEC_OPTIONS: Final = frozenset(
    {
        "block_size",
        "cache_type",
        "default_block_size",
        "default_cache_type",
        "listings_expiry_time",
        "max_paths",
        "use_listings_cache",
    }
)
#: Every option by name.
OPTIONS: Final = _CONNECTION | FSSPEC_OPTIONS | {"pickle_secrets"}

# What decides about a client if no option does.
_VARIABLES: Final = (
    "OSS_ENDPOINT",
    "OSS_REGION",
    "OSS_ACCESS_KEY_ID",
    "OSS_ACCESS_KEY_SECRET",
    "OSS_SESSION_TOKEN",
    "ALIBABA_CLOUD_ACCESS_KEY_ID",
    "ALIBABA_CLOUD_ACCESS_KEY_SECRET",
    "ALIBABA_CLOUD_SECURITY_TOKEN",
    "ALIBABA_CLOUD_PROFILE",
    "ALIBABA_CLOUD_CREDENTIALS_FILE",
    "ALIBABA_CLOUD_ROLE_ARN",
    "ALIBABA_CLOUD_ECS_METADATA",
    "ALIBABA_CLOUD_CREDENTIALS_URI",
)

# Of this process and its forks: a digest says whether two secrets are equal, and nothing about either.
_DIGEST_KEY: Final = secrets.token_bytes(32)


class Hidden:
    """The value of an option that is, or may hold, a secret. It shows a digest.

    Its pickle has the value only to start a process, or if the program wants that. Any other pickle has the digest,
    which is enough for this process and its forks: dask, for instance, pickles to compare.
    """

    __slots__ = ("__weakref__", "_digest", "_is_pickled", "_name", "_value")

    _digest: str
    _is_pickled: bool
    _name: str
    _value: Any

    def __new__(cls, name: str, value: Any, *, is_pickled: bool = False) -> Self:  # noqa: ANN401 - of each option
        """Hide a value. Equal values of one option are one object, so that a digest finds it while anybody has it.

        Args:
            name: The option, for messages.
            value: Its value.
            is_pickled: Whether a text is in every pickle.
        """
        text = f"{name} {is_pickled} {_content(value)}"
        digest = hmac.new(_DIGEST_KEY, text.encode(), hashlib.sha256).hexdigest()[:16]
        self = super().__new__(cls)
        self._name, self._value, self._digest, self._is_pickled = name, value, digest, is_pickled
        return _known.setdefault(digest, self)  # type: ignore[return-value]

    def reveal(self) -> Any:  # noqa: ANN401 - as above
        """Return the value."""
        return self._value

    def __repr__(self) -> str:
        """Return a digest: fsspec keeps one instance for options with one text."""
        return f"Hidden({self._name}={self._digest})"

    def __copy__(self) -> Self:
        """Return this object: it does not change."""
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Return this object: it does not change."""
        return self

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        """Pickle the name, with the value or the digest."""
        if is_starting_process() or self._is_pickled or not self._is_secret():
            return _made_again, (self._name, self._value, self._is_pickled)
        # One new text, so that a pickle of what was unpickled has the same bytes: dask compares them.
        return _known_by, (f"{self._name}={self._digest}",)

    def _is_secret(self) -> bool:
        if isinstance(self._value, str):
            return _ALIASES.get(self._name, self._name) in _SECRETS or "@" in self._value
        try:
            # Other values refuse by themselves if they hold a secret.
            pickle.dumps(self._value)
        except OssCredentialsError:
            return True
        return False


_known: "weakref.WeakValueDictionary[str, Hidden]" = weakref.WeakValueDictionary()


def _made_again(name: str, value: Any, is_pickled: bool) -> Hidden:  # noqa: ANN401, FBT001 - from a pickle
    return Hidden(name, value, is_pickled=is_pickled)


def _known_by(reference: str) -> Hidden:
    """Return what a pickle of this process, or of the one that it was forked from, has the digest of.

    Raises:
        OssCredentialsError: It is a pickle of another process.
    """
    name, _, digest = reference.partition("=")
    found = _known.get(digest)
    if found is None:
        raise OssCredentialsError(
            f"this pickle of oss:// does not hold the storage option {name!r}, so that no secret gets into a file or "
            "to another machine: give cred_path or environment variables instead, of which only the names are pickled, "
            "or pickle_secrets=True if nobody who may read the pickles must be kept from the key"
        )
    return found


def hidden(options: dict[str, Any]) -> dict[str, Any]:
    """Return storage options with what may be a secret hidden, without those of other protocols.

    Libraries pass one dict for all protocols, in which each has a dict of its own.

    Raises:
        OssConfigError: There is no option of a name.
    """
    options = {
        name: value for name, value in options.items() if name in OPTIONS or not _is_of_another_protocol(name, value)
    }
    unknown = sorted(set(options) - OPTIONS)
    if unknown:
        near = difflib.get_close_matches(unknown[0], OPTIONS, 1)
        advice = f"did you mean {near[0]!r}?" if near else f"the options are {', '.join(sorted(OPTIONS))}"
        raise OssConfigError(f"oss:// has no storage option {unknown[0]!r}: {advice}")
    pickled = options.get("pickle_secrets") or False
    if not isinstance(pickled, bool):
        raise OssConfigError(f"the storage option 'pickle_secrets' must be True or False, not {pickled!r}")
    return {name: _hide(name, value, is_pickled=pickled) for name, value in options.items()}


@shielded
def client_of(options: dict[str, Any]) -> OssClient:
    """Return the client that storage options describe.

    The first of these decides: an option, `config`, the environment, the file at `config_path`, the default.

    Raises:
        OssConfigError: A value is wrong, or the endpoint is missing.
        OssCredentialsError: There is no usable access key.
    """
    given = {name: _reveal(value) for name, value in options.items() if name in _CONNECTION and value is not None}
    client = given.pop("client", None)
    if client is not None:
        if not isinstance(client, OssClient):
            raise OssConfigError(f"the storage option 'client' must be an OssClient, not {type(client).__name__}")
        if given:
            raise OssConfigError(f"the storage option 'client' decides everything: leave out {min(given)!r}")
        return client
    given = _with_our_names(given)
    provider, name = given.pop("cred_provider", None), given.pop("profile", None)
    profile = _profile(name)
    region = given.pop("region", "") or (profile.region if profile is not None else "")
    endpoint = given.pop("endpoint", "") or (profile.endpoint if profile is not None else "")
    endpoint = endpoint or os.environ.get("OSS_ENDPOINT") or _endpoint_in(region)
    if profile is not None and profile.anonymous:
        given.setdefault("anonymous", True)
    provider = _provider(provider, name, profile)
    return OssClient(
        endpoint,
        given.pop("cred_path", ""),
        given.pop("config_path", ""),
        provider,
        region,
        config=_config(given.pop("config", None), given),
    )


def names_a_client(options: dict[str, Any]) -> bool:
    """Return whether options say anything about the client, so that no other source decides."""
    return any(name in _CONNECTION and value is not None for name, value in options.items())


def environment_digest() -> str:
    """Return a text that differs if the environment describes another client."""
    values = repr([os.environ.get(name) for name in _VARIABLES])
    return hmac.new(_DIGEST_KEY, values.encode(), hashlib.sha256).hexdigest()


def _is_of_another_protocol(name: str, value: object) -> bool:
    return isinstance(value, dict) and name in available_protocols()


def _hide(name: str, value: Any, *, is_pickled: bool) -> Any:  # noqa: ANN401 - any option
    if value is None or isinstance(value, Hidden):
        return value
    our_name = _ALIASES.get(name, name)
    if our_name in _SECRETS or our_name in {"proxy", "headers", "config", "cred_provider", "client"}:
        # What is more than a text says by itself whether it may be pickled.
        return Hidden(name, value, is_pickled=is_pickled and isinstance(value, str))
    return value


def _reveal(value: Any) -> Any:  # noqa: ANN401 - any option
    return value.reveal() if isinstance(value, Hidden) else value


def _content(value: object) -> str:
    if isinstance(value, str):
        return f"text {value}"
    if isinstance(value, OssConfig):
        # Its repr hides what makes two of them different.
        return f"config { ({name: getattr(value, name) for name in sorted(_CONFIG_FIELDS)})!r} {sorted(value._given)}"  # noqa: SLF001 - the package's own
    if isinstance(value, dict):
        return f"dict {sorted(value.items())!r}"
    # A provider or a client: two of them are never taken for one. The instance keeps it alive.
    return f"object {id(value)}"


def _with_our_names(given: dict[str, Any]) -> dict[str, Any]:
    for theirs, ours in _ALIASES.items():
        if theirs in given and ours in given:
            raise OssConfigError(f"the storage options {theirs!r} and {ours!r} are the same: leave one of them out")
    for first, second in (("key", "secret"), ("secret", "key")):
        if first in given and second not in given:
            raise OssConfigError(f"the storage option {second!r} is missing: {first!r} is given without it")
    return {_ALIASES.get(name, name): value for name, value in given.items()}


def _endpoint_in(region: str) -> str:
    region = region or os.environ.get("OSS_REGION") or ""
    if not region:
        raise OssConfigError(
            "oss:// has no endpoint: give storage_options={'endpoint': 'oss-cn-hangzhou-internal.aliyuncs.com'}, or "
            "set OSS_ENDPOINT; with OSS_REGION alone, the public endpoint of the region is used"
        )
    return f"oss-{region}.aliyuncs.com"


def _profile(name: str | None) -> "Profile | None":
    """Return the profile of `osst configure` that has a name, if there is one."""
    if name is None:
        return None
    # Loaded here, since few programs need a profile.
    from osstorchconnector.connection.profiles import read_profiles  # noqa: PLC0415

    return read_profiles().get(name)


def _provider(provider: object, name: str | None, profile: "Profile | None") -> object:
    if name is None:
        return provider
    if provider is not None:
        raise OssConfigError("the storage options 'cred_provider' and 'profile' are both given: leave one of them out")
    return _profile_source(name) if profile is None else profile.source()


def _profile_source(profile: str) -> CredentialSource:
    """Return the profile of the command line tool ``aliyun``, or else the section of the INI file.

    Raises:
        OssCredentialsError: There is no such profile.
    """
    # Loaded here, since few programs need a profile.
    from osstorchconnector.credentials.profile import CliProfileCredentials, IniProfileCredentials  # noqa: PLC0415

    reasons = []
    for kind in (CliProfileCredentials, IniProfileCredentials):
        source = kind(profile=profile)
        try:
            source.source()
        except (NotConfiguredError, OssCredentialsError) as error:
            reasons.append(str(error))
        else:
            return source
    raise OssCredentialsError(f"there is no profile {profile!r}: {'; '.join(reasons)}")


def _config(config: object, fields: dict[str, Any]) -> OssConfig | None:
    if config is not None and not isinstance(config, OssConfig):
        raise OssConfigError(f"the storage option 'config' must be an OssConfig, not {type(config).__name__}")
    if not fields:
        return config
    given = OssConfig(**fields)
    return given if config is None else given.over({name: getattr(config, name) for name in config._given})  # noqa: SLF001 - the package's own
