"""What every instance has: options without visible secrets, a client, and names of objects."""

import threading
from typing import TYPE_CHECKING, Any

import fsspec
from fsspec.config import apply_config
from fsspec.utils import stringify_path

from osstorchconnector.connection.uri import split_object, split_prefix
from osstorchconnector.credentials.shield import guards_methods, shielded
from osstorchconnector.exceptions import OssConfigError
from osstorchconnector.fsspec.settings import (
    FSSPEC_OPTIONS,
    Hidden,
    client_of,
    environment_digest,
    hidden,
    names_a_client,
)

if TYPE_CHECKING:
    from osstorchconnector.connection.client import OssClient

# Options of every file system of fsspec, which its metaclass handles.
_OF_ALL: frozenset[str] = frozenset({"asynchronous", "batch_size", "loop", "skip_instance_cache"})

_default: "list[OssClient]" = []


def use_client(client: "OssClient | None") -> None:
    """Make ``oss://`` without storage options use a client in this process, instead of what the environment says.

    Args:
        client: The client. None: the environment decides again.
    """
    _default[:] = [] if client is None else [client]


class Instances(type(fsspec.AbstractFileSystem)):  # type: ignore[misc]
    """Makes one instance for equal options. Options with other secrets, or in another environment, are not equal."""

    @shielded
    def __call__(cls, *args: Any, **options: Any) -> Any:  # noqa: ANN401 - a wrapper, if asynchronous
        """Return an instance.

        Raises:
            OssConfigError: An option is unknown or wrong.
            OssCredentialsError: There is no usable access key.
        """
        if args:
            raise OssConfigError("the storage options of oss:// are given by name, such as endpoint=...")
        # fsspec would add its own configuration later, and keep secrets of it in sight.
        options = apply_config(cls, options)
        common = {name: options.pop(name) for name in _OF_ALL & options.keys()}
        asynchronous, loop = common.pop("asynchronous", False), common.pop("loop", None)
        common.pop("batch_size", None)
        instance = super().__call__(**common, **hidden(options))
        if not asynchronous:
            return instance
        from osstorchconnector.fsspec.asynchronous import asynchronously  # noqa: PLC0415 - few programs need it

        return asynchronously(instance, loop)

    @property
    def _surroundings(cls) -> str:
        """What decides if no option does; fsspec looks for an instance with the same."""
        return f"{environment_digest()} {id(_default[0]) if _default else None}"


class Notes(threading.local):
    """Descriptions that one call has listed, in this thread, so that none of them is asked for again."""

    def __init__(self) -> None:
        """Keep nothing yet."""
        self.is_kept = False
        #: What is known of names.
        self.found: dict[str, dict[str, Any]] = {}
        #: Those of them that are an object and a directory.
        self.both: set[str] = set()

    def begin(self) -> None:
        """Keep what is added from now on."""
        self.is_kept, self.found, self.both = True, {}, set()

    def end(self) -> None:
        """Forget it. Who has :attr:`found` keeps that."""
        self.is_kept, self.found, self.both = False, {}, set()

    def add(self, found: dict[str, dict[str, Any]], both: set[str]) -> None:
        """Add descriptions by name, if they are kept."""
        if self.is_kept:
            self.found.update(found)
            self.both |= both


@guards_methods
class ClientFileSystem(fsspec.AbstractFileSystem, metaclass=Instances):  # type: ignore[misc]
    """A file system that has a client and configuration only, so that it pickles."""

    protocol = "oss"
    cachable = True
    _extra_tokenize_attributes = ("_surroundings",)

    def __init__(self, **options: Any) -> None:  # noqa: ANN401 - each option has its own type
        """Resolve the options. The network is not used."""
        if self._cached:
            # fsspec initializes an instance again that it has kept.
            return
        of_fsspec = {name: value for name, value in options.items() if name in FSSPEC_OPTIONS}
        # Some file systems of fsspec call them default_block_size, some block_size; 0 means no block.
        self._default_block_size: int | None = (
            of_fsspec.pop("default_block_size", None) or of_fsspec.pop("block_size", None) or None
        )
        self._default_cache_type: str | None = of_fsspec.pop("default_cache_type", None) or of_fsspec.pop(
            "cache_type", None
        )
        for name in ("block_size", "cache_type"):
            of_fsspec.pop(name, None)
        # Other programs write to the same bucket, and they do not know of this cache.
        caches = any(of_fsspec.get(name) is not None for name in ("listings_expiry_time", "max_paths"))
        of_fsspec.setdefault("use_listings_cache", caches)
        super().__init__(**of_fsspec)
        self._being_written: list[tuple[str, Any]] = []
        self._notes = Notes()
        # Directories that a program made: they have no object, but the program may ask for them before it writes.
        self._made: set[str] = set()
        self._from_default = bool(_default) and not names_a_client(options)
        self.client: OssClient = _default[0] if self._from_default else client_of(options)
        # A pickle finds it as long as this instance is there.
        self._hidden_client = Hidden("client", self.client)

    @property
    def fsid(self) -> str:
        """A text that is equal for file systems of one service."""
        return f"oss_{self.client.endpoint}"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the options, and what the environment of this process decided; a secret only to start a process."""
        if self._from_default:
            resolved: dict[str, Any] = {"client": self._hidden_client}
        elif "client" in self.storage_options:
            resolved = {}
        else:
            resolved = {"endpoint": self.client.endpoint, "region": self.client.region or None}
        return _remade, (type(self), {**self.storage_options, **resolved})

    def to_dict(self, *, include_password: bool = True) -> dict[str, Any]:
        """Return the options as plain data.

        Raises:
            OssConfigError: One of them is a secret or an object, and `include_password` is true.
        """
        options = {name: value for name, value in self.storage_options.items() if not isinstance(value, Hidden)}
        left_out = sorted(set(self.storage_options) - set(options))
        if left_out and include_password:
            raise OssConfigError(
                f"the storage option {left_out[0]!r} is not written as text, so that no secret gets into a file: give "
                "cred_path or environment variables instead, or call this with include_password=False"
            )
        cls = type(self)
        return {"cls": f"{cls.__module__}:{cls.__name__}", "protocol": "oss", "args": [], **options}

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:  # noqa: ANN401 - a path, or a list of them
        if isinstance(path, list):
            return [cls._strip_protocol(one) for one in path]
        given = stringify_path(path)
        if not given.startswith(("oss://", "oss::")):
            if given.startswith("oss:/"):
                raise OssConfigError(f"{given!r} is no URL: write 'oss://bucket/key', as a string and not as a Path")
            return given.strip("/")
        name = given.removeprefix("oss://").removeprefix("oss::")
        if name.startswith("/"):
            raise OssConfigError(f"{given!r} names no bucket: write 'oss://bucket/key'")
        return name.rstrip("/")

    def _uri(self, path: str) -> str:
        """Return the URI of an object.

        Raises:
            OssConfigError: The path names no object.
        """
        uri = f"oss://{self._strip_protocol(path)}"
        split_object(uri)
        return uri

    def _split(self, name: str) -> tuple[str, str]:
        """Return bucket and key of a name without protocol; the key may be empty."""
        return split_prefix(f"oss://{name}")


def _remade(cls: type[ClientFileSystem], options: dict[str, Any]) -> ClientFileSystem:
    return cls(**options)
