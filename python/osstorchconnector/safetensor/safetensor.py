"""Tensors in safetensors objects, read and written without a local file."""

import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, BinaryIO

import torch

import osstorchconnector._torch  # noqa: F401 - checks the version of torch
from osstorchconnector.connection.client import OssClient
from osstorchconnector.connection.config import OssConfig
from osstorchconnector.connection.spans import operation
from osstorchconnector.credentials.shield import guards_methods
from osstorchconnector.exceptions import OssConfigError, OssFormatError
from osstorchconnector.files.progress import Advance, progress_bar
from osstorchconnector.safetensor.frameworks import Device
from osstorchconnector.safetensor.header import library, write_header
from osstorchconnector.safetensor.safe_open import OssSafeOpen, is_directory
from osstorchconnector.safetensor.shards import INDEX_NAME, split, write_index
from osstorchconnector.safetensor.sizes import SHARD_BYTES, shard_size
from osstorchconnector.safetensor.tied import names_to_drop

if TYPE_CHECKING:
    from osstorchconnector._native import Writer


@guards_methods
class OssSafetensor:
    """Saves tensors to, and loads them from, safetensors objects.

    It needs the library ``safetensors``: ``pip install safetensors numpy``. That library reads what this
    class writes, and this class reads what that library writes.

    A URI that ends with ``/`` is a directory of shards, with ``model.safetensors.index.json``.
    """

    def __init__(
        self,
        endpoint: str,
        cred_path: str = "",
        config_path: str = "",
        cred_provider: object = None,
        region: str = "",
        *,
        config: OssConfig | None = None,
    ) -> None:
        """Resolve the connection arguments, which are those of :class:`OssClient`. The network is not used.

        Raises:
            OssConfigError: An argument is wrong, a file is missing or malformed, or ``safetensors`` is not installed.
            OssCredentialsError: There is no usable access key.
        """
        library()
        self._client = OssClient(
            endpoint, cred_path, config_path, cred_provider=cred_provider, region=region, config=config
        )

    def safe_open(self, oss_uri: str, device: Device = "cpu", framework: str = "pt") -> "OssSafeOpen":
        """Open an object or a directory of shards. Each tensor is fetched when you ask for it.

        Args:
            oss_uri: ``oss://bucket/key`` for one object; for shards, the directory with its ``/``, or its index.
            device: The device that the tensors go to.
            framework: ``"pt"`` for tensors of torch, ``"np"`` for arrays of numpy.

        Returns:
            A context manager.

        Raises:
            OssConfigError: The device or the framework does not exist.
            OssNotFoundError: The object does not exist.
            OssFormatError: The object is not a safetensors file.
        """
        return OssSafeOpen(self._client, oss_uri, device, framework)

    def load_file(self, oss_uri: str, device: Device = "cpu", *, progress: bool = False) -> dict[str, torch.Tensor]:
        """Return all tensors of an object or of a directory of shards, by name.

        Args:
            oss_uri: As for :meth:`safe_open`.
            device: The device that the tensors go to.
            progress: Show a bar on standard error.

        Raises:
            OssNotFoundError: The object does not exist.
            OssFormatError: The object is not a safetensors file.
            OssIntegrityError: The bytes do not have the checksum that OSS stores.
        """
        with operation("safetensors.load", oss_uri), self.safe_open(oss_uri, device) as opened:
            names = opened.offset_keys()
            with progress_bar(oss_uri, sum(map(opened.stored_bytes, names)), shown=progress) as advance:
                return opened.get_tensors(names, progress=advance)

    def save_file(
        self,
        tensors: Mapping[str, torch.Tensor],
        oss_uri: str,
        metadata: Mapping[str, str] | None = None,
        *,
        shard_bytes: int = SHARD_BYTES,
        max_shard_size: int | str | None = None,
        progress: bool = False,
    ) -> None:
        """Store tensors. The previous object or index stays whole until all tensors are stored.

        If `oss_uri` ends with ``/``, the tensors are stored as shards, whose names no other save uses, and then an
        index is stored that names the shards. The shards of a previous index are kept.

        Args:
            tensors: Dense and contiguous tensors that share no memory.
            oss_uri: The object, or the directory.
            metadata: Texts to store beside the tensors.
            shard_bytes: Upper limit of the bytes of tensors in one shard; a larger tensor gets a shard of its own.
            max_shard_size: The same limit, as a number or as Hugging Face writes it: ``"5GB"``, ``"512MiB"``.
            progress: Show a bar on standard error.

        Raises:
            OssConfigError: A tensor or a text cannot be stored.
            OssError: The tensors could not be stored; the previous object or index is unchanged.
        """
        _check_tensors(tensors)
        directory = is_directory(oss_uri)
        limit = shard_size(shard_bytes, max_shard_size, directory=directory)
        total = sum(tensor.nbytes for tensor in tensors.values())
        with (
            operation("safetensors.save", oss_uri),
            progress_bar(oss_uri, total, shown=progress) as advance,
        ):
            if not directory:
                self._save(tensors, oss_uri, metadata, advance)
                return
            shards, index = split(tensors, limit)
            for name, shard in shards.items():
                self._save(shard, oss_uri + name, metadata, advance)
            self._client.put(oss_uri + INDEX_NAME, write_index(index, tensors), content_type="application/json")

    def save_model(
        self,
        model: torch.nn.Module,
        oss_uri: str,
        metadata: Mapping[str, str] | None = None,
        force_contiguous: bool = True,  # noqa: FBT001, FBT002 - as the library
        *,
        max_shard_size: int | str | None = None,
        progress: bool = False,
    ) -> None:
        """Store the tensors of a model, as ``safetensors.torch.save_model`` does: of tensors that share memory, one.

        Args:
            model: The model.
            oss_uri: The object, or the directory with its ``/``, as for :meth:`save_file`.
            metadata: Texts to store beside the tensors. Each name that is left out is added, with the name that stands
                for it.
            force_contiguous: Copy tensors that are not contiguous; else they are an error.
            max_shard_size: As for :meth:`save_file`.
            progress: Show a bar on standard error.

        Raises:
            OssConfigError: A tensor cannot be stored, or none of those that share memory is all of it.
            OssError: The model could not be stored; the previous object or index is unchanged.
        """
        tensors: dict[str, torch.Tensor] = dict(model.state_dict())
        texts = dict(metadata or {})
        for kept, names in names_to_drop(tensors).items():
            for name in names:
                texts.setdefault(name, kept)
                del tensors[name]
        for name, tensor in tensors.items():
            if not tensor.is_contiguous():
                if not force_contiguous:
                    raise OssConfigError(
                        f"tensor {name!r} is not contiguous: call contiguous(), or use "
                        "save_model(..., force_contiguous=True)"
                    )
                tensors[name] = tensor.contiguous()
        self.save_file(
            tensors,
            oss_uri,
            texts or metadata,
            max_shard_size=max_shard_size,
            progress=progress,
        )

    def load_model(
        self,
        model: torch.nn.Module,
        oss_uri: str,
        strict: bool = True,  # noqa: FBT001, FBT002 - as the library
        device: Device = "cpu",
        *,
        progress: bool = False,
    ) -> tuple[list[str], list[str]]:
        """Load a model that :meth:`save_model` or ``safetensors.torch.save_model`` stored, tied weights included.

        All tensors are fetched and have their checksums before the model is changed.

        Args:
            model: The model to load into.
            oss_uri: As for :meth:`safe_open`.
            strict: Raise if names are missing or unexpected.
            device: The device that the tensors are loaded to before they are copied.
            progress: Show a bar on standard error.

        Returns:
            The names of the model that the object does not have, and the names that only the object has.

        Raises:
            OssNotFoundError: The object does not exist.
            OssFormatError: The object is not a safetensors file, or `strict` and names are missing or unexpected.
            OssIntegrityError: The bytes do not have the checksum that OSS stores.
        """
        loaded = self.load_file(oss_uri, device, progress=progress)
        dropped = names_to_drop(model.state_dict(), loaded.keys())
        result = model.load_state_dict(loaded, strict=False)
        missing, unexpected = set(result.missing_keys), list(result.unexpected_keys)
        for names in dropped.values():
            for name in names:
                if name in missing:
                    missing.remove(name)
                else:
                    unexpected.append(name)
        if strict and (missing or unexpected):
            text = f"Error(s) in loading state_dict for {type(model).__name__}:"
            for what, wrong in (("Missing", missing), ("Unexpected", unexpected)):
                if wrong:
                    text += f"\n    {what} key(s) in state_dict: " + ", ".join(f'"{name}"' for name in sorted(wrong))
            raise OssFormatError(text)
        return sorted(missing), unexpected

    def do_save_safetensor(
        self,
        tensors: Mapping[str, torch.Tensor],
        obj: "BinaryIO | Writer",
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        """Write tensors to a stream that is open for writing, such as a writer of :class:`OssClient`.

        Args:
            tensors: As for :meth:`save_file`.
            obj: The stream. It stays open.
            metadata: Texts to store beside the tensors.

        Raises:
            OssConfigError: A tensor or a text cannot be stored; nothing was written.
        """
        _check_tensors(tensors)
        head, order = write_header(tensors, metadata)
        _write(tensors, obj, head, order, lambda _count: None)

    def _save(
        self,
        tensors: Mapping[str, torch.Tensor],
        uri: str,
        metadata: Mapping[str, str] | None,
        advance: Advance,
    ) -> None:
        head, order = write_header(tensors, metadata)
        size = len(head) + sum(tensor.nbytes for tensor in tensors.values())
        with self._client.writer(uri, size_hint=size) as writer:
            _write(tensors, writer, head, order, advance)


def _write(
    tensors: Mapping[str, torch.Tensor], target: "BinaryIO | Writer", head: bytes, order: list[str], advance: Advance
) -> None:
    target.write(head)
    for name in order:
        if tensors[name].numel() > 0:
            target.write(_bytes_of(tensors[name]))
            advance(tensors[name].nbytes)


def _check_tensors(tensors: Mapping[str, torch.Tensor]) -> None:
    if not isinstance(tensors, Mapping):
        raise OssConfigError(f"tensors must be a dictionary of tensors, got {type(tensors).__name__}")
    areas = []
    for name, tensor in tensors.items():
        if not isinstance(tensor, torch.Tensor):
            raise OssConfigError(f"{name!r} must be a tensor, got {type(tensor).__name__}")
        if tensor.layout != torch.strided:
            raise OssConfigError(f"tensor {name!r} is sparse: call to_dense()")
        if tensor.device.type == "meta":
            raise OssConfigError(f"tensor {name!r} is on the device meta: it has no values")
        if not tensor.is_contiguous():
            raise OssConfigError(f"tensor {name!r} is not contiguous: call contiguous()")
        length = tensor.numel() * tensor.element_size()
        if length > 0:
            areas.append((str(tensor.device), tensor.data_ptr(), tensor.data_ptr() + length, name))
    areas.sort(key=lambda area: area[:3])
    for one, next_one in itertools.pairwise(areas):
        if one[0] == next_one[0] and next_one[1] < one[2]:
            raise OssConfigError(
                f"tensors {one[3]!r} and {next_one[3]!r} share memory: it would be stored twice, and they would not "
                "share memory when loaded; leave one of them out, or clone() it"
            )


def _bytes_of(tensor: torch.Tensor) -> Any:  # noqa: ANN401 - a buffer, but numpy's types do not say so
    plain = tensor.detach().cpu().resolve_conj().resolve_neg()
    # A tensor of one value is contiguous with any stride, but view() as bytes accepts only this one.
    return plain.as_strided((plain.numel(),), (1,)).view(torch.uint8).numpy()
