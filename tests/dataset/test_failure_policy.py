"""What the policy does about failed objects of a stream."""

import copy
import gc
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osstorchconnector import DataObject, OssConfigError, OssConnectionError, OssErrorLimitError, OssNotFoundError
from osstorchconnector._native import data_object_from_bytes, new_data_object
from osstorchconnector.dataset.failure_counts import FailureCounts
from osstorchconnector.dataset.iteration import Iteration
from osstorchconnector.dataset.options import Policy
from osstorchconnector.dataset.outcome import Outcomes
from osstorchconnector.dataset.private_directory import PrivateDirectory
from osstorchconnector.dataset.reader_order import ReaderOrder
from osstorchconnector.dataset.reader_position import ReaderPosition
from osstorchconnector.dataset.reading_time import ReadingTime


class FakeRows:
    complete = True

    def __init__(self, count: int) -> None:
        self.count = count

    def digest(self, count: int) -> int:
        return count


class Scripted:
    """A stream of one object per letter: m is missing, u unreadable, l is a failed listing, anything else is fine."""

    def __init__(self, script: str, skip: int = 0) -> None:
        self._script = script
        self._next = skip
        self.closed = False
        self.failed: DataObject | None = None

    def __next__(self) -> DataObject:
        if self._next == len(self._script):
            raise StopIteration
        index = self._next
        self._next += 1
        self.failed = None if self._script[index] == "l" else new_data_object(f"oss://bucket/{index}", 0)
        return self.fetch(index)

    def fetch(self, index: int) -> DataObject:
        match self._script[index]:
            case "m":
                raise OssNotFoundError("object not found", code="NoSuchKey", bucket="bucket", key=str(index))
            case "u":
                raise OssConnectionError("no connection", bucket="bucket", key=str(index))
            case "l":
                raise OssConnectionError("the listing failed", bucket="bucket")
            case letter:
                return data_object_from_bytes(f"oss://bucket/{index}", letter.encode())

    def close(self) -> None:
        self.closed = True


def transform(item: DataObject) -> str:
    content = item.read()
    item.close()
    if content == b"t":
        raise ValueError("not an image")
    return item.name


class Run:
    def __init__(
        self, script: str, policy: Policy, *, block: int = 4, skip: int = 0, transform: Any = transform
    ) -> None:
        stream = Scripted(script, skip)
        self.counts = FailureCounts(PrivateDirectory())
        self.progress = ReaderPosition(ReaderOrder(batch_size=block), skip, FakeRows(len(script)), None)
        reading = ReadingTime(PrivateDirectory(), "Dataset", "nowhere").begin()
        outcomes = Outcomes(stream, transform, keep=policy.has("substitute"), clock=reading.clock)
        self.iterator: Iteration[Any] = Iteration(
            outcomes, policy, self.counts, self.progress, block, Scripted(script).fetch, reading=reading
        )

    def outcomes(self) -> list[Any]:
        found: list[Any] = []
        while True:
            try:
                found.append(next(self.iterator))
            except StopIteration:
                return found
            except Exception as error:  # noqa: BLE001 - the test compares them
                found.append(type(error))


def everywhere(action: Any, limit: int | None = None) -> Policy:
    return Policy(action, action, action, limit)


def test_errors_are_raised_in_their_place() -> None:
    run = Run("amutb", Policy())
    assert run.outcomes() == ["0", OssNotFoundError, OssConnectionError, ValueError, "4"]
    assert run.counts.read() == {"missing": 1, "unreadable": 1, "transform": 1}


def test_each_class_has_its_own_action() -> None:
    run = Run("amutb", Policy(missing="skip", unreadable=lambda error, item: (type(error), item.uri)))
    assert run.outcomes() == ["0", (OssConnectionError, "oss://bucket/2"), ValueError, "4"]
    assert run.progress.consumed == 5


def test_a_function_gets_the_error_and_the_object() -> None:
    calls: list[tuple[str, str, str]] = []

    def decide(error: Exception, item: DataObject) -> str:
        calls.append((type(error).__name__, item.bucket, item.name))
        return "instead"

    assert Run("mut", everywhere(decide)).outcomes() == ["instead"] * 3
    assert calls == [
        ("OssNotFoundError", "bucket", "0"),
        ("OssConnectionError", "bucket", "1"),
        ("ValueError", "bucket", "2"),
    ]


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("abmd", ["0", "1", "1", "3"]),
        ("abmm", ["0", "1", "1", "1"]),
        ("mbcd", ["1", "1", "2", "3"]),
        ("mucd", ["2", "2", "2", "3"]),
        ("tmtd", ["3", "3", "3", "3"]),
        ("mmmdm", ["3", "3", "3", "3", OssNotFoundError]),
        ("mutmefgh", [OssNotFoundError, OssConnectionError, ValueError, OssNotFoundError, "4", "5", "6", "7"]),
        ("abcdmfgh", ["0", "1", "2", "3", "5", "5", "6", "7"]),
        ("abcdmuum", ["0", "1", "2", "3", OssNotFoundError, OssConnectionError, OssConnectionError, OssNotFoundError]),
    ],
)
def test_the_nearest_good_neighbour_of_the_block_takes_the_place(script: str, expected: list[Any]) -> None:
    run = Run(script, everywhere("substitute"))
    assert run.outcomes() == expected
    assert sum(run.counts.read().values()) == sum(script.count(letter) for letter in "mut")
    assert run.progress.consumed == len(script)


