import pytest

from osstorchconnector import OssClient

from .conftest import Osst


@pytest.fixture
def filled(client: OssClient, bucket: str) -> str:
    for key, size in (("a", 1), ("b/1", 10), ("b/2", 100), ("b/c/3", 1000), ("e", 5000)):
        client.put(f"oss://{bucket}/{key}", bytes(size))
    return f"oss://{bucket}"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["{b}"], [("", 6111, 5)]),
        (["{b}/b"], [("b/", 1110, 3)]),
        (["{b}", "--depth", "1"], [("b/", 1110, 3), ("", 6111, 5)]),
        (["{b}", "--depth", "9"], [("b/", 1110, 3), ("b/c/", 1000, 1), ("", 6111, 5)]),
        (["{b}", "--include", "b/**", "--exclude", "3"], [("", 110, 2)]),
        (["{b}/*", "--exclude", "c/**"], [("b/", 110, 2), ("a", 1, 1), ("e", 5000, 1)]),
        (["{b}", "--newer", "2999-01-01"], [("", 0, 0)]),
    ],
)
def test_counting(osst: Osst, filled: str, arguments: list[str], expected: list[tuple[str, int, int]]) -> None:
    arguments = [argument.format(b=filled) for argument in arguments]
    documents = osst("du", "--json", *arguments).documents
    assert [(item["uri"], item["size"], item["objects"]) for item in documents] == [
        (f"{filled}/{name}", size, count) for name, size, count in expected
    ]
    lines = osst("du", "--bytes", *arguments).lines
    assert [line.split() for line in lines] == [
        [str(size), str(count), f"{filled}/{name}"] for name, size, count in expected
    ]


def test_sizes_are_for_people_and_json_has_the_classes(osst: Osst, filled: str) -> None:
    assert osst("du", filled).lines[0].split() == ["6.0", "KiB", "5", f"{filled}/"]
    assert osst("du", "--json", filled).documents[0]["storage_classes"] == {"Standard": 6111}


def test_nothing_is_a_sentence(osst: Osst, filled: str) -> None:
    ended = osst("du", f"{filled}/absent")
    assert (ended.status, ended.out) == (1, "")
    assert "there is nothing at" in ended.err
