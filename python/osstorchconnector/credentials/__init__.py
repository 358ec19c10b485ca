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

from osstorchconnector.credentials.chain import DefaultCredentials
from osstorchconnector.credentials.ecs import EcsRoleCredentials
from osstorchconnector.credentials.environment import EnvironmentCredentials
from osstorchconnector.credentials.explicit import ExplicitCredentials
from osstorchconnector.credentials.file import FileCredentials
from osstorchconnector.credentials.profile import CliProfileCredentials, IniProfileCredentials
from osstorchconnector.credentials.provider import ProviderCredentials
from osstorchconnector.credentials.source import Credentials, CredentialSource
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
