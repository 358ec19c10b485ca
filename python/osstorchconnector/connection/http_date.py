"""Times as HTTP writes them, such as ``Mon, 30 Nov 2026 08:00:00 GMT``.

The module ``email.utils`` has this too, but takes 15 ms to import. It cannot be imported at the first use: if another
thread forks meanwhile, the child waits for the import forever.
"""

import re
from datetime import UTC, datetime
from typing import Final

_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

# https://www.rfc-editor.org/rfc/rfc9110#section-5.6.7; some servers write the zone as a number.
_FORM: Final = re.compile(
    rf"(?:(?:{'|'.join(_DAYS)}), )?(\d{{1,2}}) ({'|'.join(_MONTHS)}) (\d{{4}}) "
    r"(\d\d):(\d\d):(\d\d) (?:GMT|UTC|[+-]0000)",
    re.ASCII,
)


def format_http_date(moment: datetime) -> str:
    """Return a time, which has a zone, as HTTP writes it."""
    utc = moment.astimezone(UTC)
    # Not by strftime, whose names depend on the language.
    return f"{_DAYS[utc.weekday()]}, {utc.day:02} {_MONTHS[utc.month - 1]} {utc.year:04} {utc:%H:%M:%S} GMT"


def parse_http_date(text: str) -> datetime | None:
    """Return the time that a server wrote, or None if it is none."""
    match = _FORM.fullmatch(text.strip())
    if match is None:
        return None
    day, month, year, hour, minute, second = match.groups()
    try:
        return datetime(int(year), _MONTHS.index(month) + 1, int(day), int(hour), int(minute), int(second), tzinfo=UTC)
    except ValueError:
        return None
