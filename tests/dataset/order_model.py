"""The order formula of docs/concepts/order.md, written a second time, as simply as possible."""

from dataclasses import dataclass

MASK = (1 << 64) - 1
GAMMA = 0x9E3779B97F4A7C15
ROUNDS = 8


def mix(word: int) -> int:
    word = (word ^ word >> 30) * 0xBF58476D1CE4E5B9 & MASK
    word = (word ^ word >> 27) * 0x94D049BB133111EB & MASK
    return word ^ word >> 31


def key_of(*parts: int) -> int:
    key = 0
    for part in parts:
        key = mix((key ^ part) + GAMMA & MASK)
    return key


def permuted(position: int, length: int, key: int) -> int:
    if length == 1:
        return position
    half = max(4, -(-(length - 1).bit_length() // 2))
    keys = [mix(key + number * GAMMA & MASK) for number in range(1, ROUNDS + 1)]
    while True:
        left, right = divmod(position, 1 << half)
        for round_key in keys:
            left, right = right, left ^ mix(right ^ round_key) % (1 << half)
        position = left << half | right
        if position < length:
            return position


@dataclass(frozen=True)
class Reader:
    seed: int = 0
    epoch: int = 0
    shuffle: bool | int = False
    start: int = 0
    rank: int = 0
    world: int = 1
    batch_size: int = 1
    even: str = "pad"
    worker: int = 0
    workers: int = 1
    chunks: bool = False

    def rank_positions(self, count: int) -> list[list[int]]:
        """Return the sequence numbers of this rank, batch by batch."""
        left = max(0, count - self.start)
        group = self.world * self.batch_size
        full, rest = divmod(left, group)
        batches = [
            [
                self.start + (number * self.world + self.rank) * self.batch_size + offset
                for offset in range(self.batch_size)
            ]
            for number in range(full)
        ]
        share, extra = divmod(rest, self.world)
        match self.even:
            case "drop":
                length, first = share, self.rank * share
            case "pad":
                length = share + bool(extra)
                first = self.rank * length
            case _:
                length = share + (self.rank < extra)
                first = self.rank * share + min(self.rank, extra)
        tail = [(self.start + full * group + first + offset) for offset in range(length)]
        tail = [number if number < count else (number - count) % count for number in tail]
        return batches + ([tail] if tail else [])

    def worker_batches(self, count: int) -> list[list[int]]:
        return self.rank_positions(count)[self.worker :: self.workers]

    def sequence(self, count: int) -> list[int]:
        """Return the sequence numbers of this worker, in order."""
        return [number for batch in self.worker_batches(count) for number in batch]

    def entry(self, number: int, count: int) -> int:
        """Return the entry at a place of the whole sequence."""
        if self.shuffle is False:
            return number
        if self.shuffle is True:
            return permuted(number, count, key_of(self.seed, self.epoch))
        block, offset = divmod(number, self.shuffle)
        if self.chunks and block < count // self.shuffle:
            block = permuted(block, count // self.shuffle, key_of(self.seed, self.epoch))
        length = min(self.shuffle, count - block * self.shuffle)
        return block * self.shuffle + permuted(offset, length, key_of(self.seed, self.epoch, block))

    def entries(self, count: int) -> list[int]:
        """Return the entries of this worker, in order."""
        return [self.entry(number, count) for number in self.sequence(count)]
