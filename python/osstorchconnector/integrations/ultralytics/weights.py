"""The weights of a training, stored in OSS as they are saved."""

import shutil
from pathlib import Path
from typing import Any, Final

from osstorchconnector.connection.client import OssClient
from osstorchconnector.connection.config import OssConfig
from osstorchconnector.connection.uri import split_object
from osstorchconnector.credentials.shield import guards_methods
from osstorchconnector.exceptions import OssNotFoundError
from osstorchconnector.files.writing import writing

_CHUNK: Final = 8 << 20


@guards_methods
class OssWeights:
    """Stores the weights of a training in OSS: ``last.pt`` and ``best.pt`` after each epoch, and what was written last.

    ::

        weights = OssWeights("oss://bucket/run-1", "oss-cn-hangzhou-internal.aliyuncs.com")
        model = YOLO("yolo11n.yaml")
        weights.attach(model)
        model.train(...)

    An object appears, or is replaced, only when it is whole. If it cannot be stored, the training ends with the error.
    """

    def __init__(
        self,
        uri: str,
        endpoint: str,
        cred_path: str = "",
        config_path: str = "",
        cred_provider: object = None,
        region: str = "",
        *,
        config: OssConfig | None = None,
    ) -> None:
        """Name the place of the weights. The network is not used.

        Args:
            uri: The directory of one training, like ``oss://bucket/run-1``.
            endpoint: As for :class:`OssClient`, and so are the next arguments.
            cred_path: See there.
            config_path: See there.
            cred_provider: See there.
            region: See there.
            config: See there.

        Raises:
            OssConfigError: An argument is wrong, or a file is missing or malformed.
            OssCredentialsError: There is no usable access key.
        """
        bucket, key = split_object(uri)
        self._uri = f"oss://{bucket}/{key.rstrip('/')}"
        self._client = OssClient(
            endpoint, cred_path, config_path, cred_provider=cred_provider, region=region, config=config
        )
        # The size and the time of each file when it was stored.
        self._stored: dict[str, tuple[int, int]] = {}

    def attach(self, model: Any) -> None:  # noqa: ANN401 - a YOLO
        """Store what a training of this model saves from now on."""
        model.add_callback("on_model_save", self.store)
        model.add_callback("on_train_end", self.store)

    def store(self, trainer: Any) -> None:  # noqa: ANN401 - a trainer
        """Store the files that have changed: the weights, ``results.csv`` and ``args.yaml``. Ultralytics calls it.

        Raises:
            OssError: One cannot be stored.
        """
        folder = Path(trainer.save_dir)
        for file in (*sorted((folder / "weights").glob("*.pt")), folder / "results.csv", folder / "args.yaml"):
            if not file.is_file():
                continue
            status = file.stat()
            state = status.st_size, status.st_mtime_ns
            if self._stored.get(file.name) == state:
                continue
            with file.open("rb") as source, self._client.writer(f"{self._uri}/{file.name}", status.st_size) as target:
                shutil.copyfileobj(source, target, _CHUNK)
            self._stored[file.name] = state

    def fetch(self, folder: str | Path, name: str = "last.pt") -> Path | None:
        """Download weights, and return the file; None if there are none.

        Args:
            folder: The local folder for the file, which is made.
            name: The file. ``last.pt`` of a training that was interrupted can be resumed; at its end, Ultralytics
                takes out what a training needs.

        Raises:
            OssError: It cannot be read.
        """
        file = Path(folder) / name
        try:
            reader = self._client.reader(f"{self._uri}/{name}")
        except OssNotFoundError:
            return None
        file.parent.mkdir(parents=True, exist_ok=True)
        with reader, writing(str(file), None) as target:
            shutil.copyfileobj(reader, target, _CHUNK)
        return file
