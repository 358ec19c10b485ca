"""One HTTP request to a service that gives access keys."""

import http.client
import json
import time
import urllib.error
import urllib.request
from typing import Final

from osstorchconnector.credentials.request import StatusError, UnreachableError
from osstorchconnector.exceptions import OssCredentialsError

# An access key with its token has about two kilobytes; what is longer is no answer of these services.
_LONGEST_ANSWER: Final = 64 * 1024
# A request whose answer trickles in is given up after as many times the timeout of one wait.
_PATIENCE: Final = 3


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Redirects are not followed: they would carry a token to another host."""

    def redirect_request(self, *_arguments: object) -> None:
        """Return no request, which makes the redirect an error."""


def exchange(
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
        whom: Who is asked for what, for messages.
        proxies: Whether the proxies of the environment are used.

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
        # Such as a line break in a token: its message would repeat the token.
        raise OssCredentialsError(f"{whom}: the request cannot be sent as it is") from None


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
    """Return the code and request ID in an error's body: its message may repeat what was sent."""
    try:
        document = json.loads(error.read(_LONGEST_ANSWER))
    except (OSError, ValueError, RecursionError, http.client.HTTPException):
        return ""
    if not isinstance(document, dict):
        return ""
    told = [str(document[name])[:80] for name in ("Code", "RequestId") if isinstance(document.get(name), str)]
    return f" ({', '.join(told)})" if told else ""
