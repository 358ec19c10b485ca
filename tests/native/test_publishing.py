"""What publishes an object and what does not: only a deliberate end replaces the previous one."""

# ruff: noqa: PT012, PT031, TRY301 - blocks that raise and warn are what is tested

import asyncio
import contextlib
import csv
import gc
import io
import logging
import os
import subprocess
import sys
import textwrap
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from osstorchconnector import OssClient, OssConfig, OssConnectionError
from osstorchconnector._native import crc64
from osstorchconnector.testing import Emulator
from tests.native.closing_forms import ELSEWHERE, IN_OWN_BLOCK, Open, closing, csv_rows

PREVIOUS = b"the whole one before"


@pytest.fixture
def uri(client: OssClient, bucket: str) -> str:
    uri = f"oss://{bucket}/object"
    client.put(uri, PREVIOUS)
    return uri


@pytest.fixture(params=[False, True], ids=["writer", "seekable"])
def opened(request: pytest.FixtureRequest, client: OssClient, uri: str) -> Open:
    return lambda: client.writer(uri, seekable=request.param)


def name_of(form: Callable[..., object]) -> str:
    return form.__name__


@pytest.mark.parametrize("form", IN_OWN_BLOCK, ids=name_of)
def test_a_block_that_raises_publishes_nothing_however_it_is_closed(
    client: OssClient, uri: str, opened: Open, form: Callable[[Open], None]
) -> None:
    with pytest.raises(KeyError) as caught:
        form(opened)
    assert not hasattr(caught.value, "__notes__")
    assert client.get(uri) == PREVIOUS


@pytest.mark.parametrize("form", ELSEWHERE, ids=name_of)
def test_a_close_while_an_exception_is_handled_publishes_nothing_and_says_so(
    client: OssClient, uri: str, opened: Open, form: Callable[[Open], None], caplog: pytest.LogCaptureFixture
) -> None:
    expected = csv.Error if form is csv_rows else KeyError
    with pytest.raises(expected) as caught, pytest.warns(RuntimeWarning, match=r"writer\.publish\(\)"):
        form(opened)
    (note,) = caught.value.__notes__
    assert note.startswith(f"{uri} is not published: close() ran while {expected.__name__} was being handled")
    assert "writer.publish()" in note
    assert [record.message for record in caplog.records if record.levelno == logging.WARNING] == [note]
    assert client.get(uri) == PREVIOUS


def test_the_exception_on_its_way_is_not_replaced_if_warnings_are_errors(
    client: OssClient, uri: str, opened: Open
) -> None:
    with warnings.catch_warnings(), pytest.raises(KeyError):
        warnings.simplefilter("error")
        closing(opened)
    assert client.get(uri) == PREVIOUS


def test_uploaded_parts_are_removed_by_such_a_close(emulator: Emulator, uri: str) -> None:
    client = OssClient(**emulator.connection, config=OssConfig(part_size=100 * 1024))
    writer = client.writer(uri)
    writer.write(bytes(1 << 20))
    with pytest.warns(RuntimeWarning, match="not published"), contextlib.suppress(KeyError):
        try:
            raise KeyError
        finally:
            writer.close()
    assert (writer.closed, writer.aborted, writer.etag) == (True, True, None)
    bucket = uri.split("/")[2]
    assert client._native_client.list_uploads(bucket, "") == []


def test_a_writer_that_is_opened_while_an_exception_is_handled_publishes_there(
    client: OssClient, uri: str, opened: Open
) -> None:
    try:
        try:
            raise KeyError
        except KeyError:
            raise IndexError from None
    except IndexError:
        inner = opened()
        inner.write(b"after the exception")
        with contextlib.closing(inner):
            pass
        assert client.get(uri) == b"after the exception"
        with opened() as own:
            own.write(b"in a block")
    assert client.get(uri) == b"in a block"


def test_an_outer_exception_is_known_when_the_inner_one_is_over(client: OssClient, uri: str, opened: Open) -> None:
    try:
        raise KeyError
    except KeyError:
        try:
            raise IndexError
        except IndexError:
            writer = opened()
        writer.write(b"whole")
        writer.close()
    assert client.get(uri) == b"whole"


