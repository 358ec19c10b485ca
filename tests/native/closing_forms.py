"""Ways to end a writer while an exception is on its way."""

# ruff: noqa: TRY301 - an exception that is handled is what they are about

import bz2
import codecs
import contextlib
import csv
import gzip
import io
import lzma
import pickle
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np
import torch

#: Opens a writer.
Open = Callable[[], Any]


def own_block(opened: Open) -> None:
    with opened() as writer:
        writer.write(b"part")
        raise KeyError


def text_in_own_block(opened: Open) -> None:
    with opened() as writer, io.TextIOWrapper(writer) as text:
        text.write("part")
        raise KeyError


def buffered_in_own_block(opened: Open) -> None:
    with opened() as writer, io.BufferedWriter(writer) as buffered:
        buffered.write(b"part")
        raise KeyError


def closed_in_own_block(opened: Open) -> None:
    with opened() as writer:
        writer.write(b"part")
        writer.close()
        raise KeyError


def compressed_in_own_block(opened: Open) -> None:
    with opened() as writer, gzip.open(writer, "wt") as text:
        text.write("part")
        raise KeyError


def zip_in_own_block(opened: Open) -> None:
    with opened() as writer, zipfile.ZipFile(writer, "w") as archive, archive.open("member", "w") as member:
        member.write(b"part")
        raise KeyError


def tar_in_own_block(opened: Open) -> None:
    with opened() as writer, tarfile.open(fileobj=writer, mode="w|") as archive:
        archive.addfile(tarfile.TarInfo("member"))
        raise KeyError


def torch_in_own_block(opened: Open) -> None:
    class Broken:
        def __reduce__(self) -> Any:
            raise KeyError

    with opened() as writer:
        torch.save({"w": torch.ones(1000), "broken": Broken()}, writer)


def pickle_in_own_block(opened: Open) -> None:
    class Broken:
        def __reduce__(self) -> Any:
            raise KeyError

    with opened() as writer:
        pickle.dump([b"x" * 100_000, Broken()], writer)


def numpy_in_own_block(opened: Open) -> None:
    with opened() as writer:
        np.save(writer, np.ones(1000))
        raise KeyError


def exit_stack(opened: Open) -> None:
    with contextlib.ExitStack() as stack:
        stack.enter_context(opened()).write(b"part")
        raise KeyError


#: They end the writer's own block.
IN_OWN_BLOCK: Final[list[Callable[[Open], None]]] = [
    own_block,
    text_in_own_block,
    buffered_in_own_block,
    closed_in_own_block,
    compressed_in_own_block,
    zip_in_own_block,
    tar_in_own_block,
    torch_in_own_block,
    pickle_in_own_block,
    numpy_in_own_block,
    exit_stack,
]


def text(opened: Open) -> None:
    with io.TextIOWrapper(opened()) as wrapper:
        wrapper.write("part")
        raise KeyError


def buffered(opened: Open) -> None:
    with io.BufferedWriter(opened()) as wrapper:
        wrapper.write(b"part")
        raise KeyError


def text_of_buffered(opened: Open) -> None:
    with io.TextIOWrapper(io.BufferedWriter(opened())) as wrapper:
        wrapper.write("part")
        raise KeyError


def csv_rows(opened: Open) -> None:
    with io.TextIOWrapper(opened(), newline="") as wrapper:
        csv.writer(wrapper).writerows([[1], [2], 3])  # type: ignore[list-item]


def encoder(opened: Open) -> None:
    with codecs.getwriter("utf-8")(opened()) as wrapper:
        wrapper.write("part")
        raise KeyError


def closing(opened: Open) -> None:
    with contextlib.closing(opened()) as writer:
        writer.write(b"part")
        raise KeyError


def closing_gzip(opened: Open) -> None:
    with contextlib.closing(opened()) as writer, gzip.GzipFile(fileobj=writer, mode="wb") as file:
        file.write(b"part")
        raise KeyError


def closing_bz2(opened: Open) -> None:
    with contextlib.closing(opened()) as writer, bz2.open(writer, "wb") as file:
        file.write(b"part")
        raise KeyError


def closing_lzma(opened: Open) -> None:
    with contextlib.closing(opened()) as writer, lzma.open(writer, "wb") as file:
        file.write(b"part")
        raise KeyError


def closing_zip(opened: Open) -> None:
    with contextlib.closing(opened()) as writer, zipfile.ZipFile(writer, "w") as archive:
        archive.writestr("member", b"part")
        raise KeyError


def in_finally(opened: Open) -> None:
    writer = opened()
    try:
        writer.write(b"part")
        raise KeyError
    finally:
        writer.close()


def in_except(opened: Open) -> None:
    writer = opened()
    try:
        writer.write(b"part")
        raise KeyError
    except KeyError:
        writer.close()
        raise


def in_a_nested_handler(opened: Open) -> None:
    try:
        raise IndexError
    except IndexError:
        in_finally(opened)


def callback(opened: Open) -> None:
    with contextlib.ExitStack() as stack:
        writer = opened()
        stack.callback(writer.close)
        writer.write(b"part")
        raise KeyError


def exit_stack_that_is_closed(opened: Open) -> None:
    stack = contextlib.ExitStack()
    writer = stack.enter_context(opened())
    try:
        writer.write(b"part")
        raise KeyError
    finally:
        stack.close()


def context_manager(opened: Open) -> None:
    @contextlib.contextmanager
    def writing() -> Iterator[Any]:
        writer = opened()
        try:
            yield writer
        finally:
            writer.close()

    with writing() as writer:
        writer.write(b"part")
        raise KeyError


#: They close the writer.
ELSEWHERE: Final[list[Callable[[Open], None]]] = [
    text,
    buffered,
    text_of_buffered,
    csv_rows,
    encoder,
    closing,
    closing_gzip,
    closing_bz2,
    closing_lzma,
    closing_zip,
    in_finally,
    in_except,
    in_a_nested_handler,
    callback,
    exit_stack_that_is_closed,
    context_manager,
]
