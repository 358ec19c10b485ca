"""Access keys from the profiles of other Alibaba Cloud tools."""

import configparser
import logging
import os
from abc import abstractmethod
from collections.abc import Callable, Hashable, Mapping
from pathlib import Path
from typing import Any, Final, Self

from osstorchconnector._json import read_json
from osstorchconnector.credentials.ecs import EcsRoleCredentials, is_true
from osstorchconnector.credentials.explicit import ExplicitCredentials
from osstorchconnector.credentials.file import FileCredentials
from osstorchconnector.credentials.source import Credentials, CredentialSource, NotConfiguredError, ProcessLock
from osstorchconnector.credentials.sts import (
    DEFAULT_SECONDS,
    OidcRoleCredentials,
    RamRoleCredentials,
    sts_endpoint,
)
from osstorchconnector.credentials.uri import UriCredentials
from osstorchconnector.exceptions import OssConfigError, OssCredentialsError

_logger: Final = logging.getLogger(__name__)

_CLI_DISABLED: Final = "ALIBABA_CLOUD_CLI_PROFILE_DISABLED"
_PROFILE: Final = "ALIBABA_CLOUD_PROFILE"
_INI_FILE: Final = "ALIBABA_CLOUD_CREDENTIALS_FILE"

# A profile may take its key from another one. A longer chain is a circle.
_LONGEST_CHAIN: Final = 8

_Version = tuple[int, int, int]
_Profile = Mapping[str, Any]


class _ProfileCredentials(CredentialSource):
    """Access keys from one profile of a file. The file is read again when it has changed."""

    def __init__(self, path: str = "", profile: str = "") -> None:
        """Name the file and the profile. The file is not read yet.

        Args:
            path: The file. Default: the tool's own.
            profile: The profile. Default: ``ALIBABA_CLOUD_PROFILE`` in the environment, else the file's default.
        """
        self._arguments = (path, profile)
        self._path = path or self._default_path()
        self._profile = profile
        self._lock = ProcessLock()
        self._read: tuple[_Version, CredentialSource] | None = None

    def __call__(self, refused: str | None = None) -> Credentials:
        """Return the access key to use now.

        Raises:
            OssCredentialsError: The file or its profile is missing or malformed, or the key could not be fetched.
        """
        return self.source()(refused)

    def identity(self) -> Hashable:
        """Return the profile, and which version of the file it is in."""
        return (
            type(self).__name__,
            self._path,
            self._profile or os.environ.get("ALIBABA_CLOUD_PROFILE"),
            *self._version(),
        )

    def source(self) -> CredentialSource:
        """Return the source that the profile names, without using the network.

        If the file cannot be read, for instance while it is being rewritten, the last source is still used.

        Raises:
            NotConfiguredError: There is no such file, or it is empty.
            OssCredentialsError: The file is malformed, or has no such profile.
        """
        with self._lock:
            try:
                version = self._version()
                if self._read is None or self._read[0] != version:
                    self._read = version, self._parse(Path(self._path).read_bytes())
            except OSError as error:
                failure = OssCredentialsError(f"profile file {self._path!r} cannot be read: {error.strerror}")
                return self._earlier(failure)
            except OssConfigError as error:
                return self._earlier(error)
            return self._read[1]

    def _earlier(self, error: OssConfigError) -> CredentialSource:
        if self._read is None:
            raise error from None
        _logger.warning("the profile that was read earlier is still used: %s", error)
        return self._read[1]

    def _version(self) -> _Version:
        try:
            status = os.stat(self._path)  # noqa: PTH116 - Path.stat() would make a Path for each of many calls
        except (FileNotFoundError, NotADirectoryError):
            raise NotConfiguredError(f"there is no file {self._path!r}") from None
        return status.st_mtime_ns, status.st_size, status.st_ino

    @abstractmethod
    def _default_path(self) -> str:
        """Return the path of the tool's own file."""

    @abstractmethod
    def _parse(self, content: bytes) -> CredentialSource:
        """Return the source that the profile names."""

    def _text(self, profile: _Profile, name: str, *, needed: bool = True) -> str:
        value = profile.get(name)
        if value is None or value == "":
            if needed:
                raise OssCredentialsError(f"profile file {self._path!r}: the profile has no {name}")
            return ""
        if not isinstance(value, str):
            raise OssCredentialsError(f"profile file {self._path!r}: {name} must be a string")
        return value

    def _key(self, profile: _Profile, token: str = "") -> ExplicitCredentials:
        names = ("access_key_id", "access_key_secret")
        if not any(self._text(profile, name, needed=False) for name in names):
            # The tool writes such a profile when it is installed.
            raise NotConfiguredError(f"the profile in {self._path!r} has no access key")
        access_key_id, access_key_secret = (self._text(profile, name) for name in names)
        return ExplicitCredentials(access_key_id, access_key_secret, self._text(profile, token) if token else None)

    def __reduce__(self) -> tuple[type[Self], tuple[str, str]]:
        """Pickle the names of file and profile."""
        return type(self), self._arguments