def test_a_block_that_is_entered_while_an_exception_is_handled_publishes(
    client: OssClient, uri: str, opened: Open
) -> None:
    writer = opened()
    try:
        raise KeyError
    except KeyError:
        with writer:
            writer.write(b"whole")
    assert client.get(uri) == b"whole"


def test_a_freed_exception_does_not_hide_another_one(client: OssClient, uri: str, opened: Open) -> None:
    # The second exception is likely to be made at the address of the first one.
    for _ in range(20):
        try:
            raise KeyError
        except KeyError:
            writer = opened()
        with pytest.warns(RuntimeWarning, match="not published"), contextlib.suppress(KeyError):
            try:
                raise KeyError
            finally:
                writer.close()
    assert client.get(uri) == PREVIOUS


def test_publish_is_deliberate(client: OssClient, uri: str, opened: Open) -> None:
    pieces = iter([b"one ", b"two"])
    writer = opened()
    while True:
        try:
            writer.write(next(pieces))
        except StopIteration:
            writer.publish()
            break
    assert client.get(uri) == b"one two"
    assert (writer.closed, writer.aborted, writer.etag) == (True, False, client.head(uri).etag)
    writer.publish()
    writer.close()
    with opened() as inside, pytest.raises(KeyError):
        inside.write(b"three")
        inside.publish()
        assert client.get(uri) == b"three"
        raise KeyError
    aborted = opened()
    aborted.abort()
    with pytest.raises(ValueError, match="was aborted, and cannot be published: write it again"):
        aborted.publish()
    assert client.get(uri) == b"three"


def test_close_in_its_own_block_ends_the_writing_and_the_block_publishes(
    client: OssClient, uri: str, opened: Open
) -> None:
    with opened() as writer:
        writer.write(b"whole")
        writer.close()
        writer.close()
        assert (writer.closed, writer.aborted, writer.etag, writer.crc64) == (True, False, None, None)
        with pytest.raises(ValueError, match="closed"):
            writer.write(b"more")
        assert client.get(uri) == PREVIOUS
    assert (writer.etag, writer.crc64) == (client.head(uri).etag, crc64(b"whole"))
    assert client.get(uri) == b"whole"
    with pytest.raises(ValueError, match="closed"), writer:
        pass


def test_the_outermost_of_its_own_blocks_decides(client: OssClient, uri: str, opened: Open) -> None:
    # Some libraries put the stream that they are given into a `with` block of their own.
    with contextlib.suppress(KeyError), opened() as writer:
        with writer:
            writer.write(b"part")
        assert (writer.closed, writer.etag) == (True, None)
        raise KeyError
    assert client.get(uri) == PREVIOUS
    with contextlib.suppress(KeyError), opened() as writer, writer:
        writer.write(b"part")
        raise KeyError
    assert (writer.aborted, client.get(uri)) == (True, PREVIOUS)
    with opened() as writer, writer:
        writer.write(b"whole")
    assert client.get(uri) == b"whole"


def test_the_class_of_an_exception_is_enough_to_abort(client: OssClient, uri: str, opened: Open) -> None:
    writer = opened()
    writer.write(b"part")
    writer.__exit__(KeyError, None, None)
    assert (writer.aborted, client.get(uri)) == (True, PREVIOUS)


def test_errors_of_publishing_come_from_the_end_of_the_block() -> None:
    client = OssClient(
        "http://127.0.0.1:1",
        region="cn-hangzhou",
        config=OssConfig(anonymous=True, max_attempts=1),
    )
    with pytest.raises(OssConnectionError), client.writer("oss://bucket/a") as writer:
        writer.write(b"whole")
        writer.close()
        assert writer.closed


