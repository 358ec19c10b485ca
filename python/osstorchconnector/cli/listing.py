"""Objects and directories that the arguments of a command name."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from osstorchconnector.cli.globs import compiled, has_magic, literal_start
from osstorchconnector.connection.nearest import nothing_below
from osstorchconnector.connection.uri import split_prefix
from osstorchconnector.exceptions import OssConfigError

if TYPE_CHECKING:
    from osstorchconnector._native import ObjectPages
    from osstorchconnector.connection.client import OssClient


class Row(NamedTuple):
    """What a listing says of an object; the fields are those of the native module, in their order."""

    key: str
    size: int
    etag: str
    #: Unix time.
    modified: float
    type: str
    storage_class: str


@dataclass(frozen=True)
class Object:
    """An object that an argument names."""

    bucket: str
    row: Row

    @property
    def uri(self) -> str:
        """Its URI."""
        return f"oss://{self.bucket}/{self.row.key}"


@dataclass(frozen=True)
class Directory:
    """A prefix with a slash at its end, or a whole bucket."""

    bucket: str
    prefix: str

    @property
    def uri(self) -> str:
        """Its URI, with a slash at the end."""
        return f"oss://{self.bucket}/{self.prefix}"


def pages(
    client: "OssClient", bucket: str, prefix: str, *, delimiter: str = "", page_size: int | None = None
) -> "ObjectPages":
    """List the objects under a prefix; without a delimiter, several segments of it at once."""
    parallel = not delimiter and page_size is None and client.config.fast_list
    return client._native_client.list_pages(  # noqa: SLF001 - the package's own
        bucket, prefix, delimiter=delimiter, parallel=parallel, page_size=page_size
    )


def below(client: "OssClient", directory: Directory) -> Iterator[Row]:
    """Yield all objects below a directory, in key order."""
    for rows, _ in pages(client, directory.bucket, directory.prefix):
        yield from map(Row._make, rows)


def expand(client: "OssClient", uri: str, *, glob: bool = True) -> Iterator[Object | Directory]:
    """Find what a URI names. A name without a slash at its end may be an object, a directory, or both.

    Raises:
        OssConfigError: It names nothing, or is no URI.
    """
    bucket, name = split_uri(uri)
    found = False
    for one in _matching(client, bucket, "", name) if glob and has_magic(name) else _named(client, bucket, name):
        found = True
        yield one
    if not found:
        said = _why_nothing(client, bucket, name, glob=glob)
        raise OssConfigError(f"there is nothing {'that matches' if glob and has_magic(name) else 'at'} {uri}: {said}")


def objects(client: "OssClient", uri: str, *, glob: bool) -> Iterator[str]:
    """Yield the URIs of the objects that an argument names; without a pattern nothing is listed.

    Raises:
        OssConfigError: A pattern matches no object.
    """
    if not glob or not has_magic(split_uri(uri)[1]):
        yield uri
        return
    found = [one.uri for one in expand(client, uri) if isinstance(one, Object)]
    if not found:
        raise OssConfigError(f"{uri} matches directories only: name the objects")
    yield from found


def _why_nothing(client: "OssClient", bucket: str, name: str, *, glob: bool) -> str:
    start = literal_start(name) if glob else name
    if start != name:
        first = next(client.list(f"oss://{bucket}/{start}"), None)
        if first is not None:
            return f"there is {first.uri}, for instance"
    return nothing_below(client, bucket, start)


def split_uri(uri: str) -> tuple[str, str]:
    """Return bucket and key of a URI; without the scheme it would be the path of a file.

    Raises:
        OssConfigError: It is no URI.
    """
    if not uri.startswith("oss://"):
        raise OssConfigError(f"{uri!r} is no oss:// URI: write oss://bucket/key")
    return split_prefix(uri)


def _named(client: "OssClient", bucket: str, name: str) -> Iterator[Object | Directory]:
    if not name:
        yield Directory(bucket, "")
        return
    if not name.endswith("/"):
        # The key itself is the first of all keys that begin with it. A listing needs no right to read objects.
        rows, _ = next(pages(client, bucket, name, page_size=1), ([], []))
        if rows and rows[0][0] == name:
            yield Object(bucket, Row._make(rows[0]))
        name += "/"
    rows, _ = next(pages(client, bucket, name, page_size=1), ([], []))
    if rows:
        yield Directory(bucket, name)


def _matching(client: "OssClient", bucket: str, base: str, pattern: str) -> Iterator[Object | Directory]:
    """Yield what matches a pattern below a directory: name by name, so that other directories are not listed."""
    first, slash, rest = pattern.partition("/")
    if first.startswith("**"):
        yield from _matching_below(client, bucket, base, pattern)
        return
    if not has_magic(first) and rest:
        yield from _matching(client, bucket, f"{base}{first}/", rest)
        return
    expression = compiled(first)
    for rows, directories in pages(client, bucket, base + literal_start(first), delimiter="/"):
        matching = [prefix for prefix in directories if expression.fullmatch(prefix[len(base) : -1])]
        for prefix in matching:
            if rest:
                yield from _matching(client, bucket, prefix, rest)
            else:
                yield Directory(bucket, prefix)
        if not slash:
            yield from (Object(bucket, Row._make(row)) for row in rows if expression.fullmatch(row[0], len(base)))


def _matching_below(client: "OssClient", bucket: str, base: str, pattern: str) -> Iterator[Object]:
    expression = compiled(pattern)
    for rows, _ in pages(client, bucket, base + literal_start(pattern)):
        yield from (Object(bucket, Row._make(row)) for row in rows if expression.fullmatch(row[0], len(base)))
