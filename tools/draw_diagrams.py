"""Draw the diagrams of docs/concepts: the way of a batch, of a checkpoint, and the order."""

from pathlib import Path
from typing import Final

from svg import BLUE, EDGE, GREY, GROUND, INK, PALE, Drawing

IMAGES: Final = Path(__file__).resolve().parent.parent / "docs" / "images"

# The permutation of 16 objects by seed 1 in epoch 0, as docs/concepts/order.md defines it.
PLACES: Final = [1, 3, 2, 7, 0, 5, 9, 12, 4, 11, 8, 10, 14, 13, 6, 15]

_GREEN: Final = "#2e7d32"
_PALE_GREEN: Final = "#e8f5e9"


def _boxed(drawing: Drawing, x: float, y: float, width: float, *lines: str, green: bool = False) -> None:
    """Add a box with a title and lines below it."""
    drawing.box(x, y, width, 26 + 17 * (len(lines) - 1), *((_PALE_GREEN, _GREEN) if green else ()))
    for index, line in enumerate(lines):
        size, fill = (13, INK) if index == 0 else (12, GREY)
        drawing.text(x + width / 2, y + 18 + 17 * index, line, size, fill, "middle", bold=index == 0)


def _around(drawing: Drawing, x: float, y: float, width: float, height: float, name: str) -> None:
    """Add a frame around what belongs to one process or machine."""
    drawing.box(x, y, width, height, GROUND, EDGE, dashed=True)
    drawing.text(x + 10, y + height - 9, name, 12, GREY)


def batch() -> str:
    """Return the way of a batch, from the bucket to the training loop."""
    title = "The way of a batch"
    said = (
        "The process that needs objects first lists the prefix into a file. Each worker reads its share of the file, "
        "requests objects concurrently into pooled buffers, checks them, and delivers samples in order to the loop."
    )
    drawing = Drawing(760, 420, title, said)
    _boxed(drawing, 24, 150, 120, "OSS", "objects", "of a prefix", green=True)
    _around(drawing, 172, 18, 560, 86, "the first process that needs objects")
    _boxed(drawing, 190, 30, 150, "list", "in several places")
    _boxed(drawing, 400, 30, 200, "listing file", "sizes, ETags, keys")
    drawing.arrow((84, 150), (84, 52), (188, 52))
    drawing.arrow((340, 52), (398, 52))
    for index, top in enumerate((130, 262)):
        _around(drawing, 172, top, 420, 118, f"DataLoader worker {index}")
        _boxed(drawing, 190, top + 34, 110, "requests", "many at once", "retry, resume")
        _boxed(drawing, 326, top + 34, 118, "buffers", "at most", "prefetch_bytes")
        _boxed(drawing, 470, top + 34, 108, "in order", "CRC-64 right", "transform")
        drawing.arrow((300, top + 64), (324, top + 64))
        drawing.arrow((444, top + 64), (468, top + 64))
        drawing.arrow((144, 180 + 12 * index), (158, 180 + 12 * index), (158, top + 64), (188, top + 64))
        drawing.arrow((578, top + 64), (612, top + 64), (612, 240 + 20 * index), (628, 240 + 20 * index))
    drawing.arrow((500, 73), (500, 112), (245, 112), (245, 162), dashed=True)
    drawing.text(510, 122, "whose turn: a formula", 12, GREY)
    _boxed(drawing, 630, 222, 104, "loop", "batches,", "in order", green=True)
    drawing.text(
        172, 405, "Each object crosses to Python once. A failed one raises at its place, or on_error decides.", 12, GREY
    )
    return drawing.finished()