@pytest.mark.parametrize("seekable", [False, True])
def test_a_deferred_writer_is_published_by_publish_alone(client: OssClient, uri: str, seekable: bool) -> None:  # noqa: FBT001 - a parameter of the test
    def opened() -> Any:
        return client.writer(uri, deferred=True, seekable=seekable)

    with opened() as writer:
        writer.write(b"whole")
    assert (writer.closed, writer.aborted) == (True, False)
    with pytest.raises(ValueError, match="closed"):
        writer.write(b"more")
    assert client.get(uri) == PREVIOUS
    writer.publish()
    assert client.get(uri) == b"whole"
    closed = opened()
    closed.close()
    assert client.get(uri) == b"whole"
    closed.publish()
    assert client.get(uri) == b""
    with pytest.raises(KeyError), opened() as raising:
        raise KeyError
    assert raising.aborted
    with pytest.warns(RuntimeWarning, match="not published"), contextlib.suppress(KeyError):
        closing(opened)
    assert client.get(uri) == b""


@pytest.mark.parametrize(
    "wrap", [io.TextIOWrapper, io.BufferedWriter, lambda raw: io.TextIOWrapper(io.BufferedWriter(raw))]
)
def test_a_wrapper_that_is_collected_aborts(
    client: OssClient, uri: str, opened: Open, wrap: Callable[[Any], Any], caplog: pytest.LogCaptureFixture
) -> None:
    writer = opened()
    wrapper = wrap(writer)
    wrapper.write("part" if isinstance(wrapper, io.TextIOWrapper) else b"part")
    with pytest.warns(RuntimeWarning, match=r"collected without close\(\).*writer\.publish\(\)"):
        del wrapper
    assert (writer.closed, writer.aborted) == (True, True)
    assert "is not published: what wrote to its writer was collected" in caplog.text
    assert client.get(uri) == PREVIOUS


def test_a_finalizer_of_the_program_that_closes_a_writer_publishes(client: OssClient, uri: str, opened: Open) -> None:
    class Closing:
        def __init__(self, writer: Any) -> None:
            self.writer = writer

        def __del__(self) -> None:
            self.writer.close()

    closing = Closing(opened())
    closing.writer.write(b"written so far")
    del closing
    assert client.get(uri) == b"written so far"


def test_a_wrapper_that_is_collected_while_an_exception_passes_aborts(
    client: OssClient, uri: str, opened: Open
) -> None:
    def write() -> None:
        wrapper = io.TextIOWrapper(opened())
        wrapper.write("part")
        raise KeyError

    with pytest.warns(RuntimeWarning, match="not published"):
        with contextlib.suppress(KeyError):
            write()
        gc.collect()
    assert client.get(uri) == PREVIOUS


def test_a_wrapper_that_is_collected_in_the_block_has_written_everything(
    client: OssClient, uri: str, opened: Open
) -> None:
    with opened() as writer:
        csv.writer(io.TextIOWrapper(writer, newline="")).writerow([1, 2])
        assert writer.closed
    assert client.get(uri) == b"1,2\r\n"


def test_a_generator_that_is_closed_early_publishes_nothing(client: OssClient, uri: str, opened: Open) -> None:
    def in_block() -> Iterator[None]:
        with opened() as writer:
            writer.write(b"part")
            yield
            writer.write(b"rest")

    def by_close() -> Iterator[None]:
        writer = opened()
        try:
            writer.write(b"part")
            yield
            writer.write(b"rest")
        finally:
            writer.close()

    generator = in_block()
    next(generator)
    del generator
    assert client.get(uri) == PREVIOUS
    generator = by_close()
    next(generator)
    with pytest.warns(RuntimeWarning, match="GeneratorExit"):
        del generator
    assert client.get(uri) == PREVIOUS
    for run in (in_block, by_close):
        client.put(uri, PREVIOUS)
        list(run())
        assert client.get(uri) == b"partrest"


