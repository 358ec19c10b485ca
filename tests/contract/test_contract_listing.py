"""Both listings, page by page: every key once, sorted by bytes, and groups with a delimiter."""

import uuid
from typing import Protocol

import pytest

from osstorchconnector import OssClient

from .client import ApiClient, ObjectClient, Page
from .keys import HOSTILE_KEYS

KEYS = sorted(
    [*HOSTILE_KEYS.values(), *(f"d{number}/{name}" for number in range(5) for name in "abcd"), "d1", "d10", "z"],
    key=str.encode,
)
NUMBERED_KEYS = [f"{number:04}" for number in range(1005)]


class ListToTheEnd(Protocol):
    def __call__(self, *, prefix: str = "", delimiter: str = "", max_keys: int = 1000) -> list[Page]: ...


def fill(client: OssClient, contents: dict[str, bytes]) -> str:
    bucket = f"listed-{uuid.uuid4().hex[:16]}"
    client.create_bucket(bucket)
    for key, content in contents.items():
        client.put(f"oss://{bucket}/{key}", content)
    return bucket


@pytest.fixture(scope="module")
def filled(client: OssClient) -> str:
    """A bucket with all keys; each object is one byte larger than the previous one."""
    return fill(client, {key: b"x" * number for number, key in enumerate(KEYS)})


@pytest.fixture(params=["v1", "v2"])
def pages(request: pytest.FixtureRequest, api_client: ApiClient, filled: str) -> ListToTheEnd:
    """Return a function that lists the filled bucket to its end with one of the two operations."""

    def list_to_the_end(*, prefix: str = "", delimiter: str = "", max_keys: int = 1000) -> list[Page]:
        found: list[Page] = []
        after = ""
        while after or not found:
            if request.param == "v1":
                page = api_client.list_v1(filled, prefix=prefix, delimiter=delimiter, marker=after, max_keys=max_keys)
            else:
                page = api_client.list_v2(filled, prefix=prefix, delimiter=delimiter, token=after, max_keys=max_keys)
            found.append(page)
            after = page.after
        return found

    return list_to_the_end


def keys_in(pages: list[Page]) -> list[str]:
    return [key for page in pages for key in page.sizes]


def prefixes_in(pages: list[Page]) -> list[str]:
    return [prefix for page in pages for prefix in page.prefixes]


@pytest.mark.parametrize("max_keys", [1, 2, 7, len(KEYS) - 1, len(KEYS), 1000])
def test_pages_have_every_key_once_and_in_order(pages: ListToTheEnd, max_keys: int) -> None:
    found = pages(max_keys=max_keys)
    assert keys_in(found) == KEYS
    assert [len(page.sizes) for page in found[:-1]] == [max_keys] * (len(found) - 1)
    assert 0 < len(found[-1].sizes) <= max_keys
    assert [size for page in found for size in page.sizes.values()] == list(range(len(KEYS)))


@pytest.mark.parametrize("max_keys", [1, 3, 1000])
def test_a_delimiter_groups_keys(pages: ListToTheEnd, max_keys: int) -> None:
    found = pages(delimiter="/", max_keys=max_keys)
    assert keys_in(found) == [key for key in KEYS if "/" not in key]
    groups = sorted({key.partition("/")[0] + "/" for key in KEYS if "/" in key}, key=str.encode)
    assert prefixes_in(found) == groups
    assert all(len(page.sizes) + len(page.prefixes) == max_keys for page in found[:-1])


def test_a_delimiter_works_after_a_prefix(pages: ListToTheEnd) -> None:
    (page,) = pages(prefix="d1", delimiter="/")
    assert (list(page.sizes), page.prefixes) == (["d1", "d10"], ["d1/"])
    (page,) = pages(prefix="a/", delimiter="/")
    assert (list(page.sizes), page.prefixes) == ([], ["a//"])
    (page,) = pages(prefix="d", delimiter="0")
    assert page.prefixes == ["d0", "d10"]


@pytest.mark.parametrize("key", HOSTILE_KEYS.values(), ids=HOSTILE_KEYS)
def test_any_key_is_a_prefix(pages: ListToTheEnd, key: str) -> None:
    for length in {1, len(key) // 2, len(key)}:
        expected = [other for other in KEYS if other.startswith(key[:length])]
        assert keys_in(pages(prefix=key[:length])) == expected
        assert keys_in(pages(prefix=key[:length], max_keys=1)) == expected


def test_a_prefix_of_nothing_is_an_empty_page(pages: ListToTheEnd) -> None:
    assert pages(prefix="none") == [Page({}, [], "")]


@pytest.mark.parametrize("after", [*KEYS[::5], "d1/bb", "zz", "\U0010ffff"])
def test_a_listing_starts_after_any_key(api_client: ApiClient, filled: str, after: str) -> None:
    expected = [key for key in KEYS if key.encode() > after.encode()]
    assert list(api_client.list_v1(filled, marker=after).sizes) == expected
    assert list(api_client.list_v2(filled, start_after=after).sizes) == expected


def test_a_marker_that_is_a_group_skips_it(api_client: ApiClient, filled: str) -> None:
    page = api_client.list_v1(filled, prefix="d", delimiter="/", marker="d1/")
    assert (list(page.sizes), page.prefixes) == (["d10"], ["d2/", "d3/", "d4/"])


@pytest.fixture(scope="module")
def crowded(client: OssClient) -> str:
    """A bucket with more keys than fit on a page."""
    return fill(client, dict.fromkeys(NUMBERED_KEYS, b""))


def test_more_keys_than_a_page_are_listed(any_client: ObjectClient, crowded: str) -> None:
    assert list(any_client.list_all(crowded)) == NUMBERED_KEYS
    assert list(any_client.list_all(crowded, "100")) == NUMBERED_KEYS[1000:]
