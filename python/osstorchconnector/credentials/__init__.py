"""Where access keys come from.

Everything that connects to OSS looks for an access key in this order: ``cred_provider``, the one in
:class:`~osstorchconnector.OssConfig`, ``cred_path``, and then :class:`DefaultCredentials`, which looks where the other
Alibaba Cloud SDKs look. Any class of this module may be given as ``cred_provider``, to look in one place only::

    from osstorchconnector.credentials import EcsRoleCredentials

    client = OssClient("oss-cn-hangzhou-internal.aliyuncs.com", cred_provider=EcsRoleCredentials("training"))

All of them may be shared by threads and used after a fork, refresh what expires ahead of time, and show no secret in
``repr``, logs and errors. No secret is in their pickles, except for :class:`ExplicitCredentials` and
:class:`ProviderCredentials`, which are pickled only to start a process.
"""

import importlib
from typing import TYPE_CHECKING, Final

from osstorchconnector.credentials.chain import DefaultCredentials
from osstorchconnector.credentials.environment import EnvironmentCredentials
from osstorchconnector.credentials.explicit import ExplicitCredentials
from osstorchconnector.credentials.file import FileCredentials
from osstorchconnector.credentials.provider import ProviderCredentials
from osstorchconnector.credentials.source import Credentials, CredentialSource

if TYPE_CHECKING:
    from osstorchconnector.credentials.ecs import EcsRoleCredentials
    from osstorchconnector.credentials.profile import CliProfileCredentials, IniProfileCredentials
    from osstorchconnector.credentials.sts import OidcRoleCredentials, RamRoleCredentials
    from osstorchconnector.credentials.uri import UriCredentials

__all__ = [
    "CliProfileCredentials",
    "Credentials",
    "CredentialSource",
    "DefaultCredentials",
    "EcsRoleCredentials",
    "EnvironmentCredentials",
    "ExplicitCredentials",
    "FileCredentials",
    "IniProfileCredentials",
    "OidcRoleCredentials",
    "ProviderCredentials",
    "RamRoleCredentials",
    "UriCredentials",
]

# Loaded at their first use: most programs need none of them, and their parts take 40 ms to import.
_LATER: Final = {
    "CliProfileCredentials": "profile",
    "EcsRoleCredentials": "ecs",
    "IniProfileCredentials": "profile",
    "OidcRoleCredentials": "sts",
    "RamRoleCredentials": "sts",
    "UriCredentials": "uri",
}


def __getattr__(name: str) -> object:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(importlib.import_module(f"{__name__}.{_LATER[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