def model(script: str, block: int) -> list[Any]:
    errors = {"m": OssNotFoundError, "u": OssConnectionError, "t": ValueError}
    found: list[Any] = []
    for index, letter in enumerate(script):
        start = index - index % block
        before = [other for other in range(start, index) if script[other] not in errors]
        after = [other for other in range(index, min(start + block, len(script))) if script[other] not in errors]
        if letter not in errors:
            found.append(str(index))
        elif before or after:
            found.append(str(before[-1] if before else after[0]))
        else:
            found.append(errors[letter])
    return found


# The first run makes a directory, which a busy machine may take long for.
@settings(deadline=None)
@given(st.text("abmut", max_size=20), st.integers(1, 6), st.data())
def test_substitutes_do_not_depend_on_where_the_iteration_began(script: str, block: int, data: st.DataObject) -> None:
    expected = model(script, block)
    skip = data.draw(st.integers(0, len(script)))
    assert Run(script, everywhere("substitute"), block=block).outcomes() == expected
    assert Run(script, everywhere("substitute"), block=block, skip=skip).outcomes() == expected[skip:]


def test_a_neighbour_is_transformed_again() -> None:
    made: list[list[str]] = []

    def collect(item: DataObject) -> list[str]:
        made.append([item.read().decode()])
        return made[-1]

    first, second = Run("am", everywhere("substitute"), transform=collect).outcomes()
    assert first == second == ["a"]
    assert first is not second


def test_a_failed_listing_is_raised_under_every_policy() -> None:
    for action in ("raise", "skip", "substitute", lambda error, item: None):  # noqa: ARG005
        assert Run("alb", everywhere(action)).outcomes() == ["0", OssConnectionError, "2"]
    # Also if it comes during the search for a substitute: then the failure comes after it.
    run = Run("mlb", everywhere("substitute"))
    assert run.outcomes() == [OssConnectionError, "2", "2"]


def test_an_error_that_is_not_about_one_object_is_raised() -> None:
    class Refused(Scripted):
        def fetch(self, index: int) -> DataObject:
            raise OssConfigError("no access key", bucket="bucket", key=str(index))

    run = Run("a", everywhere("skip"))
    run.iterator._outcomes._stream = Refused("a")
    assert run.outcomes() == [OssConfigError]
    assert sum(run.counts.read().values()) == 0


def test_an_error_of_another_object_is_the_transforms() -> None:
    def look_up(item: DataObject) -> None:
        raise OssNotFoundError("object not found", bucket="bucket", key=f"{item.name}.json")

    run = Run("a", Policy(missing="skip"), transform=look_up)
    assert run.outcomes() == [OssNotFoundError]
    assert run.counts.read() == {"missing": 0, "unreadable": 0, "transform": 1}


def test_an_error_of_reading_in_the_transform_is_the_objects() -> None:
    def read(item: DataObject) -> None:
        raise OssNotFoundError("object not found", bucket="bucket", key=item.name)

    run = Run("a", Policy(missing="skip"), transform=read)
    assert run.outcomes() == []
    assert run.counts.read() == {"missing": 1, "unreadable": 0, "transform": 0}


@pytest.mark.parametrize("action", ["skip", "substitute", lambda error, item: "instead"])  # noqa: ARG005
def test_the_limit_counts_all_classes_and_lists_them(action: Any) -> None:
    run = Run("amutb", everywhere(action, limit=2), block=5)
    assert next(run.iterator) == "0"
    taken = [] if action == "skip" else [next(run.iterator), next(run.iterator)]
    with pytest.raises(OssErrorLimitError, match=r"error_limit=2 .*\(1 missing, 1 unreadable, 1 transform\)") as caught:
        next(run.iterator)
    assert len(set(taken)) <= 1
    assert isinstance(caught.value.__cause__, ValueError)
    assert next(run.iterator) == "4"


def test_closing_ends_it_with_what_was_read_ahead() -> None:
    run = Run("mmab", everywhere("substitute"))
    assert next(run.iterator) == "2"
    stream: Any = run.iterator._outcomes._stream
    run.iterator.close()
    assert stream.closed
    assert not run.iterator._ahead


def test_a_copy_begins_with_the_counts_and_has_its_own() -> None:
    run = Run("mm", everywhere(lambda error, item: None))  # noqa: ARG005
    run.outcomes()
    twin = copy.deepcopy(run.counts)
    run.counts.add("transform", ValueError())
    assert twin.read() == {"missing": 2, "unreadable": 0, "transform": 0}
    twin.add("unreadable", ValueError())
    assert twin.read() == {"missing": 2, "unreadable": 1, "transform": 0}
    assert run.counts.read() == {"missing": 2, "unreadable": 0, "transform": 1}


@pytest.mark.parametrize("action", ["raise", "skip", "substitute", lambda error, item: None])  # noqa: ARG005
def test_a_failure_that_cannot_be_counted_is_raised_as_it_is(action: Any) -> None:
    run = Run("amb", everywhere(action))
    (run.counts._directory.make() / "failures-missing").symlink_to("/dev/full")
    assert next(run.iterator) == "0"
    with pytest.raises(OssNotFoundError, match="object not found") as caught:
        next(run.iterator)
    (note,) = caught.value.__notes__
    assert "No space left" in note
    assert "TMPDIR" in note
    assert next(run.iterator) == "2"


def test_stop_iteration_of_a_function_does_not_end_the_iteration() -> None:
    def stop(*_arguments: Any) -> None:
        raise StopIteration

    assert Run("ab", Policy(), transform=stop).outcomes() == [RuntimeError] * 2
    assert Run("amb", everywhere(stop)).outcomes() == ["0", RuntimeError, "2"]
    run = Run("ab", everywhere("skip"), transform=stop)
    assert run.outcomes() == []
    assert run.counts.read()["transform"] == 2


@pytest.fixture(autouse=True)
def _no_directories_stay() -> Iterator[None]:
    yield
    gc.collect()
