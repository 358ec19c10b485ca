"""Profiles: endpoint, region and the place of credentials under a name, in a file of the user. They hold no secret.

The file is ``$XDG_CONFIG_HOME/osstorchconnector/profiles.json``, by default below ``~/.config``::

    {"profiles": {"training": {"endpoint": "oss-cn-hangzhou-internal.aliyuncs.com", "credentials": "aliyun:training"}}}

``osst configure`` writes it; ``osst --profile`` and the storage option ``profile`` of ``oss://`` read it.
"""

import json
import os
import secrets
import stat
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from osstorchconnector._json import read_json
from osstorchconnector.connection.endpoint import check_region, normalize_endpoint
from osstorchconnector.exceptions import OssConfigError

if TYPE_CHECKING:
    from osstorchconnector.credentials import CredentialSource

#: The profile that is used if no other one and no endpoint is named.
DEFAULT_PROFILE: Final = "default"

#: Where credentials may come from, each with its form.
PLACES: Final = {
    "chain": "chain: the places that all Alibaba Cloud SDKs search",
    "environment": "environment: OSS_ACCESS_KEY_ID and OSS_ACCESS_KEY_SECRET",
    "file": "file:PATH: a JSON file with AccessKeyId and AccessKeySecret",
    "aliyun": "aliyun:NAME: a profile of the aliyun CLI",
    "ini": "ini:NAME: a section of ~/.alibabacloud/credentials.ini",
    "ecs": "ecs or ecs:ROLE: the RAM role of this ECS instance",
    "uri": "uri:URL: a service that answers with temporary keys",
    "anonymous": "anonymous: none, for public buckets",
}
_NEEDS_VALUE: Final = frozenset({"file", "aliyun", "ini", "uri"})
_TAKES_VALUE: Final = _NEEDS_VALUE | {"ecs"}

# A file with some profiles has a few kilobytes.
_LARGEST: Final = 1 << 20


