"""The dataset for classification."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from ultralytics.data.augment import classify_augmentations, classify_transforms
from ultralytics.data.dataset import ClassificationDataset
from ultralytics.data.utils import get_split_fraction
from ultralytics.nn.autobackend import check_class_names
from ultralytics.utils import LOGGER, IterableSimpleNamespace, colorstr

from osstorchconnector.exceptions import OssConfigError
from osstorchconnector.integrations.ultralytics.batch_images import BatchImages
from osstorchconnector.integrations.ultralytics.class_folders import class_names, find_samples
from osstorchconnector.integrations.ultralytics.connection import DataSettings
from osstorchconnector.integrations.ultralytics.dataset import report
from osstorchconnector.integrations.ultralytics.decoding import decode
from osstorchconnector.integrations.ultralytics.scan import scan_images


class OSSClassificationDataset(ClassificationDataset):  # type: ignore[misc]
    """A ``ClassificationDataset`` of images in OSS: a directory of each class below a prefix.

    The images of a batch are fetched ahead while the first of them are decoded.
    """

    def __init__(  # the other one would read a disk
        self,
        root: str,
        args: IterableSimpleNamespace,
        augment: bool = False,  # noqa: FBT001, FBT002 - as Ultralytics has it
        prefix: str = "",
        names: dict[int, str] | None = None,
        *,
        oss_settings: DataSettings,
    ) -> None:
        """List the images and check their first bytes, or take what is known of them from the cache.

        Args:
            root: A prefix like ``/bucket/imagenet/train``.
            args: The arguments of the training.
            augment: Whether images are changed at random.
            prefix: The name of the split.
            names: The classes of the model, by number. Directories with other names are left out.
            oss_settings: How OSS is read.

        Raises:
            OssNotFoundError: There is no image.
            OssFormatError: All images are corrupt, or one is and that is an error.
            OssError: OSS cannot be read.
        """
        if str(args.cache).lower() == "disk":
            raise OssConfigError(
                "cache='disk' would keep decoded images beside the images, which are in OSS: use cache='ram' or False"
            )
        client = oss_settings.client
        self.root = root
        self.prefix = colorstr(f"{prefix}: ") if prefix else ""
        found = find_samples(client, root)
        fraction = get_split_fraction(args.fraction, prefix or ("train" if augment else "val"))
        count = fraction if isinstance(fraction, int) else max(int(fraction > 0), round(len(found) * fraction))
        if count < len(found):
            found = [found[index] for index in np.linspace(0, len(found) - 1, count, dtype=int)]
        images = [image for image, _ in found]
        cache = oss_settings.cache(repr((root, len(found))))
        scan, cached = scan_images(client, images, None, cache, decode)
        report(self.prefix, root, scan, oss_settings, f" from {cache.name}" if cached and cache else "")
        self._images = BatchImages(client, images)
        folders = class_names(client, root)
        index = _class_numbers(folders, names, single=bool(args.single_cls))
        class_of = {image.path: name for image, name in found}
        self.samples: list[list[Any]] = [
            [image.path, index[class_of[image.path]], None, None]
            for image in scan.images
            if class_of[image.path] in index
        ]
        unknown = sorted(set(folders) - set(index))
        if unknown:
            LOGGER.warning(
                f"{self.prefix}{len(scan.images) - len(self.samples)} images are left out, since the model does not "
                f"know their classes: {', '.join(unknown)}"
            )
        self.cache_ram = args.cache is True or str(args.cache).lower() == "ram"
        self.cache_disk = False
        if self.cache_ram:
            self.cache_images()
        self.torch_transforms = (
            classify_augmentations(
                size=args.imgsz,
                scale=(1.0 - args.scale, 1.0),
                hflip=args.fliplr,
                vflip=args.flipud,
                erasing=args.erasing,
                auto_augment=args.auto_augment,
                hsv_h=args.hsv_h,
                hsv_s=args.hsv_s,
                hsv_v=args.hsv_v,
            )
            if augment
            else classify_transforms(size=args.imgsz)
        )

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """Return the samples of a batch, whose images are fetched ahead."""
        paths = [] if self.cache_ram else [self.samples[index][0] for index in indices]
        with self._images.ahead(paths):
            return [self[index] for index in indices]

    def imread(self, f: str) -> Any:  # noqa: ANN401 - an array
        """Return the pixels of an image.

        Raises:
            OssFormatError: It cannot be decoded.
            OssError: It cannot be fetched.
        """
        return self._images.pixels(f)


def _class_numbers(folders: list[str], names: dict[int, str] | None, *, single: bool) -> dict[str, int]:
    """Return the number of each directory whose class the model knows."""
    if single:
        return dict.fromkeys(folders, 0)
    # Codes of ImageNet become words, as in the names of models.
    words = dict(zip(folders, check_class_names(list(folders)).values(), strict=True))
    known = {name: number for number, name in check_class_names(names).items()} if names else {}
    if not known or known.keys().isdisjoint(words.values()):
        numbers = {folder: number for number, folder in enumerate(folders)}
        return {folder: number for folder, number in numbers.items() if not names or number < len(names)}
    return {folder: known[word] for folder, word in words.items() if word in known}
