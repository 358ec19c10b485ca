import builtins
import errno
import io
import json
import pickle
import traceback
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from osstorchconnector import exceptions
from osstorchconnector.exceptions import OssConfigError, OssCredentialsError, OssError, OssNotFoundError

CLASSES = [getattr(exceptions, name) for name in exceptions.__all__]
FIELDS: dict[str, Any] = {
    "code": "NoSuchKey",
    "status": 404,
    "ec": "0026-00000001",
    "request_id": "66F0A1B2C3D4E5F6A7B8C9D0",
    "bucket": "bucket",
    "key": "a/b c",
    "attempts": 3,
}
TEXT = "object not found"
FORM = (
    ' [code="NoSuchKey", status=404, ec="0026-00000001", request_id="66F0A1B2C3D4E5F6A7B8C9D0", '
    'bucket="bucket", key="a/b c", attempts=3]'
)


def fields_of(error: OssError) -> dict[str, Any]:
    return {name: getattr(error, name) for name in FIELDS}


@pytest.mark.parametrize(
    ("name", "bases"),
    [
        ("OssError", {"RuntimeError"}),
        ("OssNotFoundError", {"OssError", "FileNotFoundError"}),
        ("OssExistsError", {"OssError", "FileExistsError"}),
        ("OssPermissionError", {"OssError", "PermissionError"}),
        ("OssArchivedError", {"OssError"}),
        ("OssThrottledError", {"OssError"}),
        ("OssTimeoutError", {"OssError", "TimeoutError"}),
        ("OssConnectionError", {"OssError", "ConnectionError"}),
        ("OssIntegrityError", {"OssError"}),
        ("OssListingChangedError", {"OssError"}),
        ("OssErrorLimitError", {"OssError"}),
        ("OssFormatError", {"OssError", "ValueError"}),
        ("OssKeyError", {"OssError", "KeyError"}),
        ("OssConfigError", {"OssError", "ValueError"}),
        ("OssCredentialsError", {"OssConfigError"}),
    ],
)
def test_the_tree_is_as_promised(name: str, bases: set[str]) -> None:
    error = getattr(exceptions, name)
    expected = {getattr(exceptions, base, None) or getattr(builtins, base) for base in bases}
    assert set(error.__bases__) == expected


def test_every_class_of_the_module_is_listed() -> None:
    defined = {
        name
        for name, value in vars(exceptions).items()
        if isinstance(value, type) and value.__module__ == exceptions.__name__
    }
    assert sorted(defined) == exceptions.__all__


@pytest.mark.parametrize("cls", CLASSES)
def test_text_ends_with_the_fields_in_their_fixed_form(cls: type[OssError]) -> None:
    error = cls(TEXT, **FIELDS)
    assert str(error) == TEXT + FORM
    assert fields_of(error) == FIELDS


@pytest.mark.parametrize("cls", CLASSES)
def test_an_error_without_fields_is_its_message(cls: type[OssError]) -> None:
    error = cls(TEXT)
    assert str(error) == TEXT
    assert fields_of(error) == dict.fromkeys(FIELDS)


@pytest.mark.parametrize("cls", CLASSES)
def test_pickling_keeps_type_text_and_fields(cls: type[OssError]) -> None:
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        error = pickle.loads(pickle.dumps(cls(TEXT, **FIELDS), protocol))
        assert type(error) is cls
        assert str(error) == TEXT + FORM
        assert fields_of(error) == FIELDS


@pytest.mark.parametrize("cls", CLASSES)
def test_an_error_rebuilt_from_a_traceback_has_the_fields_and_that_text(cls: type[OssError]) -> None:
    try:
        raise cls(TEXT, **FIELDS)
    except OssError as error:
        text = f"Caught {cls.__name__} in worker 0.\nOriginal {''.join(traceback.format_exception(error))}"
    rebuilt = cls(text)
    assert str(rebuilt) == text
    assert fields_of(rebuilt) == FIELDS
    assert fields_of(pickle.loads(pickle.dumps(rebuilt))) == FIELDS