@dataclass(frozen=True)
class Profile:
    """What a name stands for.

    Attributes:
        endpoint: Endpoint of the buckets' region; may be empty.
        region: Region ID; may be empty.
        credentials: The place of the access key, such as ``"aliyun:training"``: one of :data:`PLACES`.
    """

    endpoint: str = ""
    region: str = ""
    credentials: str = "chain"

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            OssConfigError: One is wrong, or is a secret.
        """
        if self.endpoint:
            normalize_endpoint(self.endpoint)
        if self.region:
            check_region(self.region, "region")
        self.place()

    def place(self) -> tuple[str, str]:
        """Return the kind of the place of credentials, and its name, path or address.

        Raises:
            OssConfigError: It is none.
        """
        kind, _, value = self.credentials.partition(":")
        # The text may be a secret that was typed at the wrong place: no message repeats it.
        if kind not in PLACES:
            raise OssConfigError(
                f"credentials must be a place, and never the access key itself: {'; '.join(PLACES.values())}"
            )
        if bool(value) and kind not in _TAKES_VALUE:
            raise OssConfigError(f"credentials: {kind} takes nothing after it: {PLACES[kind]}")
        if not value and kind in _NEEDS_VALUE:
            raise OssConfigError(f"credentials: {kind} needs a value: {PLACES[kind]}")
        if kind == "uri":
            parts = urlsplit(value)
            if parts.scheme not in {"http", "https"} or not parts.netloc:
                raise OssConfigError("credentials: the URL must be http:// or https:// with a host")
            if "@" in parts.netloc or parts.query:
                raise OssConfigError(
                    "credentials: a URL with a password or a query may be a secret, which a profile never holds: set "
                    "ALIBABA_CLOUD_CREDENTIALS_URI, and use chain"
                )
        return kind, value

    @property
    def anonymous(self) -> bool:
        """Whether requests are not signed."""
        return self.place()[0] == "anonymous"

    def source(self) -> "CredentialSource | None":
        """Return where the access key comes from; None for the default chain and without an access key."""
        # Each command needs at most one of them, and some take 40 ms to import.
        from osstorchconnector import credentials  # noqa: PLC0415

        kind, value = self.place()
        makers: dict[str, Callable[[], CredentialSource]] = {
            "environment": credentials.EnvironmentCredentials,
            "file": lambda: credentials.FileCredentials(str(Path(value).expanduser())),
            "aliyun": lambda: credentials.CliProfileCredentials(profile=value),
            "ini": lambda: credentials.IniProfileCredentials(profile=value),
            "ecs": lambda: credentials.EcsRoleCredentials(value),
            "uri": lambda: credentials.UriCredentials(value),
        }
        return makers[kind]() if kind in makers else None


def profiles_path() -> Path:
    """Return the path of the file."""
    base = os.environ.get("XDG_CONFIG_HOME", "")
    # A relative path is invalid: https://specifications.freedesktop.org/basedir-spec/latest/
    directory = Path(base) if base.startswith("/") else Path.home() / ".config"
    return directory / "osstorchconnector" / "profiles.json"


def read_profiles() -> dict[str, Profile]:
    """Return all profiles by name; none if there is no file.

    Raises:
        OssConfigError: The file is malformed or cannot be read, or other users can change it.
    """
    path = profiles_path()
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                # They could send this user's requests to a server of theirs.
                raise OssConfigError(f"profile file {str(path)!r} can be changed by other users: run chmod 600 on it")
            content = file.read(_LARGEST + 1)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise OssConfigError(f"profile file {str(path)!r} cannot be read: {error.strerror}") from error
    try:
        document = read_json(content)
    except ValueError as error:
        raise OssConfigError(f"profile file {str(path)!r} is not JSON: {error}") from None
    found = document.get("profiles") if isinstance(document, dict) else None
    if not isinstance(found, dict) or len(content) > _LARGEST:
        raise OssConfigError(f"profile file {str(path)!r} must hold a JSON object with an object 'profiles'")
    return {name: _profile(path, name, fields) for name, fields in found.items()}


def read_profile(name: str) -> Profile:
    """Return one profile.

    Raises:
        OssConfigError: There is none of that name, or the file cannot be used.
    """
    profiles = read_profiles()
    if name not in profiles:
        known = f"there are {', '.join(map(repr, sorted(profiles)))}" if profiles else "there is none"
        raise OssConfigError(f"{str(profiles_path())!r} has no profile {name!r}: {known}; `osst configure` makes one")
    return profiles[name]


def write_profiles(profiles: Mapping[str, Profile]) -> None:
    """Replace the file, whole or not at all; only this user can read it.

    Raises:
        OssConfigError: It cannot be written.
    """
    path = profiles_path()
    document = {"profiles": {name: _without_empty(asdict(profile)) for name, profile in sorted(profiles.items())}}
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w") as file:  # noqa: PTH123 - with permissions
                json.dump(document, file, indent=2)
                file.write("\n")
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise OssConfigError(f"profile file {str(path)!r} cannot be written: {error.strerror}") from error


def _without_empty(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value}


def _profile(path: Path, name: str, fields: object) -> Profile:
    allowed = ("endpoint", "region", "credentials")
    if not isinstance(fields, dict):
        raise OssConfigError(f"profile file {str(path)!r}: profile {name!r} must be an object")
    for field, value in fields.items():
        if field not in allowed:
            raise OssConfigError(
                f"profile file {str(path)!r}: profile {name!r} has a field {field!r}: allowed are {', '.join(allowed)}"
                "; a profile never holds a secret"
            )
        if not isinstance(value, str):
            raise OssConfigError(f"profile file {str(path)!r}: {field} of profile {name!r} must be a string")
    try:
        return Profile(**fields)
    except OssConfigError as error:
        raise OssConfigError(f"profile file {str(path)!r}: profile {name!r}: {error}") from None