class CliProfileCredentials(_ProfileCredentials):
    """Access keys from a profile of the command line tool ``aliyun``, in ``~/.aliyun/config.json``.

    The modes ``AK``, ``StsToken``, ``RamRoleArn``, ``ChainableRamRoleArn``, ``EcsRamRole``, ``RamRoleArnWithEcs``,
    ``OIDC`` and ``CredentialsURI`` are supported. The default is the current profile.
    """

    @classmethod
    def from_environment(cls) -> Self:
        """Return a source for the user's file.

        Raises:
            NotConfiguredError: There is none, or ``ALIBABA_CLOUD_CLI_PROFILE_DISABLED`` is ``true``.
            OssCredentialsError: It is malformed.
        """
        if is_true(_CLI_DISABLED):
            raise NotConfiguredError(f"{_CLI_DISABLED} is true")
        source = cls()
        source.source()
        return source

    def _default_path(self) -> str:
        return str(Path.home() / ".aliyun" / "config.json")

    def _parse(self, content: bytes) -> CredentialSource:
        # No error here is chained: a JSON error contains the whole text of the file.
        try:
            document = read_json(content)
        except ValueError:
            raise OssCredentialsError(f"profile file {self._path!r} is not JSON") from None
        if not isinstance(document, dict):
            raise OssCredentialsError(f"profile file {self._path!r} must hold a JSON object")
        profiles: dict[str, _Profile] = {}
        for profile in document.get("profiles") or []:
            if isinstance(profile, dict) and isinstance(profile.get("name"), str):
                profiles[profile["name"]] = profile
        if not profiles:
            raise NotConfiguredError(f"there is no profile in {self._path!r}")
        name = self._profile or os.environ.get(_PROFILE) or document.get("current") or "default"
        return self._named(profiles, str(name), 0)

    def _named(self, profiles: Mapping[str, _Profile], name: str, depth: int) -> CredentialSource:
        if depth > _LONGEST_CHAIN:
            raise OssCredentialsError(f"profile file {self._path!r}: source_profile of {name!r} leads in a circle")
        if name not in profiles:
            raise OssCredentialsError(f"profile file {self._path!r} has no profile {name!r}")
        profile = profiles[name]
        makers: dict[str, Callable[[_Profile], CredentialSource]] = {
            "AK": self._key,
            "StsToken": lambda profile: self._key(profile, "sts_token"),
            "RamRoleArn": lambda profile: self._role(profile, self._key(profile)),
            "ChainableRamRoleArn": lambda profile: self._role(
                profile, self._named(profiles, self._text(profile, "source_profile"), depth + 1)
            ),
            "EcsRamRole": self._ecs,
            "RamRoleArnWithEcs": lambda profile: self._role(profile, self._ecs(profile)),
            "OIDC": self._oidc,
            "CredentialsURI": lambda profile: UriCredentials(self._text(profile, "credentials_uri")),
        }
        mode = profile.get("mode")
        if not isinstance(mode, str) or mode not in makers:
            raise OssCredentialsError(
                f"profile file {self._path!r}: mode {mode!r} of profile {name!r} is not supported: choose another "
                f"profile with {_PROFILE}, or set {_CLI_DISABLED}=true to ignore the file"
            )
        return makers[mode](profile)

    def _ecs(self, profile: _Profile) -> EcsRoleCredentials:
        return EcsRoleCredentials(self._text(profile, "ram_role_name", needed=False))

    def _oidc(self, profile: _Profile) -> OidcRoleCredentials:
        return OidcRoleCredentials(
            self._text(profile, "ram_role_arn"),
            self._text(profile, "oidc_provider_arn"),
            self._text(profile, "oidc_token_file"),
            self._session_name(profile),
            self._seconds(profile),
            self._text(profile, "policy", needed=False),
            self._endpoint(profile),
        )

    def _role(self, profile: _Profile, source: CredentialSource) -> RamRoleCredentials:
        return RamRoleCredentials(
            source,
            self._text(profile, "ram_role_arn"),
            self._session_name(profile),
            self._seconds(profile),
            self._text(profile, "policy", needed=False),
            self._text(profile, "external_id", needed=False),
            self._endpoint(profile),
        )

    def _session_name(self, profile: _Profile) -> str:
        names = ("ram_session_name", "role_session_name")
        return next(filter(None, (self._text(profile, name, needed=False) for name in names)), "")

    def _seconds(self, profile: _Profile) -> int:
        seconds = profile.get("expired_seconds")
        if seconds is not None and not isinstance(seconds, int):
            raise OssCredentialsError(f"profile file {self._path!r}: expired_seconds must be a whole number")
        return seconds or DEFAULT_SECONDS

    def _endpoint(self, profile: _Profile) -> str:
        region = self._text(profile, "sts_region", needed=False)
        vpc = profile.get("enable_vpc")
        return sts_endpoint(region, vpc=vpc if isinstance(vpc, bool) else None) if region else ""


