from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime, parsedate_to_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from osstorchconnector.connection.http_date import format_http_date, parse_http_date

MOMENTS = st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=-9.5)), timezone(timedelta(hours=8))]))


@given(MOMENTS.filter(lambda moment: 999 < moment.year < 9999))
def test_it_is_what_the_standard_library_writes_and_reads(moment: datetime) -> None:
    written = format_http_date(moment)
    assert written == format_datetime(moment.astimezone(UTC), usegmt=True)
    assert parse_http_date(written) == parsedate_to_datetime(written) == moment.replace(microsecond=0)


@pytest.mark.parametrize(
    "text", ["", "yesterday", "Mon, 31 Feb 2026 08:00:00 GMT", "Mon, 30 Nov 2026 08:00:61 GMT", "30 Nov 2026", "1e9"]
)
def test_what_is_no_time(text: str) -> None:
    assert parse_http_date(text) is None


def test_a_zone_as_a_number() -> None:
    assert parse_http_date("30 Nov 2026 08:00:00 +0000") == datetime(2026, 11, 30, 8, tzinfo=UTC)
