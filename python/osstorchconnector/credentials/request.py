"""The small HTTP requests that fetch access keys."""

import http.client
import random
import time
import urllib.error
import urllib.request
from typing import Any, Final

from osstorchconnector._json import read_json
from osstorchconnector._native import __version__
from osstorchconnector.credentials.source import Credentials, unix_seconds
from osstorchconnector.exceptions import OssCredentialsError

# It doubles after each attempt, with jitter, so that not all processes of a job ask an overloaded service at once.
_PAUSE_SECONDS: Final = 0.2

_TOO_MANY_REQUESTS: Final = 429
_SERVER_ERRORS: Final = 500

# An access key with its token has about two kilobytes. These services send no longer answers.
_LONGEST_ANSWER: Final = 64 * 1024
# A slow answer is given up after this multiple of the timeout of one wait.
_PATIENCE: Final = 3


class UnreachableError(OssCredentialsError):
    """No connection to the service could be made, or it did not answer."""


class StatusError(OssCredentialsError):
    """The service answered with a status that is not success.

    Attributes:
        http_status: The status.
    """

    def __init__(self, message: str = "", http_status: int = 0) -> None:
        """Keep the status beside the message."""
        super().__init__(message)
        self.http_status = http_status


def fetch(
    url: str,
    *,
    what: str,
    timeout: float,
    attempts: int,
    method: str = "GET",
    headers: dict[str, str] | None = None,
    form: bytes | None = None,
    proxies: bool = False,
) -> bytes:
    """Send a request and return the body of the answer.

    Args:
        url: ``http`` or ``https``. Errors show it without user name, password and query.
        what: The thing that is wanted, for messages.
        timeout: Seconds for connecting, and for each wait for bytes.
        attempts: Attempts at most. A request that was refused is not sent again.
        method: The HTTP method.
        headers: Headers, which may hold secrets.
        form: Body of a form, which may hold secrets.
        proxies: Whether to use the proxies of the environment. There is no proxy before services of this machine.

    Raises:
        UnreachableError: There was no answer.
        StatusError: It was refused.
    """
    shown = _without_secrets(url)
    if not url.startswith(("http://", "https://")):
        raise OssCredentialsError(f"{what}: {shown!r} is not an HTTP address")
    sent = {"User-Agent": f"osstorchconnector/{__version__}", **(headers or {})}
    failure = OssCredentialsError(f"{what}: no request was sent to {shown}")
    for attempt in range(attempts):
        if attempt > 0:
            time.sleep(_PAUSE_SECONDS * 2 ** (attempt - 1) * random.uniform(0.5, 1.5))  # noqa: S311 - a pause
        try:
            return _exchange(
                url, method=method, headers=sent, form=form, timeout=timeout, whom=f"{what}: {shown}", proxies=proxies
            )
        except StatusError as error:
            failure = error
            if error.http_status != _TOO_MANY_REQUESTS and error.http_status < _SERVER_ERRORS:
                break
        except UnreachableError as error:
            failure = error
    raise failure


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Does not follow redirects: they would send a token to another host."""

    def redirect_request(self, *_arguments: object) -> None:
        """Return no request, so that the redirect is an error."""


def _exchange(
    url: str,
    *,
    method: str,
    headers: dict[str, str],
    form: bytes | None,
    timeout: float,
    whom: str,
    proxies: bool,
) -> bytes:
    """Send a request and return the body of the answer.

    Args:
        url: ``http`` or ``https``.
        method: The HTTP method.
        headers: Headers, which may hold secrets.
        form: Body of a form, which may hold secrets.
        timeout: Seconds for connecting, and for each wait for bytes.
        whom: The service and the thing that is wanted, for messages.
        proxies: Whether to use the proxies of the environment.

    Raises:
        UnreachableError: There was no answer.
        StatusError: It was refused.
    """
    handlers: list[urllib.request.BaseHandler] = [_NoRedirect()]
    if not proxies:
        handlers.append(urllib.request.ProxyHandler({}))
    request = urllib.request.Request(url, data=form, headers=headers, method=method)  # noqa: S310 - checked before
    try:
        with urllib.request.build_opener(*handlers).open(request, timeout=timeout) as answer:
            return _body(answer, timeout, whom)
    except urllib.error.HTTPError as error:
        with error:
            raise StatusError(f"{whom} answered {error.code}{_explanation(error)}", error.code) from None
    except urllib.error.URLError as error:
        raise UnreachableError(f"{whom} cannot be reached: {error.reason}") from None
    except (OSError, http.client.HTTPException) as error:
        raise UnreachableError(f"{whom} did not answer: {str(error) or type(error).__name__}") from None
    except OssCredentialsError:
        raise
    except ValueError:
        # For instance a line break in a token: the message of this error would contain the token.
        raise OssCredentialsError(
            f"{whom}: the request cannot be sent: a header or the address has a character that is not allowed"
        ) from None


def _body(answer: http.client.HTTPResponse, timeout: float, whom: str) -> bytes:
    deadline = time.monotonic() + _PATIENCE * timeout
    body = b""
    while received := answer.read1(_LONGEST_ANSWER):
        body += received
        if len(body) > _LONGEST_ANSWER:
            raise OssCredentialsError(f"{whom} answered with more than {_LONGEST_ANSWER} bytes")
        if time.monotonic() > deadline:
            raise UnreachableError(f"{whom} did not finish its answer")
    return body


def _explanation(error: urllib.error.HTTPError) -> str:
    """Return code and request ID in an error's body, but not its message, which may contain secrets of the request."""
    try:
        document = read_json(error.read(_LONGEST_ANSWER))
    except (OSError, ValueError, http.client.HTTPException):
        return ""
    if not isinstance(document, dict):
        return ""
    shown = [str(document[name])[:80] for name in ("Code", "RequestId") if isinstance(document.get(name), str)]
    return f" ({', '.join(shown)})" if shown else ""


def key_in(body: bytes, *, what: str, within: str | None = None) -> Credentials:
    """Return the access key in an answer.

    Args:
        body: ``{"AccessKeyId", "AccessKeySecret", "SecurityToken", "Expiration"}`` and possibly ``"Code": "Success"``.
        what: The thing that is wanted, for messages.
        within: The field that holds the key.

    Raises:
        OssCredentialsError: The answer holds no access key.
    """
    # No error here is chained or quotes the answer, which holds a secret.
    try:
        document: Any = read_json(body)
    except ValueError:
        raise OssCredentialsError(f"{what}: the answer is not JSON") from None
    if isinstance(document, dict) and within is not None:
        document = document.get(within)
    if not isinstance(document, dict):
        raise OssCredentialsError(f"{what}: the answer holds no access key")
    code = document.get("Code", "Success")
    if code != "Success":
        raise OssCredentialsError(f"{what}: the answer's code is {str(code)[:80]!r}")
    values = []
    for name in ("AccessKeyId", "AccessKeySecret", "SecurityToken", "Expiration"):
        value = document.get(name)
        if not isinstance(value, str) or not value:
            raise OssCredentialsError(f"{what}: the answer has no {name}")
        values.append(value)
    try:
        expiration = unix_seconds(values[3])
    except ValueError:
        raise OssCredentialsError(f"{what}: the answer's Expiration is not a time") from None
    return Credentials(values[0], values[1], values[2], expiration)


def _without_secrets(url: str) -> str:
    scheme, separator, rest = url.partition("?")[0].partition("://")
    authority, slash, path = rest.partition("/")
    return scheme + separator + authority.rpartition("@")[2] + slash + path