class IniProfileCredentials(_ProfileCredentials):
    """Access keys from a section of an INI file, in ``~/.alibabacloud/credentials.ini``.

    The types ``access_key``, ``sts``, ``ram_role_arn``, ``oidc_role_arn``, ``ecs_ram_role`` and ``credentials_uri`` are
    supported. The default section is ``[default]``. Without that file, ``~/.alibabacloud/credentials`` is read. If
    that file holds JSON, :class:`FileCredentials` reads it.
    """

    @classmethod
    def from_environment(cls) -> Self:
        """Return a source for the file in ``ALIBABA_CLOUD_CREDENTIALS_FILE``, or the user's own.

        Raises:
            NotConfiguredError: There is none.
            OssCredentialsError: It is malformed.
        """
        source = cls()
        source.source()
        return source

    def _default_path(self) -> str:
        given = os.environ.get(_INI_FILE)
        if given:
            return given
        directory = Path.home() / ".alibabacloud"
        older = directory / "credentials"
        path = directory / "credentials.ini"
        return str(older if older.is_file() and not path.is_file() else path)

    def _parse(self, content: bytes) -> CredentialSource:
        if content.lstrip().startswith(b"{"):
            source = FileCredentials(self._path)
            source()
            return source
        parser = configparser.ConfigParser(interpolation=None, inline_comment_prefixes=("#",))
        # No error here is chained or quoted: it contains the wrong line.
        try:
            parser.read_string(content.decode())
        except (configparser.Error, UnicodeDecodeError):
            raise OssCredentialsError(f"profile file {self._path!r} is not an INI file") from None
        name = self._profile or os.environ.get(_PROFILE) or "default"
        if not parser.sections():
            raise NotConfiguredError(f"there is no section in {self._path!r}")
        if name not in parser:
            raise OssCredentialsError(f"profile file {self._path!r} has no section [{name}]")
        section = parser[name]
        kind = section.get("type", "access_key")
        makers: dict[str, Callable[[_Profile], CredentialSource]] = {
            "access_key": self._key,
            "sts": lambda section: self._key(section, "security_token"),
            "ram_role_arn": self._role,
            "oidc_role_arn": self._oidc,
            "ecs_ram_role": lambda section: EcsRoleCredentials(self._text(section, "role_name", needed=False)),
            "credentials_uri": lambda section: UriCredentials(self._text(section, "credentials_uri")),
        }
        if kind not in makers:
            raise OssCredentialsError(
                f"profile file {self._path!r}: type {kind!r} of section [{name}] is not supported: the types are "
                f"{', '.join(makers)}"
            )
        return makers[kind](section)

    def _role(self, section: _Profile) -> RamRoleCredentials:
        return RamRoleCredentials(
            self._key(section),
            self._text(section, "role_arn"),
            self._text(section, "role_session_name", needed=False),
            policy=self._text(section, "policy", needed=False),
        )

    def _oidc(self, section: _Profile) -> OidcRoleCredentials:
        return OidcRoleCredentials(
            self._text(section, "role_arn"),
            self._text(section, "oidc_provider_arn"),
            self._text(section, "oidc_token_file_path"),
            self._text(section, "role_session_name", needed=False),
            policy=self._text(section, "policy", needed=False),
        )
