"""What was compared so far: counts, the list of problems, and the file from which a run resumes."""

import hashlib
import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final

from osstorchconnector._json import read_json
from osstorchconnector._printable import printable
from osstorchconnector.cli.ending import say
from osstorchconnector.cli.output import human
from osstorchconnector.cli.progress import Progress
from osstorchconnector.exceptions import OssConfigError

# Version of the form of the JSON, and of the file to resume from.
_FORM: Final = 1
_FORMAT: Final = "osst-verify"
# What a run that is killed does again at most.
_FLUSH_SECONDS: Final = 1.0


@dataclass(frozen=True)
class Problem:
    """Something that is not as it should be.

    Attributes:
        uri: The object or file.
        state: ``"damaged"``, ``"differs"``, ``"missing"`` or ``"unreadable"``.
        text: What is wrong.
    """

    uri: str
    state: str
    text: str


@dataclass
class Tally:
    """The results so far.

    Attributes:
        shown: Whether problems are shown as they are found.
        finished: The file to resume from, if there is one.
        progress: Shows bytes and objects.
    """

    shown: bool
    finished: "Finished"
    progress: Progress
    verified: int = 0
    unchecked: int = 0
    skipped: int = 0
    size: int = 0
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    _started: float = field(default_factory=time.monotonic)

    def whole(self, uri: str, version: str, size: int, *, checked: bool) -> None:
        """Count an object that was compared and is as it should be.

        Args:
            uri: The object.
            version: Its ETag, and what else must be equal for the result to stay true.
            size: Bytes.
            checked: Whether there was a checksum to compare with.
        """
        if checked:
            self.verified += 1
        else:
            self.unchecked += 1
        self.size += size
        self.progress.object_done()
        self.finished.add(uri, version)

    def skips(self, uri: str, version: str) -> bool:
        """Return whether an earlier run has compared this version; then it is counted."""
        if not self.finished.has(uri, version):
            return False
        self.skipped += 1
        return True

    def problem(self, uri: str, state: str, text: object, size: int = 0) -> None:
        """Count a problem, and show it."""
        found = Problem(uri, state, str(text))
        self.problems.append(found)
        self.size += size
        if self.shown:
            say(f"{state:<10} {uri}: {found.text}")

    def advance(self, count: int) -> None:
        """Show that bytes were read."""
        self.progress.advance(count)

    def note(self, text: str) -> None:
        """Keep a sentence for the end of the report."""
        self.notes.append(text)

    def document(self) -> dict[str, Any]:
        """Return the results for programs."""
        return {
            "version": _FORM,
            "verified": self.verified,
            "unchecked": self.unchecked,
            "skipped": self.skipped,
            "bytes": self.size,
            "seconds": round(time.monotonic() - self._started, 3),
            "problems": [vars(problem) for problem in self.problems],
            "notes": self.notes,
        }

    def summary(self) -> str:
        """Return the results in one sentence for people."""
        took = max(time.monotonic() - self._started, 1e-9)
        parts = [f"{self.verified} verified"]
        if self.unchecked:
            parts.append(f"{self.unchecked} readable, without a checksum in OSS")
        if self.skipped:
            parts.append(f"{self.skipped} verified by an earlier run")
        parts.append(f"{len(self.problems)} not as they should be")
        rate = f"{human(self.size)} in {took:.1f} s, {human(self.size / took)}/s"
        return f"{', '.join(parts)}; {rate}"


class Finished:
    """The versions of objects that are verified, in memory and in a file that a later run resumes from."""

    def __init__(self, path: str | None) -> None:
        """Read what an earlier run has finished.

        Args:
            path: The file, which need not exist. None: remember nothing.

        Raises:
            OssConfigError: The file is something else, or cannot be read or written.
        """
        self._known: set[bytes] = set()
        self._file: IO[bytes] | None = None
        self._flushed = time.monotonic()
        if path is None:
            return
        try:
            whole = self._read(Path(path)) if Path(path).exists() else 0
            self._file = Path(path).open("r+b" if whole else "wb")  # noqa: SIM115 - `close` closes it
            # A run that was killed may have left half a line.
            self._file.truncate(whole)
            self._file.seek(whole)
        except OSError as error:
            raise OssConfigError(f"the state file {path} cannot be used: {error.strerror}") from error
        if not whole:
            self._file.write(_line({"format": _FORMAT, "version": _FORM}))

    def has(self, uri: str, version: str) -> bool:
        """Return whether an earlier run has finished this version."""
        return bool(self._known) and _digest(uri, version) in self._known

    def add(self, uri: str, version: str) -> None:
        """Remember a version."""
        if self._file is None:
            return
        self._file.write(_line([uri, version]))
        if time.monotonic() - self._flushed > _FLUSH_SECONDS:
            self._file.flush()
            self._flushed = time.monotonic()

    def close(self) -> None:
        """Write what is left."""
        if self._file is not None:
            self._file.close()

    def _read(self, path: Path) -> int:
        """Read the whole lines; return how many bytes they have."""
        whole = 0
        with path.open("rb") as file:
            for number, line in enumerate(file):
                if not line.endswith(b"\n"):
                    break
                try:
                    entry = read_json(line)
                except ValueError:
                    entry = None
                if number == 0 and entry != {"format": _FORMAT, "version": _FORM}:
                    raise OssConfigError(f"{path} is no state file of osst verify: name another file")
                if number > 0:
                    if not isinstance(entry, list) or [*map(type, entry)] != [str, str]:
                        raise OssConfigError(
                            f"line {number + 1} of {path} is damaged: {printable(line[:80])}; remove it"
                        )
                    self._known.add(_digest(*entry))
                whole += len(line)
        return whole


def _line(entry: object) -> bytes:
    return json.dumps(entry, ensure_ascii=True).encode() + b"\n"


def _digest(uri: str, version: str) -> bytes:
    # Sixteen bytes instead of two texts: a prefix may have millions of objects.
    return hashlib.blake2b(f"{uri}\0{version}".encode("utf-8", "surrogatepass"), digest_size=16).digest()