@pytest.mark.parametrize("cls", CLASSES)
def test_torch_rebuilds_a_workers_error_with_its_fields(cls: type[OssError]) -> None:
    from torch._utils import ExceptionWrapper  # noqa: PLC0415 - torch takes seconds to import

    try:
        raise cls(TEXT, **FIELDS)
    except OssError:
        wrapper: Any = ExceptionWrapper(where="in DataLoader worker process 0")  # type: ignore[no-untyped-call]
    with pytest.raises(cls, match="in DataLoader worker process 0") as caught:
        wrapper.reraise()
    assert fields_of(caught.value) == FIELDS


@given(
    message=st.text(),
    texts=st.fixed_dictionaries(
        {}, optional={name: st.text() for name in ("code", "ec", "request_id", "bucket", "key")}
    ),
    numbers=st.fixed_dictionaries({}, optional={name: st.integers(min_value=0) for name in ("status", "attempts")}),
)
def test_any_values_survive_the_text(message: str, texts: dict[str, str], numbers: dict[str, int]) -> None:
    values: dict[str, Any] = {**texts, **numbers}
    if not values:
        return
    rebuilt = OssError(f"before\n{OssError(message, **values)}\nafter")
    assert fields_of(rebuilt) == {name: values.get(name) for name in FIELDS}


@pytest.mark.parametrize(
    "hostile",
    ['" [key="other"]', '[key="', '"]', "\\", '\\"', "[status=1]", ' [code="', "]", "[", "\n[attempts=9]\n", "数据 🙂"],
)
def test_a_value_or_message_cannot_imitate_the_form(hostile: str) -> None:
    assert OssError(str(OssError(TEXT, key=hostile))).key == hostile
    rebuilt = OssError(str(OssError(f"{TEXT} {hostile}", key="real")))
    assert fields_of(rebuilt) == {**dict.fromkeys(FIELDS), "key": "real"}


def test_the_values_in_the_text_are_json() -> None:
    text = str(OssError(TEXT, key='a"b\\c[d]\n'))
    _, _, value = text.removesuffix("]").partition("key=")
    assert json.loads(value) == 'a"b\\c[d]\n'


def test_fields_given_win_over_a_form_in_the_message() -> None:
    error = OssError(f"{TEXT}{FORM}", key="new")
    assert error.key == "new"
    assert error.code is None
    assert OssError(str(error)).key == "new"


@pytest.mark.parametrize(
    ("name", "number"),
    [("OssNotFoundError", errno.ENOENT), ("OssPermissionError", errno.EPERM), ("OssTimeoutError", errno.ETIMEDOUT)],
)
def test_operating_system_errors_have_their_number(name: str, number: int) -> None:
    error = getattr(exceptions, name)(TEXT)
    assert error.errno == number
    assert str(error) == TEXT
    assert pickle.loads(pickle.dumps(error)).errno == number


def test_notes_survive_pickling() -> None:
    error = OssNotFoundError(TEXT, key="k")
    error.add_note("while transforming oss://b/k")
    assert pickle.loads(pickle.dumps(error)).__notes__ == ["while transforming oss://b/k"]


def test_callers_of_the_standard_library_catch_them() -> None:
    with pytest.raises(FileNotFoundError):
        raise OssNotFoundError(TEXT)
    with pytest.raises(io.UnsupportedOperation.__bases__[1]):
        raise OssConfigError(TEXT)
    with pytest.raises(OssConfigError):
        raise OssCredentialsError(TEXT)


def test_a_text_of_others_controls_no_terminal() -> None:
    hostile = "a\x1b[2J\x9b\r\x7f\u202e\ud800"
    error = OssError(f"line\n\t{hostile}", key=hostile, code="x")
    assert all(character.isprintable() or character in "\n\t" for character in str(error))
    assert "a\\x1b[2J\\x9b\\r\\x7f\\u202e\\ud800" in str(error)
    assert OssError(str(error)).key == hostile
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


@pytest.mark.parametrize("text", ['x [code="\\q"]', f"x [status={'9' * 5000}]"])
def test_a_text_that_only_looks_like_the_form_has_no_fields(text: str) -> None:
    assert (OssError(text).code, OssError(text).status) == (None, None)