def checkpoint() -> str:
    """Return the way of a checkpoint, to the bucket and back."""
    title = "The way of a checkpoint"
    said = (
        "torch.save writes into a writer, which fills parts and uploads them while the next one is filled. One request "
        "at the end publishes the object. torch.load reads through a window of concurrent ranges, whose checksums are "
        "combined and compared."
    )
    drawing = Drawing(760, 400, title, said)
    drawing.text(24, 32, "save", 15, bold=True)
    _boxed(drawing, 24, 52, 120, "torch.save", "zip stream", green=True)
    _boxed(drawing, 180, 52, 150, "Writer", "fills a part of 8 MiB")
    _boxed(drawing, 372, 52, 150, "parts in flight", "at most 16, 256 MiB")
    _boxed(drawing, 572, 52, 164, "unfinished upload", "nobody can see it", green=True)
    drawing.arrow((144, 74), (178, 74))
    drawing.arrow((330, 74), (370, 74))
    drawing.arrow((522, 74), (570, 74))
    _boxed(drawing, 572, 140, 164, "object", "whole, checked", green=True)
    drawing.arrow((654, 95), (654, 138))
    drawing.text(644, 122, "publish, at the end of the block", 12, GREY, "end")
    drawing.text(24, 154, "An exception in the block, or a killed process:", 12, GREY)
    drawing.text(24, 172, "nothing is published, and the previous object stays.", 12, GREY)
    drawing.text(24, 232, "load", 15, bold=True)
    _boxed(drawing, 24, 252, 120, "object", "one ETag", green=True)
    _boxed(drawing, 180, 252, 150, "window", "ranges in flight")
    _boxed(drawing, 372, 252, 150, "reader", "read, readinto, seek")
    _boxed(drawing, 572, 252, 164, "torch.load", "weights_only=True", green=True)
    drawing.arrow((144, 274), (178, 274))
    drawing.arrow((330, 274), (370, 274))
    drawing.arrow((522, 274), (570, 274))
    drawing.arrow((84, 295), (84, 330), (652, 330), (652, 297), dashed=True)
    drawing.text(368, 348, "large tensors: received straight into their memory", 12, GREY, "middle")
    drawing.text(
        24,
        380,
        "Once all bytes were received, their CRC-64 is compared with the object's. A replaced object raises.",
        12,
        GREY,
    )
    return drawing.finished()


def order() -> str:
    """Return how objects are divided among ranks and workers."""
    title = "Who gets which object"
    said = (
        "Sixteen objects are permuted by seed and epoch. With batches of two, the two ranks take turns with blocks of "
        "two, and the two workers of each rank take turns with the blocks of their rank."
    )
    drawing = Drawing(760, 330, title, said)
    cell, left = 38, 128
    drawing.text(24, 50, "listed", 13, bold=True)
    drawing.text(24, 110, "shuffled", 13, bold=True)
    drawing.text(24, 128, "seed 1, epoch 0", 12, GREY)
    colours = [(PALE, BLUE), (_PALE_GREEN, _GREEN)]
    for place, number in enumerate(PLACES):
        x = left + place * cell
        drawing.box(x, 30, cell - 4, 30, "#f6f8fa", EDGE)
        drawing.text(x + cell / 2 - 2, 50, str(place), 13, anchor="middle")
        drawing.box(x, 94, cell - 4, 30, *colours[place // 2 % 2])
        drawing.text(x + cell / 2 - 2, 114, str(number), 13, anchor="middle")
    drawing.arrow((left + 8 * cell, 64), (left + 8 * cell, 90))
    drawing.text(left + 8 * cell + 12, 81, "a permutation that is computed, not stored", 12, GREY)
    for rank in range(2):
        for worker in range(2):
            y = 170 + 70 * rank + 32 * worker
            if worker == 0:
                drawing.text(24, y + 20, f"rank {rank}", 13, colours[rank][1], bold=True)
            drawing.text(80, y + 20, f"worker {worker}", 12, GREY)
            blocks = [PLACES[start : start + 2] for start in range(4 * worker + 2 * rank, 16, 8)]
            for block, numbers in enumerate(blocks):
                for index, number in enumerate(numbers):
                    x = 150 + block * 110 + index * cell
                    drawing.box(x, y, cell - 4, 28, *colours[rank])
                    drawing.text(x + cell / 2 - 2, y + 19, str(number), 13, anchor="middle")
    drawing.text(400, 192, "Batches of 2: the ranks take turns with batches,", 12, GREY)
    drawing.text(400, 210, "and so do the workers of a rank.", 12, GREY)
    drawing.text(400, 246, "A loader asks its workers in turn. So a rank has the", 12, GREY)
    drawing.text(400, 264, "same batches with any number of workers, and a", 12, GREY)
    drawing.text(400, 282, "position is one number: how many places are done.", 12, GREY)
    return drawing.finished()


DIAGRAMS: Final = {"batch.svg": batch, "checkpoint.svg": checkpoint, "order.svg": order}


if __name__ == "__main__":
    for file_name, draw in DIAGRAMS.items():
        (IMAGES / file_name).write_text(draw(), encoding="utf-8")
