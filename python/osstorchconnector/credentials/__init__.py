"""The sources of access keys.

All classes of this package look for an access key in this order: ``cred_provider``, the key in
:class:`~osstorchconnector.OssConfig`, ``cred_path``, :class:`DefaultCredentials`. The last one searches the same places
as the other Alibaba Cloud SDKs. To use one place only, give a class of this module as ``cred_provider``::

    from osstorchconnector.credentials import EcsRoleCredentials

    client = OssClient("oss-cn-hangzhou-internal.aliyuncs.com", cred_provider=EcsRoleCredentials("training"))

Threads may share all of them, and a forked process may use them. They renew a key before it expires, and show no secret
in ``repr``, logs and errors. Their pickles hold no secret. :class:`ExplicitCredentials` and
:class:`ProviderCredentials` have one, so they are pickled only to start a process.
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

# Loaded at their first use: most programs need none of them, and their imports take 40 ms.
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
