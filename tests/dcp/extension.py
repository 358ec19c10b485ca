"""An extension that compresses, like torch's ZStandard."""

import io
import zlib
from typing import IO, cast

from torch.distributed.checkpoint._extension import ExtensionRegistry, StreamTransformExtension


class Deflate(StreamTransformExtension):
    @staticmethod
    def registry_name() -> str:
        return "test.deflate"

    @staticmethod
    def from_descriptor(version: str) -> "Deflate":
        assert version == "1"
        return Deflate()

    def get_descriptor(self) -> str:
        return f"{self.registry_name()}/1"

    def transform_to(self, output: IO[bytes]) -> IO[bytes]:
        class Deflating(io.RawIOBase):
            def __init__(self) -> None:
                self._compress = zlib.compressobj(1)

            def writable(self) -> bool:
                return True

            def write(self, data: object) -> int:
                view = memoryview(cast("bytes", data)).cast("B")
                output.write(self._compress.compress(view))
                return view.nbytes

            def close(self) -> None:
                if not self.closed:
                    output.write(self._compress.flush())
                    output.close()
                super().close()

        return cast("IO[bytes]", Deflating())

    def transform_from(self, input: IO[bytes]) -> IO[bytes]:  # noqa: A002
        class Inflating(io.RawIOBase):
            def readable(self) -> bool:
                return True

            def seekable(self) -> bool:
                return False

            def read(self, size: int = -1) -> bytes:
                assert size == -1
                return zlib.decompress(input.read())

        return cast("IO[bytes]", Inflating())


def registry() -> ExtensionRegistry:
    known = ExtensionRegistry()
    known.register(Deflate)
    return known