def test_the_own_block_of_a_generator_publishes_while_its_consumer_handles_an_exception(
    client: OssClient, uri: str, opened: Open
) -> None:
    def write() -> Iterator[None]:
        with opened() as writer:
            writer.write(b"whole, ")
            yield
            writer.write(b"to its end")

    async def write_async() -> None:
        for _ in write():
            await asyncio.sleep(0)

    def resume_in_handler(generator: Iterator[None]) -> None:
        next(generator)
        try:
            raise KeyError
        except KeyError:
            list(generator)

    resume_in_handler(write())
    assert client.get(uri) == b"whole, to its end"
    client.put(uri, PREVIOUS)
    resume_in_handler(write_async().__await__())
    assert client.get(uri) == b"whole, to its end"


def test_a_context_manager_that_is_closed_because_of_an_exception_does_not_publish_the_block_in_it(
    client: OssClient, uri: str, opened: Open
) -> None:
    @contextlib.contextmanager
    def writing() -> Iterator[Any]:
        with opened() as writer:
            yield writer

    stack = contextlib.ExitStack()
    with pytest.warns(RuntimeWarning, match="not published"), contextlib.suppress(KeyError):
        try:
            stack.enter_context(writing()).write(b"part")
            raise KeyError
        finally:
            stack.close()
    assert client.get(uri) == PREVIOUS


def test_a_coroutine_that_is_cancelled_publishes_nothing(client: OssClient, uri: str, opened: Open) -> None:
    async def write() -> None:
        with contextlib.closing(opened()) as writer:
            writer.write(b"part")
            await asyncio.sleep(60)

    async def cancel() -> None:
        task = asyncio.create_task(write())
        await asyncio.sleep(0)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError), pytest.warns(RuntimeWarning, match="CancelledError"):
        asyncio.run(cancel())
    assert client.get(uri) == PREVIOUS


def test_a_close_in_another_thread_publishes(client: OssClient, uri: str, opened: Open) -> None:
    writer = opened()
    writer.write(b"whole")
    try:
        raise KeyError
    except KeyError:
        closer = threading.Thread(target=writer.close)
        closer.start()
        closer.join(20)
    assert client.get(uri) == b"whole"


def test_an_exception_in_another_thread_changes_nothing(client: OssClient, uri: str, opened: Open) -> None:
    handling, done = threading.Event(), threading.Event()

    def handle() -> None:
        try:
            raise KeyError
        except KeyError:
            handling.set()
            done.wait(20)

    other = threading.Thread(target=handle)
    other.start()
    assert handling.wait(20)
    with contextlib.closing(opened()) as writer:
        writer.write(b"whole")
    done.set()
    other.join(20)
    assert client.get(uri) == b"whole"


def test_a_writer_and_the_exception_that_it_remembers_are_collected(opened: Open) -> None:
    class MarkedError(KeyError):
        pass

    def lose() -> "weakref.ref[Any]":
        try:
            raise MarkedError
        except MarkedError as error:
            # The exception holds the frame, and so the writer that holds the exception.
            kept = error
            writer = opened()
            writer.abort  # noqa: B018 - the frame's variable
            return weakref.ref(kept)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        reference = lose()
        gc.collect()
    assert reference() is None


def test_keyboard_interrupt_and_exit_publish_nothing(emulator: Emulator, uri: str, client: OssClient) -> None:
    program = textwrap.dedent(
        """
        import contextlib, sys
        from osstorchconnector import OssClient
        client = OssClient(sys.argv[1], region=sys.argv[2])
        with contextlib.closing(client.writer(sys.argv[3])) as writer:
            writer.write(b"part")
            raise {exception}
        """
    )
    keys = {"OSS_ACCESS_KEY_ID": emulator.access_key_id, "OSS_ACCESS_KEY_SECRET": emulator.access_key_secret}
    environment = {**os.environ, **keys, "PYTHONPATH": os.pathsep.join(sys.path)}
    for exception in ("KeyboardInterrupt", "SystemExit(3)"):
        arguments = [emulator.endpoint, emulator.region, uri]
        command = [sys.executable, "-c", program.format(exception=exception), *arguments]
        ended = subprocess.run(command, env=environment, capture_output=True, check=False)
        assert ended.returncode != 0
        assert b"RuntimeWarning" in ended.stderr
        assert client.get(uri) == PREVIOUS
