"""Everything that a user, a log file or a bug report may show."""

import base64
import json
import logging
import traceback
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import quote


class Evidence(logging.Handler):
    """Log lines, errors and objects, with all their texts."""

    def __init__(self) -> None:
        super().__init__(logging.NOTSET)
        self.setFormatter(logging.Formatter("%(name)s %(levelname)s %(message)s"))
        self.lines: list[str] = []
        self.errors: list[BaseException] = []
        self.objects: list[object] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))
        self.lines.append(repr(record.__dict__))

    def texts(self) -> Iterator[str]:
        yield from self.lines
        for error in self.errors:
            # The traceback holds notes too, and the errors that caused this one.
            yield from (str(error), repr(error), repr(vars(error)), *traceback.format_exception(error))
        for shown in self.objects:
            yield from (str(shown), repr(shown), repr([shown]))

    def leaks(self, secrets: Iterable[str]) -> list[str]:
        """Return the texts that contain a secret in any spelling."""
        spellings = {spelling for secret in secrets for spelling in _spellings(secret)}
        return [text for text in self.texts() if any(spelling in text for spelling in spellings)]


def recording(target: list[Any], method: Any) -> Any:
    """Return an initializer that also remembers the objects."""

    def initialize(self: Any, *args: Any, **kwargs: Any) -> None:
        method(self, *args, **kwargs)
        target.append(self)

    return initialize


def _spellings(secret: str) -> set[str]:
    return {
        secret,
        repr(secret)[1:-1],
        json.dumps(secret)[1:-1],
        quote(secret),
        quote(secret, safe=""),
        base64.b64encode(secret.encode()).decode(),
        repr(secret.encode())[2:-1],
        secret.encode().hex(),
    }
