"""The dataset for detection, segmentation, poses and oriented boxes."""

import os
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Literal

from ultralytics.data.dataset import YOLODataset
from ultralytics.utils import LOCAL_RANK, LOGGER, colorstr

from osstorchconnector.connection.client import OssClient
from osstorchconnector.connection.config import OssConfig
from osstorchconnector.credentials.shield import guards_methods
from osstorchconnector.exceptions import OssConfigError, OssFormatError
from osstorchconnector.integrations.ultralytics.batch_images import BatchImages
from osstorchconnector.integrations.ultralytics.connection import DataSettings
from osstorchconnector.integrations.ultralytics.decoding import decode, reading_by
from osstorchconnector.integrations.ultralytics.images import StoredObject, find_images
from osstorchconnector.integrations.ultralytics.label_cache import Scan, Scanned
from osstorchconnector.integrations.ultralytics.labels import LabelRules, label_key
from osstorchconnector.integrations.ultralytics.scan import scan_images

# Ultralytics keeps decoded images in files beside the images. In OSS there are none.
_NO_FILE: Final = Path(os.devnull) / "none.npy"
# How many files Ultralytics draws to measure the speed of a disk.
_MEASURED: Final = 5

_TASKS: Final = ("detect", "segment", "pose", "obb")


@guards_methods
class OSSYOLODataset(YOLODataset):  # type: ignore[misc]
    """A ``YOLODataset`` of images and labels in OSS: those below a prefix, or those that a manifest names.

    Shapes of images come from their first bytes. Images without a label are background. The images of a batch are
    fetched ahead while the first of them are decoded.
    """

    def __init__(
        self,
        *args: Any,  # noqa: ANN401 - those of YOLODataset
        oss_endpoint: str = "",
        oss_cred_path: str = "",
        oss_config_path: str = "",
        oss_cred_provider: object = None,
        oss_region: str = "",
        oss_config: OssConfig | None = None,
        oss_settings: DataSettings | None = None,
        label_cache: str | os.PathLike[str] | Literal[False] | None = None,
        on_corrupt: Literal["drop", "raise"] = "drop",
        **kwargs: Any,  # noqa: ANN401 - as above
    ) -> None:
        """List the images, and read their shapes and labels, or take them from the label cache.

        Args:
            *args: Those of ``YOLODataset``; ``img_path`` is a prefix or a manifest like ``/bucket/base/images/train``.
            oss_endpoint: As for :class:`OssClient`, and so are the next arguments.
            oss_cred_path: See there.
            oss_config_path: See there.
            oss_cred_provider: See there.
            oss_region: See there.
            oss_config: See there.
            oss_settings: In place of all others whose names begin like this, and of the next two.
            label_cache: A directory or a prefix like ``oss://bucket/cache`` that keeps shapes and labels. Default:
                ``osstorchconnector/ultralytics`` in the user's directory for caches. False: nothing is kept.
            on_corrupt: ``"raise"``: an image or a label that is corrupt is an error. Default: it is left out, and a
                warning names it.
            **kwargs: Those of ``YOLODataset``.

        Raises:
            OssNotFoundError: There is no image.
            OssFormatError: All images or their labels are corrupt, or one is and `on_corrupt` is ``"raise"``.
            OssError: OSS cannot be read.
        """
        if oss_settings is None:
            client = OssClient(
                oss_endpoint,
                oss_cred_path,
                oss_config_path,
                cred_provider=oss_cred_provider,
                region=oss_region,
                config=oss_config,
            )
            oss_settings = DataSettings(client, label_cache, on_corrupt)
        task = kwargs.get("task", "detect")
        if task not in _TASKS:
            raise OssConfigError(f"task {task!r} cannot be read from OSS: the tasks are {', '.join(_TASKS)}")
        if str(kwargs.get("cache")).lower() == "disk":
            raise OssConfigError(
                "cache='disk' would keep decoded images beside the images, which are in OSS: use cache='ram' or False"
            )
        self._oss = oss_settings
        super().__init__(*args, **kwargs)

    @property
    def npy_files(self) -> Sequence[Path]:
        """Files with decoded images: there are none."""
        return self._npy_files

    @npy_files.setter
    def npy_files(self, files: Sequence[Path]) -> None:
        self._npy_files = [_NO_FILE] * len(files)

    def get_img_files(self, img_path: str | list[str]) -> list[str]:
        """Return the paths of the images, ``/bucket/key``.

        Args:
            img_path: One or several prefixes and manifests.
        """
        found = find_images(self._oss.client, img_path)
        count = self.fraction if isinstance(self.fraction, int) else max(1, round(len(found) * self.fraction))
        found = found[:count]
        # So that other random numbers are the same as in a training from local files.
        random.sample(found, min(_MEASURED, len(found)))
        self._stored: list[StoredObject] = found
        self._images = BatchImages(self._oss.client, found)
        return [image.path for image in found]

    def get_labels(self) -> list[dict[str, Any]]:
        """Return what Ultralytics needs of each image, in the order of ``im_files``.

        Raises:
            OssFormatError: All images or their labels are corrupt, or one is and ``on_corrupt`` is ``"raise"``.
        """
        kpt_shape = self.data.get("kpt_shape") or (0, 0)
        rules = LabelRules(len(self.data["names"]), self.use_keypoints, tuple(kpt_shape), self.single_cls)
        cache = self._oss.cache(repr((self.img_path, len(self._stored), rules)))
        scan, cached = scan_images(self._oss.client, self._stored, rules, cache, decode)
        del self._stored
        place = self.img_path if isinstance(self.img_path, str) else ", ".join(self.img_path)
        report(self.prefix, place, scan, self._oss, f" from {cache.name}" if cached and cache else "")
        if self.augment and len(scan.images) == scan.missing:
            raise OssFormatError(
                f"none of the {len(scan.images)} images in oss:/{place} has a label: the label of "
                f"oss:/{scan.images[0].path} would be oss:/{_label_path(scan.images[0].path)}"
            )
        labels = [_as_ultralytics_has_it(image) for image in scan.images]
        self.im_files = [image.path for image in scan.images]
        self.label_files = [_label_path(image.path) for image in scan.images]
        self.verify_labels(labels, Path(cache.name if cache else place))
        return labels

    def load_image(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - those of YOLODataset
        """Return an image, decoded and resized, and its shapes before and after.

        Raises:
            OssFormatError: It cannot be decoded.
            OssError: It cannot be fetched.
        """
        with reading_by(self._images.pixels):
            return super().load_image(*args, **kwargs)

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """Return the samples of a batch, whose images are fetched ahead."""
        paths = [self.im_files[index] for index in indices if self.ims[index] is None]
        with self._images.ahead(paths):
            return [self[index] for index in indices]


def yolo_dataset(
    settings: DataSettings,
    args: Any,  # noqa: ANN401 - arguments of Ultralytics
    data: dict[str, Any],
    img_path: Any,  # noqa: ANN401 - a text or a list
    mode: str,
    batch: int | None,
    *,
    rect: bool,
    stride: int,
    fraction: float,
) -> OSSYOLODataset:
    """Return a dataset with the options that Ultralytics gives its own.

    Args:
        settings: How OSS is read.
        args: The arguments of the run.
        data: The description of the dataset.
        img_path: Prefixes and manifests.
        mode: ``"train"`` or ``"val"``.
        batch: The size of a batch.
        rect: Whether batches have the shape of their images.
        stride: What heights and widths must be divisible by.
        fraction: How much of it is read.
    """
    return OSSYOLODataset(
        img_path=img_path,
        imgsz=args.imgsz,
        batch_size=batch,
        augment=mode == "train",
        hyp=args,
        rect=args.rect or rect,
        cache=args.cache or None,
        single_cls=args.single_cls or False,
        stride=stride,
        pad=0.0 if mode == "train" else 0.5,
        prefix=colorstr(f"{mode}: "),
        task=args.task,
        classes=args.classes,
        data=data,
        fraction=fraction,
        oss_settings=settings,
    )


def report(prefix: str, place: str, scan: Scan, settings: DataSettings, source: str) -> None:
    """Say what a scan found, and name each image that is left out.

    Args:
        prefix: Begins each line, as Ultralytics begins its own.
        place: The prefixes and manifests.
        scan: What was found.
        settings: Says whether something corrupt is an error.
        source: The cache that the scan comes from, if it was not made now.

    Raises:
        OssFormatError: Nothing is left, or something is corrupt and that is an error.
    """
    corrupt = "\n".join(scan.corrupt)
    if not scan.images:
        raise OssFormatError(f"all {len(scan.corrupt)} images in oss:/{place} or their labels are corrupt:\n{corrupt}")
    if scan.corrupt and settings.on_corrupt == "raise":
        raise OssFormatError(f"{len(scan.corrupt)} images in oss:/{place} or their labels are corrupt:\n{corrupt}")
    if LOCAL_RANK not in {-1, 0}:
        return
    backgrounds = scan.missing + scan.empty
    LOGGER.info(
        f"{prefix}oss:/{place}: {len(scan.images)} images, {backgrounds} backgrounds ({scan.missing} without a label), "
        f"{len(scan.corrupt)} corrupt{source}"
    )
    if scan.corrupt:
        LOGGER.warning(
            f"{prefix}{len(scan.corrupt)} images are left out, since they or their labels are corrupt:\n{corrupt}"
        )


def _label_path(path: str) -> str:
    bucket, _, key = path[1:].partition("/")
    return f"/{bucket}/{label_key(key)}"


def _as_ultralytics_has_it(image: Scanned) -> dict[str, Any]:
    return {
        "im_file": image.path,
        "shape": image.shape,
        "cls": image.label.rows[:, 0:1],
        "bboxes": image.label.rows[:, 1:],
        "segments": image.label.segments,
        "keypoints": image.label.keypoints,
        "normalized": True,
        "bbox_format": "xywh",
    }
