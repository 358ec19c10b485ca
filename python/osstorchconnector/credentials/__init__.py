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

from typing import TYPE_CHECKING, Final

from osstorchconnector._lazy import lazy_names
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
    "CliProfileCredentials": "osstorchconnector.credentials.profile",
    "EcsRoleCredentials": "osstorchconnector.credentials.ecs",
    "IniProfileCredentials": "osstorchconnector.credentials.profile",
    "OidcRoleCredentials": "osstorchconnector.credentials.sts",
    "RamRoleCredentials": "osstorchconnector.credentials.sts",
    "UriCredentials": "osstorchconnector.credentials.uri",
}

if not TYPE_CHECKING:
    # A type checker would take it for any name.
    __getattr__, __dir__ = lazy_names(__name__, __all__, _LATER)
